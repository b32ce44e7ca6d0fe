"""ME-TST+ (arXiv 2508.08082): two convolutions, slow and fast Mamba blocks side by side, two heads on every frame.

With two pathways each head reads its own, as published; with one both read it (arXiv 2508.18834).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from metst_edge.engine.networks import shape
from metst_edge.engine.networks.layers import Affine, MambaBranch, Scan, TimeConvolution, sigmoid
from metst_edge.engine.networks.shape import Convolution, Head, MambaBlock, Network
from metst_edge.engine.types import Array, Scores
from metst_edge.errors import EngineError

if TYPE_CHECKING:
    from metst_edge._native import NetworkStream

SIZES = (
    "channels",
    "dim",
    "slow_dim",
    "stages",
    "depth",
    "pathways",
    "d_state",
    "d_conv",
    "expand",
    "dt_rank",
    "slow_dt_rank",
    "classes",
)
"""What the manifest's `sizes` must hold; `depth` is that of a stage."""


def describe(sizes: Mapping[str, int], source: object) -> Network:
    """Return the network's shape.

    Args:
        sizes: as in the manifest.
        source: what to call the bundle in an error.

    Raises:
        EngineError: a size is missing.
    """
    missing = [name for name in SIZES if name not in sizes]
    if missing:
        raise EngineError(f"{source}: expected sizes {', '.join(missing)} in the manifest; export the bundle again")
    dim = sizes["dim"]
    pathways = tuple(_pathway(sizes, index) for index in range(sizes["pathways"]))
    outputs = pathways[0].outputs
    return Network(
        stem=(Convolution("stem.0", sizes["channels"], dim), Convolution("stem.1", dim, dim)),
        pathways=pathways,
        spot=Head("spot", outputs, 1),
        emotion=Head("emotion", outputs, sizes["classes"]),
    )


def _pathway(sizes: Mapping[str, int], index: int) -> shape.SlowFast:
    name = f"pathway_{index}"
    dim, slow_dim = sizes["dim"], sizes["slow_dim"]
    count = sizes["stages"] * sizes["depth"]
    first = 2 * count * index

    def blocks(start: int, width: int, dt_rank: int) -> tuple[MambaBlock, ...]:
        inner = sizes["expand"] * width
        return tuple(
            MambaBlock(start + i, width, inner, sizes["d_state"], dt_rank, sizes["d_conv"]) for i in range(count)
        )

    return shape.SlowFast(
        name=name,
        entry=Convolution(f"{name}.entry", dim, slow_dim),
        laterals=tuple(Convolution(f"{name}.laterals.{i}", dim, slow_dim) for i in range(sizes["stages"] - 1)),
        fast=blocks(first, dim, sizes["dt_rank"]),
        slow=blocks(first + count, slow_dim, sizes["slow_dt_rank"]),
    )


class MetstPlus:
    """ME-TST+ on the CPU: whole windows in NumPy around the compiled scan, streams in one compiled call a frame.

    Args:
        network: its shape.
        sizes: as in the manifest, which the compiled step goes by.
        weights: by name; they fit the shape.
        half: keep the compiled step's matrices in half precision; of windows they are as given.
    """

    def __init__(
        self, network: Network, sizes: Mapping[str, int], weights: Mapping[str, Array], half: bool = False
    ) -> None:
        from metst_edge import _native

        self._native = _native
        self._stem = tuple(TimeConvolution.read(weights, convolution) for convolution in network.stem)
        self._pathways = tuple(
            _SlowFast(weights, pathway) for pathway in network.pathways if isinstance(pathway, shape.SlowFast)
        )
        self._spot, self._emotion = Affine.read(weights, network.spot.name), Affine.read(weights, network.emotion.name)
        self._packed = _native.MetstPlusNetwork(dict(sizes), dict(weights), half=half)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        x = np.ascontiguousarray(features.transpose(0, 2, 1))
        for convolution in self._stem:
            x = convolution(x)
        given = [pathway(x, self._native.selective_scan) for pathway in self._pathways]
        spot = sigmoid(self._spot.linear(given[0]))[..., 0]
        return Scores(np.ascontiguousarray(spot), self._emotion.linear(given[-1]))

    def open_stream(self, lanes: int) -> NetworkStream:
        """Return the compiled step with a state of its own."""
        return self._native.NetworkStream(self._packed, lanes)


class _SlowFast:
    """A `shape.SlowFast` on whole windows."""

    def __init__(self, weights: Mapping[str, Array], pathway: shape.SlowFast) -> None:
        self._entry = TimeConvolution.read(weights, pathway.entry)
        self._laterals = tuple(TimeConvolution.read(weights, lateral) for lateral in pathway.laterals)
        self._stages = tuple(
            tuple(tuple(MambaBranch.read(weights, block) for block in blocks) for blocks in stage)
            for stage in pathway.stages
        )

    def __call__(self, x: Array, scan: Scan) -> Array:
        """(B, T, dim) -> (B, T, slow dim + dim)."""
        frames = x.shape[1]
        fast, slow = x, self._entry(x, stride=2)
        for i, (fast_blocks, slow_blocks) in enumerate(self._stages):
            for branch in fast_blocks:
                fast = fast + branch(fast, scan)
            for branch in slow_blocks:
                slow = slow + branch(slow, scan)
            if i < len(self._laterals):
                slow = slow + self._laterals[i](fast, stride=2)
        return np.concatenate((np.repeat(slow, 2, axis=1)[:, :frames], fast), axis=-1)
