"""Whole clips by every contender in turns: ours as a user runs it, and in a way that the plain order compares with.

It reaches into the analyzer, on purpose, in `every_window` and `scores`: the checks that end a window are taken away,
and the curve is read where it is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import numpy.typing as npt
import torch

import metst_edge.analyzer as pipeline
from benchmarks.peers.published import analyse
from benchmarks.peers.torch_network import TorchEngine
from benchmarks.results import Rows, missed, verdict
from benchmarks.timing import Clock, alternate, cores, turns
from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, open_source
from metst_edge.engine import ENGINES, why_missing
from metst_edge.events import Gap
from metst_edge.face import FaceFinder
from metst_edge.scoring import slots, windows

STAGES = ("capture", "prepare", "face", "flow", "network", "decode")
"""`metst_edge.analyzer.OnStage` says what each covers; in the plain order prepare is gray alone, and network and decode
are called once for the whole clip."""
PLAIN = "plain published order"
STREAM = "native, stream"
PUSHED = "native, pushed"
LEAST_FPS = {5: 300.0, 18: 200.0}
"""By the number of ROIs, on two cores."""
TIMES_PLAIN = 8.0
AGREEMENT = 0.01
"""Of spotting scores, 0 to 1, on 95 % of the frames: flows that differ by rounding may move the crop by a pixel."""


@dataclass(frozen=True)
class Spent:
    """One run of a contender.

    Attributes:
        whole: seconds it took.
        processor: seconds of all its cores.
        seconds: stage -> spent in it.
        calls: stage -> how often it was called.
    """

    whole: float
    processor: float
    seconds: dict[str, float]
    calls: dict[str, int]


def stream(analyzer: pipeline.Analyzer, clip: Path, clock: Clock) -> int:
    """Analyse a clip as a user does; return the frames read."""
    for _ in analyzer.stream(clip):
        pass
    return clock.calls["prepare"]


@contextmanager
def every_window() -> Iterator[None]:
    """Take away the checks of a crop and of a scene, so that a window lasts as long as there are frames."""
    with patch.object(windows, "LOST_BELOW", -2.0), patch.object(slots, "CUT_BELOW", -2.0):
        yield


def push(analyzer: pipeline.Analyzer, clip: Path, clock: Clock) -> int:
    """Push a clip's frames as if they came at the model's rate; return how many."""
    analyzer.reset()
    frames = 0
    with open_source(clip) as source, every_window():
        read = clock.timed("capture", lambda: next(source, None))
        while (frame := read()) is not None:
            analyzer.push(frame.image, frame.index / analyzer.bundle.fps)
            frames += 1
        analyzer.flush()
    return frames


def scores(analyzer: pipeline.Analyzer, clip: Path) -> tuple[npt.NDArray[np.float64], int]:
    """Return the spotting scores of frames pushed as in `push`, nan where there are none, and the gaps."""
    scorer = analyzer._scorer
    scorer.reset()
    items: list[Any] = []
    frames = 0
    with open_source(clip) as source, every_window():
        for frame in source:
            assert isinstance(frame, Frame), "only live sources are interrupted"
            items += scorer.push(Frame(frame.index, frame.index / analyzer.bundle.fps, frame.image))
            frames += 1
    items += scorer.flush()
    spot = np.full(frames, np.nan)
    for item in items:
        if hasattr(item, "spot"):
            spot[item.frame] = item.spot
    return spot, sum(isinstance(item, Gap) and item.end is not None for item in items)


def compare(clip: Path, bundle: Bundle, rois: int, threads: int, runs: int) -> tuple[Rows, Rows, list[str]]:
    """Analyse a clip with every contender in turns, on as many cores as there are threads.

    Args:
        clip: video file.
        bundle: whose network scores it.
        rois: how many the bundle's set has, for the tables.
        threads: of ours, and the most of the plain order's.
        runs: of every contender.

    Returns:
        A row per contender; a row per contender and stage; what was asked for against what was measured.
    """
    cv2.setNumThreads(threads)
    engines = [name for name in ENGINES if why_missing(name) is None]
    clock = Clock(STAGES)
    analyzers = {name: pipeline.Analyzer(bundle.path, name, clock.add, threads) for name in engines}
    reference, finder = TorchEngine(bundle), FaceFinder()
    native = analyzers["native"]
    contenders: dict[str, Callable[[], int]] = {STREAM: lambda: stream(native, clip, clock)}
    for name, analyzer in analyzers.items():
        contenders[f"{name}, pushed"] = partial(push, analyzer, clip, clock)
    contenders[PLAIN] = lambda: analyse(clip, reference, finder, clock.timed).frames

    with cores(threads):
        # Also the warm-up: libraries load, pages are touched.
        lost = sum(isinstance(event, Gap) and event.end is not None for event in native.stream(clip))
        spot, gaps = scores(native, clip)
        frames = len(spot)
        torch.set_num_threads(torch_threads(reference, frames, threads))
        expected = analyse(clip, reference, finder).spot
        difference = np.abs(spot - expected)[np.isfinite(spot)]
        spent = take_turns(contenders, clock, runs, frames)
    for analyzer in analyzers.values():
        analyzer.close()
    finder.close()

    medians = {name: float(np.median([run.whole for run in some])) for name, some in spent.items()}
    rows: Rows = [
        {"ROIs": rois, "cores": threads, **contender_row(name, some, frames, medians[PLAIN])}
        for name, some in spent.items()
    ]
    stages: Rows = [
        {"ROIs": rois, "cores": threads, "contender": name, **stage}
        for name, some in spent.items()
        for stage in stage_rows(some, frames)
    ]
    where = f"{rois} ROIs, {threads} core{'s' * (threads > 1)}"
    usual, largest = np.quantile(difference, (0.95, 1)).tolist()
    notes = [
        f"{where}: {lost} gaps in stream, after each of which one lane alone runs for half a window; {gaps} in pushed",
        f"{where}: pushed scores differ from the plain order's by {usual:.1e} on one frame in 20, by {largest:.1e} at "
        f"most, on {difference.size} of {frames} frames; torch on {torch.get_num_threads()} of {threads} threads",
    ]
    # A gap is where ours would do less than the plain order, so the comparison must not hide one.
    if gaps or not usual <= AGREEMENT:
        notes.append(f"{where}: SCORES DIFFER or there are gaps, so the work compared is not the same")
    if threads == 2:
        notes += judge(rois, frames, medians, stages)
    return rows, stages, notes


def take_turns(
    contenders: dict[str, Callable[[], int]], clock: Clock, runs: int, frames: int
) -> dict[str, list[Spent]]:
    """Run every contender so often, in an order that changes; each must have read all frames."""
    spent: dict[str, list[Spent]] = {name: [] for name in contenders}
    for name in turns(list(contenders), runs):
        clock.restart()
        start, used = time.perf_counter(), time.process_time()
        read = contenders[name]()
        whole, used = time.perf_counter() - start, time.process_time() - used
        spent[name].append(Spent(whole, used, clock.seconds, clock.calls))
        assert read == frames, f"{name}: expected {frames} frames, read {read}"
    return spent


def contender_row(name: str, runs: list[Spent], frames: int, plain: float) -> dict[str, Any]:
    """Return what the table says of one contender; ``plain`` is the median of the plain order, seconds."""
    times = [run.whole for run in runs]
    median = float(np.median(times))
    return {
        "cores used": float(np.median([run.processor / run.whole for run in runs])),
        "contender": name,
        "frames/s": frames / median,
        "slowest": frames / max(times),
        "fastest": frames / min(times),
        "ms per frame": 1e3 * median / frames,
        "x plain": plain / median,
    }


def torch_threads(reference: TorchEngine, frames: int, most: int) -> int:
    """Return how many threads torch is fastest with on a clip's windows: on a busy machine more can be far slower."""
    k = reference.bundle.k
    windows = np.zeros((max(2 * frames // k, 1), reference.bundle.channels, k), np.float32)
    times = {}
    for threads in range(1, most + 1):
        torch.set_num_threads(threads)
        times[threads] = float(np.median(alternate({"": lambda i: reference.infer(windows)}, 3)[""]))
    return min(times, key=lambda threads: times[threads])


def stage_rows(runs: list[Spent], frames: int) -> Rows:
    """Return the stages of one contender: medians over its runs, and what no stage accounts for."""
    rows: Rows = []
    rest = np.array([run.whole for run in runs])
    for stage in STAGES:
        spent = np.array([run.seconds[stage] for run in runs])
        rest = rest - spent
        calls = runs[0].calls[stage]
        if calls:
            ms = 1e3 * float(np.median(spent)) / frames
            rows.append({"stage": stage, "calls per frame": calls / frames, "ms per frame": ms})
    rows.append({"stage": "rest", "calls per frame": 1.0, "ms per frame": 1e3 * float(np.median(rest)) / frames})
    return rows


def judge(rois: int, frames: int, medians: dict[str, float], stages: Rows) -> list[str]:
    """Compare medians on two cores with what was asked for; where one is missed, say where the time goes."""
    lines = [
        verdict(f"{rois} ROIs, {STREAM}, two cores", frames / medians[STREAM], "frames/s", least=LEAST_FPS[rois]),
        verdict(f"{rois} ROIs, {PUSHED}, two cores", frames / medians[PUSHED], "frames/s", least=LEAST_FPS[rois]),
        verdict(
            f"{rois} ROIs, {PUSHED}, against the {PLAIN}, two cores",
            medians[PLAIN] / medians[PUSHED],
            "times as fast",
            least=TIMES_PLAIN,
        ),
    ]
    if any(map(missed, lines)):
        for name in (STREAM, PUSHED):
            some = sorted((row for row in stages if row["contender"] == name), key=lambda row: -row["ms per frame"])
            parts = "; ".join(f"{row['stage']} {row['ms per frame']:.2f} ms" for row in some)
            lines.append(f"{rois} ROIs, {name}, where a frame's {1e3 * medians[name] / frames:.2f} ms go: {parts}")
    return lines
