"""The clips of a recorded source's intervals, which are known only at its end: its frames are read once more for them.

So memory stays bounded however long the source, and nothing depends on how fast anybody is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from metst_edge.events import MicroExpression
from metst_edge.recognise.clip import positions_among, span
from metst_edge.recognise.crops import Gray, View, cut, view_of
from metst_edge.recognise.memory import Clip


class Numbered(Protocol):
    """A source's frame, as far as it concerns this file."""

    index: int

    @property
    def gray(self) -> Gray:
        """uint8 (H, W)."""


class FaceTrack:
    """Where the face was in a recorded source: a few numbers for every window, no pictures."""

    def __init__(self) -> None:
        self._frames: list[int] = []
        self._views: list[View] = []

    def saw(self, frame: int, gray: Gray, landmarks: npt.NDArray[np.float32] | None) -> None:
        """Take the next slot; see `metst_edge.recognise.memory.FaceMemory.saw`."""
        if landmarks is not None:
            height, width = gray.shape
            self._frames.append(frame)
            self._views.append(view_of(landmarks, height, width, self._views[-1] if self._views else None))

    def view(self, frame: int) -> View:
        """Return how the face is seen in a frame: as at the last window's start up to it."""
        return self._views[bisect_right(self._frames, frame) - 1]


@dataclass(slots=True)
class _Wanted:
    """An interval whose frames are being read, and its number among all."""

    number: int
    view: View
    positions: list[float]
    slots: list[int]
    last: int
    crops: dict[int, Gray] = field(default_factory=dict)


def clips(
    events: Sequence[MicroExpression],
    slots: npt.NDArray[np.int64],
    track: FaceTrack,
    source: Iterable[Numbered],
    frames: int,
) -> Iterator[tuple[int, Clip]]:
    """Read a source's frames once more and give each interval's clip as soon as it is complete.

    Args:
        events: in order of time.
        slots: int64 (n,), the source frames nearest to the slots of the model's grid, rising.
        track: of the source.
        source: its frames from the first one; they are read as far as they are needed.
        frames: in a clip.

    Yields:
        An event's number and its clip; none of an interval that is too short, or whose frames do not come.
    """
    all_wanted = (_wanted(number, event, slots, track, frames) for number, event in enumerate(events))
    waiting = [wanted for wanted in all_wanted if wanted is not None]
    if not waiting:
        return
    for frame in source:
        for wanted in waiting:
            if frame.index in wanted.slots:
                wanted.crops[frame.index] = cut(frame.gray, wanted.view)
        for wanted in [wanted for wanted in waiting if wanted.last <= frame.index]:
            waiting.remove(wanted)
            if wanted.crops.keys() >= set(wanted.slots):
                onset, *others = (wanted.crops[slot] for slot in wanted.slots)
                yield wanted.number, Clip(onset, others, wanted.positions)
        if not waiting:
            return


def _wanted(
    number: int, event: MicroExpression, slots: npt.NDArray[np.int64], track: FaceTrack, frames: int
) -> _Wanted | None:
    begin, end = np.searchsorted(slots, event.onset_frame, "left"), np.searchsorted(slots, event.offset_frame, "right")
    held = slots[begin:end].tolist()
    positions = positions_among(held, event.onset_frame, event.apex_frame, event.offset_frame, frames)
    if positions is None:
        return None
    first, last = span(positions)
    needed = [held[0], *held[first : last + 1]]
    return _Wanted(number, track.view(event.onset_frame), [p - first for p in positions], needed, needed[-1])
