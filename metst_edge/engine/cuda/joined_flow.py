"""The regions' flow and the network's step as one CUDA graph: what is measured last waits for the step behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from metst_edge.bundle import Bundle
from metst_edge.engine.tensorrt.device import CudaStream, RecordedGraph
from metst_edge.engine.tensorrt.device_flow import TensorRTFlow


class JoinedFlow(TensorRTFlow):
    """DeviceFlow (see types.py) whose last call is enqueued with the step that follows it, else before the next call.

    Args:
        stream: as of `TensorRTFlow`.
        library: likewise.
        bundle: likewise.
        lanes: likewise.
        shape: likewise.
        features: likewise.
        steps: enqueue the step in each direction; must not refer to what closes the stream.
    """

    _asked: RecordedGraph | None = None  # and not enqueued yet

    def __init__(
        self,
        stream: CudaStream,
        library: Path,
        bundle: Bundle,
        lanes: int,
        shape: tuple[int, int],
        features: int,
        steps: Sequence[Callable[[], None]],
    ) -> None:
        self._steps = tuple(steps)
        self._joined: dict[RecordedGraph, list[RecordedGraph]] = {}
        super().__init__(stream, library, bundle, lanes, shape, features)

    def with_step(self, direction: int) -> RecordedGraph | None:
        """Return what was asked last and a step as one, None where nothing waits. The stream is in use."""
        asked, self._asked = self._asked, None
        return None if asked is None else self._joined[asked][direction]

    def _record(self) -> None:
        super()._record()
        self._enqueue_asked()
        for flow in (self._measure_shown, self._measure_again, self._blend):
            self._joined[flow] = [RecordedGraph(self._stream, _Both(flow.enqueue, step)) for step in self._steps]
            for graph in self._joined[flow]:
                graph.run()

    def _run(self, asked: RecordedGraph) -> None:
        self._asked = asked

    @contextmanager
    def _use(self) -> Iterator[None]:
        with super()._use():
            self._enqueue_asked()
            yield

    def _enqueue_asked(self) -> None:
        """Enqueue what still waits: what it reads is about to be overwritten, or what it writes to be read."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.run()


class _Both:
    """Enqueues one after the other."""

    def __init__(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        self._both = first, second

    def __call__(self) -> None:
        for enqueue in self._both:
            enqueue()
