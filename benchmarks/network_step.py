"""Time of one model step, every engine and two peers side by side in one run, one thread.

Usage: python benchmarks/network_step.py [BUNDLE ...] [--rounds 600] [--lanes 1 2 4] [--out]

Without a bundle, networks of the published sizes with random weights are exported first (times do not depend on the
weights). The peers: ONNX Runtime on the step graph; the same network stepped with the Mamba block of `mambapy` (pip
install mambapy; left out without it); the torch network of training/, which has no step and is run on whole windows,
its time divided by the frames of a window.

All must agree on one window before anything is timed. Contenders take turns, so that a slow moment of the machine hits
all of them, in two ways: by blocks of 50 steps behind 5 untimed ones, each with its own caches warm, which the first
columns and the bounds are about; and after every single step, each finding the caches as all others left them: "cold".
In use the optical flow of a frame runs between two steps, and what it leaves of the caches decides: end_to_end.py has
that figure, its stage "network". On a busy machine read the 5 % column: what a step takes when nothing interrupts it.
"""

from __future__ import annotations

import os

# Before numpy is loaded: its BLAS reads this once.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.inputs import random_bundle
from benchmarks.peers.torch_network import TorchEngine
from benchmarks.results import missed, show, verdict
from benchmarks.timing import alternate, quantiles
from metst_edge.bundle import Bundle
from metst_edge.engine import ENGINES, Stream, load_engine, why_missing
from training.models import MODELS

LANES = (1, 2, 4)
WARM_UP = 100
BLOCK = (5, 50)
"""Steps of a contender in its turn, untimed and then timed."""
WINDOW = 30
AGREEMENT = 1e-3
MOST_MS = {"metst64": 0.25, "metst128": 0.6}
TIMES_ONNX = {"metst64": 4.0}
TORCH = f"torch, window of {WINDOW} / {WINDOW}"


def open_streams(bundle: Bundle, lanes: int) -> dict[str, Stream]:
    """Return a stream of every contender that is installed."""
    present = [name for name in ENGINES if why_missing(name) is None]
    streams = {name: load_engine(bundle, name).open_stream(lanes) for name in present}
    try:
        from benchmarks.peers.mambapy_stream import MambapyStream

        streams["mambapy"] = MambapyStream(bundle, lanes)
    except ImportError:
        print("mambapy: skipped, not installed: pip install 'metst-edge[bench]'")
    return streams


def check_agreement(streams: dict[str, Stream], reference: TorchEngine) -> None:
    """Raise where a stream and torch on whole windows differ: times of different results mean nothing."""
    first = next(iter(streams.values()))
    windows = np.random.default_rng(1).standard_normal((first.lanes, first.channels, WINDOW)).astype(np.float32)
    expected = reference.infer(windows)
    for name, stream in streams.items():
        stream.reset()
        scores = []
        for t in range(WINDOW + stream.look_ahead):
            inside = t < WINDOW
            frame = windows[:, :, t] if inside else np.zeros_like(windows[:, :, 0])
            scores.append(stream.step(np.ascontiguousarray(frame), np.full(first.lanes, t == 0 or not inside)))
        kept = [score for score in scores if score is not None]
        error = max(
            float(np.abs(np.stack([score.spot for score in kept], 1) - expected.spot).max()),
            float(np.abs(np.stack([score.emotion for score in kept], 1) - expected.emotion).max()),
        )
        if not error <= AGREEMENT:
            raise RuntimeError(f"{name}: scores differ from torch on whole windows by {error:.1e}")
        stream.reset()


def measure(
    streams: dict[str, Stream], reference: TorchEngine, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Time every contender.

    Returns:
        The times of the steps, milliseconds: taken in blocks, caches warm; and in turns after every step, caches cold.
        Torch's windows are of the blocks alone, one in each.
    """
    first = next(iter(streams.values()))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((64, first.lanes, first.channels)).astype(np.float32)
    windows = rng.standard_normal((first.lanes, first.channels, WINDOW)).astype(np.float32)
    # Windows start evenly spread over the lanes, as two start half a window apart.
    starts = WINDOW * np.arange(first.lanes) // first.lanes
    resets = [(i + starts) % WINDOW == 0 for i in range(WINDOW)]

    def call(stream: Stream) -> Callable[[int], object]:
        return lambda i: stream.step(features[i % len(features)], resets[i % WINDOW])

    steps = {name: call(stream) for name, stream in streams.items()}
    for step in steps.values():
        for i in range(WARM_UP):
            step(i)
    calls = {**steps, TORCH: lambda i: reference.infer(windows)}
    blocks = {TORCH: (1, 1)} | dict.fromkeys(steps, BLOCK)
    warm = alternate(calls, -(-rounds // BLOCK[1]), blocks=blocks)
    warm[TORCH] = [ms / WINDOW for ms in warm[TORCH]]
    return warm, alternate(steps, rounds)


def run(bundle: Bundle, lanes: int, rounds: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure one bundle: a row per contender, and what was asked for against what was measured."""
    streams = open_streams(bundle, lanes)
    reference = TorchEngine(bundle)
    check_agreement(streams, reference)
    warm, cold = measure(streams, reference, rounds)
    medians = {name: quantiles(times)[1] for name, times in warm.items()}
    cold_medians = {name: quantiles(times)[1] for name, times in cold.items()}
    rows = []
    for name, times in warm.items():
        low, median, high = quantiles(times)
        rows.append(
            {
                "model": bundle.model,
                "channels": bundle.channels,
                "lanes": lanes,
                "engine": name,
                "5 % ms": low,
                "median ms": median,
                "95 % ms": high,
                "x native": f"{median / medians['native']:.1f}",
                "cold ms": cold_medians.get(name, "-"),
                "cold x native": f"{cold_medians[name] / cold_medians['native']:.1f}" if name in cold else "-",
            }
        )
    return rows, judge(bundle, medians, cold_medians, streams["native"]) if lanes == 2 else []


def judge(bundle: Bundle, medians: dict[str, float], cold: dict[str, float], native: Stream) -> list[str]:
    """Compare medians of two lanes with what was asked for; where one is missed, say where the time goes."""
    lines = []
    if bundle.model in MOST_MS:
        what = f"{bundle.model}, native, two lanes, blocks of {BLOCK[1]} steps"
        lines.append(verdict(what, medians["native"], "ms a step", most=MOST_MS[bundle.model]))
    if bundle.model in TIMES_ONNX and "onnxruntime" in medians:
        what = f"{bundle.model}, native against ONNX Runtime's step graph"
        ratio = medians["onnxruntime"] / medians["native"]
        lines.append(verdict(what, ratio, "times as fast", least=TIMES_ONNX[bundle.model]))
    if any(map(missed, lines)):
        lines.append(f"{bundle.model}, native, where a step's time goes: {split(bundle, native)}")
    others = "; ".join(f"{name} {ms / cold['native']:.1f} times that" for name, ms in cold.items() if name != "native")
    where = "two lanes, cold caches (contenders alternating after every step)"
    lines.append(f"{bundle.model}, native, {where}: {cold['native']:.3g} ms a step; {others}")
    return lines


def split(bundle: Bundle, native: Stream) -> str:
    """Say what of a step is reading its weights: it is one compiled call that goes through all of them once."""
    weights = sum(array.nbytes for array in bundle.weights().values())
    array = np.ones(weights // 4, np.float32)
    features = np.ones((native.lanes, native.channels), np.float32)
    calls: dict[str, Callable[[int], object]] = {
        "step": lambda i: native.step(features),
        "read": lambda i: array @ array,
    }
    ms = {name: quantiles(times)[1] for name, times in alternate(calls, 4, blocks=dict.fromkeys(calls, BLOCK)).items()}
    return (
        f"one compiled call of {ms['step']:.3g} ms that reads {weights / 1e6:.1f} MB of weights, which takes "
        f"{ms['read']:.3g} ms by itself (numpy's dot product of as many bytes)"
    )


def main() -> None:
    """Run the benchmark, print a table, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help="a path, or the name of a shipped model")
    parser.add_argument("--rounds", type=int, default=600, help="with two lanes; a third of it with others")
    parser.add_argument("--lanes", type=int, nargs="+", default=list(LANES))
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-network-step.json and .md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        bundles = [Bundle.find(b) for b in options.bundles] or [random_bundle(m, Path(folder)) for m in MODELS]
        for bundle in bundles:
            for lanes in options.lanes:
                some, lines = run(bundle, lanes, options.rounds if lanes == 2 else max(options.rounds // 3, 1))
                rows += some
                notes += lines
    show("One model step, one thread, contenders in turns by blocks", rows, "network-step", options.out, notes)


if __name__ == "__main__":
    main()
