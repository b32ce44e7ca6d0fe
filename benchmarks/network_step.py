"""Time of one model step, every engine and two peers side by side in one run, one thread.

Usage: python benchmarks/network_step.py [BUNDLE ...] [--rounds 600] [--lanes 1 2 4] [--out]

Without a bundle, networks of the published sizes with random weights are exported first (times do not depend
on the weights). The peers: ONNX Runtime on the step graph; the same network stepped with the Mamba block of `mambapy`
(pip install mambapy; left out without it); the torch network of training/, which has no step and is run on whole
windows, its time divided by the frames of a window.

All must agree on one window before anything is timed. Contenders take turns within each round, so that a slow moment
of the machine hits all of them; each then finds the caches as the others left them, as behind the optical flow of a
frame. "alone ms" is the median of the same step called over and over, caches warm. On a busy machine read the 5 %
column: what a step takes when nothing interrupts it.
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
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.inputs import random_bundle
from benchmarks.published import TorchEngine, network_of
from benchmarks.results import missed, show, verdict
from benchmarks.timing import alternate, profile, quantiles
from metst_edge.bundle import Bundle
from metst_edge.engine import ENGINES, StepScores, Stream, load_engine, why_missing
from training.models import MODELS

LANES = (1, 2, 4)
WARM_UP = 100
WINDOW = 30
AGREEMENT = 1e-3
MOST_MS = {"metst64": 0.25, "metst128": 0.6}
TIMES_ONNX = {"metst64": 4.0}
TORCH = f"torch, window of {WINDOW} / {WINDOW}"

Array = npt.NDArray[np.float32]


class MambapyStream:
    """ME-TST fed frame by frame in torch, its Mamba layers stepped by mambapy with their caches (Stream's contract).

    Raises:
        ImportError: mambapy is not installed.
    """

    look_ahead = 2

    def __init__(self, bundle: Bundle, lanes: int) -> None:
        from mambapy.mamba import MambaBlock, MambaConfig

        self.lanes, self.channels = lanes, bundle.channels
        network = network_of(bundle)
        sizes = network.sizes
        config = MambaConfig(
            d_model=sizes.dim, n_layers=1, d_state=sizes.d_state, expand_factor=sizes.expand, d_conv=sizes.d_conv
        )
        self._stem = [(network.Stem[0], network.Stem[1]), (network.Stem[3], network.Stem[4])]
        self._spot, self._emotion = network.fc_spot, network.fc_recog
        self._blocks = []
        for block in network.blocks:
            mamba = MambaBlock(config)
            mamba.load_state_dict(block.attn.mamba.state_dict())  # the same names: both follow state-spaces/mamba
            self._blocks.append((block.attn.norm, mamba.eval(), block.norm1))
        self._inner = config.d_inner
        self._sizes = sizes
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if just opened."""
        sizes, lanes = self._sizes, self.lanes
        self._fed = 0
        self._buffers = [torch.zeros(lanes, width, 3) for width in (sizes.channels, sizes.dim)]
        self._caches = [
            (torch.zeros(lanes, self._inner, sizes.d_state), torch.zeros(lanes, self._inner, sizes.d_conv - 1))
            for _ in self._blocks
        ]
        self._resets = [np.zeros(lanes, bool)] * 2  # of the frame before, and of the one before that

    @torch.inference_mode()
    def step(self, features: Array, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """Feed float32 (lanes, C); see metst_edge.engine.types.Stream."""
        now = np.zeros(self.lanes, bool) if reset is None else np.asarray(reset, bool)
        before, begins = self._resets
        x = self._convolve(0, torch.from_numpy(features), before, now)
        x = self._convolve(1, x, begins, before)
        if begins.any():
            keep = torch.from_numpy(~begins).float()[:, None, None]
            self._caches = [(h * keep, inputs * keep) for h, inputs in self._caches]
        for i, (norm, mamba, post_norm) in enumerate(self._blocks):
            y, self._caches[i] = mamba.step(norm(x), self._caches[i])
            x = x + post_norm(y)
        self._resets = [now, before]
        self._fed += 1
        if self._fed <= self.look_ahead:
            return None
        return StepScores(torch.sigmoid(self._spot(x))[:, 0].numpy(), self._emotion(x).numpy())

    def _convolve(self, i: int, newest: torch.Tensor, first: Any, after_last: Any) -> torch.Tensor:
        """The stem's convolution ``i`` around the frame before the newest; other windows' frames are its padding."""
        seen = self._buffers[i] = torch.cat((self._buffers[i][:, :, 1:], newest[:, :, None]), 2)
        if first.any() or after_last.any():
            seen = seen.clone()
            seen[torch.from_numpy(first), :, 0] = 0
            seen[torch.from_numpy(after_last), :, 2] = 0
        convolution, norm = self._stem[i]
        y = functional.conv1d(seen, convolution.weight, convolution.bias)
        return torch.relu(norm(y))[:, :, 0]


def open_streams(bundle: Bundle, lanes: int) -> dict[str, Stream]:
    """Return a stream of every contender that is installed."""
    present = [name for name in ENGINES if why_missing(name) is None]
    streams = {name: load_engine(bundle, name).open_stream(lanes) for name in present}
    try:
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


def measure(streams: dict[str, Stream], reference: TorchEngine, rounds: int) -> dict[str, tuple[list[float], float]]:
    """Time every contender.

    Returns:
        The times of the steps, milliseconds, taken in turns; and the median of a step called over and over.
    """
    first = next(iter(streams.values()))
    rng = np.random.default_rng(0)
    features = rng.standard_normal((64, first.lanes, first.channels)).astype(np.float32)
    windows = rng.standard_normal((first.lanes, first.channels, WINDOW)).astype(np.float32)
    # Windows start evenly spread over the lanes, as two start half a window apart.
    starts = WINDOW * np.arange(first.lanes) // first.lanes
    resets = [(i + starts) % WINDOW == 0 for i in range(WINDOW)]

    def call(stream: Stream) -> Any:
        return lambda i: stream.step(features[i % len(features)], resets[i % WINDOW])

    calls = {name: call(stream) for name, stream in streams.items()}
    for i in range(WARM_UP):
        for step in calls.values():
            step(i)
    # Windows are timed among the steps, one for every WINDOW of them.
    times: dict[str, list[float]] = {name: [] for name in [*calls, TORCH]}
    done = 0
    while done < rounds:
        for name, values in alternate(calls, min(WINDOW, rounds - done), warm_up=0).items():
            times[name] += values
        start = time.perf_counter()
        reference.infer(windows)
        times[TORCH].append(1e3 * (time.perf_counter() - start) / WINDOW)
        done += WINDOW
    alone = {}
    for name, step in calls.items():
        alone[name] = quantiles(alternate({name: step}, max(rounds // 4, 1))[name])[1]
    whole = alternate({TORCH: lambda i: reference.infer(windows)}, max(rounds // 200, 1))[TORCH]
    alone[TORCH] = quantiles(whole)[1] / WINDOW
    return {name: (values, alone[name]) for name, values in times.items()}


def run(bundle: Bundle, lanes: int, rounds: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure one bundle: a row per contender, and what was asked for against what was measured."""
    streams = open_streams(bundle, lanes)
    reference = TorchEngine(bundle)
    check_agreement(streams, reference)
    measured = measure(streams, reference, rounds)
    medians = {name: quantiles(times)[1] for name, (times, _) in measured.items()}
    rows = []
    for name, (times, alone) in measured.items():
        low, median, high = quantiles(times)
        ratio = f"{median / medians['native']:.1f}"
        rows.append(
            {
                "model": bundle.model,
                "channels": bundle.channels,
                "lanes": lanes,
                "engine": name,
                "5 % ms": low,
                "median ms": median,
                "95 % ms": high,
                "alone ms": alone,
                "x native": ratio,
            }
        )
    return rows, judge(bundle, medians, streams["native"]) if lanes == 2 else []


def judge(bundle: Bundle, medians: dict[str, float], native: Stream) -> list[str]:
    """Compare medians of two lanes with what was asked for; where one is missed, say where the time goes."""
    lines = []
    if bundle.model in MOST_MS:
        what = f"{bundle.model}, native, two lanes"
        lines.append(verdict(what, medians["native"], "ms a step", most=MOST_MS[bundle.model]))
    if bundle.model in TIMES_ONNX and "onnxruntime" in medians:
        what = f"{bundle.model}, native against ONNX Runtime's step graph"
        ratio = medians["onnxruntime"] / medians["native"]
        lines.append(verdict(what, ratio, "times as fast", least=TIMES_ONNX[bundle.model]))
    if any(map(missed, lines)):
        features = np.ones((native.lanes, native.channels), np.float32)
        shares = profile(lambda: [native.step(features) for _ in range(200)])
        lines.append(f"{bundle.model}, native, where a step's time goes: " + "; ".join(shares))
    return lines


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
    show("One model step, one thread, contenders in turns", rows, "network-step", options.out, notes)


if __name__ == "__main__":
    main()
