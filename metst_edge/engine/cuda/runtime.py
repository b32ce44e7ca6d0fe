"""The engine on the CUDA kernels alone: a network's step in one launch, and with flow in front of it in one graph.

Nothing is built before: weights go from the bundle to the GPU. Windows are stepped through, one in a lane.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from metst_edge.bundle import Bundle
from metst_edge.closing import Closing
from metst_edge.engine import networks
from metst_edge.engine.cuda.joined_flow import JoinedFlow
from metst_edge.engine.cuda.library import FusedStep, load, why_not
from metst_edge.engine.tensorrt import roi_flow
from metst_edge.engine.tensorrt.device import CudaStream, Device, RecordedGraph, open_device
from metst_edge.engine.tensorrt.plugin import find_cuda_library
from metst_edge.engine.tensorrt.stream import BoundStep, StepArrays, StepStream
from metst_edge.engine.types import Array, Scores, check_lanes, check_scores, check_windows
from metst_edge.errors import EngineError

MAX_WINDOWS = 64
"""Stepped through at once, at most: each takes 0.8 MB of the GPU's memory with metst64, 1.2 with metst_plus_small and
10, the most, with metst_plus."""

_LOG = logging.getLogger(__name__)


class CudaEngine(Closing):
    """Engine (see types.py) on the fused step. May be used from any thread; it lives on while one of its streams does.

    Args:
        bundle: what to run: an ME-TST or ME-TST+.
        precision: "fp32".
        say: told in one line what is not as it should be; default: a log record of level WARNING.

    Raises:
        EngineError: the library, pycuda or the GPU is missing, or the bundle's network or the precision is another.
    """

    name = "cuda"

    def __init__(self, bundle: Bundle, precision: str = "fp32", say: Callable[[str], None] | None = None) -> None:
        if precision != "fp32":
            raise EngineError(
                f"expected precision 'fp32' for engine 'cuda', got {precision!r}; use engine='tensorrt' or 'native'"
            )
        reason = why_not(bundle)
        if reason is not None:
            raise EngineError(f"{bundle.path}: expected a network for engine 'cuda', but {reason}; use another engine")
        self.bundle, self.precision = bundle, precision
        self.say = say or _LOG.warning
        network = networks.of_bundle(bundle)
        step = FusedStep(load(cuda_library()), network)
        self.device = open_device()
        self._lock = threading.RLock()
        self._streams: weakref.WeakSet[CudaStepStream] = weakref.WeakSet()
        self._weights = _Weights(self.device, step, bundle)
        self._release = weakref.finalize(self, self._weights.close)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state.

        Raises:
            EngineError: dtype, shape or values do not fit; the GPU fails.
        """
        features = check_windows(features, self.bundle.channels)
        windows, _, frames = features.shape
        spot = np.empty((windows, frames), np.float32)
        emotion = np.empty((windows, frames, len(self.bundle.labels)), np.float32)
        for first in range(0, windows, MAX_WINDOWS):
            part = slice(first, first + MAX_WINDOWS)
            self._score(features[part], spot[part], emotion[part])
        check_scores(spot, emotion, self.bundle.path)
        return Scores(spot, emotion)

    def open_stream(self, lanes: int = 2) -> CudaStepStream:
        """Return a stream with its own state.

        Raises:
            EngineError: the number does not fit; the GPU fails.
        """
        lanes = check_lanes(lanes)
        with self._lock:
            if not self._release.alive:
                raise EngineError("expected an open engine, got a closed one; call load_engine again")
            stream = CudaStepStream(self, self._weights, lanes)
            self._streams.add(stream)
        return stream

    def why_no_flow(self) -> str | None:
        """See types.DeviceEngine."""
        try:
            roi_flow.load(self.flow_library())
        except EngineError as error:
            return str(error)
        return None

    def flow_library(self) -> Path:
        """Return the library with the flow: the one with the step. Raises EngineError where it has gone."""
        return cuda_library()

    def close(self) -> None:
        """Give back what this and its streams hold on the GPU. Calling it again is harmless."""
        with self._lock:
            for stream in list(self._streams):
                stream.close()
            self._release()

    def _score(self, features: Array, spot: Array, emotion: Array) -> None:
        """Score as many windows as there are lanes into float32 spot and emotion."""
        lanes, channels, frames = features.shape
        nothing = np.zeros((lanes, channels), np.float32)
        with self.open_stream(lanes) as stream:
            for t in range(frames + stream.look_ahead):
                fed = np.ascontiguousarray(features[:, :, t]) if t < frames else nothing
                scores = stream.step(fed, np.full(lanes, t == 0 or t >= frames))
                if scores is not None:
                    spot[:, t - stream.look_ahead] = scores.spot
                    emotion[:, t - stream.look_ahead] = scores.emotion


class CudaStepStream(StepStream):
    """DeviceStream (see types.py) of a CudaEngine, which makes it. Flow and step are one CUDA graph."""

    _flow: JoinedFlow | None

    def __init__(self, engine: CudaEngine, weights: _Weights, lanes: int) -> None:
        super().__init__(engine, lanes, {"state": (lanes, weights.step.state)}, partial(_bind, weights))

    def _open_flow(self, library: Path, shape: tuple[int, int]) -> JoinedFlow:
        steps = [direction.enqueue_device for direction in self._directions]
        bundle = self._engine.bundle
        return JoinedFlow(self._stream, library, bundle, self.lanes, shape, self.features, steps)

    def _device_graph(self) -> RecordedGraph:
        joined = None if self._flow is None else self._flow.with_step(self._fed % 2)
        return super()._device_graph() if joined is None else joined


class _Weights:
    """A bundle's packed weights on the GPU, and what reads them."""

    def __init__(self, device: Device, step: FusedStep, bundle: Bundle) -> None:
        self.step = step
        self._stream = CudaStream(device)
        try:
            with self._stream.use():
                buffer = self._stream.buffer(step.weights, pinned=False)
                self._stream.fill(buffer, step.pack(bundle.weights()))
                self.address = buffer.address
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        """Give back what it holds on the GPU."""
        self._stream.close()


def _bind(weights: _Weights, stream: CudaStream, arrays: StepArrays) -> BoundStep:
    """Return the step between these arrays."""
    lanes = arrays.state["state"][0]
    addresses = arrays.fixed | {"state": arrays.read["state"], "next_state": arrays.written["state"]}
    return BoundStep(partial(weights.step.enqueue, lanes, weights.address, addresses))


def cuda_library() -> Path:
    """Return the library with the step. Raises EngineError where it is not installed."""
    found = find_cuda_library()
    if found is None:
        raise EngineError(
            "expected the library with the CUDA kernels, which is not installed: build it as in docs/jetson.md, or use "
            "engine='native'"
        )
    return found
