"""A trained network as plain layers with named weights: what both graphs and weights.bin are made of.

Batch norms are folded into the convolutions before them, A is -exp(A_log), linear maps are stored (in, out).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from training.models import MeTst
from training.models.mamba import Mamba
from training.models.metst import Block

# What fp16 graphs hold in half precision: the matrices and the convolution of every block. All else stays in fp32: the
# time step (dt_proj, dt_bias), A and D as design.md asks; norms, for their sums; stem and heads, since features may be
# far below or above fp16's range and scores are compared with thresholds. Those are small.
_HALF = re.compile(r"blocks\.\d+\.(in_proj|conv\.weight|conv\.bias|x_proj|out_proj)")


@dataclass(frozen=True)
class Weight:
    """A tensor of weights.bin: float32 `array` under `name`."""

    name: str
    array: npt.NDArray[np.float32]

    @property
    def half(self) -> bool:
        """Whether fp16 graphs hold it in half precision."""
        return _HALF.fullmatch(self.name) is not None


@dataclass(frozen=True)
class Affine:
    """Weight and bias: of a convolution (out, in, taps), a linear map (in, out) or a layer norm (dim)."""

    weight: Weight
    bias: Weight


@dataclass(frozen=True)
class MambaBlock:
    """x + LayerNorm(Mamba(LayerNorm(x))). Shapes: D inner channels, N states, R = dt_rank."""

    norm: Affine
    in_proj: Weight  # (dim, 2 D)
    conv: Affine  # (D, 1, taps)
    x_proj: Weight  # (D, R + 2 N)
    dt_proj: Weight  # (R, D)
    dt_bias: Weight
    a: Weight  # (D, N), negative
    d: Weight
    out_proj: Weight  # (D, dim)
    post_norm: Affine

    @property
    def inner(self) -> int:
        """Inner channels D."""
        return int(self.a.array.shape[0])

    @property
    def states(self) -> int:
        """States a channel N."""
        return int(self.a.array.shape[1])

    @property
    def dt_rank(self) -> int:
        """Factors of the time step R."""
        return int(self.dt_proj.array.shape[0])

    @property
    def taps(self) -> int:
        """Taps of the causal convolution."""
        return int(self.conv.weight.array.shape[2])


@dataclass(frozen=True)
class Network:
    """ME-TST: convolutions (kernel 3, padding 1, then ReLU), blocks, two heads."""

    stem: tuple[Affine, ...]
    blocks: tuple[MambaBlock, ...]
    spot: Affine
    emotion: Affine


def describe(network: MeTst) -> Network:
    """Return the layers of a network in evaluation mode, as float32 arrays."""
    convolutions = [m for m in network.Stem if isinstance(m, nn.Conv1d)]
    norms = [m for m in network.Stem if isinstance(m, nn.BatchNorm1d)]
    spot, emotion = (
        next(m for m in head.modules() if isinstance(m, nn.Linear)) for head in (network.fc_spot, network.fc_recog)
    )
    return Network(
        stem=tuple(_folded(f"stem.{i}", c, n) for i, (c, n) in enumerate(zip(convolutions, norms, strict=True))),
        blocks=tuple(_block(f"blocks.{i}", block) for i, block in enumerate(network.blocks)),
        spot=_linear("spot", spot),
        emotion=_linear("emotion", emotion),
    )


def from_weights(arrays: Mapping[str, npt.NDArray[np.float32]]) -> Network:
    """Return the layers again from the weights of a bundle: name -> array.

    Raises:
        KeyError: a weight is missing.
    """

    def weight(name: str) -> Weight:
        return Weight(name, arrays[name])

    def affine(name: str) -> Affine:
        return Affine(weight(f"{name}.weight"), weight(f"{name}.bias"))

    def block(name: str) -> MambaBlock:
        leaves = {"in_proj": "in_proj", "x_proj": "x_proj", "dt_proj": "dt_proj", "dt_bias": "dt_bias"}
        leaves |= {"a": "A", "d": "D", "out_proj": "out_proj"}
        return MambaBlock(
            norm=affine(f"{name}.norm"),
            conv=affine(f"{name}.conv"),
            post_norm=affine(f"{name}.post_norm"),
            **{field: weight(f"{name}.{leaf}") for field, leaf in leaves.items()},
        )

    depth = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("blocks."))
    return Network(
        stem=(affine("stem.0"), affine("stem.1")),
        blocks=tuple(block(f"blocks.{i}") for i in range(depth)),
        spot=affine("spot"),
        emotion=affine("emotion"),
    )


def weights(part: object) -> Iterator[Weight]:
    """Yield every weight of a layer, or of a tuple of layers, in the order of the fields."""
    if isinstance(part, Weight):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from weights(item)
    else:
        assert isinstance(part, (Network, MambaBlock, Affine))
        for field in fields(part):
            yield from weights(getattr(part, field.name))


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().double().numpy(), dtype=np.float32)


def _folded(name: str, convolution: nn.Conv1d, norm: nn.BatchNorm1d) -> Affine:
    """Fold y = (conv(x) - mean) / sqrt(var + eps) * weight + bias into one convolution, in float64."""
    assert convolution.bias is not None and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = convolution.weight.double() * scale[:, None, None]
    bias = (convolution.bias.double() - norm.running_mean.double()) * scale + norm.bias.double()
    return Affine(Weight(f"{name}.weight", _array(weight)), Weight(f"{name}.bias", _array(bias)))


def _linear(name: str, layer: nn.Linear) -> Affine:
    return Affine(Weight(f"{name}.weight", _array(layer.weight.T)), Weight(f"{name}.bias", _array(layer.bias)))


def _pair(name: str, layer: nn.LayerNorm | nn.Conv1d) -> Affine:
    assert layer.bias is not None
    return Affine(Weight(f"{name}.weight", _array(layer.weight)), Weight(f"{name}.bias", _array(layer.bias)))


def _block(name: str, block: Block) -> MambaBlock:
    mamba: Mamba = block.attn.mamba

    def weight(leaf: str, tensor: Tensor) -> Weight:
        return Weight(f"{name}.{leaf}", _array(tensor))

    return MambaBlock(
        norm=_pair(f"{name}.norm", block.attn.norm),
        in_proj=weight("in_proj", mamba.in_proj.weight.T),
        conv=_pair(f"{name}.conv", mamba.conv1d),
        x_proj=weight("x_proj", mamba.x_proj.weight.T),
        dt_proj=weight("dt_proj", mamba.dt_proj.weight.T),
        dt_bias=weight("dt_bias", mamba.dt_proj.bias),
        a=weight("A", -mamba.A_log.double().exp()),
        d=weight("D", mamba.D),
        out_proj=weight("out_proj", mamba.out_proj.weight.T),
        post_norm=_pair(f"{name}.post_norm", block.norm1),
    )
