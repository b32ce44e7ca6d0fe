"""What the networks are made of besides Mamba: residual blocks, stochastic depth, and how linear maps are drawn.

The modules carry the names of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor, nn

from training.models.mamba import Mamba

PUBLISHED_STD = 0.02
MAX_DROP_PATH = 0.2


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

    def __init__(self, dim: int, d_state: int, d_conv: int, expand: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mamba = Mamba(dim, d_state, d_conv, expand)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        out: Tensor = self.mamba(self.norm(x))
        return out


class Block(nn.Module):
    """x + DropPath(LayerNorm(Mamba(LayerNorm(x)))).

    The published block also owns a `norm2` that nothing reads; checkpoint.py drops it.

    Args:
        dim: channels in and out.
        d_state: as for `Mamba`.
        d_conv: likewise.
        expand: likewise.
        drop_path: rate of the branch.
    """

    def __init__(self, dim: int, d_state: int, d_conv: int, expand: int, drop_path: float) -> None:
        super().__init__()
        self.attn = MambaMixer(dim, d_state, d_conv, expand)
        self.norm1 = nn.LayerNorm(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, dim)."""
        out: Tensor = x + self.drop_path(self.norm1(self.attn(x)))
        return out


def blocks(count: int, dim: int, d_state: int, d_conv: int, expand: int) -> nn.ModuleList:
    """Return blocks for one after another, with the published rates of stochastic depth.

    One block without, then a ramp over `count` blocks to MAX_DROP_PATH, whose last is never reached.
    """
    rates = [0.0, *np.linspace(0, MAX_DROP_PATH, count).tolist()][:count]
    return nn.ModuleList(Block(dim, d_state, d_conv, expand, rate) for rate in rates)


def stem(channels: int, dim: int) -> nn.Sequential:
    """Return (convolution over 3 frames, batch norm, ReLU) twice, (B, channels, T) -> (B, dim, T)."""
    return nn.Sequential(
        nn.Conv1d(channels, dim, 3, padding=1),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
        nn.Conv1d(dim, dim, 3, padding=1),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
    )


def draw_linear(network: nn.Module, heads: Iterable[nn.Linear], init: str) -> None:
    """Draw linear maps truncated-normal with std 0.02 and zero bias, as published.

    Args:
        network: whose maps they are.
        heads: those outside of Mamba.
        init: "mamba" draws the heads only and leaves the standard Mamba initialisation; "published" draws every map,
            those inside Mamba too, which also wipes Mamba's time-step bias.
    """
    for layer in heads if init == "mamba" else [m for m in network.modules() if isinstance(m, nn.Linear)]:
        nn.init.trunc_normal_(layer.weight, std=PUBLISHED_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
