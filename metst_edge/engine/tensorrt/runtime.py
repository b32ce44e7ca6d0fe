"""The engine on TensorRT: windows in batches, and streams whose state stays on the GPU.

A stream has two sets of state tensors and goes from one to the other and back. Both directions are recorded as CUDA
graphs, with the upload of the features and the download of the scores, so that a step is one launch and one wait.
"""

from __future__ import annotations

import logging
import threading
import weakref
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.closing import Closing
from metst_edge.engine.tensorrt.builder import MAX_WINDOWS, EngineBuilder, Say
from metst_edge.engine.tensorrt.device import CudaStream, Device, DeviceBuffer, RecordedGraph, open_device, packed
from metst_edge.engine.tensorrt.device_flow import TensorRTFlow
from metst_edge.engine.tensorrt.execution import Context, LoadedEngine, Shape
from metst_edge.engine.tensorrt.plugin import find_plugin
from metst_edge.engine.tensorrt.roi_flow import load
from metst_edge.engine.types import (
    Array,
    Scores,
    StepScores,
    check_lanes,
    check_reset,
    check_scores,
    check_step,
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
        check_scores(spot, emotion, self.bundle.path)
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
            plugin = find_plugin()
            if plugin is None:
                return "it is in the TensorRT plugin, which is not installed: see docs/jetson.md"
            load(plugin)
        except EngineError as error:
            return str(error)
        return None

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


class TensorRTStream(Closing):
    """DeviceStream (see types.py) of a TensorRTEngine, which makes it.

    Attributes:
        cuda_stream: the raw CUDA stream (cudaStream_t). A step reads its features after what was enqueued on it before.
        features: address in device memory of float32 (lanes, C), where `step_device` reads them.
    """

    def __init__(self, engine: TensorRTEngine, step: LoadedEngine, lanes: int) -> None:
        bundle = engine.bundle
        self.lanes, self.channels, self.look_ahead = lanes, bundle.channels, bundle.look_ahead
        self._engine = engine  # which must not end before its stream does
        self._fed, self._undoable, self._said = 0, False, False
        self._flow: TensorRTFlow | None = None
        self._stream = CudaStream(engine.device)
        self._release = weakref.finalize(self, self._stream.close)
        self.cuda_stream = self._stream.handle
        try:
            with self._stream.use():
                self._prepare(bundle, step)
                for direction in self._directions:  # so that the first frame finds both recorded
                    self._run(direction.step)
            self.reset()
        except BaseException:
            self._release()
            raise

    def step(self, features: Array, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """Feed float32 (lanes, C); see types.Stream."""
        features = check_step(features, self.lanes, self.channels)
        flags = check_reset(reset, self.lanes)
        with self._stream.use():
            self._stream.let_go()  # of a flow that leaves features in the same place
            self._features[:] = features
            self._flags[:] = flags
            return self._run(self._direction.step)

    def step_device(self, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """Feed the features that lie at `features`, or that the open flow will have left there; see types.DeviceStream.

        Raises:
            EngineError: the flags do not fit; the GPU or TensorRT fails.
        """
        flags = check_reset(reset, self.lanes)
        with self._stream.use():
            self._flags[:] = flags
            return self._run(self._direction.step_device)

    def take_back(self) -> None:
        """Undo the last step; see types.DeviceStream."""
        with self._stream.use():
            if not self._undoable:
                raise EngineError("expected a step to take back, got none since the last reset, failure or taking back")
            self._fed, self._undoable = self._fed - 1, False  # what it read has not been written to since

    def reset(self) -> None:
        """Forget everything, as if just opened."""
        with self._stream.use():
            for state in self._states:
                self._stream.clear(state)
            self._fed, self._undoable = 0, False

    def open_flow(self, shape: tuple[int, int]) -> TensorRTFlow:
        """See types.DeviceStream."""
        plugin = find_plugin()
        if plugin is None:
            raise EngineError(f"expected optical flow on the GPU, but {self._engine.why_no_flow()}")
        with self._stream.use():
            if self._flow is not None:
                self._flow.close()
            self._flow = TensorRTFlow(self._stream, plugin, self._engine.bundle, self.lanes, shape, self.features)
            for direction in self._directions:
                self._run(direction.step_device)
            self.reset()
        return self._flow

    def close(self) -> None:
        """Give back what it holds on the GPU. Calling it again is harmless."""
        self._release()

    def _prepare(self, bundle: Bundle, loaded: LoadedEngine) -> None:
        lanes, stream = self.lanes, self._stream
        inputs: dict[str, Shape] = {"features": (lanes, bundle.channels), "reset": (lanes,)}
        outputs: dict[str, Shape] = {"spot": (lanes,), "emotion": (lanes, len(bundle.labels))}
        state: dict[str, Shape] = {entry.name: (lanes, *entry.shape) for entry in bundle.state}
        following = {f"{name}_next": shape for name, shape in state.items()}

        (input_places, input_end), (output_places, output_end) = packed(inputs), packed(outputs)
        state_places, state_end = packed(state)
        sent, received = stream.buffer(input_end), stream.buffer(output_end)
        self._states = stream.buffer(state_end, pinned=False), stream.buffer(state_end, pinned=False)
        flags_at = input_places["reset"]
        self.features = sent.addresses(input_places)["features"]
        self._features = sent.view(input_places["features"], inputs["features"])
        self._flags = sent.view(flags_at, inputs["reset"])
        self._spot = received.view(output_places["spot"], outputs["spot"])
        self._emotion = received.view(output_places["emotion"], outputs["emotion"])

        fixed = sent.addresses(input_places) | received.addresses(output_places)
        self._directions = []
        for read, written in (self._states, self._states[::-1]):
            # A context each: none of its addresses ever changes.
            context = loaded.context(inputs | state, outputs | following)
            stream.on_close(context.release)
            written_to = {f"{name}_next": address for name, address in written.addresses(state_places).items()}
            context.set_addresses(fixed | read.addresses(state_places) | written_to)

            def repeated(first: int, context: Context = context) -> RecordedGraph:
                step = partial(_enqueue, stream, context, sent, first, input_end, received, output_end)
                return RecordedGraph(stream, step, partial(context.why_not_recorded, stream.handle))

            self._directions.append(_Direction(repeated(0), repeated(flags_at)))

    @property
    def _direction(self) -> _Direction:
        """From the state tensors that hold the state now to the other ones."""
        return self._directions[self._fed % 2]

    def _run(self, step: RecordedGraph) -> StepScores | None:
        self._undoable = False
        step.run()
        self._stream.wait()
        if self._stream.unrecorded and not self._said:
            self._said = True
            why = self._stream.unrecorded
            self._engine.say(f"the step cannot be recorded as a CUDA graph, frames will take longer: {why}")
        self._fed, self._undoable = self._fed + 1, True
        if self._fed <= self.look_ahead:
            return None
        check_scores(self._spot, self._emotion, self._engine.bundle.path)
        return StepScores(self._spot.copy(), self._emotion.copy())  # the next step overwrites them


@dataclass(frozen=True)
class _Direction:
    """The step from one set of state tensors to the other.

    Attributes:
        step: with features from the host.
        step_device: with those that are on the device.
    """

    step: RecordedGraph
    step_device: RecordedGraph


def _enqueue(
    stream: CudaStream,
    context: Context,
    inputs: DeviceBuffer,
    first: int,
    inputs_end: int,
    outputs: DeviceBuffer,
    outputs_end: int,
) -> None:
    """Enqueue a step: one copy up, the network, one copy down."""
    stream.upload(inputs, first, inputs_end)
    context.enqueue(stream.handle)
    stream.download(outputs, outputs_end)


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
