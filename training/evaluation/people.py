"""How sure the scores are: 95 % intervals by drawing people anew, since a person's clips are no independent samples.

Knows counts of each person, not where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge.labels import EMOTIONS
from training.evaluation.metrics import Clip, recognition, score

RESAMPLES = 2000
"""How often people are drawn anew."""
LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
"""Of what figures come to, left out on each side of an interval."""
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

    Where every draw comes to the same, as where nobody has a false alarm, drawing says nothing of how sure that is. Of
    none and of all in so many the interval is then the exact one of the counts (Clopper and Pearson 1934; of none in so
    many minutes, that of a Poisson process), which people who differ would only widen; else there is none.

    Args:
        people: counts of each.
    """
    rows = np.array([people[name] for name in sorted(people)])
    drawn = np.full((RESAMPLES, len(FIGURES)), np.nan)
    if len(rows) > 1:
        random = np.random.default_rng(SEED)
        for i in range(RESAMPLES):
            ratios = _ratios(rows[random.integers(len(rows), size=len(rows))].sum(axis=0))
            drawn[i] = [over / under if under else np.nan for over, under in ratios]
    whole = _ratios(rows.sum(axis=0)) if len(rows) else [(0.0, 0.0)] * len(FIGURES)
    return {
        name: _figure(name, *ratio, column[~np.isnan(column)])
        for name, ratio, column in zip(FIGURES, whole, drawn.T, strict=True)
    }


def _figure(name: str, over: float, under: float, drawn: npt.NDArray[np.float64]) -> Figure:
    """Return one figure, ``over / under``, with the interval of what it came to when people were drawn."""
    if not under:
        return Figure(None)
    value = over / under
    if not len(drawn):
        return Figure(value)
    if drawn.max() - drawn.min() > 1e-12:
        low, high = np.quantile(drawn, (TAIL, 1 - TAIL))
        return Figure(value, float(low), float(high))
    if name == "false_alarms_per_minute" and value == 0:
        return Figure(value, 0.0, -math.log(TAIL) / under)
    if name in ("precision", "recall", "emotions_right") and value in (0, 1):
        least = TAIL ** (1 / under)
        return Figure(value, least, 1.0) if value else Figure(value, 0.0, 1 - least)
    return Figure(value)


def _ratios(row: Row) -> list[tuple[float, float]]:
    """Return what is divided by what in the figures of summed counts, in the order of FIGURES."""
    tp, fp, fn, minutes = row[:4].tolist()
    confusion = row[4:].reshape(len(EMOTIONS), len(EMOTIONS)).astype(np.int64)
    named = int(confusion.sum())
    return [
        (2 * tp, 2 * tp + fp + fn),
        (tp, tp + fp),
        (tp, tp + fn),
        (recognition(confusion).uf1, float(named > 0)),
        (float(np.trace(confusion)), named),
        (fp, minutes),
    ]
