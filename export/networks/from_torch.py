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
    return pair(name, weight, bias)


def linear(name: str, layer: nn.Linear) -> Arrays:
    """Return a linear map."""
    return pair(name, layer.weight.T, layer.bias)


def stem(layers: nn.Sequential) -> Arrays:
    """Return the convolutions of a stem, each with the batch norm behind it folded in."""
    convolutions = [m for m in layers if isinstance(m, nn.Conv1d)]
    norms = [m for m in layers if isinstance(m, nn.BatchNorm1d)]
    found: Arrays = {}
    for i, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        found |= folded(f"stem.{i}", convolution, norm)
    return found


def head(name: str, layer: nn.Module) -> Arrays:
    """Return the linear map that a head is, by its published name alone or in a sequence of one."""
    (only,) = (m for m in layer.modules() if isinstance(m, nn.Linear))
    return linear(name, only)


def mamba_block(name: str, block: Block) -> Arrays:
    """Return a block: both norms and the Mamba between them."""
    norm, mamba = block.attn.norm, block.attn.mamba
    return (
        pair(f"{name}.norm", norm.weight, norm.bias)
        | _mamba(name, mamba)
        | pair(f"{name}.post_norm", block.norm1.weight, block.norm1.bias)
    )


def _mamba(name: str, mamba: Mamba) -> Arrays:
    return {
        f"{name}.in_proj": array_of(mamba.in_proj.weight.T),
        **pair(f"{name}.conv", mamba.conv1d.weight, mamba.conv1d.bias),
        f"{name}.x_proj": array_of(mamba.x_proj.weight.T),
        f"{name}.dt_proj": array_of(mamba.dt_proj.weight.T),
        f"{name}.dt_bias": array_of(mamba.dt_proj.bias),
        f"{name}.A": array_of(-mamba.A_log.double().exp()),
        f"{name}.D": array_of(mamba.D),
        f"{name}.out_proj": array_of(mamba.out_proj.weight.T),
    }


def pair(name: str, weight: Tensor, bias: Tensor | None) -> Arrays:
    """Return a layer's weight and bias as they are."""
    assert bias is not None
    return {f"{name}.weight": array_of(weight), f"{name}.bias": array_of(bias)}


def array_of(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor as a float32 array in C order."""
    return np.ascontiguousarray(tensor.detach().cpu().double().numpy(), dtype=np.float32)
