"""Layers of a trained network as named float32 arrays: what weights.bin is made of.

Batch norms are folded into the convolutions before them, A is -exp(A_log), linear maps are stored (in, out).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from training.models.blocks import Block
from training.models.mamba import Mamba

Arrays = dict[str, npt.NDArray[np.float32]]
"""Weights by name, in the order of weights.bin."""


def folded(name: str, convolution: nn.Conv1d, norm: nn.BatchNorm1d) -> Arrays:
    """Fold y = (conv(x) - mean) / sqrt(var + eps) * weight + bias into one convolution (out, in, taps), in float64."""
    assert convolution.bias is not None and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = convolution.weight.double() * scale[:, None, None]
    bias = (convolution.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    return _pair(name, weight, bias)


def stem(layers: nn.Sequential) -> Arrays:
    """Return the convolutions of a stem, each with the batch norm behind it folded in."""
    convolutions = [m for m in layers if isinstance(m, nn.Conv1d)]
    norms = [m for m in layers if isinstance(m, nn.BatchNorm1d)]
    found: Arrays = {}
    for i, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        found |= folded(f"stem.{i}", convolution, norm)
    return found


def head(name: str, layer: nn.Module) -> Arrays:
    """Return the linear map that a head is, in the published names alone or in a sequence of one."""
    (linear,) = (m for m in layer.modules() if isinstance(m, nn.Linear))
    return _pair(name, linear.weight.T, linear.bias)


def mamba_block(name: str, block: Block) -> Arrays:
    """Return a block: both norms and the Mamba between them."""
    norm, mamba = block.attn.norm, block.attn.mamba
    return (
        _pair(f"{name}.norm", norm.weight, norm.bias)
        | _mamba(name, mamba)
        | _pair(f"{name}.post_norm", block.norm1.weight, block.norm1.bias)
    )


def _mamba(name: str, mamba: Mamba) -> Arrays:
    return {
        f"{name}.in_proj": _array(mamba.in_proj.weight.T),
        **_pair(f"{name}.conv", mamba.conv1d.weight, mamba.conv1d.bias),
        f"{name}.x_proj": _array(mamba.x_proj.weight.T),
        f"{name}.dt_proj": _array(mamba.dt_proj.weight.T),
        f"{name}.dt_bias": _array(mamba.dt_proj.bias),
        f"{name}.A": _array(-mamba.A_log.double().exp()),
        f"{name}.D": _array(mamba.D),
        f"{name}.out_proj": _array(mamba.out_proj.weight.T),
    }


def _pair(name: str, weight: Tensor, bias: Tensor | None) -> Arrays:
    assert bias is not None
    return {f"{name}.weight": _array(weight), f"{name}.bias": _array(bias)}


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().double().numpy(), dtype=np.float32)
