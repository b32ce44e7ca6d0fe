"""The engine on TensorRT: windows in batches, and streams whose state stays on the GPU."""

from __future__ import annotations

import logging
import threading
import weakref
from functools import partial
from pathlib import Path

import numpy as np

from metst_edge.bundle import Bundle
from metst_edge.closing import Closing
from metst_edge.engine.tensorrt.builder import MAX_WINDOWS, EngineBuilder, Say
from metst_edge.engine.tensorrt.device import CudaStream, Device, open_device, packed
from metst_edge.engine.tensorrt.execution import LoadedEngine, Shape
from metst_edge.engine.tensorrt.plugin import find_plugin
from metst_edge.engine.tensorrt.roi_flow import load
from metst_edge.engine.tensorrt.stream import BoundStep, StepArrays, StepStream
from metst_edge.engine.types import (
    Array,
    Scores,
    check_lanes,
    check_scores,
    check_windows,
)
from metst_edge.errors import EngineError

_LOG = logging.getLogger(__name__)


class TensorRTEngine(Closing):
    """Engine (see types.py) on TensorRT. What it runs comes from the cache, or is built when it is first needed.

    May be used from any thread. It lives on while one of its streams does.

    Args:
        bundle: what to run.
        precision: "fp32", or "fp16" where the bundle has such graphs; features and scores are float32 all the same.
        say: told in one line what takes long or is not as it should be; default: a log record of level WARNING.

    Raises:
        EngineError: TensorRT, pycuda or the GPU is missing, or the bundle has no such precision.
    """

    name = "tensorrt"

    def __init__(self, bundle: Bundle, precision: str = "fp32", say: Say | None = None) -> None:
        self.bundle, self.precision = bundle, precision
        self.say = say or _LOG.warning
        self._builder = EngineBuilder(bundle, precision=precision, say=self.say)  # finds TensorRT, builds nothing yet
        self.device = open_device()
        self._lock = threading.RLock()
        self._loaded: dict[int | None, LoadedEngine] = {}  # the step by its lanes; None: the window
        self._windows: list[_Windows] = []  # one, once it is needed
        self._streams: weakref.WeakSet[TensorRTStream] = weakref.WeakSet()
        self._release = weakref.finalize(self, _release, self.device, self._windows, self._loaded)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state.

        Raises:
            EngineError: dtype, shape or values do not fit; T is above the bundle's k; the GPU or TensorRT fails.
        """
        features = check_windows(features, self.bundle.channels)
        windows, _, frames = features.shape
        if frames > self.bundle.k:
            raise EngineError(
                f"expected windows of at most {self.bundle.k} frames, the model's k, for which the TensorRT engine is "
                f"built, got {frames}; use engine='native' for longer ones"
            )
        with self._lock:
            window = self._load(None)
            if not self._windows:
                self._windows.append(_Windows(self.bundle, self.device, window))
            runner = self._windows[0]
        spot = np.empty((windows, frames), np.float32)
        emotion = np.empty((windows, frames, len(self.bundle.labels)), np.float32)
        for first in range(0, windows, MAX_WINDOWS):
            part = slice(first, first + MAX_WINDOWS)
            runner.run(features[part], spot[part], emotion[part])
        check_scores(spot, emotion, self.bundle.path, self.precision)
        return Scores(spot, emotion)

    def open_stream(self, lanes: int = 2) -> TensorRTStream:
        """Return a stream with its own state. Every number of lanes has an engine of its own, built when first asked.

        Raises:
            EngineError: the number does not fit; the engine cannot be built; the GPU or TensorRT fails.
        """
        lanes = check_lanes(lanes)
        with self._lock:
            stream = TensorRTStream(self, self._load(lanes), lanes)
            self._streams.add(stream)
        return stream

    def why_no_flow(self) -> str | None:
        """See types.DeviceEngine."""
        try:
            load(self.flow_library())
        except EngineError as error:
            return str(error)
        return None

    def flow_library(self) -> Path:
        """Return the library with the flow, which is the plugin's. Raises EngineError where there is none."""
        plugin = find_plugin()
        if plugin is None:
            raise EngineError("it is in the TensorRT plugin, which is not installed: see docs/jetson.md")
        return plugin

    def close(self) -> None:
        """Give back what this and its streams hold on the GPU. Calling it again is harmless."""
        with self._lock:
            for stream in list(self._streams):
                stream.close()
            self._release()

    def _load(self, lanes: int | None) -> LoadedEngine:
        """Return the step of so many lanes, or the window. The lock is held."""
        if not self._release.alive:
            raise EngineError("expected an open engine, got a closed one; call load_engine again")
        if lanes not in self._loaded:
            builder = self._builder
            if lanes not in (None, builder.lanes):
                builder = EngineBuilder(self.bundle, precision=self.precision, lanes=lanes, say=self.say)
            with self.device.active():
                self._loaded[lanes] = LoadedEngine(builder, "window" if lanes is None else "step")
        return self._loaded[lanes]


def _release(device: Device, windows: list[_Windows], loaded: dict[int | None, LoadedEngine]) -> None:
    """Give back what an engine holds, what is loaded last."""
    for runner in windows:
        runner.close()
    with device.active():
        windows.clear()
        loaded.clear()


class TensorRTStream(StepStream):
    """DeviceStream (see types.py) of a TensorRTEngine, which makes it."""

    def __init__(self, engine: TensorRTEngine, step: LoadedEngine, lanes: int) -> None:
        state: dict[str, Shape] = {entry.name: (lanes, *entry.shape) for entry in engine.bundle.state}
        super().__init__(engine, lanes, state, partial(_bind, step))


def _bind(loaded: LoadedEngine, stream: CudaStream, arrays: StepArrays) -> BoundStep:
    """Return the step between these arrays. It has a context of its own, none of whose addresses ever changes."""
    following = {f"{name}_next": shape for name, shape in arrays.state.items()}
    context = loaded.context(arrays.inputs | arrays.state, arrays.outputs | following)
    stream.on_close(context.release)
    written = {f"{name}_next": address for name, address in arrays.written.items()}
    context.set_addresses(arrays.fixed | arrays.read | written)
    return BoundStep(context.enqueue, partial(context.why_not_recorded, stream.handle))


class _Windows:
    """The window graph with memory for its largest batch."""

    def __init__(self, bundle: Bundle, device: Device, loaded: LoadedEngine) -> None:
        self._classes = len(bundle.labels)
        largest = (MAX_WINDOWS, bundle.channels, bundle.k)
        outputs = self._outputs_of(largest)
        self._stream = CudaStream(device)
        try:
            with self._stream.use():
                self._inputs = self._stream.buffer(packed({"features": largest})[1])
                self._outputs = self._stream.buffer(packed(outputs)[1])
                self._context = loaded.context({"features": largest}, outputs)
                self._stream.on_close(self._context.release)
        except BaseException:
            self._stream.close()
            raise

    def run(self, features: Array, spot: Array, emotion: Array) -> None:
        """Score a batch into float32 spot and emotion."""
        outputs = self._outputs_of(features.shape)
        places, end = packed(outputs)
        with self._stream.use():
            context = self._context
            context.set_shapes({"features": features.shape}, outputs)
            context.set_addresses({"features": self._inputs.address} | self._outputs.addresses(places))
            self._inputs.view(0, features.shape)[:] = features
            self._stream.upload(self._inputs, 0, features.size)
            context.enqueue(self._stream.handle)
            self._stream.download(self._outputs, end)
            self._stream.wait()
            spot[:] = self._outputs.view(places["spot"], spot.shape)
            emotion[:] = self._outputs.view(places["emotion"], emotion.shape)

    def close(self) -> None:
        """Give back what it holds on the GPU."""
        self._stream.close()

    def _outputs_of(self, features: Shape) -> dict[str, Shape]:
        windows, _, frames = features
        return {"spot": (windows, frames), "emotion": (windows, frames, self._classes)}
