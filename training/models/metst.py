"""ME-TST (arXiv 2409.09707): spotting and recognition of micro-expressions, per frame, with Mamba blocks.

The modules carry the names of the published checkpoints: `metst64` those of the first release, `metst128` those of
the 2025 one. Both heads read the spotting stack; the recognition stack that published checkpoints also hold was never
read by the published code either, and is not built (see checkpoint.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.mamba import Mamba

# The published rates: one block without, then this ramp over `depth` blocks, of which the last is never reached.
MAX_DROP_PATH = 0.2
PUBLISHED_STD = 0.02


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


class DropPath(nn.Module):
    """Drop a residual branch of whole samples with probability `rate` while training (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...), the kept samples scaled so that the mean stays."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * (mask / keep)


class MambaMixer(nn.Module):
    """LayerNorm, then Mamba (`attn` in the published names)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.dim)
        self.mamba = Mamba(sizes.dim, sizes.d_state, sizes.d_conv, sizes.expand)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        out: Tensor = self.mamba(self.norm(x))
        return out


class Block(nn.Module):
    """x + DropPath(LayerNorm(Mamba(LayerNorm(x)))).

    The published block also owns a `norm2` that nothing reads; checkpoint.py drops it.
    """

    def __init__(self, sizes: Sizes, drop_path: float) -> None:
        super().__init__()
        self.attn = MambaMixer(sizes)
        self.norm1 = nn.LayerNorm(sizes.dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        out: Tensor = x + self.drop_path(self.norm1(self.attn(x)))
        return out


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
        self.Stem = nn.Sequential(
            nn.Conv1d(sizes.channels, dim, 3, padding=1),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Conv1d(dim, dim, 3, padding=1),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
        )
        rates = [0.0, *torch.linspace(0, MAX_DROP_PATH, sizes.depth).tolist()][: sizes.depth]
        blocks = nn.ModuleList(Block(sizes, rate) for rate in rates)
        spot, emotion = nn.Linear(dim, 1), nn.Linear(dim, sizes.classes)
        if name == "metst64":
            self.blocks_spot = blocks
            self.fc_spot, self.fc_recog = nn.Sequential(spot), nn.Sequential(emotion)
        else:
            self.spot_pathway = nn.ModuleDict({"block": blocks})
            self.fc_spot, self.fc_recog = spot, emotion
        linear = [spot, emotion] if init == "mamba" else [m for m in self.modules() if isinstance(m, nn.Linear)]
        for layer in linear:
            nn.init.trunc_normal_(layer.weight, std=PUBLISHED_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

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
