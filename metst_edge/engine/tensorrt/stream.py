"""A network's step on the GPU as a stream, whatever computes it: its memory, its CUDA graphs, and flow in front of it.

A stream has two sets of state tensors and goes from one to the other and back. Both directions are recorded as CUDA
graphs, with the upload of the features and the download of the scores, so that a step is one launch and one wait;
features that flow has left on the device come down with the scores. What a step has read is not written to before the
next but one, so one step can be taken back. Knows no TensorRT.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.closing import Closing
from metst_edge.engine.tensorrt.device import CudaStream, Device, DeviceBuffer, RecordedGraph, Shape, packed
from metst_edge.engine.tensorrt.device_flow import TensorRTFlow
from metst_edge.engine.types import Array, StepScores, check_reset, check_scores, check_step
from metst_edge.errors import EngineError


class StepEngine(Protocol):
    """What a stream needs of its engine.

    Attributes:
        bundle: whose network is stepped.
        precision: that it is stepped in.
        device: the GPU.
        say: told in one line what is not as it should be.
    """

    bundle: Bundle
    precision: str
    device: Device
    say: Callable[[str], None]

    def flow_library(self) -> Path:
        """Return the library with the flow. Raises EngineError where there is none."""


@dataclass(frozen=True)
class StepArrays:
    """Float32 arrays in device memory that a step reads and writes; they stay where they are.

    Attributes:
        inputs: shapes of "features" (lanes, C) and "reset" (lanes,).
        outputs: shapes of "spot" (lanes,) and "emotion" (lanes, E).
        state: shapes of the state, by name.
        fixed: addresses of inputs and outputs.
        read: of the state before the step.
        written: of that after it.
    """

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    state: dict[str, Shape]
    fixed: dict[str, int]
    read: dict[str, int]
    written: dict[str, int]


@dataclass(frozen=True)
class BoundStep:
    """A step between arrays that stay where they are.

    Attributes:
        enqueue: enqueues it on a raw stream, without waiting or allocating.
        why_not_recorded: why it cannot be recorded as a CUDA graph, None where that is not known beforehand.
    """

    enqueue: Callable[[int], None]
    why_not_recorded: Callable[[], str | None] = lambda: None


Bind = Callable[[CudaStream, StepArrays], BoundStep]
"""Makes a step. It and what it makes must not refer to the `StepStream`."""


class StepStream(Closing):
    """DeviceStream (see types.py) of a step on the GPU.

    Args:
        engine: whose network it is; it lives on while the stream does.
        lanes: how many.
        state: shapes of what is kept from step to step, by name; zeros at first.
        bind: makes the step, once for each direction.

    Attributes:
        cuda_stream: the raw CUDA stream (cudaStream_t). A step reads its features after what was enqueued on it before.
        features: address in device memory of float32 (lanes, C), where `step_device` reads them.
    """

    def __init__(self, engine: StepEngine, lanes: int, state: Mapping[str, Shape], bind: Bind) -> None:
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
                self._prepare(bundle, dict(state), bind)
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
            return self._run(self._device_graph())

    def fed(self) -> Array:
        """Return the features of the last step; see types.DeviceStream."""
        with self._stream.use():
            features: Array = self._features.copy()
            return features

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
        try:
            library = self._engine.flow_library()
        except EngineError as error:
            raise EngineError(f"expected optical flow on the GPU, but {error}") from error
        with self._stream.use():
            if self._flow is not None:
                self._flow.close()
            self._flow = self._open_flow(library, shape)
            self.reset()
        return self._flow

    def close(self) -> None:
        """Give back what it holds on the GPU. Calling it again is harmless."""
        self._release()

    def _open_flow(self, library: Path, shape: tuple[int, int]) -> TensorRTFlow:
        """Return a flow that leaves its features where the step reads them. The stream is in use."""
        flow = TensorRTFlow(self._stream, library, self._engine.bundle, self.lanes, shape, self.features)
        for direction in self._directions:  # so that the first frame finds both recorded
            self._run(direction.step_device)
        return flow

    def _device_graph(self) -> RecordedGraph:
        """Return what runs the next step on the features that are on the device."""
        return self._direction.step_device

    def _prepare(self, bundle: Bundle, state: dict[str, Shape], bind: Bind) -> None:
        lanes, stream = self.lanes, self._stream
        inputs: dict[str, Shape] = {"features": (lanes, bundle.channels), "reset": (lanes,)}
        outputs: dict[str, Shape] = {"spot": (lanes,), "emotion": (lanes, len(bundle.labels))}

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
            places = read.addresses(state_places), written.addresses(state_places)
            bound = bind(stream, StepArrays(inputs, outputs, state, fixed, *places))
            with_features = partial(_enqueue, stream, bound.enqueue, sent, 0, input_end, received, output_end)
            on_device = partial(
                _enqueue_on_device, stream, bound.enqueue, sent, flags_at, input_end, received, output_end
            )
            graphs = [RecordedGraph(stream, step, bound.why_not_recorded) for step in (with_features, on_device)]
            self._directions.append(Direction(graphs[0], graphs[1], on_device))

    @property
    def _direction(self) -> Direction:
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
        check_scores(self._spot, self._emotion, self._engine.bundle.path, self._engine.precision)
        return StepScores(self._spot.copy(), self._emotion.copy())  # the next step overwrites them


@dataclass(frozen=True)
class Direction:
    """The step from one set of state tensors to the other.

    Attributes:
        step: with features from the host.
        step_device: with those that are on the device.
        enqueue_device: enqueues the latter as it is.
    """

    step: RecordedGraph
    step_device: RecordedGraph
    enqueue_device: Callable[[], None]


def _enqueue(
    stream: CudaStream,
    network: Callable[[int], None],
    inputs: DeviceBuffer,
    first: int,
    inputs_end: int,
    outputs: DeviceBuffer,
    outputs_end: int,
) -> None:
    """Enqueue a step: one copy up, the network, one copy down."""
    stream.upload(inputs, first, inputs_end)
    network(stream.handle)
    stream.download(outputs, outputs_end)


def _enqueue_on_device(
    stream: CudaStream,
    network: Callable[[int], None],
    inputs: DeviceBuffer,
    first: int,
    inputs_end: int,
    outputs: DeviceBuffer,
    outputs_end: int,
) -> None:
    """Enqueue a step on features that are on the device: they lie before what goes up, and come down with the rest."""
    _enqueue(stream, network, inputs, first, inputs_end, outputs, outputs_end)
    stream.download(inputs, first)
