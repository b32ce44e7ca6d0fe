"""What a stream remembers of its latest frames for the recogniser: the face, not the picture, and only so many.

Frames are kept per slot of the model's grid, whatever the camera's rate. Knows gray pictures and landmarks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metst_edge.decode.adaptive import REACH
from metst_edge.face import Box
from metst_edge.recognise.clip import positions_among, span
from metst_edge.recognise.crops import Gray, View, reduced, view_of

MARGIN = 8
"""A kept crop reaches beyond the square by a side over this: so far may the head move within an interval."""
SPARE = 4
"""Slots that the retimer may hold back, and those on either side of an interval that sit on the edge of a slot."""


def slots_needed(k_p: int, look_ahead: int) -> int:
    """Return how many of the latest slots an interval may still need when it becomes an event.

    The longest way is that of the adaptive decoder: an onset REACH k_p before the peak, known with the slot after
    REACH k_p behind it, and then the network's look-ahead; a fixed interval needs 3 k_p. A flat top of the curve holds
    its peak back: one of 2 k_p is allowed for, and what lasts longer has no frames then. For k_p 6 and look-ahead 2 it
    is 78 slots, 2.6 s.

    Args:
        k_p: half the typical duration, slots.
        look_ahead: steps after which a slot's score comes.
    """
    return 2 * REACH * k_p + 2 * k_p + look_ahead + SPARE


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The frames of an interval that a recogniser is shown.

    Attributes:
        onset: uint8 (n, n), the face in the onset frame.
        crops: uint8 (n, n) each, of the slots that the images are made of.
        positions: of the images among the crops, see `metst_edge.recognise.images.flow_images`.
    """

    onset: Gray
    crops: Sequence[Gray]
    positions: Sequence[float]


class _Kept(NamedTuple):
    """A slot: the source frame nearest to it, and of that the crop in a box, reduced as the view says."""

    frame: int
    crop: Gray
    box: Box
    view: View


class FaceMemory:
    """The face in the latest slots of a stream.

    Args:
        slots: that are kept.
    """

    def __init__(self, slots: int) -> None:
        self._kept: deque[_Kept] = deque(maxlen=slots)
        self._view: View | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of pictures that are held."""
        return sum(kept.crop.nbytes for kept in {id(kept.crop): kept for kept in self._kept}.values())

    def __len__(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Forget all frames."""
        self._kept.clear()
        self._view = None

    def saw(self, frame: int, gray: Gray, landmarks: npt.NDArray[np.float32] | None) -> None:
        """Keep the next slot; the first one is with landmarks.

        Args:
            frame: number of the source frame nearest to it.
            gray: uint8 (H, W), that frame.
            landmarks: float32 (68, 2), x and y in pixels of the picture, where the face was looked for on it.
        """
        height, width = gray.shape
        if landmarks is not None:
            self._view = view_of(landmarks, height, width, self._view)
        assert self._view is not None, "a run begins on a frame with a face"
        last = self._kept[-1] if self._kept else None
        if last is not None and last.frame == frame and last.view == self._view:
            self._kept.append(last)
        else:
            box = _around(self._view, height, width)
            self._kept.append(_Kept(frame, reduced(gray, box, self._view.factor), box, self._view))

    def clip(self, onset: int, apex: int, offset: int, frames: int) -> Clip | None:
        """Return an interval's clip, all of it seen as the onset frame was.

        Args:
            onset: source frame.
            apex: source frame.
            offset: source frame.
            frames: in the clip.

        Returns:
            None where frames of it are not kept, the head has moved out of what was kept of them, or the interval is
            too short to show a motion.
        """
        slots = [kept for kept in self._kept if onset <= kept.frame <= offset]
        positions = positions_among([kept.frame for kept in slots], onset, apex, offset, frames)
        if positions is None:
            return None
        first, last = span(positions)
        # Where slots share the onset frame, a window may begin with the second: the face was looked for on that frame.
        shown = [kept for kept in slots if kept.frame == onset][-1]
        crops = [_part(kept, shown.view) for kept in (shown, *slots[first : last + 1])]
        if any(crop is None for crop in crops):
            return None
        onset_crop, *others = (crop for crop in crops if crop is not None)
        return Clip(onset_crop, others, [position - first for position in positions])


def _around(view: View, height: int, width: int) -> Box:
    """Return the view's square with a margin, inside the picture, its edges on the same grid of blocks."""
    factor, square = view.factor, view.square
    margin = square.width // MARGIN // factor * factor
    box = Box(square.top - margin, square.bottom + margin, square.left - margin, square.right + margin)
    return box.inside(height // factor * factor, width // factor * factor)


def _part(kept: _Kept, view: View) -> Gray | None:
    """Return a view of what was kept of a frame; None where it reaches beyond, or was reduced otherwise."""
    box, square = kept.box, view.square
    inside = box.top <= square.top and square.bottom <= box.bottom and box.left <= square.left
    if kept.view.factor != view.factor or not inside or square.right > box.right:
        return None
    top, left, side = ((n // view.factor) for n in (square.top - box.top, square.left - box.left, square.width))
    return np.ascontiguousarray(kept.crop[top : top + side, left : left + side])
