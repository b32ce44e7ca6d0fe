"""The regions' flow in front of a stream's step: both on the same CUDA stream, and no picture comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.engine.tensorrt.device import CudaStream, DeviceBuffer, RecordedGraph, packed
from metst_edge.engine.tensorrt.roi_flow import REQUEST, Addresses, CudaRoiFlow, load
from metst_edge.engine.types import Array
from metst_edge.errors import EngineError, FrameError
from metst_edge.face.crop import Box


class TensorRTFlow:
    """DeviceFlow (see types.py) of a TensorRTStream, which makes it.

    Args:
        stream: that the step runs on.
        library: the plugin's file.
        bundle: whose regions are measured.
        lanes: how many.
        shape: (H, W) of the frames.
        features: address of float32 (lanes, C), where they go.

    Raises:
        EngineError: the library has no flow; or the GPU's memory is short.
    """

    def __init__(
        self, stream: CudaStream, library: Path, bundle: Bundle, lanes: int, shape: tuple[int, int], features: int
    ) -> None:
        self.shape = shape
        self._stream, self._open = stream, True
        pixels = shape[0] * shape[1]
        # Side by side, so that one copy sends both.
        places, end = packed({"requests": (lanes, REQUEST), "frame": (-(-pixels // 4),)})
        end_of_requests = places["frame"]
        with stream.use(), stream.together() as held:
            self._held = held
            try:
                self._inputs, self._end = stream.buffer(end), end
                self._likeness = stream.buffer(lanes)
                at = self._inputs.addresses(places)
                addresses = Addresses(at["frame"], at["requests"], features, self._likeness.address)
                self._flow = CudaRoiFlow(load(library), shape, lanes, bundle.roi_set, addresses, bundle.compat)
                stream.on_close(self._flow.close)
                self._requests = self._inputs.view(places["requests"], (lanes, REQUEST))
                frame = self._inputs.view(places["frame"], (end - end_of_requests,))
                self._frame = frame.view(np.uint8)[:pixels].reshape(shape)

                def repeated(kernels: Callable[[int], None], end: int) -> RecordedGraph:
                    return RecordedGraph(stream, partial(_enqueue, stream, self._inputs, end, kernels, self._likeness))

                self._measure_shown = repeated(self._flow.measure, end)
                self._measure_again = repeated(self._flow.measure, end_of_requests)
                self._blend = repeated(self._flow.blend, end_of_requests)
                self._new, self._empty = True, True  # until a picture is shown
                self._record()
            except BaseException:
                self._give_back()
                raise

    @property
    def likeness(self) -> Array:
        """See types.DeviceFlow."""
        with self._use():
            assert self._likeness.host is not None
            copied: Array = self._likeness.host.copy()
            return copied

    def show(self, frame: npt.NDArray[np.uint8]) -> None:
        """See types.DeviceFlow."""
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape != self.shape:
            got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise FrameError(f"expected a gray picture, uint8 {self.shape}, got {got}; open a flow for every size")
        with self._use():
            self._stream.let_go()
            self._frame[:] = frame
            self._new, self._empty = True, False

    def start(self, lane: int, box: Box, landmarks: npt.NDArray[np.float32]) -> None:
        """See types.DeviceFlow."""
        with self._use():
            if self._empty:
                raise EngineError("expected a picture to start from, got none; call show first")
            if self._new:
                self._stream.upload(self._inputs, 0, self._end)
                self._new = False
            self._stream.busy = True  # reading the frame, which may be pinned memory itself
            self._flow.start(lane, box, landmarks, self._stream.handle)

    def measure(self, lanes: Sequence[int], shares: Mapping[int, tuple[float, float]]) -> None:
        """See types.DeviceFlow."""
        with self._use():
            self._ask(lanes, shares)
            self._run(self._measure_shown if self._new else self._measure_again)
            self._new = False

    def blend(self, shares: Mapping[int, tuple[float, float]]) -> None:
        """See types.DeviceFlow."""
        with self._use():
            self._ask((), shares)
            self._run(self._blend)

    def close(self) -> None:
        """See types.DeviceFlow."""
        if self._open and not self._stream.closed:
            with self._use():
                self._open = False
                self._give_back()

    def _record(self) -> None:
        """Run everything once, so that the first frame finds it recorded."""
        self.measure((), {})
        self.measure((), {})
        self.blend({})

    def _run(self, asked: RecordedGraph) -> None:
        """Enqueue what was asked for last."""
        asked.run()

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._stream.use():
            if not self._open:
                raise EngineError("expected an open flow, got a closed one; call open_flow again")
            yield

    def _ask(self, lanes: Sequence[int], shares: Mapping[int, tuple[float, float]]) -> None:
        """Pack a row for every lane, as roi_flow.REQUEST lays it out."""
        known = range(len(self._requests))
        for lane in (*lanes, *shares):
            if lane not in known:
                raise EngineError(f"expected lanes out of 0 to {known[-1]}, got {lane!r}")
        self._stream.let_go()
        self._requests[:] = 0.0
        for lane in lanes:
            self._requests[lane, 0] = 1.0
        for lane, both in shares.items():
            self._requests[lane, 1:] = both

    def _give_back(self) -> None:
        try:
            self._stream.wait()
        finally:
            self._held.close()


def _enqueue(
    stream: CudaStream, inputs: DeviceBuffer, end: int, kernels: Callable[[int], None], likeness: DeviceBuffer
) -> None:
    stream.upload(inputs, 0, end)
    kernels(stream.handle)
    stream.download(likeness, likeness.floats)
