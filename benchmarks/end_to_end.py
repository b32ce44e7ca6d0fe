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
plain       peers/published.py: a face per window, OpenCV's flow per window, the network in torch on whole windows, one
            after the other; OpenCV may use as many threads as there are cores, torch as many of them as make it
            fastest.

Frames are those of the file, over the time from opening it to the last event. "cores used" is the processor time of a
run over the time it took. The 5 ROIs run the shipped model `demo`, ME-TST of dim 64, the 18 ROIs `demo_plus`, the small
ME-TST+.

--startup times new processes. --memory pushes a clip over and over with rising timestamps, real faces and gaps
included, and watches the resident memory of a process without torch.
"""

from __future__ import annotations

import os

# Before numpy is loaded: its BLAS reads this once. The networks are too small for more.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.clips import memory, startup
from benchmarks.inputs import default_clip
from benchmarks.results import Rows, show
from metst_edge.bundle import Bundle

MODELS = {5: "demo", 18: "demo_plus"}
"""Shipped models by their regions."""


def main() -> None:
    """Run the benchmark, print the tables, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, metavar="CLIP", help="by default METST_EDGE_TEST_DATA's real one")
    parser.add_argument("--runs", type=int, default=3, help="of every contender, and of every start-up")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rois", type=int, nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--startup", action="store_true", help="time the start-up instead")
    parser.add_argument("--memory", action="store_true", help="watch the memory instead")
    parser.add_argument("--frames", type=int, default=100_000, help="with --memory")
    parser.add_argument("--every", type=int, default=memory.EVERY, help="with --memory: frames between two samples")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-end-to-end*.json and .md")
    options = parser.parse_args()
    clip = options.clip or default_clip()
    if options.startup:
        rows, notes = startup.measure(options.runs)
        show("Start of a process, shipped model, files in the page cache", rows, "startup", options.out, notes)
        return
    if options.memory:
        rows, notes = memory.measure(clip, options.frames, options.every)
        show(f"Memory over {options.frames} frames of {clip.name}, native", rows, "memory", options.out, notes)
        return
    from benchmarks.clips import whole  # brings torch, which the other two do without

    stages: Rows = []
    rows, notes = [], []
    for rois in options.rois:
        bundle = Bundle.find(MODELS[rois])
        for threads in options.cores:
            if threads > len(os.sched_getaffinity(0)):
                print(f"{threads} cores: skipped, this process may use {len(os.sched_getaffinity(0))}")
                continue
            some, more, lines = whole.compare(clip, bundle, rois, threads, options.runs)
            rows += some
            stages += more
            notes += lines
    if not rows:
        raise SystemExit("expected at least one number of cores that this process may use; give another --cores")
    show(f"Whole clips, {clip.name}", rows, "end-to-end", options.out, notes)
    show(f"Stages of a frame, {clip.name}", stages, "end-to-end-stages", options.out)


if __name__ == "__main__":
    main()
