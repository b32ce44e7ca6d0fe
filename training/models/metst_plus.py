"""ME-TST+ (arXiv 2508.08082): slow and fast Mamba blocks side by side, on the features of all 18 regions.

The modules carry the names of the published checkpoints: `metst_plus` with a pathway for each head, and
`metst_plus_shared`, one for both, as the prior-guided method publishes it (arXiv 2508.18834). `metst_plus_small` is the
latter, narrow enough for a CPU, and nobody's but ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.blocks import blocks, draw_linear, stem


@dataclass(frozen=True)
class PlusSizes:
    """What fixes every tensor shape of an ME-TST+ network; `depth` is that of a stage, fast and slow alike."""

    channels: int = 36
    dim: int = 128
    slow_dim: int = 256
    stages: int = 3
    depth: int = 4
    d_state: int = 64
    d_conv: int = 4
    expand: int = 2
    classes: int = 5

    def to_dict(self) -> dict[str, int]:
        """Return the sizes as plain numbers, as checkpoints and manifests hold them."""
        return asdict(self)


class Lateral(nn.Module):
    """What the fast stack gives to the slow one: a convolution of stride 2, batch norm, ReLU.

    Args:
        dim: channels of the fast stack.
        slow_dim: channels of the slow one.
    """

    def __init__(self, dim: int, slow_dim: int) -> None:
        super().__init__()
        self.conv = halving(dim, slow_dim)

    def forward(self, fast: Tensor) -> Tensor:
        """(B, T, dim) -> (B, T / 2 rounded up, slow_dim)."""
        out: Tensor = self.conv(fast.transpose(1, 2)).transpose(1, 2)
        return out


class SlowFast(nn.Module):
    """Two stacks side by side: one on every frame, one on every other.

    Args:
        sizes: of the network that it is of.
    """

    def __init__(self, sizes: PlusSizes) -> None:
        super().__init__()
        self.sizes = sizes
        dim, slow_dim = sizes.dim, sizes.slow_dim
        self.Stem_slow = halving(dim, slow_dim)
        for i in range(1, sizes.stages + 1):
            self.add_module(f"block{i}", _stage(sizes, slow_dim))
        for i in range(1, sizes.stages + 1):
            self.add_module(f"block{i}_fast", _stage(sizes, dim))
        for i in range(1, sizes.stages):
            self.add_module(f"fuse_{i}", Lateral(dim, slow_dim))

    @property
    def slow_stages(self) -> list[nn.ModuleList]:
        """The slow stack's blocks, stage by stage."""
        return [self.get_submodule(f"block{i + 1}") for i in range(self.sizes.stages)]

    @property
    def fast_stages(self) -> list[nn.ModuleList]:
        """The fast stack's blocks, stage by stage."""
        return [self.get_submodule(f"block{i + 1}_fast") for i in range(self.sizes.stages)]

    @property
    def laterals(self) -> list[Lateral]:
        """From the fast stack to the slow one, after each stage but the last."""
        return [self.get_submodule(f"fuse_{i + 1}") for i in range(self.sizes.stages - 1)]

    def mix(self, x: Tensor) -> Tensor:
        """Run both stacks.

        Args:
            x: (B, dim, T), of the stem. The published code wants an even T; with an odd one the last slow step is for
                one frame.

        Returns:
            (B, T, slow_dim + dim): the slow stack's output of the frame's step, then the fast one's of the frame.
        """
        fast, slow = x.transpose(1, 2), self.Stem_slow(x).transpose(1, 2)
        for i, (fast_stage, slow_stage) in enumerate(zip(self.fast_stages, self.slow_stages, strict=True)):
            for block in fast_stage:
                fast = block(fast)
            for block in slow_stage:
                slow = block(slow)
            if i < len(self.laterals):
                slow = slow + self.laterals[i](fast)
        return torch.cat((slow.repeat_interleave(2, dim=1)[:, : fast.shape[1]], fast), dim=-1)


class MetstPlus(nn.Module):
    """The whole network with a pathway for each head.

    Args:
        name: "metst_plus".
        sizes: shapes; by default the published ones.
        init: as for `MeTst`.
    """

    def __init__(self, name: str, sizes: PlusSizes, init: str = "mamba") -> None:
        super().__init__()
        self.name, self.sizes = name, sizes
        self.Stem = stem(sizes.channels, sizes.dim)
        self.spot_pathway, self.recog_pathway = SlowFast(sizes), SlowFast(sizes)
        inputs = sizes.slow_dim + sizes.dim
        self.fc_spot, self.fc_recog = nn.Linear(inputs, 1), nn.Linear(inputs, sizes.classes)
        draw_linear(self, (self.fc_spot, self.fc_recog), init)

    @property
    def pathways(self) -> tuple[SlowFast, ...]:
        """The spotting head's, then the emotion head's."""
        return self.spot_pathway, self.recog_pathway

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows, each from a zero state.

        Args:
            x: (B, C, T) features, pixels of flow on the 320 px crop.

        Returns:
            spot (B, T) after the sigmoid, emotion logits (B, T, classes).
        """
        x = self.Stem(x)
        spot, emotion = self.fc_spot(self.spot_pathway.mix(x)), self.fc_recog(self.recog_pathway.mix(x))
        return functional.sigmoid(spot).squeeze(-1), emotion


class MetstPlusShared(SlowFast):
    """The whole network with one pathway that both heads read; by its published names it is that pathway itself.

    Args:
        name: "metst_plus_shared" or "metst_plus_small".
        sizes: shapes; by default those of that name.
        init: as for `MeTst`.
    """

    def __init__(self, name: str, sizes: PlusSizes, init: str = "mamba") -> None:
        super().__init__(sizes)
        self.name = name
        self.Stem = stem(sizes.channels, sizes.dim)
        inputs = sizes.slow_dim + sizes.dim
        spot, emotion = nn.Linear(inputs, 1), nn.Linear(inputs, sizes.classes)
        self.fc_spot, self.fc_recog = nn.Sequential(spot), nn.Sequential(emotion)
        draw_linear(self, (spot, emotion), init)

    @property
    def pathways(self) -> tuple[SlowFast, ...]:
        """The one there is."""
        return (self,)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Score windows; as `MetstPlus.forward`."""
        x = self.mix(self.Stem(x))
        return functional.sigmoid(self.fc_spot(x)).squeeze(-1), self.fc_recog(x)


def halving(dim: int, slow_dim: int) -> nn.Sequential:
    """Return a convolution around every other frame, batch norm, ReLU: (B, dim, T) -> (B, slow_dim, T / 2)."""
    return nn.Sequential(nn.Conv1d(dim, slow_dim, 3, stride=2, padding=1), nn.BatchNorm1d(slow_dim), nn.ReLU())


def _stage(sizes: PlusSizes, dim: int) -> nn.ModuleList:
    return blocks(sizes.depth, dim, sizes.d_state, sizes.d_conv, sizes.expand)
