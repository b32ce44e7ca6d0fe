"""Where the time of a frame goes, stage by stage, and how many frames a second the whole analyzer makes.

Usage: python benchmarks/end_to_end.py [CLIP ...] [--out]

Every stage is timed where the analyzer calls it, in one run over a clip with each engine in turn; the face is looked
for at window starts only. Without a clip, the packaged one is used.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import metst_edge.analyzer as pipeline
from benchmarks.results import show
from metst_edge.app.demo import demo_clip
from metst_edge.engine import ENGINES, why_missing
from metst_edge.flow import RoiFlow

STAGES = ("capture", "gray", "face", "flow", "network", "decode")


class Clock:
    """Adds up the times of wrapped calls, in milliseconds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call`` with every call of it timed."""
        times = self.times[stage]

        def wrapped(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                times.append(1e3 * (time.perf_counter() - start))

        return wrapped


def measure(clip: Path, engine: str) -> tuple[dict[str, list[float]], int, float]:
    """Analyse a clip; return the times per stage, the frames read and the seconds it took."""
    clock = Clock()
    with pipeline.Analyzer(engine=engine) as analyzer:
        list(analyzer.stream(clip))  # warm-up: libraries load, pages are touched
        scorer = analyzer._scorer
        analyzer._finder.find = clock.timed("face", analyzer._finder.find)  # type: ignore[method-assign]
        scorer._lanes.push = clock.timed("network", scorer._lanes.push)  # type: ignore[method-assign]
        analyzer._decoder.push = clock.timed("decode", analyzer._decoder.push)  # type: ignore[method-assign]
        whole, gray, opened = RoiFlow.measure, pipeline.to_gray, pipeline.open_source

        def open_timed(uri: Any) -> Any:
            source = opened(uri)
            kind = type(source)
            timed = type(kind.__name__, (kind,), {"__next__": clock.timed("capture", kind.__next__)})
            source.__class__ = timed
            return source

        try:
            RoiFlow.measure = clock.timed("flow", whole)  # type: ignore[method-assign]
            pipeline.to_gray = clock.timed("gray", gray)  # type: ignore[assignment]
            pipeline.open_source = open_timed
            start = time.perf_counter()
            list(analyzer.stream(clip))
            seconds = time.perf_counter() - start
        finally:
            RoiFlow.measure = whole  # type: ignore[method-assign]
            pipeline.to_gray, pipeline.open_source = gray, opened
    return clock.times, len(clock.times["gray"]), seconds


def main() -> None:
    """Run the benchmark, print a table, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-end-to-end.json and .md")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for clip in options.clips or [demo_clip()]:
        for engine in [name for name in ENGINES if why_missing(name) is None]:
            times, frames, seconds = measure(clip, engine)
            stages = {stage: values for stage, values in times.items() if values}
            for stage, values in stages.items():
                rows.append(
                    {
                        "clip": clip.name,
                        "engine": engine,
                        "stage": stage,
                        "calls per frame": len(values) / frames,
                        "median ms per call": float(np.median(values)),
                        "ms per frame": sum(values) / frames,
                    }
                )
            rows.append(
                {
                    "clip": clip.name,
                    "engine": engine,
                    "stage": f"all: {frames / seconds:.1f} frames per second",
                    "calls per frame": 1.0,
                    "median ms per call": 1e3 * seconds / frames,
                    "ms per frame": 1e3 * seconds / frames,
                }
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    show(f"Stages of a frame, 5 ROIs, two lanes, peak memory {peak:.0f} MB", rows, "end-to-end", options.out)


if __name__ == "__main__":
    main()
