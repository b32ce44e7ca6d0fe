"""Frames in, scores out: looks for the face, follows it, and says where it cannot be followed."""

from __future__ import annotations

import numpy as np

from metst_edge.capture import Frame
from metst_edge.capture.retime import Hole
from metst_edge.events import Gap
from metst_edge.face import Face, Finder, find_again, same_person
from metst_edge.scoring.device import DeviceLanes
from metst_edge.scoring.host import HostLanes
from metst_edge.scoring.items import Item
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

    Args:
        fps: slots of the grid per second.
        finder: finds the face.
        lanes: for its windows.
        on_stage: told how long each call of a stage took.
        on_slot: see `Run`.
        precision: of the network behind the lanes, for an error's text.

    Attributes:
        run: of the face.
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
        self._timeline = Timeline(fps, on_stage)
        self.run = Run(lanes, self._find, on_slot, precision)
        self.reset()

    def reset(self) -> None:
        """Forget the video so far; the next frame is the first of another."""
        self._timeline.reset()
        self.run.reset()
        self._lost_since: float | None = None
        self._next_search = -np.inf
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
        picture = self._timeline.take(frame)
        items: list[Item] = []
        if self.run.going and before is not None:
            if self._timeline.cut():
                items += self._end()
                self._face = None
                items.append(Gap(before.time, picture.time, "scene_cut"))
            else:
                items += self._advance(before)
        if not self.run.going:
            items += self._search(picture)
        return items

    def interrupt(self, gap: Gap) -> list[Item]:
        """End the run at a gap the source reports; the size of the frames may change across it."""
        items = self.flush()
        items.append(gap)
        return items

    def flush(self) -> list[Item]:
        """End the input: return the scores still under way, and the gap that is still open."""
        items: list[Item] = []
        last = self._timeline.last
        if self.run.going:
            for moment in self._timeline.flush():
                items += self.run.push(moment) or []
        items += self._end()
        if self._lost_since is not None and last is not None:
            items.append(Gap(self._lost_since, last.time, "face_lost"))
        self.reset()
        return items

    def _end(self) -> list[Item]:
        """End the run and its grid, if there is one, and look for a face on the next frame."""
        items: list[Item] = [*self.run.end()]
        self._timeline.stop()
        self._next_search = -np.inf
        return items

    def _search(self, picture: Picture) -> list[Item]:
        """Begin a run if there is a face, and close the gap before it."""
        face = None
        if picture.time >= self._next_search:
            self._next_search = picture.time + SEARCH_SECONDS
            face = self._find(picture)
        if face is None:
            if self._lost_since is None:
                self._lost_since = picture.time
            return []
        self._next_search = -np.inf  # it is not lost: if this push is broken off, the next picture is looked at
        items: list[Item] = []
        if self._lost_since is not None:
            items.append(Gap(self._lost_since, picture.time, "face_lost"))
            self._lost_since = None
        return items + self._advance(picture, face)

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
                items.append(Gap(moment.start, moment.end, "no_frames"))
                break
            scores = self.run.push(moment, face)
            if scores is None:
                items += self._end()
                self._lost_since = before.time
                break
            items += scores
        return items
