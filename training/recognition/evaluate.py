"""Scores of a recogniser on intervals that are given, through the bundle that runs on the device.

    OUT/metrics.json    UF1, UAR, confusion
    OUT/confusion.png   the confusion matrix

Knows bundles only: a checkpoint is exported to one by whoever asks, so nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import RecognizerBundle
from metst_edge.counting import how_many
from metst_edge.labels import EMOTIONS
from metst_edge.recognise.engine import load_recognizer
from metst_edge.recognise.images import ImageSettings
from training.data.errors import DataError
from training.evaluation.metrics import Recognition, recognition
from training.evaluation.plots import confusion as draw_confusion
from training.recognition.intervals import Interval, scaled


@dataclass(frozen=True, slots=True, eq=False)
class RecognitionScores:
    """How a recogniser did on intervals that are given.

    Attributes:
        labels: of the recogniser.
        recognition: UF1, UAR and the rest.
        confusion: int64 (E, E), rows truth, columns prediction, in the order of the labels.
        left_out: intervals of an emotion that it does not know.
    """

    labels: tuple[str, ...]
    recognition: Recognition
    confusion: npt.NDArray[np.int64]
    left_out: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "labels": list(self.labels),
            **self.recognition.to_dict(),
            "confusion": self.confusion.tolist(),
            "left_out": self.left_out,
        }


def evaluate(
    bundle: RecognizerBundle,
    intervals: Sequence[Interval],
    out: Path,
    *,
    engine: str = "auto",
    report: Callable[[int], None] = lambda done: None,
) -> RecognitionScores:
    """Name every interval and score it.

    Args:
        bundle: the recogniser.
        intervals: drawn by its settings.
        out: folder for the results; made if missing.
        engine: as for `metst_edge.recognise.engine.load_recognizer`.
        report: called with the number of intervals that are done.

    Raises:
        DataError: none of the intervals is of an emotion that it knows.
        MetstError: the recogniser cannot be run.
    """
    labels, settings = bundle.labels, ImageSettings.from_dict(bundle.images)
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    known = [interval for interval in intervals if EMOTIONS[interval.emotion] in labels]
    if not known:
        raise DataError(
            f"expected intervals of {', '.join(labels)}, which the recogniser knows, got none among {len(intervals)}"
        )
    recognizer = load_recognizer(bundle, engine)
    try:
        for done, interval in enumerate(known, 1):
            logits = recognizer.infer(scaled(interval.whole[None], settings))[0]
            matrix[labels.index(EMOTIONS[interval.emotion]), int(logits.argmax())] += 1
            report(done)
    finally:
        recognizer.close()
    scores = RecognitionScores(labels, recognition(matrix), matrix, len(intervals) - len(known))
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model": bundle.name, **scores.to_dict()}, indent=1)
    (out / "metrics.json").write_text(text + "\n", encoding="utf-8")
    title = f"{how_many(scores.recognition.count, 'interval')}, UF1 {scores.recognition.uf1:.2f}"
    draw_confusion(matrix, labels, out / "confusion.png", title)
    return scores
