"""Layers on whole windows, in NumPy, as the native engine runs them: float32 (B, T, channels) in and out.

Everything but the selective scan, which is compiled and handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from metst_edge.engine.networks import shape
from metst_edge.engine.types import Array

Scan = Callable[..., tuple[Array, Array]]
"""`metst_edge._native.selective_scan`."""

_EPS = np.float32(shape.LAYER_NORM_EPS)


@dataclass(frozen=True)
class Affine:
    """Weight and bias: of a linear map (in, out) and (out,), or of a layer norm (channels,) both."""

    weight: Array
    bias: Array

    @classmethod
    def read(cls, weights: Mapping[str, Array], name: str) -> Affine:
        """Take both from a bundle's weights."""
        return cls(copied(weights[f"{name}.weight"]), copied(weights[f"{name}.bias"]))

    def linear(self, x: Array) -> Array:
        """Apply it as a linear map."""
        y: Array = x @ self.weight + self.bias
        return y

    def norm(self, x: Array) -> Array:
        """Apply it as a layer norm over the channels."""
        size = np.float32(x.shape[-1])
        total: Array = np.add.reduce(x, axis=-1, keepdims=True)
        centred = x - total / size
        squares: Array = np.add.reduce(centred * centred, axis=-1, keepdims=True)
        deviation: Array = np.sqrt(squares / size + _EPS)
        y: Array = centred / deviation * self.weight + self.bias
        return y


@dataclass(frozen=True)
class TimeConvolution:
    """A convolution of three taps with zeros outside the window, then ReLU, as a linear map of (3 * in, out)."""

    map: Affine

    @classmethod
    def read(cls, weights: Mapping[str, Array], convolution: shape.Convolution) -> TimeConvolution:
        """Take it from a bundle's weights."""
        weight = weights[f"{convolution.name}.weight"]  # (out, in, taps)
        rows = np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, convolution.outputs))
        return cls(Affine(rows, copied(weights[f"{convolution.name}.bias"])))

    def __call__(self, x: Array, stride: int = 1) -> Array:
        """(B, T, in) -> (B, T / stride rounded up, out), around frames 0, stride, 2 stride ..."""
        frames = x.shape[1]
        padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
        taps = [padded[:, tap : tap + frames : stride] for tap in range(3)]
        y: Array = np.maximum(self.map.linear(np.concatenate(taps, axis=-1)), np.float32(0.0))
        return y


@dataclass(frozen=True)
class MambaBranch:
    """The residual branch of a `shape.MambaBlock`: LayerNorm(Mamba(LayerNorm(x))).

    Attributes:
        norm: the layer norm in front.
        in_u: (dim, inner), to what is scanned.
        in_z: (dim, inner), to its gate.
        conv: (taps, inner), the oldest frame first.
        conv_bias: (inner,).
        x_proj: (inner, R + 2 N): to the time step's factors, then B, then C.
        dt_proj: (R, inner).
        dt_bias: (inner,).
        a: (inner, N), negative.
        d: (inner,).
        out_proj: (inner, dim).
        post_norm: the layer norm behind.
    """

    norm: Affine
    in_u: Array
    in_z: Array
    conv: Array
    conv_bias: Array
    x_proj: Array
    dt_proj: Array
    dt_bias: Array
    a: Array
    d: Array
    out_proj: Array
    post_norm: Affine

    @classmethod
    def read(cls, weights: Mapping[str, Array], block: shape.MambaBlock) -> MambaBranch:
        """Take it from a bundle's weights."""

        def get(leaf: str) -> Array:
            return copied(weights[f"{block.name}.{leaf}"])

        in_proj = get("in_proj")
        return cls(
            norm=Affine.read(weights, f"{block.name}.norm"),
            in_u=np.ascontiguousarray(in_proj[:, : block.inner]),
            in_z=np.ascontiguousarray(in_proj[:, block.inner :]),
            conv=np.ascontiguousarray(get("conv.weight")[:, 0].T),
            conv_bias=get("conv.bias"),
            x_proj=get("x_proj"),
            dt_proj=get("dt_proj"),
            dt_bias=get("dt_bias"),
            a=get("A"),
            d=get("D"),
            out_proj=get("out_proj"),
            post_norm=Affine.read(weights, f"{block.name}.post_norm"),
        )

    def __call__(self, x: Array, scan: Scan) -> Array:
        """(B, T, dim) -> (B, T, dim), from a zero state."""
        n = self.norm.norm(x)
        taps, frames = self.conv.shape[0], x.shape[1]
        u = n @ self.in_u
        padded = np.pad(u, ((0, 0), (taps - 1, 0), (0, 0)))
        u = self.conv_bias + padded[:, :frames] * self.conv[0]
        for tap in range(1, taps):
            u += padded[:, tap : tap + frames] * self.conv[tap]
        u = silu(u)
        rank, states = self.dt_proj.shape[0], self.a.shape[1]
        projected = u @ self.x_proj
        delta = projected[..., :rank] @ self.dt_proj
        b, c = projected[..., rank : rank + states], projected[..., rank + states :]
        y, _ = scan(u, delta, self.a, b, c, self.d, n @ self.in_z, self.dt_bias)
        return self.post_norm.norm(y @ self.out_proj)


def copied(weight: Array) -> Array:
    """Return a copy in memory of a weight that lies in the bundle's file."""
    return np.array(weight, np.float32, order="C")


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by tanh, which cannot overflow."""
    half = np.float32(0.5)
    y: Array = half * np.tanh(half * x) + half
    return y


def silu(x: Array) -> Array:
    """x * sigmoid(x)."""
    y: Array = x * sigmoid(x)
    return y
