"""How far a build of TensorRT's is, and how it is ended before it is done. Knows no bundle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from metst_edge.errors import EngineError

OnBuildProgress = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what TensorRT is at; from a thread of its own."""


def monitor_of(trt: Any, on_progress: OnBuildProgress | None) -> Any:
    """What tells how far a build is, and ends it when `cancelled` is set or telling fails (`error`)."""
    if not hasattr(trt, "IProgressMonitor"):
        raise EngineError(f"expected TensorRT 10.3 or later, got {trt.__version__}; update JetPack")

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self.error: BaseException | None = None
            self._lock = threading.Lock()
            self._furthest = 0.0
            # Of every phase under way: where it begins and ends between 0 and 1, its steps, those done.
            self._phases: dict[str, tuple[float, float, int, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                begin, end, steps, done = self._phases.get(parent_phase or "", (0.0, 1.0, 1, 0))
                width = (end - begin) / max(steps, 1)
                begin += width * done
                self._phases[phase_name] = (begin, begin + width, num_steps, 0)

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                begin, end, steps, _ = self._phases.get(phase_name, (0.0, 1.0, 0, 0))
                self._phases[phase_name] = (begin, end, steps, step + 1)
                share = begin + (end - begin) * min(1.0, (step + 1) / max(steps, 1))
                self._furthest = max(self._furthest, min(share, 1.0))
                try:
                    if on_progress is not None and not self.cancelled:
                        on_progress(self._furthest, phase_name)
                except BaseException as error:  # must not reach TensorRT
                    self.cancelled, self.error = True, error
                return not self.cancelled

    return Monitor()
