"""Times a recogniser on one interval, again and again: what a second opinion costs on this machine."""

from __future__ import annotations

import datetime
import resource
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from metst_edge import __version__
from metst_edge.app.bench.results import END_TO_END, FORMAT, KIND, summary
from metst_edge.app.bench.tables import comparison_lines, conditions, stage_table, tell
from metst_edge.app.demo import demo_clip, demo_truth
from metst_edge.app.machine import describe, sensors, usable_cores
from metst_edge.capture import Frame, open_source
from metst_edge.errors import SourceError
from metst_edge.face import FaceFinder
from metst_edge.recognise.crops import Gray, View, view_of
from metst_edge.recognise.images import ImageSettings, interval_images

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.analyzer import Progress
    from metst_edge.recognise.engine import Recognizer

STAGES = ("pictures", "network", END_TO_END)


class IntervalBench:
    """Names the packaged clip's first micro-expression as often as is asked, and keeps every time after the warm-up.

    Args:
        intervals: to measure.
        warm_up: intervals before those.

    Attributes:
        times: stage -> seconds of each call so far.
    """

    def __init__(self, intervals: int, warm_up: int) -> None:
        self.times: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self._intervals, self._warm_up = intervals, warm_up
        self._event = demo_truth()[0]
        self._size = (0, 0)
        self._sensors_before: dict[str, Any] = {}

    @property
    def measured(self) -> int:
        """Intervals measured so far."""
        return len(self.times[END_TO_END])

    @property
    def complete(self) -> bool:
        """Whether all were measured."""
        return self.measured == self._intervals

    def play(self, recognizer: Recognizer, progress: Progress | None = None) -> None:
        """Measure; what is measured stays when this is interrupted.

        Args:
            recognizer: open.
            progress: called with the intervals done and in all.
        """
        pictures, view = self._read()
        apex = self._event.apex_frame - self._event.onset_frame
        bundle = recognizer.bundle
        settings = ImageSettings.from_dict(bundle.images)
        self._sensors_before = sensors()
        total = self._warm_up + self._intervals
        for done in range(1, total + 1):
            began = time.perf_counter()
            images = interval_images(pictures, apex, view, settings, bundle.frames)
            drawn = time.perf_counter()
            recognizer.infer(images[None])
            ended = time.perf_counter()
            if done > self._warm_up:
                for stage, seconds in zip(STAGES, (drawn - began, ended - drawn, ended - began), strict=True):
                    self.times[stage].append(seconds)
            if progress is not None:
                progress(done, total)

    def _read(self) -> tuple[list[Gray], View]:
        """Return the interval's frames, and what is shown of the face in them."""
        first, last = self._event.onset_frame, self._event.offset_frame
        with open_source(demo_clip()) as source:
            frames = (frame for frame in source if isinstance(frame, Frame))
            pictures = [frame.gray.copy() for frame in frames if first <= frame.index <= last]
        height, width = pictures[0].shape
        self._size = height, width
        face = FaceFinder().find(pictures[0])
        if face is None:
            raise SourceError(f"{demo_clip()}: expected a face at frame {first}, got none; install metst_edge again")
        return pictures, view_of(face.landmarks, height, width)

    def result(self, recognizer: Recognizer) -> dict[str, Any]:
        """Return what was measured so far, as it is written to JSON: times in milliseconds, memory in MiB."""
        bundle, (height, width) = recognizer.bundle, self._size
        return {
            "benchmark": KIND,
            "format": FORMAT,
            "kind": bundle.kind,
            "complete": self.complete,
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "version": __version__,
            "bundle": {"name": bundle.name, "manifest_sha256": bundle.manifest_sha256},
            "engine": recognizer.name,
            "machine": describe(),
            "threads": {"usable cores": usable_cores()},
            "sensors": {"start": self._sensors_before, "end": sensors()},
            "source": {"name": "packaged clip", "width": width, "height": height},
            "pictures": {"count": bundle.frames, "side": bundle.input_size},
            "warm_up": self._warm_up,
            "intervals": self.measured,
            "intervals_wanted": self._intervals,
            "stages": {stage: summary(seconds) for stage, seconds in self.times.items()},
            "memory": {"high_water": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024},
        }


def show(console: Console, result: Mapping[str, Any], comparison: Mapping[str, Any] | None = None) -> None:
    """Print a result for people."""
    for line in _header(result):
        tell(console, line)
    console.print(stage_table(result, comparison))
    tell(console, f"memory           {result['memory']['high_water']:.0f} MiB at most")
    for line in comparison_lines(comparison) if comparison else ():
        tell(console, line)
    if not result["complete"]:
        tell(console, f"note: it ended after {result['intervals']} of {result['intervals_wanted']} intervals")


def _header(result: Mapping[str, Any]) -> Iterator[str]:
    count, side = result["pictures"]["count"], result["pictures"]["side"]
    yield f"metst-edge {result['version']}, a recogniser on engine {result['engine']}"
    yield from conditions(result)
    what = f"one interval, {count} pictures of {side}x{side}"
    yield f"{result['source']['name']}: {what}; {result['intervals']} times after {result['warm_up']} of warm-up"
