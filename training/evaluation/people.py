"""How sure the scores are: 95 % intervals by drawing people anew, since a person's clips are no independent samples.

Knows counts of each person, not where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge.labels import EMOTIONS
from training.evaluation.metrics import Clip, recognition, score

RESAMPLES = 2000
"""How often people are drawn anew."""
LEVEL = 0.95
SEED = 0

FIGURES = {
    "f1": "spotting F1",
    "precision": "precision",
    "recall": "recall",
    "uf1": "UF1",
    "emotions_right": "emotions right",
    "false_alarms_per_minute": "false alarms a minute",
}
"""What has an interval, and its name for people."""

Row = npt.NDArray[np.float64]
"""float64 (20,): true positives, false positives, false negatives, minutes of visible face, the confusion by rows."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One score and how sure it is.

    Attributes:
        value: over everybody; None where there is nothing to divide by.
        low: lower end of the interval; None where there is none.
        high: upper end of the interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


def tallies(clips: Sequence[Clip], people: Sequence[str], minutes: Sequence[float]) -> dict[str, Row]:
    """Sum up clips by person.

    Args:
        clips: what was found beside what is there.
        people: who is seen in each clip.
        minutes: of visible face in each clip.

    Returns:
        Person -> counts, in the order of names.
    """
    rows = {}
    for person in sorted(set(people)):
        own = [i for i, name in enumerate(people) if name == person]
        scores = score([clips[i] for i in own])
        spotting = scores.spotting
        counts = (spotting.tp, spotting.fp, spotting.fn, sum(minutes[i] for i in own))
        rows[person] = np.array([*counts, *scores.confusion.ravel()], np.float64)
    return rows


def figures(people: Mapping[str, Row]) -> dict[str, Figure]:
    """Return every figure of FIGURES with its interval: the percentile bootstrap over people.

    As many people as there are, are drawn with replacement, RESAMPLES times; the interval holds the middle LEVEL of
    what the figure comes to. Draws in which a figure has nothing to divide by say nothing of it and are left out. With
    a single person there is no interval: how people differ cannot be seen on one.

    Args:
        people: counts of each.
    """
    rows = np.array([people[name] for name in sorted(people)])
    drawn = np.full((RESAMPLES, len(FIGURES)), np.nan)
    if len(rows) > 1:
        random = np.random.default_rng(SEED)
        for i in range(RESAMPLES):
            drawn[i] = _values(rows[random.integers(len(rows), size=len(rows))].sum(axis=0))
    whole = _values(rows.sum(axis=0)) if len(rows) else np.full(len(FIGURES), np.nan)
    return {name: _figure(float(value), column) for name, value, column in zip(FIGURES, whole, drawn.T, strict=True)}


def _figure(value: float, drawn: npt.NDArray[np.float64]) -> Figure:
    told = drawn[~np.isnan(drawn)]
    if np.isnan(value):
        return Figure(None)
    if not len(told):
        return Figure(value)
    low, high = np.quantile(told, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Figure(value, float(low), float(high))


def _values(row: Row) -> npt.NDArray[np.float64]:
    """Return the figures of summed counts, in the order of FIGURES: float64 (6,), NaN without a denominator."""
    tp, fp, fn, minutes = row[:4].tolist()
    confusion = row[4:].reshape(len(EMOTIONS), len(EMOTIONS)).astype(np.int64)
    named = int(confusion.sum())
    ratios = (
        (2 * tp, 2 * tp + fp + fn),
        (tp, tp + fp),
        (tp, tp + fn),
        (recognition(confusion).uf1 * named, named),
        (float(np.trace(confusion)), named),
        (fp, minutes),
    )
    return np.array([over / under if under else np.nan for over, under in ratios])
