"""A Mamba-1 layer with the parameter names of the published code, so that published checkpoints load.

Facts from arXiv 2312.00752 and the layout of state-spaces/mamba checkpoints. Causal: step t sees steps 0..t.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.scan import selective_scan

# Standard Mamba initialisation: time steps log-uniform in this range (arXiv 2312.00752, section 3.6), at least 1e-4.
DT_RANGE = (1e-3, 1e-1)
DT_FLOOR = 1e-4


class Mamba(nn.Module):
    """in_proj -> causal depthwise convolution -> selective scan, gated -> out_proj.

    Args:
        dim: channels in and out.
        d_state: states per inner channel.
        d_conv: taps of the convolution.
        expand: inner channels per channel.
    """

    def __init__(self, dim: int, d_state: int = 64, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner, self.dt_rank, self.d_state = expand * dim, math.ceil(dim / 16), d_state
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, d_state))
        self.D = nn.Parameter(torch.empty(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the standard initialisation: A = -(1..N) per channel, time steps log-uniform in DT_RANGE."""
        for part in (self.in_proj, self.conv1d, self.x_proj, self.out_proj):
            part.reset_parameters()
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        low, high = (math.log(limit) for limit in DT_RANGE)
        dt = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp_().clamp_(min=DT_FLOOR)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.A_log.copy_(torch.arange(1, self.d_state + 1, dtype=self.A_log.dtype).log().expand_as(self.A_log))
        nn.init.ones_(self.D)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, dim) -> (B, L, dim), from a zero state."""
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = functional.silu(self._causal_convolution(u))
        low, b, c = self.x_proj(u).split((self.dt_rank, self.d_state, self.d_state), dim=-1)
        delta = functional.linear(low, self.dt_proj.weight)  # its bias is added inside the scan
        y, _ = selective_scan(u, delta, -self.A_log.exp(), b, c, self.D, z, self.dt_proj.bias)
        out: Tensor = self.out_proj(y)
        return out

    def _causal_convolution(self, u: Tensor) -> Tensor:
        return self.conv1d(u.transpose(1, 2))[..., : u.shape[1]].transpose(1, 2)
