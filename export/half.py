"""What half precision does to a bundle: by how much its fp16 graphs differ from those in fp32, and what they must hold.

Runtimes on a CPU compute halves in fp32 and leave out casts there and back, so that nothing overflows. Here halves are
halves: the graphs run in `onnx.reference`. And the range of every value that they hold in half precision is measured
where it cannot overflow, in the same graph made wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from rich.table import Table

from export.windows import Array, clip_windows, random_windows
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.engine.onnxruntime import OnnxRuntimeEngine

LIMIT = 30_000.0
"""Largest value that half precision may be asked to hold: less than half of what it can, since no set of windows holds
every face."""
COMPARED_WINDOWS = 8
"""Of the packaged clip, spread evenly, on which scores are compared: `onnx.reference` takes its time."""
BATCH = 32

Run = Callable[[Mapping[str, Array]], list[Any]]


@dataclass(frozen=True)
class Tolerance:
    """By how much fp16 may differ from fp32 at most.

    Attributes:
        spot: scores after the sigmoid; the decoder's threshold lies tenths below a peak.
        emotion: logits; one moves a probability by a quarter of it at most.
    """

    spot: float
    emotion: float


# Twice what the demo's fp16 scores differ by on the packaged clip, where all events stay the same: 1.2e-3 and 2.5e-2
# with numpy 1.26 and OpenCV 4.11, 2.1e-3 and 9.5e-2 with numpy 2.4 and OpenCV 5.0, which sum halves in another order.
ONE_RATE = Tolerance(5e-3, 0.2)
# A third more than what the published metst_plus with random weights differs by (1.6e-2 and 0.22), whose twice as many
# blocks in a row swing both heads from end to end.
TWO_RATES = Tolerance(2e-2, 0.3)


@dataclass(frozen=True)
class Result:
    """Differences of fp16 to fp32 over all frames: spot scores after the sigmoid, emotion logits.

    Attributes:
        graph: "window" or "step".
        spot: largest absolute difference; infinite where a score is not a number.
        emotion: likewise, of the logits.
        spot_mean: mean absolute difference.
        emotion_mean: likewise, of the logits.
        largest: absolute value of what is held in half precision, if it could hold all.
        value: name of that value in the graph.
    """

    graph: str
    spot: float
    emotion: float
    spot_mean: float
    emotion_mean: float
    largest: float
    value: str

    def close(self, tolerance: Tolerance) -> bool:
        """Tell whether the largest differences lie within the tolerance."""
        return self.spot <= tolerance.spot and self.emotion <= tolerance.emotion

    @property
    def fits(self) -> bool:
        """Whether half precision holds all values, with room to spare."""
        return self.largest <= LIMIT

    def to_dict(self) -> dict[str, Any]:
        """Return the result as the manifest holds it."""
        return asdict(self)


def measure(bundle: Bundle, clips: Sequence[Path] = ()) -> list[Result]:
    """Compare the fp16 graphs with those in fp32, and measure what they hold in half precision.

    Both on the windows that engines are checked with, a tenth of them, and some of the packaged clip; the latter on all
    of that clip, and on those of `clips`.

    Args:
        bundle: with graphs in both precisions.
        clips: video that shows faces.

    Raises:
        EngineError: ONNX Runtime is not installed.
        SourceError: a clip cannot be read.
    """
    # A face at rest moves by a tenth of a pixel, an expression by one.
    windows = [scale * x for scale in (np.float32(1.0), np.float32(0.1)) for x in random_windows(bundle)]
    packaged = clip_windows(demo_clip(), bundle)
    compared = windows + _batches(packaged[:: max(1, len(packaged) // COMPARED_WINDOWS)])
    wide = windows + _batches(np.concatenate([packaged, *(clip_windows(clip, bundle) for clip in clips)]))
    expected = OnnxRuntimeEngine(bundle)
    wanted = [(scores.spot, scores.emotion) for scores in map(expected.infer, compared)]
    results = []
    for graph in ("window", "step"):
        half = reference(bundle.graph(graph, "fp16"))
        found = [scored(bundle, graph, half, x) for x in compared]
        differences = [
            np.concatenate(
                [np.nan_to_num(np.abs(f[i] - w[i]), nan=np.inf).ravel() for f, w in zip(found, wanted, strict=True)]
            )
            for i in range(2)
        ]
        (spot, spot_mean), (emotion, emotion_mean) = ((float(d.max()), float(d.mean())) for d in differences)
        ranges = value_ranges(bundle, graph, wide)
        value = max(ranges, key=ranges.__getitem__)
        results.append(Result(graph, spot, emotion, spot_mean, emotion_mean, ranges[value], value))
    return results


def table(results: list[Result], tolerance: Tolerance) -> Table:
    """Return the results as a table to print."""
    title = "Largest and mean difference of fp16 to fp32; largest value in half precision"
    view = Table("graph", "spot", "mean", "logits", "mean", "value", "", title=title)
    for r in results:
        verdict = "ok" if r.close(tolerance) else f"above {tolerance.spot:g} / {tolerance.emotion:g}"
        verdict = verdict if r.fits else f"{verdict}, {r.value} above {LIMIT:g}"
        figures = (f"{value:.1e}" for value in (r.spot, r.spot_mean, r.emotion, r.emotion_mean))
        style = "green" if r.close(tolerance) and r.fits else "bold red"
        view.add_row(r.graph, *figures, f"{r.largest:.0f}", verdict, style=style)
    return view


def reference(path: Path) -> Run:
    """Return a graph in `onnx.reference`, where halves are halves: feeds to outputs."""
    evaluator = ReferenceEvaluator(onnx.load(path), new_ops=[MatMul])

    def run(feeds: Mapping[str, Array]) -> list[Any]:
        with np.errstate(all="ignore"):  # what becomes infinite shows in the scores
            return list(evaluator.run(None, dict(feeds)))

    return run


class MatMul(OpRun):  # type: ignore[misc]
    """Adds up in fp32 and rounds once, as matrix units do; NumPy adds up halves, a hundred times slower."""

    op_domain = ""

    def _run(self, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
        return (np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype),)


def scored(bundle: Bundle, graph: str, run: Run, windows: Array) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return spot (B, T) and logits (B, T, E) of windows (B, C, T), by a window graph or a step graph."""
    if graph == "window":
        spot, emotion = run({"features": windows})[:2]
        return spot, emotion
    given = [outputs[:2] for outputs in _steps(bundle, run, windows)][bundle.look_ahead :]
    return np.stack([spot for spot, _ in given], 1), np.stack([emotion for _, emotion in given], 1)


def value_ranges(bundle: Bundle, graph: str, windows: Sequence[Array]) -> dict[str, float]:
    """Return the largest absolute value, over windows, of everything that an fp16 graph holds in half precision.

    Args:
        bundle: with fp16 graphs.
        graph: "window" or "step".
        windows: batches (B, C, T).
    """
    import onnxruntime

    model, names = _widened(onnx.load(bundle.graph(graph, "fp16")))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = np.zeros(len(names))
    for x in windows:
        if graph == "window":
            runs = iter([session.run(None, {"features": x})])
        else:
            runs = _steps(bundle, lambda feeds: list(session.run(None, dict(feeds))), x)
        for outputs in runs:
            largest = np.maximum(largest, outputs[-len(names) :])
    return dict(zip(names, map(float, largest), strict=True))


def _widened(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return an fp16 graph with fp32 in place of fp16, and what was fp16; their ranges are its last outputs."""
    model = inline_local_functions(model)
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    names = [v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16]
    graph = model.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    for name in names:
        graph.node.append(helper.make_node("Abs", [name], [f"{name}|size"]))
        graph.node.append(helper.make_node("ReduceMax", [f"{name}|size"], [f"{name}|largest"], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(f"{name}|largest", TensorProto.FLOAT, []))
    return model, names


def _steps(bundle: Bundle, run: Run, windows: Array) -> Iterator[list[Any]]:
    """Feed windows (B, C, T) to B lanes frame by frame, then as much as scores wait for; yield the outputs."""
    lanes, channels, frames = windows.shape
    state = {entry.name: np.zeros((lanes, *entry.shape), np.float32) for entry in bundle.state}
    nothing = np.zeros((lanes, channels), np.float32)
    for t in range(frames + bundle.look_ahead):
        features = np.ascontiguousarray(windows[:, :, t]) if t < frames else nothing
        reset = np.full(lanes, t == 0 or t >= frames, np.float32)
        outputs = run({"features": features, "reset": reset, **state})
        state = dict(zip(state, outputs[2:], strict=False))
        yield outputs


def _batches(windows: Array) -> list[Array]:
    return [windows[i : i + BATCH] for i in range(0, len(windows), BATCH)]
