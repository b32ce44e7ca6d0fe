"""What comes of a video before it is decoded, in order of time: scores, ends of runs, gaps; and intervals as events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.decode import DecodeSettings, Interval
from metst_edge.events import Gap, MicroExpression
from metst_edge.face.rois import ROI_SETS
from metst_edge.flow.steady import lag_of
from metst_edge.labels import NEUTRAL
from metst_edge.scoring.motion import moved


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The scores of one slot of the model's time grid.

    Attributes:
        frame: the source frame nearest to it.
        time: seconds of source time, of that frame.
        spot: 0 to 1.
        emotion: float32 (E,), logits.
        name: of that frame's file, where it has one of its own.
        features: float32 (2, C), what the scores were made of, in either lane; None where it is not known.
    """

    frame: int
    time: float
    spot: float
    emotion: npt.NDArray[np.float32]
    name: str | None = None
    features: npt.NDArray[np.float32] | None = None


class RunEnd:
    """A run of scores has ended: nothing after it can change what was found in it."""


Item = Scored | RunEnd | Gap


class Told:
    """How a model's intervals become events: their emotion by name, the score that is told, and what moved.

    The least score is that of events as they are told, so it is seen to here and not where heights are decoded.

    Args:
        bundle: whose scores they are.
        settings: what they are decoded with.

    Attributes:
        decoding: those settings, as the decoder is to have them.
    """

    def __init__(self, bundle: Bundle, settings: DecodeSettings) -> None:
        self.decoding, self._least = settings.changed(min_score=0.0), settings.min_score
        self._labels, self._table = bundle.labels, bundle.calibration
        self._emotions = [label for label in bundle.labels if label != NEUTRAL]
        self._half, self._regions = bundle.k // 2, [roi.name for roi in ROI_SETS[bundle.roi_set]]
        self._lag = lag_of(bundle.roi_set, bundle.fps)

    def events(self, intervals: Iterable[Interval], at: Callable[[int], Scored]) -> list[MicroExpression]:
        """Return intervals as events, without those of a lower score than the least.

        Args:
            intervals: in slots of a run.
            at: gives a slot's scores by its number.
        """
        events = (self._event(interval, at) for interval in intervals)
        return [event for event in events if event.score >= self._least]

    def _event(self, interval: Interval, at: Callable[[int], Scored]) -> MicroExpression:
        onset, apex, offset = at(interval.onset), at(interval.apex), at(interval.offset)
        height = interval.score
        return MicroExpression(
            onset=onset.time,
            apex=apex.time,
            offset=offset.time,
            onset_frame=onset.frame,
            apex_frame=apex.frame,
            offset_frame=offset.frame,
            emotion=NEUTRAL if interval.emotion is None else self._labels[interval.emotion],
            probabilities=dict(zip(self._emotions, interval.probabilities.tolist(), strict=True)),
            score=height if self._table is None else self._table.share(height),
            names=named(onset.name, apex.name, offset.name),
            height=height,
            motion=moved(
                interval.onset, interval.apex, lambda slot: at(slot).features, self._half, self._regions, self._lag
            ),
        )


def named(onset: str | None, apex: str | None, offset: str | None) -> tuple[str, str, str] | None:
    """Return the names of an event's files, where frames have files of their own."""
    return None if onset is None or apex is None or offset is None else (onset, apex, offset)
