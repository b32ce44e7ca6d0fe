"""Does a bundle compute what the network it comes from does? Asked of every engine on a CPU, on both graphs.

And does it in fp16 what it does in fp32? Asked of ONNX Runtime, which rounds to fp16 where the graphs say so.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table

from metst_edge.bundle import PRECISIONS, Bundle
from metst_edge.engine import Engine, load_engine, why_missing
from metst_edge.engine.onnxruntime import OnnxRuntimeEngine
from training.models import SpottingNetwork

SPOT_TOLERANCE = 1e-4
EMOTION_TOLERANCE = 1e-3
# Four times what the demo's fp16 scores differ by on the packaged clip, where all events stay the same. Against the
# decoder's threshold, tenths below a peak, that is nothing; a logit moves a probability by a quarter of it at most.
HALF_SPOT_TOLERANCE = 5e-3
HALF_EMOTION_TOLERANCE = 5e-2
CHECKED = ("native", "onnxruntime")  # TensorRT's engines are not the bundle's: every device builds its own
SEED = 20
WINDOWS = 3

Array = npt.NDArray[np.float32]
Pair = tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Result:
    """Largest differences to torch in float64: spot scores after the sigmoid, emotion logits.

    Attributes:
        engine: its name.
        graph: "window" or "step".
        spot: largest absolute difference; infinite where a score is not a number.
        emotion: likewise, of the logits.
    """

    engine: str
    graph: str
    spot: float
    emotion: float

    @property
    def passed(self) -> bool:
        """Whether both lie within the tolerances."""
        return self.spot <= SPOT_TOLERANCE and self.emotion <= EMOTION_TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return the result as the manifest holds it."""
        return asdict(self)


@dataclass(frozen=True)
class HalfResult:
    """Differences of fp16 to fp32 in ONNX Runtime, over all frames: spot scores after the sigmoid, emotion logits.

    Attributes:
        graph: "window" or "step".
        spot: largest absolute difference; infinite where a score is not a number.
        emotion: likewise, of the logits.
        spot_mean: mean absolute difference.
        emotion_mean: likewise, of the logits.
    """

    graph: str
    spot: float
    emotion: float
    spot_mean: float
    emotion_mean: float

    @property
    def passed(self) -> bool:
        """Whether the largest ones lie within the tolerances."""
        return self.spot <= HALF_SPOT_TOLERANCE and self.emotion <= HALF_EMOTION_TOLERANCE

    def to_dict(self) -> dict[str, Any]:
        """Return the result as the manifest holds it."""
        return asdict(self)


def measure_half(bundle: Bundle) -> list[HalfResult]:
    """Compare the fp16 graphs with the fp32 ones on the windows that engines are checked with, and a tenth of them.

    Raises:
        EngineError: ONNX Runtime is not installed.
    """
    full, half = (OnnxRuntimeEngine(bundle, precision=precision) for precision in PRECISIONS)
    # A face at rest moves by a tenth of a pixel, an expression by one.
    windows = [scale * x for scale in (np.float32(1.0), np.float32(0.1)) for x in _windows(bundle)]
    results = []
    for graph, run in (("window", _inferred), ("step", _streamed)):
        pairs = list(zip(run(half, windows), run(full, windows), strict=True))
        differences = [
            np.concatenate([np.nan_to_num(np.abs(f[i] - e[i]), nan=np.inf).ravel() for f, e in pairs]) for i in range(2)
        ]
        spot, emotion = (float(d.max()) for d in differences)
        results.append(HalfResult(graph, spot, emotion, *(float(d.mean()) for d in differences)))
    return results


def half_table(results: list[HalfResult]) -> Table:
    """Return the differences of fp16 to fp32 as a table to print."""
    view = Table("graph", "spot", "mean", "logits", "mean", "", title="Largest and mean difference of fp16 to fp32")
    for r in results:
        verdict = "ok" if r.passed else f"above {HALF_SPOT_TOLERANCE:g} / {HALF_EMOTION_TOLERANCE:g}"
        figures = (f"{value:.1e}" for value in (r.spot, r.spot_mean, r.emotion, r.emotion_mean))
        view.add_row(r.graph, *figures, verdict, style="green" if r.passed else "bold red")
    return view


def measure(bundle: Bundle, network: SpottingNetwork) -> tuple[list[Result], dict[str, str]]:
    """Compare every engine of CHECKED that is here with the network.

    Args:
        bundle: as written.
        network: in evaluation mode.

    Returns:
        The results, torch in float32 first for scale, and why each absent engine is absent.
    """
    exact = copy.deepcopy(network).double()
    windows = _windows(bundle)
    expected = [_torch(exact, x.astype(np.float64)) for x in windows]
    results = [_result("torch float32", "window", [_torch(network, x) for x in windows], expected)]
    absent = {}
    for name in CHECKED:
        reason = why_missing(name)
        if reason is not None:
            absent[name] = reason
            continue
        engine = load_engine(bundle, name)
        results.append(_result(name, "window", list(_inferred(engine, windows)), expected))
        results.append(_result(name, "step", list(_streamed(engine, windows)), expected))
    return results, absent


def table(results: list[Result], absent: dict[str, str]) -> Table:
    """Return the results as a table to print."""
    view = Table("engine", "graph", "spot", "logits", "", title="Largest difference to torch float64")
    for r in results:
        verdict = "ok" if r.passed else f"above {SPOT_TOLERANCE:g} / {EMOTION_TOLERANCE:g}"
        style = "green" if r.passed else "bold red"
        view.add_row(r.engine, r.graph, f"{r.spot:.1e}", f"{r.emotion:.1e}", verdict, style=style)
    for name, reason in absent.items():
        view.add_row(name, "", "", "", f"not checked: {reason}", style="yellow")
    return view


def _windows(bundle: Bundle) -> list[Array]:
    """Batches of random windows: whole ones, and one cut off as at the end of a clip."""
    rng = np.random.default_rng(SEED)
    shapes = ((WINDOWS, bundle.channels, bundle.k), (1, bundle.channels, bundle.k // 2 + 1))
    windows = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    for x in windows:
        x[..., 0] = 0.0  # as in every real window: the first frame against itself
    return windows


def _torch(network: SpottingNetwork, x: npt.NDArray[Any]) -> Pair:
    with torch.no_grad():
        spot, emotion = network(torch.from_numpy(x))
    return spot.numpy(), emotion.numpy()


def _inferred(engine: Engine, windows: list[Array]) -> Iterator[Pair]:
    for batch in windows:
        scores = engine.infer(batch)
        yield scores.spot, scores.emotion


def _streamed(engine: Engine, windows: list[Array]) -> Iterator[Pair]:
    """Run all windows one after another through one lane of two, while the other is out of step."""
    stream = engine.open_stream(lanes=2)
    rows = [window for batch in windows for window in batch]
    fed = [(frame, first) for row in rows for first, frame in zip([True] + [False] * row.shape[1], row.T, strict=False)]
    fed += [(np.zeros_like(rows[0][:, 0]), True)] * stream.look_ahead
    spot, emotion = [], []
    for i, (frame, first) in enumerate(fed):
        # Lane 0 lags one frame behind and restarts every seventh: nothing of it may show in lane 1.
        features = np.stack((fed[i - 1][0], frame))
        scores = stream.step(features, np.array((i % 7 == 0, first)))
        if scores is not None:
            spot.append(scores.spot[1])
            emotion.append(scores.emotion[1])
    at = 0
    for batch in windows:
        count, _, frames = batch.shape
        span = slice(at, at + count * frames)
        yield np.reshape(spot[span], (count, frames)), np.reshape(emotion[span], (count, frames, -1))
        at += count * frames


def _result(engine: str, graph: str, found: list[Pair], expected: list[Pair]) -> Result:
    worst = [
        max(float(np.nan_to_num(np.abs(f[i] - e[i]), nan=np.inf).max()) for f, e in zip(found, expected, strict=True))
        for i in range(2)
    ]
    return Result(engine, graph, worst[0], worst[1])
