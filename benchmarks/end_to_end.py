"""Frames a second from a clip to intervals, ours against the plain published order of work; and what it costs to run.

Usage: python benchmarks/end_to_end.py [CLIP] [--runs 3] [--cores 1 2] [--out]
       python benchmarks/end_to_end.py [CLIP] --startup [--out]
       python benchmarks/end_to_end.py [CLIP] --memory [--frames 100000] [--out]

Whole clips are analysed in turns, one process, every thread of it (MediaPipe's too) held to the given number of cores,
ours measuring flow on as many threads:

stream      what a user does: `Analyzer.stream(CLIP)`, re-timed from the clip's rate to the model's.
pushed      `Analyzer.push` of the same frames as if they came at the model's rate, and without the checks that end a
            window early (face lost, scene cut), which the plain order does not have: windows are the same then, no work
            is saved, and the scores must be the same too; with each engine.
plain       published.py: a face per window, OpenCV's flow per window, the network in torch on whole windows, one after
            the other; OpenCV may use as many threads as there are cores, torch as many of them as make it fastest.

Frames are those of the file, over the time from opening it to the last event. "cores used" is the processor time of a
run over the time it took. The 5 ROIs run the shipped model, the 18 ROIs a network of ME-TST's dim 128 with 36 channels
and random weights: the networks' time does not depend on the weights, but what there is to decode may.

--startup times new processes. --memory pushes a clip over and over with rising timestamps, real faces and gaps
included, and watches the resident memory of a process without torch.
"""

from __future__ import annotations

import os

# Before numpy is loaded: its BLAS reads this once. The networks are too small for more.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import metst_edge.analyzer as pipeline
from benchmarks.inputs import default_clip
from benchmarks.results import missed, show, verdict
from benchmarks.timing import alternate, cores
from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, open_source
from metst_edge.engine import ENGINES, why_missing
from metst_edge.events import Gap
from metst_edge.face import FaceFinder
from metst_edge.scoring import slots, windows

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("capture", "prepare", "face", "flow", "network", "decode")
"""`metst_edge.analyzer.OnStage` says what each covers; in the plain order prepare is gray alone, and network and decode
are called once for the whole clip."""
PLAIN = "plain published order"
STREAM = "native, stream"
PUSHED = "native, pushed"
LEAST_FPS = {5: 300.0, 18: 200.0}
TIMES_PLAIN = 8.0
STARTUP_SECONDS = 2.0
MEMORY_MB = 5.0
EVERY = 5000
AGREEMENT = 0.01
"""Of spotting scores, 0 to 1, on 95 % of the frames: flows that differ by rounding may move the crop by a pixel."""

Rows = list[dict[str, Any]]


class Clock:
    """Adds up what each stage of a run takes."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was counted."""
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.calls = dict.fromkeys(STAGES, 0)

    def add(self, stage: str, seconds: float) -> None:
        """Count one call of a stage; the SDK's `OnStage`."""
        self.seconds[stage] += seconds
        self.calls[stage] += 1

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call`` with every call of it timed."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                self.add(stage, time.perf_counter() - start)

        return wrapped


@dataclass(frozen=True)
class Spent:
    """One run of a contender: seconds in all, those of the processor, and by stage; calls by stage."""

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


def scores(analyzer: pipeline.Analyzer, clip: Path) -> tuple[np.ndarray, int]:
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
    return spot, sum(isinstance(item, Gap) for item in items)


def compare(clip: Path, bundle: Bundle, rois: int, threads: int, runs: int) -> tuple[Rows, Rows, list[str]]:
    """Analyse a clip with every contender in turns, on as many cores as there are threads.

    Returns:
        A row per contender; a row per contender and stage; what was asked for against what was measured.
    """
    import torch

    from benchmarks.published import TorchEngine, analyse

    cv2.setNumThreads(threads)
    engines = [name for name in ENGINES if why_missing(name) is None]
    clock = Clock()
    analyzers = {name: pipeline.Analyzer(bundle.path, name, clock.add, threads) for name in engines}
    reference, finder = TorchEngine(bundle), FaceFinder()
    native = analyzers["native"]
    contenders: dict[str, Callable[[], int]] = {STREAM: lambda: stream(native, clip, clock)}
    for name, analyzer in analyzers.items():
        contenders[f"{name}, pushed"] = lambda analyzer=analyzer: push(analyzer, clip, clock)
    contenders[PLAIN] = lambda: analyse(clip, reference, finder, clock.timed).frames

    with cores(threads):
        # Also the warm-up: libraries load, pages are touched.
        lost = sum(isinstance(event, Gap) for event in native.stream(clip))
        spot, gaps = scores(native, clip)
        torch.set_num_threads(torch_threads(reference, len(spot), threads))
        expected = analyse(clip, reference, finder).spot
        difference = np.abs(spot - expected)[np.isfinite(spot)]
        spent: dict[str, list[Spent]] = {name: [] for name in contenders}
        frames = len(spot)
        names = list(contenders)
        for i in range(runs):
            first = i % len(names)
            for name in names[first:] + names[:first]:
                clock.restart()
                start, used = time.perf_counter(), time.process_time()
                read = contenders[name]()
                whole, used = time.perf_counter() - start, time.process_time() - used
                spent[name].append(Spent(whole, used, clock.seconds, clock.calls))
                assert read == frames, f"{name}: expected {frames} frames, read {read}"
    for analyzer in analyzers.values():
        analyzer.close()
    finder.close()

    times = {name: [run.whole for run in some] for name, some in spent.items()}
    medians = {name: float(np.median(values)) for name, values in times.items()}
    rows: Rows = [
        {
            "ROIs": rois,
            "cores": threads,
            "cores used": float(np.median([run.processor / run.whole for run in spent[name]])),
            "contender": name,
            "frames/s": frames / medians[name],
            "slowest": frames / max(values),
            "fastest": frames / min(values),
            "ms per frame": 1e3 * medians[name] / frames,
            "x plain": medians[PLAIN] / medians[name],
        }
        for name, values in times.items()
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


def torch_threads(reference: Any, frames: int, most: int) -> int:
    """Return how many threads torch is fastest with on a clip's windows: on a busy machine more can be far slower."""
    import torch

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


STARTUP = """
import sys
import time
python = time.time() - float(sys.argv[1])
start = time.perf_counter()
import numpy as np
from metst_edge.bundle import Bundle
from metst_edge.engine import load_engine
from metst_edge.flow import Farneback
imported = time.perf_counter()
bundle = Bundle.find("demo")
stream = load_engine(bundle, "{engine}").open_stream(2)
stream.step(np.zeros((2, bundle.channels), np.float32))
stepped = time.perf_counter()
picture = np.random.default_rng(0).integers(0, 256, (90, 130), np.uint8)
Farneback(picture).to(picture)
flowed = time.perf_counter()
from metst_edge import Analyzer
Analyzer(engine="{engine}")
ready = time.perf_counter()
print(python, imported - start, stepped - imported, flowed - stepped, ready - flowed)
"""


def startup(runs: int) -> tuple[Rows, list[str]]:
    """Time the start of new processes, files in the page cache: medians of each part."""
    rows: Rows = []
    notes: list[str] = []
    for engine in [name for name in ENGINES if why_missing(name) is None]:
        command = [sys.executable, "-c", STARTUP.format(engine=engine)]
        parts = []
        for _ in range(runs + 1):  # the first one fills the page cache
            output = subprocess.run(
                [*command, repr(time.time())], check=True, capture_output=True, text=True, cwd=ROOT
            ).stdout
            parts.append([float(part) for part in output.split()])
        python, imports, first_step, first_flow, face = np.median(parts[1:], axis=0).tolist()
        whole = python + imports + first_step + first_flow
        rows.append(
            {
                "engine": engine,
                "python s": python,
                "import s": imports,
                "bundle, engine, first step s": first_step,
                "first flow s": first_flow,
                "without face model s": whole,
                "face model s": face,
            }
        )
        notes.append(verdict(f"start-up without the face model, {engine}", whole, "s", most=STARTUP_SECONDS))
    return rows, notes


def resident_mb() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory(clip: Path, frames: int, every: int) -> tuple[Rows, list[str]]:
    """Push a clip over and over; one row every so many frames, the first of them the warm-up's end."""
    rows: Rows = []
    found: Counter[str] = Counter()
    start = time.perf_counter()
    pushed = 0
    with pipeline.Analyzer(engine="native") as analyzer:
        while pushed < frames:
            with open_source(clip) as source:
                period = 1 / (source.fps or analyzer.bundle.fps)
                for frame in source:
                    assert isinstance(frame, Frame), "only live sources are interrupted"
                    found.update(type(event).__name__ for event in analyzer.push(frame.image, pushed * period))
                    pushed += 1
                    if pushed % every == 0:
                        rows.append(
                            {
                                "frames": pushed,
                                "resident MB": resident_mb(),
                                "growth MB": resident_mb() - (rows[0]["resident MB"] if rows else resident_mb()),
                                "micro-expressions": found["MicroExpression"],
                                "gaps": found["Gap"],
                                "frames/s": pushed / (time.perf_counter() - start),
                            }
                        )
                        print(", ".join(f"{name} {value:.6g}" for name, value in rows[-1].items()), flush=True)
                    if pushed >= frames:
                        break
    if len(rows) < 2:
        raise RuntimeError(f"expected at least {2 * every} frames to tell growth from warm-up, got {pushed}")
    largest = max(row["growth MB"] for row in rows)
    what = f"growth of resident memory from frame {every} to {rows[-1]['frames']}, largest sample"
    notes = [verdict(what, largest, "MB", most=MEMORY_MB)]
    if missed(notes[0]):
        half = rows[len(rows) // 2]["growth MB"]
        notes.append(f"{half:.1f} MB of it up to the middle, {rows[-1]['growth MB']:.1f} MB to the end")
    notes.append("the clip is begun again at its end: a scene cut and a new search for the face each time")
    return rows, notes


def main() -> None:
    """Run the benchmark, print the tables, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, metavar="CLIP", help="by default METST_EDGE_TEST_DATA's real one")
    parser.add_argument("--runs", type=int, default=3, help="of every contender, and of every start-up")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rois", type=int, nargs="+", choices=(5, 18), default=[5, 18])
    parser.add_argument("--startup", action="store_true", help="time the start-up instead")
    parser.add_argument("--memory", action="store_true", help="watch the memory instead")
    parser.add_argument("--frames", type=int, default=100_000, help="with --memory")
    parser.add_argument("--every", type=int, default=EVERY, help="with --memory: frames between two samples")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-end-to-end*.json and .md")
    options = parser.parse_args()
    clip = options.clip or default_clip()
    if options.startup:
        rows, notes = startup(options.runs)
        show("Start of a process, shipped model, files in the page cache", rows, "startup", options.out, notes)
        return
    if options.memory:
        rows, notes = memory(clip, options.frames, options.every)
        show(f"Memory over {options.frames} frames of {clip.name}, native", rows, "memory", options.out, notes)
        return
    from benchmarks.inputs import random_bundle

    rows, stages, notes = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for rois in options.rois:
            bundle = Bundle.find("demo") if rois == 5 else random_bundle("metst128", Path(folder), "metst_plus")
            for threads in options.cores:
                if threads > len(os.sched_getaffinity(0)):
                    print(f"{threads} cores: skipped, this process may use {len(os.sched_getaffinity(0))}")
                    continue
                some, more, lines = compare(clip, bundle, rois, threads, options.runs)
                rows += some
                stages += more
                notes += lines
    if not rows:
        raise SystemExit("expected at least one number of cores that this process may use; give another --cores")
    notes.append("18 ROIs: dim 128, random weights; ME-TST+'s own network (SlowFast) is not in training.models yet")
    show(f"Whole clips, {clip.name}", rows, "end-to-end", options.out, notes)
    show(f"Stages of a frame, {clip.name}", stages, "end-to-end-stages", options.out)


if __name__ == "__main__":
    main()
