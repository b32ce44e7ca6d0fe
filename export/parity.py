"""Does a bundle compute what the network it comes from does? Asked of every engine on a CPU, on both graphs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table

from export.windows import Array, random_windows
from metst_edge.bundle import Bundle
from metst_edge.engine import Engine, load_engine, why_missing
from training.models import SpottingNetwork

SPOT_TOLERANCE = 1e-4
EMOTION_TOLERANCE = 1e-3
CHECKED = ("native", "onnxruntime")  # TensorRT's engines are not the bundle's: every device builds its own

Pair = tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Result:
    """Largest differences to torch in float64, or to other graphs: spot scores after the sigmoid, emotion logits.

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


def measure(bundle: Bundle, network: SpottingNetwork) -> tuple[list[Result], dict[str, str]]:
    """Compare every engine of CHECKED that is here with the network.

    Args:
        bundle: as written.
        network: in evaluation mode.

    Returns:
        The results, torch in float32 first for scale, and why each absent engine is absent.
    """
    exact = copy.deepcopy(network).double()
    windows = random_windows(bundle)
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


def compare(bundle: Bundle, before: Bundle) -> list[Result]:
    """Compare a bundle's graphs in fp32 with those of another of the same weights, in ONNX Runtime.

    Raises:
        EngineError: ONNX Runtime is not installed.
    """
    windows = random_windows(bundle)
    expected = list(_inferred(load_engine(before, "onnxruntime"), windows))
    engine = load_engine(bundle, "onnxruntime")
    return [
        _result(engine.name, "window", list(_inferred(engine, windows)), expected),
        _result(engine.name, "step", list(_streamed(engine, windows)), expected),
    ]


def table(results: list[Result], absent: dict[str, str], reference: str = "torch float64") -> Table:
    """Return the results as a table to print.

    Args:
        results: one a row.
        absent: why engines were not asked, by their names.
        reference: what they were compared with.
    """
    view = Table("engine", "graph", "spot", "logits", "", title=f"Largest difference to {reference}")
    for r in results:
        verdict = "ok" if r.passed else f"above {SPOT_TOLERANCE:g} / {EMOTION_TOLERANCE:g}"
        style = "green" if r.passed else "bold red"
        view.add_row(r.engine, r.graph, f"{r.spot:.1e}", f"{r.emotion:.1e}", verdict, style=style)
    for name, reason in absent.items():
        view.add_row(name, "", "", "", f"not checked: {reason}", style="yellow")
    return view


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
