"""Frames in, scores out: looks for the face, follows it, and says where it cannot be followed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metst_edge.capture import Frame, check_timestamp
from metst_edge.capture.retime import Hole
from metst_edge.events import Gap
from metst_edge.face import Face, Finder, find_again, same_person
from metst_edge.scoring.device import DeviceLanes
from metst_edge.scoring.host import HostLanes
from metst_edge.scoring.items import Item, RunEnd
from metst_edge.scoring.pace import Pace
from metst_edge.scoring.run import OnSlot, Run
from metst_edge.scoring.slots import Picture, Timeline
from metst_edge.scoring.stages import OnStage, timed

SEARCH_SECONDS = 0.1
"""How often a lost face is looked for."""


class Scorer:
    """Turns frames into scores on the model's time grid, with a Gap wherever a run of them ends.

    Follows the most prominent face, and no other while it is there: where it is not found over the place at which its
    last window found it, it is lost, whoever else is seen. The grid begins anew with each run, on the picture on which
    the face was found.

    A gap that lasts is told when it begins, its end None, and again when it has ended. A hole in time is told with the
    next frame: holes on either side of one frame are one gap, and of a source that is too slow they are no holes.

    Args:
        fps: slots of the grid per second.
        finder: finds the face.
        lanes: for its windows.
        on_stage: told how long each call of a stage took.
        on_slot: see `Run`.
        precision: of the network behind the lanes, for an error's text.

    Attributes:
        run: of the face.
        whole: False where the last `push` was broken off, by Ctrl-C or an error, while it changed something.
    """

    def __init__(
        self,
        fps: float,
        finder: Finder,
        lanes: HostLanes | DeviceLanes,
        on_stage: OnStage | None = None,
        on_slot: OnSlot | None = None,
        precision: str = "fp32",
    ) -> None:
        self._finder, self._on_stage = finder, on_stage
        self._timeline, self._pace = Timeline(fps, on_stage), Pace(fps)
        self.run = Run(lanes, self._find, on_slot, precision)
        self.reset()

    def reset(self) -> None:
        """Forget the video so far; the next frame is the first of another."""
        self._timeline.reset()
        self._pace.reset()
        self.run.reset()
        self._gap: Gap | None = None  # the one that lasts, its end None
        self._told = False  # whether it was
        self._hole: Gap | None = None  # one that is to be told
        self._items: list[Item] = []  # of the call under way, or of one that was broken off
        self._next_search = -np.inf
        self.whole = True
        self._face: Face | None = None  # the one followed, as it was found last

    def push(self, frame: Frame) -> list[Item]:
        """Take the next frame and return what is known with it.

        Args:
            frame: of one size throughout, its time rising. Its image must stay as it is until the next one.

        Raises:
            FrameError: wrong dtype, shape or size. Nothing is changed.
            TimestampError: not finite, or not above the one before. Likewise.
        """
        before = self._timeline.last
        if before is None and self._gap is not None and check_timestamp(frame.timestamp) < self._gap.start:
            check_timestamp(frame.timestamp, self._gap.start)  # after an interruption the last frame is forgotten
        picture = self._timeline.take(frame)
        self.whole = False
        waited, slow = self._pace.slow, self._pace.push(picture.time)
        if waited and not slow:
            self._items += self._close_gap(picture.time)
        if slow:
            if not waited and before is not None:
                self._wait_from(before.time)
        else:
            self._follow(before, picture)
        if self._gap is not None and not self._told:
            self._told = True
            self._items.append(self._gap)
        self.whole = True
        return self._taken()

    def _follow(self, before: Picture | None, picture: Picture) -> None:
        """Go on with the face, or look for it."""
        if not self._pace.interrupted:
            self._items += self._tell_hole()
        if self.run.going and before is not None:
            if self._timeline.cut():
                self._items += self._end()
                self._face = None
                self._items += self._tell_hole()
                self._items.append(Gap(before.time, picture.time, "scene_cut"))
            else:
                self._items += self._advance(before)
        if not self.run.going:
            self._search(picture)
        if not self.run.going:
            self._items += self._tell_hole()

    def _wait_from(self, time: float) -> None:
        """Score nothing any more: the source is too slow, since this time or since the hole that is to be told."""
        self._items += self._end()
        self._items += self._close_gap(time)
        start, self._hole = (time if self._hole is None else self._hole.start), None
        self._gap, self._told = Gap(start, None, "too_slow"), False

    def interrupt(self, gap: Gap) -> list[Item]:
        """End the run at a gap the source reports; the size of the frames may change across it.

        Args:
            gap: as it begins, its end None, or as it has ended, told before or not.
        """
        lasted = self._gap
        if lasted is not None and (lasted.start, lasted.reason) == (gap.start, gap.reason):
            self._gap = None  # it ends now
        items = [*self.flush(), gap]
        if gap.end is None:
            self._gap, self._told = gap, True
        return items

    def flush(self, now: float | None = None) -> list[Item]:
        """End the input: return the scores still under way, and the gap that is still open.

        After a push that was broken off, scores under way are lost.

        Args:
            now: seconds of source time, for an interruption that lasts; known of live sources.
        """
        last = self._timeline.last
        if self.whole:
            self.whole = False
            if self.run.going:
                for moment in self._timeline.flush():
                    self._items += self.run.push(moment) or []
            self._items += self._end()
        else:
            self._items.append(RunEnd())
        self._items += self._tell_hole()
        if self._gap is not None:
            end = self._gap.start if now is None else max(self._gap.start, now)
            self._items += self._close_gap(end if last is None else last.time)
        items = self._taken()
        self.reset()
        return items

    def _taken(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _tell_hole(self) -> list[Item]:
        """Return the hole that is to be told, if there is one."""
        hole, self._hole = self._hole, None
        return [] if hole is None else [hole]

    def _close_gap(self, time: float) -> list[Item]:
        """Return the gap that lasts, if there is one, as it has ended; nothing where it has no length."""
        gap, self._gap = self._gap, None
        return [] if gap is None or (gap.start == time and not self._told) else [replace(gap, end=time)]

    def _end(self) -> list[Item]:
        """End the run and its grid, if there is one, and look for a face on the next frame."""
        items: list[Item] = [*self.run.end()]
        self._timeline.stop()
        self._next_search = -np.inf
        return items

    def _search(self, picture: Picture) -> None:
        """Begin a run if there is a face, and close the gap before it."""
        face = None
        if picture.time >= self._next_search:
            self._next_search = picture.time + SEARCH_SECONDS
            face = self._find(picture)
        if face is None:
            if self._gap is None:
                self._lose(picture.time)
            return
        self._next_search = -np.inf  # it is not lost: if this push is broken off, the next picture is looked at
        self._items += self._close_gap(picture.time)
        self._items += self._advance(picture, face)

    def _lose(self, time: float) -> None:
        self._gap, self._told = Gap(time, None, "face_lost"), False

    def _find(self, picture: Picture) -> Face | None:
        with timed("face", self._on_stage):
            face = find_again(self._finder, picture.image, self._face)
        if face is None or (self.run.going and self._face is not None and not same_person(face, self._face)):
            return None
        self._face = face
        return face

    def _advance(self, before: Picture, face: Face | None = None) -> list[Item]:
        """Score the moments that the last picture decides.

        Args:
            before: the last picture on which the face was there.
            face: what was found on the last picture, if it was looked at.
        """
        items: list[Item] = []
        for moment in self._timeline.advance():
            if isinstance(moment, Hole):
                items += self._end()
                start = moment.start if self._hole is None else self._hole.start
                self._hole = Gap(start, moment.end, "no_frames")
                break
            scores = self.run.push(moment, face)
            if scores is None:
                items += self._end()
                self._lose(before.time)
                break
            items += scores
        return items
