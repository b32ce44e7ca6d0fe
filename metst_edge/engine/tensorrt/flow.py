"""The regions' flow in front of a stream's step: both on the same CUDA stream, and only scores come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.engine.tensorrt.device import Block, Repeated, Work, packed
from metst_edge.engine.types import Array
from metst_edge.errors import EngineError, FrameError
from metst_edge.face.crop import Box
from metst_edge.flow.cuda import REQUEST, Addresses, CudaRoiFlow, load


class TensorRTFlow:
    """DeviceFlow (see types.py) of a TensorRTStream, which makes it.

    Args:
        work: the stream's. library: the plugin's file. bundle: whose regions are measured. lanes: how many.
        shape: (H, W) of the frames. features: address of float32 (lanes, C), where they go.

    Raises:
        EngineError: the library has no flow; or the GPU's memory is short.
    """

    def __init__(
        self, work: Work, library: Path, bundle: Bundle, lanes: int, shape: tuple[int, int], features: int
    ) -> None:
        self.shape = shape
        self._work, self._open = work, True
        pixels = shape[0] * shape[1]
        # Side by side, so that one copy sends both.
        places, end = packed({"requests": (lanes, REQUEST), "frame": (-(-pixels // 4),)})
        end_of_requests = places["frame"]
        with work.use(), work.together() as held:
            self._held = held
            try:
                self._inputs, self._end = work.block(end), end
                self._likeness = work.block(lanes)
                at = self._inputs.addresses(places)
                addresses = Addresses(at["frame"], at["requests"], features, self._likeness.address)
                self._flow = CudaRoiFlow(load(library), shape, lanes, bundle.roi_set, addresses, bundle.compat)
                work.on_close(self._flow.close)
                self._requests = self._inputs.view(places["requests"], (lanes, REQUEST))
                frame = self._inputs.view(places["frame"], (end - end_of_requests,))
                self._frame = frame.view(np.uint8)[:pixels].reshape(shape)

                def repeated(kernels: Callable[[int], None], end: int) -> Repeated:
                    return Repeated(work, partial(_enqueue, work, self._inputs, end, kernels, self._likeness))

                self._measure_shown = repeated(self._flow.measure, end)
                self._measure_again = repeated(self._flow.measure, end_of_requests)
                self._blend = repeated(self._flow.blend, end_of_requests)
                # So that the first frame finds all of it recorded.
                nothing = np.zeros((lanes, REQUEST), np.float32)
                self._new = True
                self.measure(nothing)
                self.measure(nothing)
                self.blend(nothing)
                self._empty = True  # until a picture is shown
            except BaseException:
                self._give_back()
                raise

    @property
    def likeness(self) -> Array:
        """See types.DeviceFlow."""
        with self._use():
            assert self._likeness.host is not None
            return self._likeness.host.copy()

    def show(self, frame: npt.NDArray[np.uint8]) -> None:
        """See types.DeviceFlow."""
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.shape != self.shape:
            got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise FrameError(f"expected a gray picture, uint8 {self.shape}, got {got}; open a flow for every size")
        with self._use():
            self._let_go()
            self._frame[:] = frame
            self._new, self._empty = True, False

    def start(self, lane: int, box: Box, landmarks: npt.NDArray[np.float32]) -> None:
        """See types.DeviceFlow."""
        with self._use():
            if self._empty:
                raise EngineError("expected a picture to start from, got none; call show first")
            if self._new:
                self._work.upload(self._inputs, 0, self._end)
                self._new = False
            self._flow.start(lane, box, landmarks, self._work.handle)

    def measure(self, requests: Array) -> None:
        """See types.DeviceFlow."""
        with self._use():
            self._ask(requests)
            (self._measure_shown if self._new else self._measure_again).run()
            self._new = False

    def blend(self, requests: Array) -> None:
        """See types.DeviceFlow."""
        with self._use():
            self._ask(requests)
            self._blend.run()

    def close(self) -> None:
        """See types.DeviceFlow."""
        if self._open and not self._work.closed:
            with self._use():
                self._open = False
                self._give_back()

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._work.use():
            if not self._open:
                raise EngineError("expected an open flow, got a closed one; call open_flow again")
            yield

    def _ask(self, requests: Array) -> None:
        if not isinstance(requests, np.ndarray) or requests.shape != self._requests.shape:
            got = getattr(requests, "shape", type(requests).__name__)
            raise EngineError(f"expected requests as float32 {self._requests.shape}, a row a lane, got {got}")
        self._let_go()
        self._requests[:] = requests

    def _give_back(self) -> None:
        try:
            self._work.wait()
        finally:
            self._held.close()

    def _let_go(self) -> None:
        """Wait until pinned memory is not being read."""
        if self._work.busy:
            self._work.wait()


def _enqueue(work: Work, inputs: Block, end: int, kernels: Callable[[int], None], likeness: Block) -> None:
    work.upload(inputs, 0, end)
    kernels(work.handle)
    work.download(likeness, likeness.floats)
