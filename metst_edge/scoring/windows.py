"""The one window rule: when a window of a face starts, what it holds, and what cuts it off.

A face is followed in runs. A run begins on a picture with a face; its slots are numbered from there.

- A window starts every k/2 slots of a run, the first on slot 0, in one of two lanes by turns
  (`metst_edge.engine.lanes.Lanes.starting`). Its anchor is the slot's picture, on which the face must be found anew.
- Its features are measured from the anchor, each picture once and in order, because the crop follows the head. Those of
  the anchor's slot are zero; those of a slot between two pictures lie between theirs.
- It ends after k slots.

What ends a run cuts off its windows, at the slot before:

- no face is found on a window's anchor,
- a window's crop no longer looks like its anchor's (`lost`),
- the scene is cut, or there is a hole in time (`metst_edge.scoring.slots`),
- the source was interrupted, or is at its end.

Training keeps the windows that are whole, of the very same runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from metst_edge.scoring.slots import Moment, Picture

LOST_BELOW = 0.4
"""Likeness of a crop with its anchor's under which the face is no longer in it. On real video a head that nods or turns
within half a second stays above it; a crop without the face lies near 0.1."""


def lost(likeness: npt.ArrayLike) -> bool:
    """Tell whether a face is lost, by the likeness of each open window's last crop: float (n,), -1 to 1."""
    return bool((np.asarray(likeness) < LOST_BELOW).any())


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
