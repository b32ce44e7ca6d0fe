"""Time of one SelectiveScan layer: the native kernel on every vector path, ONNX Runtime's `Scan`, torch.

Usage: python benchmarks/scan.py [--seconds 1] [--out]

ONNX Runtime runs the local function that bundles carry, torch the scan that training uses, one thread each.
Before anything is timed all of them must agree. They take turns within each round, so that a slow moment of
the machine hits all of them; each is called once untimed before it is timed, so that none pays for caches
that the one before it filled. Times are per call divided by the length, batch 1, calls made from Python.

What the time could be at best follows from what one core of this machine is measured to do (rates.cpp, compiled and
run before every size, the highest rate counts): "of multiply-adds" is the time that the multiplies and multiply-adds
of the recurrence alone would take at the full rate of the path's vector unit, over the time taken; "of exp" the same
for its exponentials, at the rate of the project's own exp2 on independent values. The rates are those of moments in
which nothing interrupts, so the time they are compared with is that of the fastest call; everything else here is
medians. Peers and the scalar path are measured against the widest unit. The rates need a C++ compiler; without one
those columns stay empty.
"""

from __future__ import annotations

import os

# Before numpy and torch are loaded: they read this once.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.results import show, verdict
from export import graphs
from metst_edge import _native
from training.models.scan import selective_scan as torch_scan

STATES = 64
CHANNELS = (128, 256)
LENGTHS = (1, 30, 50, 512)
AGREEMENT = 1e-4  # of the largest value; torch and ONNX Runtime keep less than the kernel's 1e-5 over 512 steps

MULTIPLY_ADDS = 9
"""Multiplies and multiply-adds per element of state and step, counted in csrc/cpu/selective_scan/loops_simd.cpp."""
TIMES_ONNX = 5.0
ROOT = Path(__file__).resolve().parent.parent

Arrays = dict[str, np.ndarray]
Contender = Callable[[], object]


@dataclass(frozen=True)
class Rate:
    """What one core does at best, elements a second."""

    multiply_adds: float
    exponentials: float


class Rates:
    """Measures the machine's rates with a small program; ``best`` is empty without a compiler.

    Attributes:
        best: vector unit, widest first -> the highest rates measured so far.
    """

    def __init__(self, folder: Path) -> None:
        self.best: dict[str, Rate] = {}
        compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
        self._program = folder / "rates"
        if compiler is None:
            print("rates.cpp: skipped, there is no C++ compiler (c++, g++, clang++)")
            return
        # -w: GCC's own AVX-512 headers warn about values they leave undefined on purpose.
        command = [compiler, "-O3", "-march=native", "-std=c++17", "-w", "-I", str(ROOT / "csrc" / "cpu")]
        subprocess.run([*command, str(ROOT / "benchmarks" / "rates.cpp"), "-o", str(self._program)], check=True)
        self.measure()

    def measure(self) -> None:
        """Measure again and keep the higher of each rate."""
        if not self._program.exists():
            return
        output = subprocess.run([str(self._program)], check=True, capture_output=True, text=True).stdout
        for line in output.splitlines():
            unit, *figures = line.split()
            new = Rate(*map(float, figures))
            old = self.best.get(unit, new)
            self.best[unit] = Rate(max(old.multiply_adds, new.multiply_adds), max(old.exponentials, new.exponentials))

    def of(self, implementation: str) -> Rate | None:
        """Return the rates of a native path's own unit, else of the widest one."""
        return self.best.get(implementation.removeprefix("native "), next(iter(self.best.values()), None))


def layer(channels: int, length: int) -> Arrays:
    """Return inputs as a trained layer has them: A = -(1 .. N), dt around 0.02."""
    rng = np.random.default_rng(0)
    shapes = {
        "u": (1, length, channels),
        "delta": (1, length, channels),
        "B": (1, length, STATES),
        "C": (1, length, STATES),
        "D": (channels,),
        "z": (1, length, channels),
        "delta_bias": (channels,),
        "h0": (1, channels, STATES),
    }
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["delta_bias"] -= 4.0
    arrays["A"] = -np.tile(np.arange(1, STATES + 1, dtype=np.float32), (channels, 1))
    return arrays


def onnx_session(arrays: Arrays) -> onnxruntime.InferenceSession:
    """Return a one-node model of the local function, the layer's weights stored in it."""
    weights = ("A", "D", "delta_bias")
    node = helper.make_node(
        graphs.SCAN, graphs.SCAN_INPUTS, graphs.SCAN_OUTPUTS, domain=graphs.DOMAIN, **graphs.SCAN_ATTRIBUTES
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, arrays[name].shape)
            for name in graphs.SCAN_INPUTS
            if name not in weights
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (None,) * 3) for name in graphs.SCAN_OUTPUTS],
        [numpy_helper.from_array(arrays[name], name) for name in weights],
    )
    model = helper.make_model(
        graph,
        functions=[graphs.selective_scan()],
        opset_imports=[helper.make_opsetid("", graphs.OPSET), helper.make_opsetid(graphs.DOMAIN, 1)],
        ir_version=graphs.IR_VERSION,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def contenders(arrays: Arrays) -> dict[str, Contender]:
    """Return one call per implementation, each giving (y, h)."""

    def native(path: str) -> Contender:
        return lambda: _native.selective_scan(**arrays, path=path)

    session = onnx_session(arrays)
    feed = {i.name: arrays[i.name] for i in session.get_inputs()}
    tensors = [torch.from_numpy(arrays[name]) for name in graphs.SCAN_INPUTS]
    calls = {f"native {path}": native(path) for path in _native.simd_paths()}
    calls["onnxruntime Scan"] = lambda: session.run(None, feed)
    calls["torch"] = lambda: torch_scan(*tensors)
    return calls


def check_agreement(calls: dict[str, Contender]) -> None:
    """Raise where the implementations differ: times of different results mean nothing."""
    results = {name: [np.asarray(x) for x in call()] for name, call in calls.items()}
    expected = results["native scalar"]
    for name, actual in results.items():
        for what, one, other in zip(graphs.SCAN_OUTPUTS, actual, expected, strict=True):
            error = float(np.abs(one - other).max() / np.abs(other).max())
            if not error <= AGREEMENT:
                raise RuntimeError(f"{name}: {what} differs from the scalar path by {error:.1e} of its maximum")


def measure(calls: dict[str, Contender], seconds: float) -> dict[str, tuple[float, float]]:
    """Return the median and the least time of each call, in seconds; about `seconds` are spent, at least 5 rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 5 or time.perf_counter() < end:
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: (float(np.median(values)), min(values)) for name, values in times.items()}


def run(
    seconds: float, rates: Rates, channels: tuple[int, ...] = CHANNELS, lengths: tuple[int, ...] = LENGTHS
) -> list[dict[str, object]]:
    """Measure every size; one row per size and implementation."""
    measured: list[tuple[int, int, dict[str, tuple[float, float]]]] = []
    for width in channels:
        for length in lengths:
            calls = contenders(layer(width, length))
            check_agreement(calls)
            rates.measure()
            measured.append((width, length, measure(calls, seconds)))
    # After all sizes: the highest rates are known only then.
    rows: list[dict[str, object]] = []
    for width, length, times in measured:
        elements = width * STATES * length
        for name, (median, least) in times.items():
            rate = rates.of(name)
            rows.append(
                {
                    "D": width,
                    "L": length,
                    "implementation": name,
                    "us per step": round(1e6 * median / length, 3),
                    "fastest us": round(1e6 * least / length, 3),
                    "exp per ns": round(1e-9 * elements / median, 3),
                    "of multiply-adds": _share(elements * MULTIPLY_ADDS, rate and rate.multiply_adds, least),
                    "of exp": _share(elements, rate and rate.exponentials, least),
                    "x ONNX Runtime": round(times["onnxruntime Scan"][0] / median, 2),
                }
            )
    return rows


def _share(operations: int, rate: float | None, seconds: float) -> str:
    return "-" if rate is None else f"{100 * operations / rate / seconds:.1f} %"


def notes(rows: list[dict[str, object]], rates: Rates) -> list[str]:
    """Return what was asked for against what was measured, and the rates the shares refer to."""
    best = f"native {_native.simd_path()}"
    lines = []
    for row in rows:
        if row["implementation"] == best:
            what = f"{best}, D {row['D']}, L {row['L']}, against ONNX Runtime's Scan"
            lines.append(verdict(what, float(str(row["x ONNX Runtime"])), "times as fast", least=TIMES_ONNX))
            if row["L"] == 1:
                lines[-1] += "; one step a call, so the call from Python counts too, on both sides"
    for unit, rate in rates.best.items():
        lines.append(
            f"one core, {unit}: {1e-9 * rate.multiply_adds:.1f} multiply-adds and {1e-9 * rate.exponentials:.2f} exp2 "
            "per ns at best (rates.cpp)"
        )
    lines.append(f"the recurrence has {MULTIPLY_ADDS} multiplies and multiply-adds and one exp2 per element and step")
    return lines


def main() -> None:
    """Run the benchmark, print a table, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="per size")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-scan.json and .md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    with tempfile.TemporaryDirectory() as folder:
        rates = Rates(Path(folder))
        rows = run(options.seconds, rates)
    title = f"One SelectiveScan layer, N = {STATES}, batch 1, one thread"
    show(title, rows, "scan", options.out, notes(rows, rates))


if __name__ == "__main__":
    main()
