"""An interval that was spotted, and the emotion its frames vote for.

Knows per-frame logits and frame indices, not how the interval was found: the offline and the online decoder share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metst_edge.decode.settings import Synergy

NEUTRAL_COLUMN = -1
"""Of the logits: neutral is the last label of every model."""


@dataclass(frozen=True, slots=True)
class Interval:
    """One spotted interval, in frames counted from 0; both ends inclusive and inside the clip.

    Attributes:
        onset: the first frame.
        apex: the frame of the peak; of an adaptive interval, that of the highest score inside.
        offset: the last frame.
        emotion: index of the label voted for; None when neutral won, which only synergy "none" lets stand.
        probabilities: float64 (E - 1,), mean softmax over the emotions without neutral, priors added; sums to 1.
        score: the smoothed spotting curve at the peak.
    """

    onset: int
    apex: int
    offset: int
    emotion: int | None
    probabilities: NDArray[np.float64]
    score: float

    def __eq__(self, other: object) -> bool:
        # The generated comparison would ask an array for its truth value.
        if not isinstance(other, Interval):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        probabilities = tuple(self.probabilities.tolist())
        return self.onset, self.apex, self.offset, self.emotion, self.score, probabilities


def read_interval(
    span: tuple[int, int, int],
    score: float,
    logits: NDArray[Any],
    first: int,
    frames: int,
    synergy: Synergy,
    priors: NDArray[np.float64],
) -> Interval | None:
    """Clip a span to the clip, let its frames vote, and return the interval.

    As published, the onset is clipped first: the voting frames are onset + 1 .. offset - 2 as far as they lie inside
    the clip, and its frame 0 never votes. Where that leaves none, the apex votes alone.

    Args:
        span: onset, apex, offset in frames; the ends may lie outside the clip.
        score: the smoothed curve at the peak.
        logits: (m, E), neutral last: the frames first .. first + m - 1, which must cover the span inside the clip.
        first: index of the first row of `logits`.
        frames: the number of frames so far; offsets are clipped to the last of them.
        synergy: see `DecodeSettings`.
        priors: float64 (E,), as of `check_priors`.

    Returns:
        The interval, or None when synergy "recognition_mainly" deletes it because neutral won.
    """
    onset, apex, offset = span
    start, stop = max(onset, 0) + 1, min(offset - 1, frames)
    if start >= stop:
        start, stop = apex, apex + 1
    voters = np.asarray(logits[start - first : stop - first], dtype=np.float64)
    emotion = vote(voters, synergy, priors)
    if emotion is None and synergy == "recognition_mainly":
        return None
    return Interval(
        onset=max(onset, 0),
        apex=apex,
        offset=min(offset, frames - 1),
        emotion=emotion,
        probabilities=mean_probabilities(voters + priors),
        score=score,
    )


def vote(logits: NDArray[np.float64], synergy: Synergy, priors: NDArray[np.float64] | float = 0.0) -> int | None:
    """Return the label that is the argmax of most frames, ties to the one met first; None for neutral.

    "spotting_mainly" trusts the interval: only emotions can be voted for. "recognition_mainly" lets neutral vote with
    its logit set to 0. "none" leaves the logits as they are. Priors are added after that.

    Args:
        logits: float64 (m, E), m >= 1, neutral last.
        synergy: see `DecodeSettings`.
        priors: float64 (E,), added to every row.
    """
    neutral = logits.shape[1] - 1
    if synergy == "recognition_mainly":
        logits = logits.copy()
        logits[:, NEUTRAL_COLUMN] = 0.0
    logits = logits + priors
    if synergy == "spotting_mainly":
        logits = logits[:, :NEUTRAL_COLUMN]
    ballots: list[int] = logits.argmax(axis=1).tolist()
    # max() keeps the first of equals, and dict.fromkeys keeps the order of first appearance.
    winner = max(dict.fromkeys(ballots), key=ballots.count)
    return None if winner == neutral else winner


def mean_probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64 (E - 1,): the mean over frames of the softmax over the emotions, neutral left out."""
    emotions = logits[:, :NEUTRAL_COLUMN]
    weights = np.exp(emotions - emotions.max(axis=1, keepdims=True))
    mean: NDArray[np.float64] = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
    return mean


def check_priors(class_priors: Sequence[float], classes: int) -> NDArray[np.float64]:
    """Return what is added to a row of logits: float64 (classes,), zeros where no priors are given.

    Raises:
        ValueError: they are not one finite number a label.
    """
    if len(class_priors) == 0:
        return np.zeros(classes)
    priors = np.asarray(class_priors, dtype=np.float64)
    if priors.shape != (classes,) or not np.isfinite(priors).all():
        raise ValueError(f"expected class_priors to be {classes} finite numbers, one a label; got {class_priors!r}")
    return priors


def check_finite(name: str, values: Sequence[float] | NDArray[Any]) -> None:
    """Raise ValueError naming the first frame whose `values` are not all finite."""
    array = np.asarray(values)
    finite = np.isfinite(array)
    if not finite.all():
        bad = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"expected finite {name}; got {array[bad]} at index {bad}: check the engine and its input")
