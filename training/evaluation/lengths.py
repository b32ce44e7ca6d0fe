"""What is found of micro-expressions by how long they are, so that decoders can be set side by side.

Knows intervals in frames, not how they were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metst_edge.matching import iou
from metst_edge.matching import match as match_spans
from training.evaluation.metrics import Clip, Labelled, Scores

CLASSES = ((1, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, None))
"""Shortest and longest length of a class in frames, both ends counted; the last is open."""


def class_name(least: int, most: int | None) -> str:
    """Name a class of lengths for people."""
    return f"{least} and more" if most is None else f"{least} to {most}"


@dataclass(frozen=True, slots=True)
class LengthScores:
    """What is found of the micro-expressions of one class of lengths.

    Attributes:
        least: frames of the shortest, both ends counted.
        most: frames of the longest; None where there is no bound.
        count: how many there are.
        found: how many of them are matched.
        iou: mean over all of them, of the overlap with what was found that overlaps them most; 0 without any.
    """

    least: int
    most: int | None
    count: int
    found: int
    iou: float

    @property
    def recall(self) -> float:
        return self.found / self.count if self.count else 0.0

    @property
    def name(self) -> str:
        """The class for people."""
        return class_name(self.least, self.most)

    def to_dict(self) -> dict[str, Any]:
        bounds = {"least": self.least, "most": self.most}
        return bounds | {"count": self.count, "found": self.found, "recall": self.recall, "iou": self.iou}


@dataclass(frozen=True, slots=True)
class DecoderScores:
    """What one decoder makes of the scores of a set of videos.

    Attributes:
        scores: all of them.
        lengths: spotting by the length of micro-expressions, in frames at the model's rate.
    """

    scores: Scores
    lengths: tuple[LengthScores, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "spotting": self.scores.spotting.to_dict(),
            "recognition": self.scores.recognition.to_dict(),
            "strs": self.scores.strs,
            "lengths": [each.to_dict() for each in self.lengths],
        }


def by_length(clips: Sequence[Clip], rates: Sequence[float]) -> tuple[LengthScores, ...]:
    """Score spotting by the length of what is true.

    Args:
        clips: what was found beside what is there.
        rates: of each clip, frames that lengths are counted in per frame of the clip: 1 where the model's frame rate is
            the clip's.

    Returns:
        One for each of CLASSES.
    """
    lengths, overlaps, hits = [], [], []
    for clip, rate in zip(clips, rates, strict=True):
        predicted, truth = _spans(clip.predicted), _spans(clip.truth)
        matched = {j for _, j in match_spans(predicted, truth)}
        for j, (onset, offset) in enumerate(truth):
            lengths.append(max(round((offset - onset + 1) * rate), 1))
            overlaps.append(max((iou(span, truth[j]) for span in predicted), default=0.0))
            hits.append(j in matched)
    scores = []
    for least, most in CLASSES:
        chosen = [i for i, length in enumerate(lengths) if least <= length and (most is None or length <= most)]
        mean = float(np.mean([overlaps[i] for i in chosen])) if chosen else 0.0
        scores.append(LengthScores(least, most, len(chosen), sum(hits[i] for i in chosen), mean))
    return tuple(scores)


def _spans(intervals: Sequence[Labelled]) -> list[tuple[int, int]]:
    return [(interval.onset, interval.offset) for interval in intervals]
