"""What belongs to a frame, however many faces are on it: gray, thumbnail, scene cut, and its place on the time grid.

Knows pictures and their times; nothing of faces, windows or networks. All of it is computed once a frame, and what
comes of it, a `Moment` for every slot of the model's grid, is handed to each face's `Run`.
"""

from __future__ import annotations

from dataclasses import dataclass

from metst_edge.capture import Frame, Image, check_frame, check_timestamp
from metst_edge.capture.retime import Hole, Retimer, Slot
from metst_edge.flow import correlation, thumbnail
from metst_edge.scoring.stages import OnStage, timed

CUT_BELOW = 0.5
"""Correlation of two successive pictures under which the scene was cut. Moving people stay above 0.9."""


class Picture:
    """A source frame, and what is derived from it.

    Attributes:
        frame: of the source.
        time: seconds of source time.
        index: frames of the source before this one.
        gray: uint8 (H, W).
        thumbnail: float32 (1024,), see `metst_edge.flow.thumbnail`.
    """

    __slots__ = ("frame", "gray", "index", "thumbnail", "time")

    def __init__(self, frame: Frame, time: float) -> None:
        self.frame, self.time, self.index = frame, time, frame.index
        self.gray = frame.gray
        self.thumbnail = thumbnail(self.gray)

    @property
    def image(self) -> Image:
        """uint8 (H, W, 3) BGR or (H, W) gray; made of a decoder's picture when it is first asked for."""
        return self.frame.image


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One slot of the model's time grid, in pictures: ``weight`` of the way from one to another.

    Attributes:
        before: the last picture of the slot or before it.
        after: the first one after it; ``before`` where a picture is taken as it is.
        weight: 0 to 1.
        anchor: the picture nearest to the slot: the one to report, and the anchor of a window that starts here.
    """

    before: Picture
    after: Picture
    weight: float
    anchor: Picture


class Timeline:
    """The frames of one video as they come, and the model's even grid of moments laid over them.

    A grid begins with the picture on which `advance` is called first, and lasts until `stop` or a hole in time.

    Args:
        fps: moments per second.
        on_stage: told how long preparing a frame took.

    Attributes:
        last: the latest picture; None before the first.
        before: the one before it; None where there is none.
    """

    last: Picture | None
    before: Picture | None

    def __init__(self, fps: float, on_stage: OnStage | None = None) -> None:
        self._retimer, self._on_stage = Retimer(fps), on_stage
        self.reset()

    def reset(self) -> None:
        """Forget the video; the next frame is the first of another."""
        self._shape: tuple[int, ...] | None = None
        self.last = self.before = None
        self.stop()

    def take(self, frame: Frame) -> Picture:
        """Take the next frame.

        Args:
            frame: of one size throughout, its time rising. Its image must stay as it is until the next one.

        Raises:
            FrameError: wrong dtype, shape or size. Nothing is changed.
            TimestampError: not finite, or not above the one before. Likewise.
        """
        time = check_timestamp(frame.timestamp, None if self.last is None else self.last.time)
        self._shape = check_frame(frame.given, self._shape).shape
        with timed("prepare", self._on_stage):
            picture = Picture(frame, time)
        self.before, self.last = self.last, picture
        return picture

    def cut(self) -> bool:
        """Tell whether the scene was cut between the last two pictures."""
        assert self.before is not None and self.last is not None, "there is one picture at most"
        return correlation(self.before.thumbnail, self.last.thumbnail) < CUT_BELOW

    def advance(self) -> list[Moment | Hole]:
        """Return the moments that the last picture decides; once a picture."""
        assert self.last is not None, "there is no picture"
        slots = self._retimer.push(self.last.time, self.last.index)
        return [slot if isinstance(slot, Hole) else self._moment(slot) for slot in slots]

    def flush(self) -> list[Moment]:
        """End the grid: return the moment that waited for a nearer picture, if any."""
        return [self._moment(slot) for slot in self._retimer.flush()]

    def stop(self) -> None:
        """End the grid where it is."""
        self._retimer.flush()

    def _moment(self, slot: Slot) -> Moment:
        before = self._numbered(slot.before)
        after = self._numbered(slot.after) if slot.interpolated else before
        return Moment(before, after, slot.weight, self._numbered(slot.anchor))

    def _numbered(self, index: int) -> Picture:
        """Return one of the last two pictures, of which every slot is made."""
        assert self.last is not None, "there is no picture"
        # The last one first: where a push was broken off, the next picture has the number of the one before.
        return self.last if self.before is None or self.last.index == index else self.before
