"""ME-TST (arXiv 2409.09707): two convolutions, one pathway of Mamba blocks, two heads on every frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from metst_edge.engine.networks.layers import Affine, MambaBranch, TimeConvolution, sigmoid
from metst_edge.engine.networks.shape import Convolution, Head, MambaBlock, Network, Stack
from metst_edge.engine.types import Array, Scores
from metst_edge.errors import EngineError

if TYPE_CHECKING:
    from metst_edge._native import NetworkStream

SIZES = ("channels", "dim", "depth", "d_state", "d_conv", "expand", "dt_rank", "classes")
"""What the manifest's `sizes` must hold."""


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
    dim, classes = sizes["dim"], sizes["classes"]
    blocks = tuple(
        MambaBlock(i, dim, sizes["expand"] * dim, sizes["d_state"], sizes["dt_rank"], sizes["d_conv"])
        for i in range(sizes["depth"])
    )
    return Network(
        stem=(Convolution("stem.0", sizes["channels"], dim), Convolution("stem.1", dim, dim)),
        pathways=(Stack(blocks),),
        spot=Head("spot", dim, 1),
        emotion=Head("emotion", dim, classes),
    )


class MeTst:
    """ME-TST on the CPU: whole windows in NumPy around the compiled scan, streams in one compiled call a frame.

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
        self._blocks = tuple(MambaBranch.read(weights, block) for block in network.blocks)
        self._spot, self._emotion = Affine.read(weights, network.spot.name), Affine.read(weights, network.emotion.name)
        self._packed = _native.MetstNetwork(dict(sizes), dict(weights), half=half)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        x = np.ascontiguousarray(features.transpose(0, 2, 1))
        for convolution in self._stem:
            x = convolution(x)
        for branch in self._blocks:
            x = x + branch(x, self._native.selective_scan)
        spot = sigmoid(self._spot.linear(x))[..., 0]
        return Scores(np.ascontiguousarray(spot), self._emotion.linear(x))

    def open_stream(self, lanes: int) -> NetworkStream:
        """Return the compiled step with a state of its own."""
        return self._native.NetworkStream(self._packed, lanes)
