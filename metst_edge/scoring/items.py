"""What comes of a video before it is decoded, in order of time: scores, ends of runs, gaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge.decode import Interval
from metst_edge.events import Gap, MicroExpression
from metst_edge.labels import NEUTRAL


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of one slot of the model's time grid.

    Attributes:
        frame: the source frame nearest to it.
        time: seconds of source time, of that frame.
        spot: 0 to 1.
        emotion: float32 (E,), logits.
        name: of that frame's file, where it has one of its own.
    """

    frame: int
    time: float
    spot: float
    emotion: npt.NDArray[np.float32]
    name: str | None = None


class RunEnd:
    """A run of scores has ended: nothing after it can change what was found in it."""


Item = Scored | RunEnd | Gap


def micro_expression(interval: Interval, labels: tuple[str, ...], at: Callable[[int], Scored]) -> MicroExpression:
    """Return an interval as an event.

    Args:
        interval: in slots of a run.
        labels: of the model, neutral last.
        at: gives a slot's scores by its number.
    """
    onset, apex, offset = at(interval.onset), at(interval.apex), at(interval.offset)
    emotions = [label for label in labels if label != NEUTRAL]
    return MicroExpression(
        onset=onset.time,
        apex=apex.time,
        offset=offset.time,
        onset_frame=onset.frame,
        apex_frame=apex.frame,
        offset_frame=offset.frame,
        emotion=NEUTRAL if interval.emotion is None else labels[interval.emotion],
        probabilities=dict(zip(emotions, interval.probabilities.tolist(), strict=True)),
        score=interval.score,
        names=named(onset.name, apex.name, offset.name),
    )


def named(onset: str | None, apex: str | None, offset: str | None) -> tuple[str, str, str] | None:
    """Return the names of an event's files, where frames have files of their own."""
    return None if onset is None or apex is None or offset is None else (onset, apex, offset)
