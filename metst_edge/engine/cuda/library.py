"""The fused step of csrc/cuda/network_step: a whole network in one kernel, weights straight from a bundle.

Calls a compiled library by ctypes and knows neither memory nor streams: those are numbers, as of pycuda. The CUDA
context that they belong to must be current when a step is enqueued; packing needs none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metst_edge.bundle import Bundle
from metst_edge.engine import networks
from metst_edge.engine.networks.shape import Network, SlowFast, Stack
from metst_edge.engine.tensorrt.kernels import load_functions
from metst_edge.engine.types import Array
from metst_edge.errors import EngineError

VERSION = 3
"""Of the library's functions, metst_network_step_version in csrc/cuda/network_step_c.cpp."""

CLUSTER, FASTEST = 8, 0
"""kClusterBlocks and kFastestBlocks of csrc/include/metst/network_step_cuda.h."""

ARRAYS = ("features", "reset", "state", "next_state", "spot", "emotion")
"""What a step reads and writes beside its weights: NetworkStepBuffers of csrc/include/metst/network_step_cuda.h."""


def load(path: Path | str) -> ctypes.CDLL:
    """Load the library with the functions of csrc/cuda/network_step_c.cpp.

    Raises:
        EngineError: it cannot be loaded, has none, or is of another version.
    """
    again = "build and install it again (docs/jetson.md)"
    return load_functions(path, "metst_network_step", VERSION, "the network's step", again)


def why_not(bundle: Bundle) -> str | None:
    """Return why the fused step does not run a bundle's network, None where it does."""
    if bundle.model in networks.MODELS:
        return None
    return f"it runs {', '.join(networks.MODELS)}, not {bundle.model}"


class FusedStep:
    """A network's step.

    Args:
        library: from `load`.
        network: of one stack of blocks, or of pathways of two: ME-TST or ME-TST+. Blocks of a stack are of the same
            sizes.

    Attributes:
        weights: floats of the packed weights.
        state: floats of a lane's state.

    Raises:
        EngineError: the network is too large.
    """

    def __init__(self, library: Any, network: Network) -> None:
        prefix, sizes = _sizes(network)
        self._text = library.metst_network_step_text
        self._pack, self._step = getattr(library, f"{prefix}_pack"), getattr(library, prefix)
        self._names, self._sizes = tuple(network.weights), (ctypes.c_int64 * len(sizes))(*sizes)
        floats = (ctypes.c_int64 * 2)()
        self._check(getattr(library, f"{prefix}_floats")(self._sizes, floats))
        self.weights, self.state = int(floats[0]), int(floats[1])

    def pack(self, weights: Mapping[str, Array]) -> Array:
        """Return a bundle's weights, by name, as the kernel reads them: float32 (weights,)."""
        arrays = [np.ascontiguousarray(weights[name], np.float32) for name in self._names]
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        packed = np.empty(self.weights, np.float32)
        at = ctypes.c_void_p(packed.ctypes.data)
        self._check(self._pack(self._sizes, pointers, ctypes.c_size_t(len(arrays)), at))
        return packed

    def enqueue(self, lanes: int, weights: int, arrays: Mapping[str, int], stream: int, blocks: int = FASTEST) -> None:
        """Enqueue a step on a raw CUDA stream. Neither allocates nor waits.

        Args:
            lanes: how many.
            weights: address of what `pack` returns.
            arrays: addresses of ARRAYS: float32 (lanes, C), (lanes,), (lanes, state) twice, (lanes,) and (lanes, E).
            stream: the raw CUDA stream.
            blocks: that a lane is spread over: 1, CLUSTER on a GPU of compute capability 9.0 or later, or FASTEST.

        Raises:
            EngineError: CUDA refuses the launch.
        """
        addresses = map(ctypes.c_void_p, (weights, *_in_order(arrays)))
        after = ctypes.c_int(blocks), ctypes.c_void_p(stream)
        self._check(self._step(self._sizes, ctypes.c_int64(lanes), *addresses, *after))

    def _check(self, status: int) -> None:
        if status:
            text = self._text(status).decode()
            raise EngineError(f"expected the network's step on the GPU, but {text}; use engine='native'")


def _sizes(network: Network) -> tuple[str, tuple[int, ...]]:
    """Return what the names of a network's functions begin with, and the numbers that they take."""
    first = network.pathways[0]
    if isinstance(first, SlowFast):
        return "metst_plus_network_step", _plus_sizes(network, first)
    assert isinstance(first, Stack)
    return "metst_network_step", _metst_sizes(network)


def _metst_sizes(network: Network) -> tuple[int, ...]:
    """Return MetstSizes of csrc/include/metst/metst_network.h, in order."""
    dim, blocks = network.stem[0].outputs, network.blocks
    inner, states, taps, rank = 1, 1, 1, 1
    if blocks:
        inner, states, taps, rank = blocks[0].inner, blocks[0].states, blocks[0].taps, blocks[0].dt_rank
    return network.channels, dim, len(blocks), inner, states, taps, rank, network.classes


def _plus_sizes(network: Network, pathway: SlowFast) -> tuple[int, ...]:
    """Return MetstPlusSizes of csrc/include/metst/metst_plus_network.h, in order."""
    fast, slow, stages = pathway.fast[0], pathway.slow[0], len(pathway.stages)
    depth = len(pathway.fast) // stages
    inside = fast.inner, slow.inner, fast.states, fast.taps, fast.dt_rank, slow.dt_rank
    return (network.channels, fast.dim, slow.dim, stages, depth, len(network.pathways), *inside, network.classes)


def _in_order(arrays: Mapping[str, int]) -> Sequence[int]:
    return [arrays[name] for name in ARRAYS]
