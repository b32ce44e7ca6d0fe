"""Time of one model step, every engine and two peers side by side in one run, one thread.

Usage: python benchmarks/network_step.py [BUNDLE ...] [--rounds 600] [--lanes 1 2 4] [--out]

Without a bundle, networks of the published sizes with random weights are exported first (times do not depend on the
weights). The peers: ONNX Runtime on the step graph; for ME-TST the same network stepped with the Mamba block of
`mambapy` (pip install mambapy; left out without it); the torch network of training/, which has no step and is run on
whole windows, its time divided by the frames of a window.

All must agree on one window before anything is timed. Contenders take turns, so that a slow moment of the machine hits
all of them, in two ways: by blocks of 50 steps behind 5 untimed ones, each with its own caches warm, which the first
columns and the bounds are about; and after every single step, each finding the caches as all others left them: "cold".
In use the optical flow of a frame runs between two steps, and what it leaves of the caches decides: end_to_end.py has
that figure, its stage "network". On a busy machine read the 5 % column: what a step takes when nothing interrupts it.

ME-TST+ has frames that cost more than others. "frame ms" is the average over the frames of a window of each one's
median, "worst ms" the largest of these medians; what is compared is the former. "floor ms" is what it takes to read as
many bytes as a frame of the native step does (weights, and the state twice), by numpy's dot product in the same turns:
a step cannot take much less, unless all of it stays in a cache that is nearer.
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
from metst_edge.engine import ENGINES, Stream, load_engine, networks, why_missing
from metst_edge.engine.cuda.library import why_not
from metst_edge.engine.networks.shape import MambaBlock, SlowFast
from training.models import MODELS

LANES = (1, 2, 4)
WARM_UP = 100
BLOCK = (5, 50)
"""Steps of a contender in its turn, untimed and then timed."""
WINDOW = 30
HALF = "native fp16"
AGREEMENT = {HALF: 0.1}
"""With torch in fp32, where it is not LEAST_AGREEMENT."""
LEAST_AGREEMENT = 1e-3
MOST_MS = {"metst64": 0.25, "metst128": 0.6, "metst_plus_small": 0.35, "metst_plus": 4.0}
TIMES_ONNX = {"metst64": 4.0, "metst_plus": 2.5}
TORCH = f"torch, window of {WINDOW} / {WINDOW}"


def open_streams(bundle: Bundle, lanes: int) -> dict[str, Stream]:
    """Return a stream of every contender that is installed."""
    present = [name for name in ENGINES if why_missing(name) is None]
    if "cuda" in present and why_not(bundle) is not None:
        present.remove("cuda")
    streams = {name: load_engine(bundle, name).open_stream(lanes) for name in present}
    streams[HALF] = load_engine(bundle, "native", "fp16").open_stream(lanes)
    if "slow_dim" in bundle.sizes:
        return streams
    try:
        from benchmarks.peers.mambapy_stream import MambapyStream

        streams["mambapy"] = MambapyStream(bundle, lanes)
    except ImportError:
        print("mambapy: skipped, not installed: pip install mambapy")
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
        if not error <= AGREEMENT.get(name, LEAST_AGREEMENT):
            raise RuntimeError(f"{name}: scores differ from torch on whole windows by {error:.1e}")
        stream.reset()


def resets_of(lanes: int) -> list[Any]:
    """Return which lanes start a window, for every frame of one: evenly spread, as two start half a window apart."""
    starts = WINDOW * np.arange(lanes) // lanes
    return [(i + starts) % WINDOW == 0 for i in range(WINDOW)]


def bytes_of(bundle: Bundle, lanes: int, half: bool) -> int:
    """Return how many bytes a frame of the native step reads and writes, on average over a window.

    All weights that run, the slow stack's where a lane has an even frame of its window, and twice the state of the
    lanes' blocks.
    """
    network = networks.of_bundle(bundle)
    starts = WINDOW * np.arange(lanes) // lanes
    even = np.array([(frame + starts) % WINDOW % 2 == 0 for frame in range(WINDOW)])
    slow: set[str] = set()
    slow_blocks: set[MambaBlock] = set()
    for pathway in network.pathways:
        if isinstance(pathway, SlowFast):
            slow_blocks |= set(pathway.slow)
            for part in (pathway.entry, *pathway.laterals, *pathway.slow):
                slow |= set(part.weights)
    total = 0.0
    for name, shape in network.weights.items():
        size = 2 if half and name in network.matrices else 4
        total += size * int(np.prod(shape)) * (even.any(1).mean() if name in slow else 1.0)
    for block in network.blocks:
        total += 2 * 4 * block.inner * block.states * lanes * (even.mean() if block in slow_blocks else 1.0)
    return int(total)


def measure(
    streams: dict[str, Stream], reference: TorchEngine, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Time every contender, and for the native ones the reading of as many bytes.

    Returns:
        The times of the steps, milliseconds: taken in blocks, caches warm; and in turns after every step, caches cold.
        Torch's windows are of the blocks alone, one in each.
    """
    first = next(iter(streams.values()))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((64, first.lanes, first.channels)).astype(np.float32)
    windows = rng.standard_normal((first.lanes, first.channels, WINDOW)).astype(np.float32)
    resets = resets_of(first.lanes)

    def call(stream: Stream) -> Callable[[int], object]:
        return lambda i: stream.step(features[i % len(features)], resets[i % WINDOW])

    def reading(size: int) -> Callable[[int], object]:
        array = np.ones(size // 4, np.float32)
        return lambda i: array @ array

    steps = {name: call(stream) for name, stream in streams.items()}
    for name in ("native", HALF):
        steps[floor_of(name)] = reading(bytes_of(reference.bundle, first.lanes, name == HALF))
    for step in steps.values():
        for i in range(WARM_UP):
            step(i)
    calls = {**steps, TORCH: lambda i: reference.infer(windows)}
    blocks = {TORCH: (1, 1)} | dict.fromkeys(steps, BLOCK)
    warm = alternate(calls, -(-rounds // BLOCK[1]), blocks=blocks)
    warm[TORCH] = [ms / WINDOW for ms in warm[TORCH]]
    return warm, alternate(steps, rounds)


def floor_of(name: str) -> str:
    """Return what the reading of a native contender's bytes is called among the times."""
    return f"{name}: reading"


def by_frame(times: list[float], block: tuple[int, int]) -> tuple[float, float]:
    """Return the average over a window's frames of each one's median time, and the largest of these medians.

    Args:
        times: of one contender, in order.
        block: its turn, untimed and timed calls; what is timed is numbered as `alternate` does.
    """
    untimed, timed = block
    numbers = [i // timed * (untimed + timed) + untimed + i % timed for i in range(len(times))]
    frames = np.array(numbers) % WINDOW
    medians = [float(np.median(np.array(times)[frames == frame])) for frame in np.unique(frames)]
    return sum(medians) / len(medians), max(medians)


def run(bundle: Bundle, lanes: int, rounds: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure one bundle: a row per contender, and what was asked for against what was measured."""
    streams = open_streams(bundle, lanes)
    reference = TorchEngine(bundle)
    check_agreement(streams, reference)
    warm, cold = measure(streams, reference, rounds)
    warm_frames = {name: by_frame(times, (1, 1) if name == TORCH else BLOCK) for name, times in warm.items()}
    cold_frames = {name: by_frame(times, (0, 1)) for name, times in cold.items()}
    means, cold_means = ({name: mean for name, (mean, _) in f.items()} for f in (warm_frames, cold_frames))
    rows = []
    for name in (*streams, TORCH):
        low, median, high = quantiles(warm[name])
        native, floor = name in ("native", HALF), floor_of(name)
        rows.append(
            {
                "model": bundle.model,
                "channels": bundle.channels,
                "lanes": lanes,
                "engine": name,
                "5 % ms": low,
                "median ms": median,
                "95 % ms": high,
                "frame ms": means[name],
                "worst ms": warm_frames[name][1] if name in streams else "-",
                "floor ms": means[floor] if native else "-",
                "x native": f"{means[name] / means['native']:.1f}",
                "cold ms": cold_means.get(name, "-"),
                "cold worst ms": cold_frames[name][1] if name in cold else "-",
                "cold floor ms": cold_means[floor] if native else "-",
                "cold x native": f"{cold_means[name] / cold_means['native']:.1f}" if name in cold else "-",
            }
        )
    if lanes != 2:
        return rows, []
    lines = judge(bundle, means, cold_means, streams["native"])
    return rows, lines + [traffic(bundle, name, warm_frames, cold_frames) for name in ("native", HALF)]


def traffic(
    bundle: Bundle, name: str, warm: dict[str, tuple[float, float]], cold: dict[str, tuple[float, float]]
) -> str:
    """Say what a native contender's step reads, what it takes, and what the reading alone does."""
    read = bytes_of(bundle, 2, name == HALF)
    rates = [f"{read / 1e6 / times[floor_of(name)][0]:.0f} GB/s" for times in (warm, cold)]
    return (
        f"{bundle.model}, {name}, two lanes: {read / 1e6:.1f} MB a frame, read at {rates[0]} warm and {rates[1]} cold "
        f"in {warm[floor_of(name)][0]:.3g} and {cold[floor_of(name)][0]:.3g} ms; average frame {warm[name][0]:.3g} and "
        f"{cold[name][0]:.3g} ms, worst {warm[name][1]:.3g} and {cold[name][1]:.3g}"
    )


def judge(bundle: Bundle, medians: dict[str, float], cold: dict[str, float], native: Stream) -> list[str]:
    """Compare average frames of two lanes with what was asked for; where one is missed, say where the time goes."""
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
    names = [name for name in cold if name != "native" and not name.endswith(floor_of(""))]
    others = "; ".join(f"{name} {cold[name] / cold['native']:.1f} times that" for name in names)
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
        bundles = [Bundle.find(b) for b in options.bundles] or [
            random_bundle(m, Path(folder), "metst_plus" if m.startswith("metst_plus") else "metst") for m in MODELS
        ]
        for bundle in bundles:
            for lanes in options.lanes:
                some, lines = run(bundle, lanes, options.rounds if lanes == 2 else max(options.rounds // 3, 1))
                rows += some
                notes += lines
    show("One model step, one thread, contenders in turns by blocks", rows, "network-step", options.out, notes)


if __name__ == "__main__":
    main()
