"""Map the frames of a source, which come when they come, to the model's even grid of time slots.

Knows timestamps and frame numbers only. What is measured on the frames (the anchored features) is carried over by the
caller, with the weights given here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from metst_edge.capture.frames import check_timestamp

TOLERANCE = 0.25
"""Grid periods: a slot takes a frame nearer than this as it is."""
HOLE = 2.5
"""Grid periods: frames further apart than this leave a hole. Two, and a half for clocks that jitter: one lost frame, or
a source of half the grid's rate, passes; two lost frames do not."""
_EVEN = 1e-6
"""Grid periods; clocks that differ by less are taken for equal."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of the grid, decided.

    Its features are (1 - weight) * features(before) + weight * features(after), both measured from the same anchor.
    Where a frame is taken as it is, `before` and `after` are that frame and the weight is 0.

    Attributes:
        index: 0, 1, 2, ... since the grid began.
        time: seconds of source time, that of the grid: first frame + index / fps.
        before: number of a source frame, the one just pushed or the one pushed before it.
        after: likewise.
        weight: 0 to 1.
        anchor: the source frame nearest to the slot: the one to report, and the anchor of a window that starts here
            (whose features at this slot are zero by definition).
        anchor_time: seconds of source time.
    """

    index: int
    time: float
    before: int
    after: int
    weight: float
    anchor: int
    anchor_time: float

    @property
    def interpolated(self) -> bool:
        """Whether two frames are needed."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Hole:
    """No frames for more than two grid periods: the grid ends at `start` and begins anew at `end`.

    Attributes:
        start: seconds of source time, of the last frame before it.
        end: seconds of source time, of the first frame after it.
    """

    start: float
    end: float


class Retimer:
    """Decides, frame by frame, what each slot of the grid is made of.

    A slot takes the nearest frame where one is nearer than a quarter of the grid's period (of two equally near, the
    earlier), else it lies between two frames and is interpolated. It is decided as soon as that is known:

    - A source at the grid's rate, jitter below a quarter period: every frame is a slot, at once.
    - A faster one (60 into 30): the frames in between are named by no slot. Measure frames when a slot names them, not
      when they come.
    - A slower one (24 or 15 into 30): some slots are interpolated, decided with the later of their two frames.
    - One close to the grid's rate (29.97 into 30) drifts past it: for 250 frames every frame is a slot, then for 500
      the slots lie between frames and are interpolated, and so on. Nothing is repeated or left out, and time is right
      to a quarter period throughout.

    A frame just before a slot is taken without waiting for the next one, unless that is due nearer to the slot (judged
    by the last interval between frames). Slots are computed from their number, so hours do not add up rounding errors.
    Only the last frame is remembered.

    Args:
        fps: slots per second.

    Example:
        >>> retimer = Retimer(30.0)
        >>> [(slot.index, slot.before, slot.after) for slot in retimer.push(0.0) + retimer.push(0.05)]
        [(0, 0, 0), (1, 0, 1)]
    """

    def __init__(self, fps: float) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"expected the grid's rate in frames per second, above 0; got {fps}")
        self._fps = fps
        self._next = 0  # the first slot not decided
        self._start = 0.0
        self._time: float | None = None  # of the last frame
        self._frame = -1  # its number

    def push(self, timestamp: float, frame: int | None = None) -> list[Slot | Hole]:
        """Take the next frame and return the slots that are decided with it, in order.

        After a hole the list holds what was left of the old grid, the Hole, and slot 0 of the new grid, which is this
        frame.

        Args:
            timestamp: seconds, above the one before.
            frame: the caller's number of the frame; by default frames are counted from 0.

        Raises:
            TimestampError: the timestamp is not finite or does not rise; the frame is not taken.
        """
        timestamp = check_timestamp(timestamp, self._time)
        if frame is None:
            frame = self._frame + 1
        if self._time is None:
            return [self._begin(timestamp, frame)]
        step = timestamp - self._time
        if step * self._fps > HOLE:
            hole = Hole(self._time, timestamp)
            return [*self._last(), hole, self._begin(timestamp, frame)]
        decided: list[Slot | Hole] = []
        while (slot := self._decide(timestamp, frame, step)) is not None:
            decided.append(slot)
            self._next += 1
        self._time, self._frame = timestamp, frame
        return decided

    def flush(self) -> list[Slot]:
        """End the input: return the slot that waited for a nearer frame, if any; then be as new."""
        slots = self._last()
        self._next, self._time, self._frame = 0, None, -1
        return slots

    def _begin(self, timestamp: float, frame: int) -> Slot:
        self._start, self._time, self._frame = timestamp, timestamp, frame
        self._next = 1
        return Slot(0, timestamp, frame, frame, 0.0, frame, timestamp)

    def _decide(self, timestamp: float, frame: int, step: float) -> Slot | None:
        """Decide the next slot now that this frame has come, if that can be done."""
        assert self._time is not None
        time = self._start + self._next / self._fps
        ahead = (time - timestamp) * self._fps
        if ahead > _EVEN:
            # The slot lies after the frame: take it if it is near and the next one is not due nearer.
            if ahead < TOLERANCE - _EVEN and abs(step * self._fps - ahead) >= ahead - _EVEN:
                return self._whole(time, timestamp, frame)
            return None
        to_before, to_after = time - self._time, timestamp - time
        if to_before <= to_after + _EVEN / self._fps:
            near, anchor, anchor_time = to_before, self._frame, self._time
        else:
            near, anchor, anchor_time = to_after, frame, timestamp
        if near * self._fps < TOLERANCE - _EVEN:
            return self._whole(time, anchor_time, anchor)
        weight = to_before / step
        return Slot(self._next, time, self._frame, frame, weight, anchor, anchor_time)

    def _last(self) -> list[Slot]:
        """Decide the slot the last frame is near to, if it waited for a nearer one; the grid ends."""
        if self._time is None:
            return []
        time = self._start + self._next / self._fps
        if (time - self._time) * self._fps < TOLERANCE - _EVEN:
            return [self._whole(time, self._time, self._frame)]
        return []

    def _whole(self, time: float, frame_time: float, frame: int) -> Slot:
        return Slot(self._next, time, frame, frame, 0.0, frame, frame_time)
