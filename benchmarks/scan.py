"""Time of one SelectiveScan layer: the native kernel on every vector path, ONNX Runtime's `Scan`, torch.

Usage: python benchmarks/scan.py [--seconds 1] [--out]

ONNX Runtime runs the local function that bundles carry, torch the loop of training/models/scan.py, one thread each.
Before anything is timed all of them must agree. They take turns within each round, so that a slow moment of the machine
hits all of them; each is called once untimed before it is timed, so that none pays for caches that the one before it
filled.
Times are per call divided by the length, batch 1, calls made from Python.

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
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.rates import Rates
from benchmarks.results import Rows, show, verdict
from export import onnx_builder, scan_function
from metst_edge import _native
from training.models.scan import selective_scan as torch_scan

STATES = 64
CHANNELS = (128, 256)
LENGTHS = (1, 30, 50, 512)
AGREEMENT = 1e-4
"""Of the largest value; torch and ONNX Runtime keep less than the kernel's 1e-5 over 512 steps."""
MULTIPLY_ADDS = 9
"""Multiplies and multiply-adds per element of state and step, counted in csrc/cpu/selective_scan/loops_simd.cpp."""
TIMES_ONNX = 5.0
Arrays = dict[str, npt.NDArray[np.float32]]
Contender = Callable[[], Iterable[Any]]
"""One call; gives (y, h)."""


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
        scan_function.SCAN,
        scan_function.SCAN_INPUTS,
        scan_function.SCAN_OUTPUTS,
        domain=scan_function.DOMAIN,
        **scan_function.SCAN_ATTRIBUTES,
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, arrays[name].shape)
            for name in scan_function.SCAN_INPUTS
            if name not in weights
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (None,) * 3) for name in scan_function.SCAN_OUTPUTS],
        [numpy_helper.from_array(arrays[name], name) for name in weights],
    )
    model = helper.make_model(
        graph,
        functions=[scan_function.selective_scan()],
        opset_imports=[helper.make_opsetid("", onnx_builder.OPSET), helper.make_opsetid(scan_function.DOMAIN, 1)],
        ir_version=onnx_builder.IR_VERSION,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def contenders(arrays: Arrays) -> dict[str, Contender]:
    """Return one call per implementation, each giving (y, h)."""
    inputs: dict[str, Any] = dict(arrays)

    def native(path: str) -> Contender:
        return lambda: _native.selective_scan(path=path, **inputs)

    session = onnx_session(arrays)
    feed = {i.name: arrays[i.name] for i in session.get_inputs()}
    tensors = [torch.from_numpy(arrays[name]) for name in scan_function.SCAN_INPUTS]
    calls = {f"native {path}": native(path) for path in _native.simd_paths()}
    calls["onnxruntime Scan"] = lambda: session.run(None, feed)
    calls["torch"] = lambda: torch_scan(*tensors)
    return calls


def check_agreement(calls: dict[str, Contender]) -> None:
    """Raise where the implementations differ: times of different results mean nothing."""
    results = {name: [np.asarray(x) for x in call()] for name, call in calls.items()}
    expected = results["native scalar"]
    for name, actual in results.items():
        for what, one, other in zip(scan_function.SCAN_OUTPUTS, actual, expected, strict=True):
            error = float(np.abs(one - other).max() / np.abs(other).max())
            if not error <= AGREEMENT:
                raise RuntimeError(f"{name}: {what} differs from the scalar path by {error:.1e} of its maximum")


def measure(calls: dict[str, Contender], seconds: float) -> dict[str, tuple[float, float]]:
    """Return the median and the least time of each call, in seconds; about ``seconds`` are spent, at least 5 rounds."""
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


def run(seconds: float, rates: Rates, channels: tuple[int, ...] = CHANNELS, lengths: tuple[int, ...] = LENGTHS) -> Rows:
    """Measure every size; one row per size and implementation."""
    measured: list[tuple[int, int, dict[str, tuple[float, float]]]] = []
    for width in channels:
        for length in lengths:
            calls = contenders(layer(width, length))
            check_agreement(calls)
            rates.measure()
            measured.append((width, length, measure(calls, seconds)))
    # After all sizes: the highest rates are known only then.
    rows: Rows = []
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
                    "of multiply-adds": _share(elements * MULTIPLY_ADDS, rate.multiply_adds if rate else None, least),
                    "of exp": _share(elements, rate.exponentials if rate else None, least),
                    "x ONNX Runtime": round(times["onnxruntime Scan"][0] / median, 2),
                }
            )
    return rows


def _share(operations: int, rate: float | None, seconds: float) -> str:
    return "-" if rate is None else f"{100 * operations / rate / seconds:.1f} %"


def notes(rows: Rows, rates: Rates) -> list[str]:
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
