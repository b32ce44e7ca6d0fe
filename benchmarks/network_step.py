"""Time of one model step with two lanes, every engine side by side in one run, one thread.

Usage: python benchmarks/network_step.py [BUNDLE ...]

Without a bundle, networks of the published sizes with random weights are exported first (times do not depend
on the weights). The engines take turns within each round, so that a slow moment of the machine hits all of
them. On a busy machine read the 5 % column: what a step takes when nothing interrupts it.
"""

from __future__ import annotations

import os

# Before numpy is loaded: its BLAS reads this once.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.results import show
from metst_edge.bundle import Bundle
from metst_edge.engine import ENGINES, Stream, load_engine, why_missing

LANES = 2
WARM_UP = 100
WINDOW = 30


def measure(streams: dict[str, Stream], rounds: int) -> dict[str, np.ndarray]:
    """Return the times of `rounds` steps of each stream, in milliseconds."""
    rng = np.random.default_rng(0)
    channels = next(iter(streams.values())).channels
    features = rng.standard_normal((64, LANES, channels)).astype(np.float32)
    times = {name: np.empty(rounds) for name in streams}
    for i in range(-WARM_UP, rounds):
        reset = np.array([i % WINDOW == 0, i % WINDOW == WINDOW // 2])
        for name, stream in streams.items():
            start = time.perf_counter()
            stream.step(features[i % len(features)], reset)
            elapsed = time.perf_counter() - start
            if i >= 0:
                times[name][i] = 1e3 * elapsed
    return times


def random_bundles(folder: Path) -> list[Bundle]:
    """Export both published sizes with fresh weights; needs torch and onnx."""
    from export.bundle import write
    from export.description import Description
    from training.models import MODELS, build

    quiet = Console(quiet=True)
    return [
        write(build(model).eval(), Description(model, 30, 30, 5), folder / model, force=False, console=quiet)
        for model in MODELS
    ]


def main() -> None:
    """Run the benchmark, print a table, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help="a path, or the name of a shipped model")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-network-step.json and .md")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bundles = [Bundle.find(b) for b in options.bundles] or random_bundles(Path(folder))
        for bundle in bundles:
            present = [name for name in ENGINES if why_missing(name) is None]
            streams = {name: load_engine(bundle, name).open_stream(LANES) for name in present}
            for name, times in measure(streams, options.rounds).items():
                low, median, high = np.quantile(times, (0.05, 0.5, 0.95)).tolist()
                rows.append(
                    {"model": bundle.model, "engine": name, "5 % ms": low, "median ms": median, "95 % ms": high}
                )
    show(f"One model step, {LANES} lanes, one thread", rows, "network-step", options.out)


if __name__ == "__main__":
    main()
