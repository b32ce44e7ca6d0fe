"""Any network on the CPU: whole windows in NumPy around the compiled scan, streams in one compiled call a frame.

Goes by a network's shape and knows none by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from metst_edge.engine.networks import shape
from metst_edge.engine.networks.layers import Affine, MambaBranch, Scan, TimeConvolution, sigmoid
from metst_edge.engine.networks.shape import Network
from metst_edge.engine.types import Array, Scores

if TYPE_CHECKING:
    from metst_edge._native import NetworkStream

Pathway = Callable[[Array, Scan], Array]
"""A pathway on whole windows: (B, T, dim) of the stem -> (B, T, what the heads read)."""


class CpuNetwork:
    """A network ready to run.

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
        self._pathways = tuple(_on_windows(pathway, weights) for pathway in network.pathways)
        self._spot, self._emotion = Affine.read(weights, network.spot.name), Affine.read(weights, network.emotion.name)
        one_rate = all(isinstance(pathway, shape.Stack) for pathway in network.pathways)
        compiled = _native.MetstNetwork if one_rate else _native.MetstPlusNetwork
        self._packed = compiled(dict(sizes), dict(weights), half=half)

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


def _on_windows(pathway: shape.Pathway, weights: Mapping[str, Array]) -> Pathway:
    if isinstance(pathway, shape.SlowFast):
        return _SlowFast(pathway, weights)
    return _Stack(pathway.blocks, weights)


class _Stack:
    """Blocks one after another."""

    def __init__(self, blocks: tuple[shape.MambaBlock, ...], weights: Mapping[str, Array]) -> None:
        self._branches = tuple(MambaBranch.read(weights, block) for block in blocks)

    def __call__(self, x: Array, scan: Scan) -> Array:
        """(B, T, dim) -> (B, T, dim)."""
        for branch in self._branches:
            x = x + branch(x, scan)
        return x


class _SlowFast:
    """A `shape.SlowFast`."""

    def __init__(self, pathway: shape.SlowFast, weights: Mapping[str, Array]) -> None:
        self._entry = TimeConvolution.read(weights, pathway.entry)
        self._laterals = tuple(TimeConvolution.read(weights, lateral) for lateral in pathway.laterals)
        self._stages = tuple(tuple(_Stack(blocks, weights) for blocks in stage) for stage in pathway.stages)

    def __call__(self, x: Array, scan: Scan) -> Array:
        """(B, T, dim) -> (B, T, slow dim + dim)."""
        frames = x.shape[1]
        fast, slow = x, self._entry(x, stride=2)
        for i, (fast_stack, slow_stack) in enumerate(self._stages):
            fast, slow = fast_stack(fast, scan), slow_stack(slow, scan)
            if i < len(self._laterals):
                slow = slow + self._laterals[i](fast, stride=2)
        return np.concatenate((np.repeat(slow, 2, axis=1)[:, :frames], fast), axis=-1)
