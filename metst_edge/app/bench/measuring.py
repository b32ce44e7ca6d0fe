"""Plays a source through an analyzer and times every stage of every frame.

Nothing is clipped, smoothed or left out: every sample after the warm-up counts, the slowest one too.
"""

from __future__ import annotations

import datetime
import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metst_edge import __version__
from metst_edge.app.bench.results import END_TO_END, FORMAT, KIND, STAGES, summary
from metst_edge.app.demo import demo_clip
from metst_edge.app.machine import describe, sensors, usable_cores
from metst_edge.capture import Interruption, Source, open_source
from metst_edge.events import Event, Gap

if TYPE_CHECKING:
    from metst_edge.analyzer import Analyzer, Progress
    from metst_edge.engine import Engine


class Bench:
    """Plays a source through an analyzer and keeps every time after the warm-up.

    Args:
        source: camera index, video file or folder of images; None for the packaged clip.
        frames: to measure. A file that is shorter is played again.
        warm_up: frames before those.

    Attributes:
        times: stage -> seconds of each call so far.
        complete: whether all frames were measured.
    """

    def __init__(self, source: str | None, frames: int, warm_up: int) -> None:
        self.times: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self.complete = False
        self._uri: str | Path = demo_clip() if source is None else source
        self._frames, self._warm_up = frames, warm_up
        self._taken = 0  # frames, those of the warm-up too
        self._passes = 0
        # Not the whole path: results are published.
        self._source: dict[str, Any] = {"name": "packaged clip" if source is None else Path(source).name}
        self._gaps: Counter[str] = Counter()
        self._arrivals: list[float] = []
        self._dropped: int | None = None
        self._interruptions = 0
        self._memory_before: float | None = None
        self._sensors_before: dict[str, Any] = {}

    @property
    def measured(self) -> int:
        """Frames measured so far."""
        return len(self.times[END_TO_END])

    @property
    def _warm(self) -> bool:
        return self._taken >= self._warm_up

    def on_stage(self, stage: str, seconds: float) -> None:
        """Take the time of one call; for `Analyzer`."""
        # What the analyzer still decodes after the last frame belongs to none.
        if self._warm and self._taken < self._warm_up + self._frames:
            self.times[stage].append(seconds)

    def play(self, analyzer: Analyzer, progress: Progress | None = None) -> None:
        """Measure; what is measured stays when this is interrupted.

        Args:
            analyzer: made with ``on_stage`` of this object.
            progress: called with the frames done and in all.

        Raises:
            SourceError: the source cannot be opened, is too slow for the model, or broke off.
        """
        while self._taken < self._warm_up + self._frames:
            with open_source(self._uri) as source:
                analyzer.check_rate(source)
                self._passes += 1
                self._source.update(fps=source.fps, live=source.live)
                self._play_once(analyzer, source, progress)
            self._saw(analyzer.flush())
        self.complete = True

    def _play_once(self, analyzer: Analyzer, source: Source, progress: Progress | None) -> None:
        total = self._warm_up + self._frames
        dropped_before = None
        while self._taken < total:
            if self._warm and self._memory_before is None:
                self._memory_before, self._sensors_before = _high_water(), sensors()
            if self._warm and dropped_before is None:
                dropped_before = source.dropped
            asked = time.perf_counter()
            frame = next(source, None)
            had = time.perf_counter()
            if frame is None:
                return
            if isinstance(frame, Interruption):
                self._interruptions += self._warm and frame.end is not None
                self._saw([Gap(frame.start, frame.end, frame.reason), *analyzer.flush()])
                continue
            events = analyzer.push(frame)
            done = time.perf_counter()
            self._saw(events)
            if self._warm:
                self.times["capture"].append(had - asked)
                self.times[END_TO_END].append(done - (had if source.live else asked))
                self._arrivals.append(frame.timestamp)
            if dropped_before is not None and source.dropped is not None:
                self._dropped = source.dropped - dropped_before
            height, width = frame.gray.shape
            self._source.update(width=width, height=height)
            self._taken += 1
            if progress is not None:
                progress(self._taken, total)

    def _saw(self, events: Sequence[Event]) -> None:
        if self._warm:
            self._gaps.update(event.reason for event in events if isinstance(event, Gap) and event.end is not None)

    def result(self, analyzer: Analyzer, rate: float | None = None) -> dict[str, Any]:
        """Return what was measured so far, as it is written to JSON: times in milliseconds, memory in MiB.

        Args:
            analyzer: that was played through.
            rate: frames per second to be kept up with; the model's by default.
        """
        bundle = analyzer.bundle
        rate = bundle.fps if rate is None else rate
        whole = self.times[END_TO_END]
        misses = sum(seconds > 1 / rate for seconds in whole)
        memory = _high_water()
        live = self._source.get("live", False)
        return {
            "benchmark": KIND,
            "format": FORMAT,
            "complete": self.complete,
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "version": __version__,
            # The manifest holds the sha256 of every other file, and loading checked them: its own stands for all.
            "bundle": {"name": bundle.name, "manifest_sha256": bundle.manifest_sha256},
            "engine": _engine(analyzer.engine),
            "flow": analyzer.flow,
            "face": analyzer.face,
            **({} if analyzer.recognizer is None else {"recognizer": analyzer.recognizer}),
            "machine": describe(),
            "threads": {"usable cores": usable_cores(), "for flow": analyzer.threads},
            "sensors": {"start": self._sensors_before, "end": sensors()},
            "source": self._source,
            "warm_up": min(self._taken, self._warm_up),
            "frames": self.measured,
            "frames_wanted": self._frames,
            "passes": self._passes,
            "stages": {stage: summary(seconds) for stage, seconds in self.times.items()},
            "frames_per_second": len(whole) / sum(whole) if whole else None,
            "arriving_per_second": _rate(self._arrivals) if live else None,
            "deadline": {"rate": rate, "misses": misses, "share": misses / len(whole) if whole else None},
            "dropped": self._dropped,
            "interruptions": self._interruptions if live else None,
            "gaps": dict(self._gaps),
            **({} if analyzer.recognizer is None else {"opinions": asdict(analyzer.opinions)}),
            "memory": {
                "high_water": memory,
                "growth": None if self._memory_before is None else memory - self._memory_before,
            },
        }


def _engine(engine: Engine) -> str:
    return engine.name if engine.precision == "fp32" else f"{engine.name} {engine.precision}"


def _high_water() -> float:
    """Return the most memory this process has held so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _rate(times: Sequence[float]) -> float | None:
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None
