"""Time of one SelectiveScan layer: the native kernel on every vector path, ONNX Runtime's `Scan`, torch.

Usage: python benchmarks/scan.py [--seconds 1] [--out]

ONNX Runtime runs the local function that bundles carry, torch the scan that training uses, one thread each.
Before anything is timed all of them must agree. They take turns within each round, so that a slow moment of
the machine hits all of them; each is called once untimed before it is timed, so that none pays for caches
that the one before it filled. Times are per call divided by the length, batch 1, calls made from Python.
"""

from __future__ import annotations

import os

# Before numpy and torch are loaded: they read this once.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.results import show
from export import graphs
from metst_edge import _native
from training.models.scan import selective_scan as torch_scan

STATES = 64
CHANNELS = (128, 256)
LENGTHS = (1, 30, 50, 512)
AGREEMENT = 1e-4  # of the largest value; torch and ONNX Runtime keep less than the kernel's 1e-5 over 512 steps

Arrays = dict[str, np.ndarray]
Contender = Callable[[], object]


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


def measure(calls: dict[str, Contender], seconds: float) -> dict[str, float]:
    """Return the median time of each call, in seconds; about `seconds` are spent, at least 5 rounds."""
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
    return {name: float(np.median(values)) for name, values in times.items()}


def run(seconds: float) -> list[dict[str, object]]:
    """Measure every size; one row per size and implementation."""
    rows: list[dict[str, object]] = []
    for channels in CHANNELS:
        for length in LENGTHS:
            calls = contenders(layer(channels, length))
            check_agreement(calls)
            medians = measure(calls, seconds)
            for name, median in medians.items():
                rows.append(
                    {
                        "D": channels,
                        "L": length,
                        "implementation": name,
                        "us per step": round(1e6 * median / length, 3),
                        "exp per ns": round(1e-9 * channels * STATES * length / median, 3),
                        "x ONNX Runtime": round(medians["onnxruntime Scan"] / median, 2),
                    }
                )
    return rows


def main() -> None:
    """Run the benchmark, print a table, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="per size")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-scan.json and .md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    title = f"One SelectiveScan layer, N = {STATES}, batch 1, one thread"
    show(title, run(options.seconds), "scan", options.out)


if __name__ == "__main__":
    main()
