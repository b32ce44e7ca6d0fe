"""ME-TST (arXiv 2409.09707): spotting and recognition of micro-expressions, per frame, with Mamba blocks.

The modules carry the names of the published checkpoints: `metst64` those of the first release, `metst128` those of
the 2025 one. Both heads read the spotting stack; the recognition stack that published checkpoints also hold was never
read by the published code either, and is not built (see checkpoint.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn
from torch.nn import functional

from training.models.blocks import blocks, draw_linear, stem


@dataclass(frozen=True)
class Sizes:
    """What fixes every tensor shape of an ME-TST network."""

    channels: int = 10
    dim: int = 64
    depth: int = 12
    d_state: int = 64
    d_conv: int = 4
    expand: int = 2
    classes: int = 5

    def to_dict(self) -> dict[str, int]:
        """Return the sizes as plain numbers, as checkpoints and manifests hold them."""
        return asdict(self)


class MeTst(nn.Module):
    """The whole network: two convolutions, `depth` blocks, two heads read from the same frames.

    Args:
        name: "metst64" (names of the first release) or "metst128" (names of the 2025 release).
        sizes: shapes; by default the published ones of that name.
        init: "mamba" leaves the standard Mamba initialisation; "published" draws every linear map, those inside Mamba
            too, truncated-normal with std 0.02 and zero bias, which also wipes Mamba's time-step bias.
    """

    def __init__(self, name: str, sizes: Sizes, init: str = "mamba") -> None:
        super().__init__()
        self.name, self.sizes = name, sizes
        dim = sizes.dim
        self.Stem = stem(sizes.channels, dim)
        stack = blocks(sizes.depth, dim, sizes.d_state, sizes.d_conv, sizes.expand)
        spot, emotion = nn.Linear(dim, 1), nn.Linear(dim, sizes.classes)
        if name == "metst64":
            self.blocks_spot = stack
            self.fc_spot, self.fc_recog = nn.Sequential(spot), nn.Sequential(emotion)
        else:
            self.spot_pathway = nn.ModuleDict({"block": stack})
            self.fc_spot, self.fc_recog = spot, emotion
        draw_linear(self, (spot, emotion), init)

    @property
    def blocks(self) -> nn.ModuleList:
        """The stack both heads read."""
        stack = self.blocks_spot if self.name == "metst64" else self.spot_pathway["block"]
        assert isinstance(stack, nn.ModuleList)
        return stack

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows, each from a zero state.

        Args:
            x: (B, C, T) features, pixels of flow on the 320 px crop.

        Returns:
            spot (B, T) after the sigmoid, emotion logits (B, T, classes).
        """
        x = self.Stem(x).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return functional.sigmoid(self.fc_spot(x)).squeeze(-1), self.fc_recog(x)
