"""Spot-then-recognise scores as the micro-expression grand challenge (MEGC) counts them.

Spotting is counted over all videos together, those without any micro-expression included. Recognition is scored on the
true positives only, so neutral is no class of it. Definitions: those of the published code of arXiv 2409.09707 and
2508.08082, whose recognition F1 counts recall 0 for a class that is predicted but never true.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.labels import EMOTIONS
from metst_edge.matching import match as match_spans


@dataclass(frozen=True, slots=True)
class Labelled:
    """An interval with an emotion.

    Attributes:
        onset: first frame, counted from 0.
        offset: last frame, inclusive.
        emotion: index into EMOTIONS.
    """

    onset: int
    offset: int
    emotion: int


@dataclass(frozen=True, slots=True)
class Clip:
    """What was found in one video beside what is there."""

    predicted: tuple[Labelled, ...]
    truth: tuple[Labelled, ...]


@dataclass(frozen=True, slots=True)
class Spotting:
    """Counts over all videos and what follows from them; a ratio without a denominator is 0."""

    tp: int
    fp: int
    fn: int

    @property
    def precision(self) -> float:
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    def to_dict(self) -> dict[str, float]:
        counts = {"tp": self.tp, "fp": self.fp, "fn": self.fn}
        return counts | {"precision": self.precision, "recall": self.recall, "f1": self.f1}


@dataclass(frozen=True, slots=True)
class Recognition:
    """Scores of the true positives, over the classes that occur among them as truth or as prediction.

    Attributes:
        uf1: unweighted mean of the classes' F1.
        uar: unweighted mean recall, of the classes that occur as truth. (The published code has no number for it where
            a class is predicted but never true.)
        f1: 2PR / (P + R) of the unweighted mean precision P and recall R of the classes, as published: a class that is
            predicted but never true has recall 0 and a class that is true but never predicted has precision 0. The
            other definition in use leaves the former out of R, which is then the UAR, and gives 1.1 to 1.5 times as
            much where few intervals were found.
        count: true positives scored.
    """

    uf1: float
    uar: float
    f1: float
    count: int

    def to_dict(self) -> dict[str, float]:
        return {"uf1": self.uf1, "uar": self.uar, "f1": self.f1, "count": self.count}


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """All scores of a set of videos.

    Attributes:
        spotting: counts, precision, recall, F1.
        recognition: of the true positives.
        recognition_without_others: the same, true positives whose true emotion is "others" left out.
        confusion: int64 (4, 4), rows truth, columns prediction, in the order of EMOTIONS.
        videos: how many were scored.
    """

    spotting: Spotting
    recognition: Recognition
    recognition_without_others: Recognition
    confusion: npt.NDArray[np.int64]
    videos: int

    @property
    def strs(self) -> float:
        """Spot-then-recognise score: spotting F1 times recognition F1."""
        return self.spotting.f1 * self.recognition.f1

    @property
    def strs_without_others(self) -> float:
        return self.spotting.f1 * self.recognition_without_others.f1

    def to_dict(self) -> dict[str, Any]:
        return {
            "videos": self.videos,
            "spotting": self.spotting.to_dict(),
            "recognition": self.recognition.to_dict(),
            "recognition_without_others": self.recognition_without_others.to_dict(),
            "strs": self.strs,
            "strs_without_others": self.strs_without_others,
            "labels": list(EMOTIONS),
            "confusion": self.confusion.tolist(),
        }


def match(predicted: Sequence[Labelled], truth: Sequence[Labelled]) -> list[tuple[Labelled, Labelled]]:
    """Return the (predicted, true) pairs of `metst_edge.matching.match`."""
    spans = ([(interval.onset, interval.offset) for interval in intervals] for intervals in (predicted, truth))
    return [(predicted[i], truth[j]) for i, j in match_spans(*spans)]


def recognition(confusion: npt.NDArray[np.int64], left_out: Sequence[int] = ()) -> Recognition:
    """Score the true positives.

    Args:
        confusion: int64 (n, n), rows truth, columns prediction. All zeros score 0.
        left_out: classes that do not count: true positives that are of them go, a prediction of them is a miss.
    """
    kept = np.ones(len(confusion), bool)
    kept[list(left_out)] = False
    counted = np.where(kept[:, None], confusion, 0)
    hits = np.diag(counted).astype(np.float64)
    actual, claimed = counted.sum(axis=1), counted.sum(axis=0)
    occurring = kept & (actual + claimed > 0)
    if not occurring.any():
        return Recognition(0.0, 0.0, 0.0, 0)
    f1 = (2 * hits[occurring] / (actual + claimed)[occurring]).mean()
    precision = np.divide(hits, claimed, out=np.zeros_like(hits), where=claimed > 0)[occurring].mean()
    recalls = np.divide(hits, actual, out=np.zeros_like(hits), where=actual > 0)
    recall = recalls[occurring].mean()
    uar = recalls[actual > 0].mean()  # a class without a true example has none
    return Recognition(float(f1), float(uar), _ratio(2 * precision * recall, precision + recall), int(counted.sum()))


def score(clips: Iterable[Clip]) -> Scores:
    """Score all videos of an evaluation, one Clip each, videos without any micro-expression included."""
    tp = fp = fn = videos = 0
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), np.int64)
    for clip in clips:
        pairs = match(clip.predicted, clip.truth)
        videos += 1
        tp += len(pairs)
        fp += len(clip.predicted) - len(pairs)
        fn += len(clip.truth) - len(pairs)
        for found, true in pairs:
            confusion[true.emotion, found.emotion] += 1
    without_others = recognition(confusion, left_out=[EMOTIONS.index("others")])
    return Scores(Spotting(tp, fp, fn), recognition(confusion), without_others, confusion, videos)


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else 0.0
