"""What a stream is doing just now, for whoever watches over it; knows events and no stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from metst_edge.events import Gap


@dataclass(frozen=True, slots=True)
class Status:
    """A moment of a stream.

    Attributes:
        frames: taken so far.
        seconds: of source time from the first frame to the last.
        blind: seconds of them in which nothing could be spotted: gaps, the one under way too.
        face: whether a face is followed.
        faces: frames in which one was.
    """

    frames: int = 0
    seconds: float = 0.0
    blind: float = 0.0
    face: bool = False
    faces: int = 0


class Watch:
    """Keeps the status of a stream; written by the thread that feeds it, and read by any.

    Attributes:
        status: as of the last frame.
    """

    def __init__(self) -> None:
        self.status = Status()
        self._first: float | None = None
        self._over = 0.0  # seconds of the gaps that have ended
        self._lost: float | None = None  # when the face was lost, where there is none

    def saw(self, time: float, items: Iterable[Any], face: bool, frame: bool = True) -> None:
        """Take note of a frame, or of the moment at which an interruption ended.

        Args:
            time: seconds of source time.
            items: what came with it; the gaps among them count once they have ended.
            face: whether a face is followed now.
            frame: whether it was a frame.
        """
        if self._first is None:
            self._first = time
        self._over += sum(gap.end - gap.start for gap in items if isinstance(gap, Gap) and gap.end is not None)
        if face:
            self._lost = None
        elif self._lost is None:
            self._lost = time
        blind = self._over + (0.0 if self._lost is None else time - self._lost)
        seconds = time - self._first
        before = self.status
        self.status = Status(before.frames + frame, seconds, min(blind, seconds), face, before.faces + (frame and face))
