"""The one window rule: when a window of a face starts, what it holds, and what cuts it off.

A face is followed in runs. A run begins on a picture with a face; its slots are numbered from there.

- A window starts every k/2 slots of a run, the first on slot 0, in one of two lanes by turns
  (`metst_edge.engine.lanes.Lanes.starting`). Its anchor is the slot's picture, on which the face must be found anew.
- Its features are measured from the anchor, each picture once and in order, because the crop follows the head. Those of
  the anchor's slot are zero; those of a slot between two pictures lie between theirs.
- It ends after k slots.

What ends a run cuts off its windows, at the slot before:

- no face is found on a window's anchor,
- a window's crop no longer looks like its anchor's (`lost`), and the face is not found where the crop is, or the crop
  laid on it looks like nothing known (`gone`),
- the scene is cut, or there is a hole in time (`metst_edge.scoring.slots`),
- the source was interrupted, or is at its end.

Training keeps the windows that are whole, of the very same runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from metst_edge.face import Box, Face
from metst_edge.scoring.slots import Moment, Picture

Find = Callable[[Picture], Face | None]
"""Returns the face on a picture; None where it is not seen."""

LOST_BELOW = 0.4
"""Likeness of a crop with its anchor's under which the face may no longer be in it: it is looked for. On real video a
head that nods or turns within half a second stays above; one that jumps from frame to frame leaves its crop behind."""
GONE_BELOW = 0.2
"""Likeness under which the window is at its end although the face was found: what is measured is no flow of it. A crop
without the face lies near 0.1."""
OVERLAP = 0.25
"""Of two boxes (intersection over union) at least, for one face."""


def lost(likeness: npt.ArrayLike) -> bool:
    """Tell whether a face may be lost, by the likeness of open windows' last crops: float (n,), -1 to 1."""
    return bool((np.asarray(likeness) < LOST_BELOW).any())


def gone(likeness: npt.ArrayLike) -> bool:
    """Tell whether a face is lost for certain, likewise."""
    return bool((np.asarray(likeness) < GONE_BELOW).any())


def same_face(a: Box, b: Box) -> bool:
    """Tell whether two boxes, some frames apart, are of one face."""
    height, width = min(a.bottom, b.bottom) - max(a.top, b.top), min(a.right, b.right) - max(a.left, b.left)
    shared = max(height, 0) * max(width, 0)
    return shared >= OVERLAP * (a.height * a.width + b.height * b.width - shared)


def carried(box: Box, before: Box, now: Box, height: int, width: int) -> Box:
    """Return a box moved as far as a face has moved, as long as it stays on the picture.

    Args:
        box: on the picture; of the same size afterwards.
        before: the face's.
        now: likewise.
        height: of the picture.
        width: likewise.
    """
    down = (now.top + now.bottom - before.top - before.bottom) // 2
    right = (now.left + now.right - before.left - before.right) // 2
    down = min(max(down, -box.top), height - box.bottom)
    right = min(max(right, -box.left), width - box.right)
    return Box(box.top + down, box.bottom + down, box.left + right, box.right + right)


class Window:
    """What is known of one lane's window: which pictures were measured last in it; all up to the anchor are zero."""

    def __init__(self, anchor: Picture) -> None:
        self._anchor = self._last = self._before = anchor.index

    def knows(self, picture: Picture) -> bool:
        """Tell whether the picture need not be measured."""
        return picture.index <= self._anchor or picture.index in (self._before, self._last)

    def measured(self, picture: Picture) -> None:
        """Take note of the next picture that is measured."""
        self._before, self._last = self._last, picture.index

    def shares(self, moment: Moment) -> tuple[float, float]:
        """Return how much of what was measured last but one, and of what was measured last, makes the moment."""
        of_before = of_last = 0.0
        for picture, share in ((moment.before, 1 - moment.weight), (moment.after, moment.weight)):
            if picture.index == self._last:
                of_last += share
            elif picture.index == self._before:
                of_before += share
        return of_before, of_last


def unknown(windows: Mapping[int, Window], moment: Moment) -> list[tuple[Picture, list[int]]]:
    """Return which pictures are to be measured, in order, and in which lanes; take note that they are."""
    found = []
    for picture in (moment.before, moment.after):
        lanes = [lane for lane, window in windows.items() if not window.knows(picture)]
        for lane in lanes:
            windows[lane].measured(picture)
        if lanes:
            found.append((picture, lanes))
    return found
