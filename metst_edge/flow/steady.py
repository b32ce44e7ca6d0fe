"""Feature channels of the `edge` regions: what moved within LAG seconds on a face that is held steady.

The published channels (`metst_edge.flow.regions`) follow the head by whole pixels, after its nose bridge, and measure
everything from a window's first frame. On real video that leaves most of the head's motion in them: the nose bridge of
a small or compressed face shows a tenth of it, a head turns, and flow that is a second old is wrong by more than a
micro-expression is large. Here the motion of the whole head is fitted to each picture (`csrc/cpu/registration`: shift,
tilt, size, turn and nod), its crop is drawn as if it had stayed, and flow is measured from the crop LAG seconds before.
docs/decisions/0007-steady-faces.md says what that brings.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metst_edge import _native
from metst_edge.errors import TimestampError
from metst_edge.face.crop import CROP_SIZE, Box
from metst_edge.face.rois import STEADY
from metst_edge.flow.farneback import _check_gray
from metst_edge.flow.regions import Features, Gray, check_anchor, correlation, default_threads, layout, thumbnail

LAG = 4 / 30
"""Seconds: as long as a micro-expression takes to rise, four frames of a model at 30 a second."""
SOONEST = 0.85
"""Shares of LAG: nothing is known of a window before so much of it has passed. Three frames of 25 a second do."""
GRID = 80
"""Cells along each side of the crop, in which it says where a face is looked at."""
WHOLE = Box(0, CROP_SIZE, 0, CROP_SIZE)
NOWHERE = Box(0, 0, 0, 0)

JAW, EYES, MOUTH = slice(0, 17), (slice(36, 42), slice(42, 48)), slice(48, 68)
NOSE_TIP, TEMPLES = 30, (0, 16)
FOREHEAD = ((16, 24, -10.0), (0, 19, 10.0))
"""Corners of the forehead: landmark of the column, of the row, and pixels towards the face."""
FOREHEAD_ABOVE = 45.0
"""Pixels of the crop above the brows that count as face."""
INNER = 0.92
"""Of the outline, from its middle: beyond lies what is behind the head."""
AROUND_EYES, AROUND_MOUTH = (0.0, 1.0), (0.0, 0.0)
"""Pixels of the crop, across and down, beyond the landmarks of what opens and closes."""

SMALL, LARGE = 0.16, 0.22
"""Of half the face's width: how far around a spot skin goes with it."""
SPOTS: tuple[tuple[tuple[int, ...], float, float], ...] = (
    ((17, 18), 0.0, SMALL),
    ((20, 21), 0.0, SMALL),
    ((22, 23), 0.0, SMALL),
    ((25, 26), 0.0, SMALL),
    ((21, 22), 0.0, SMALL),
    ((19,), -0.28, LARGE),
    ((24,), -0.28, LARGE),
    ((21, 22), -0.3, LARGE),
    ((40, 41, 48, 48), 0.0, LARGE),
    ((46, 47, 54, 54), 0.0, LARGE),
    ((31,), 0.0, SMALL),
    ((35,), 0.0, SMALL),
    ((48,), 0.0, SMALL),
    ((54,), 0.0, SMALL),
    ((50, 51, 52), 0.0, SMALL),
    ((56, 57, 58), 0.0, SMALL),
    ((57, 8), 0.0, LARGE),
    ((48, 6), 0.0, LARGE),
    ((54, 10), 0.0, LARGE),
)
"""Where a face moves by itself: brows and between them, the forehead above, cheeks, nose wings, lips and their corners,
chin and beside it. Landmarks whose mean it is, how far below that in half widths of the face, and the reach."""


def lag_of(roi_set: str, fps: float) -> int | None:
    """Return the slots that features of a set reach back; None where they are measured from a window's first frame.

    Args:
        roi_set: one of `metst_edge.face.ROI_SETS`.
        fps: slots a second.
    """
    return round(LAG * fps) if roi_set == STEADY else None


def spots(landmarks: npt.NDArray[np.float32]) -> list[tuple[float, float, float]]:
    """Place SPOTS on a face.

    Args:
        landmarks: float (68, 2), x and y in pixels of the crop.

    Returns:
        x, y and reach of each, pixels of the crop.
    """
    points = np.asarray(landmarks, np.float64)
    width = half_width(points)
    out = []
    for marks, below, reach in SPOTS:
        x, y = points[list(marks)].mean(0).tolist()
        out.append((x, y + below * width, reach * width))
    return out


def half_width(landmarks: npt.NDArray[np.floating]) -> float:
    """Return half of the face's width, from temple to temple, in the landmarks' pixels; 1 at least."""
    left, right = (float(landmarks[i][0]) for i in TEMPLES)
    return max((right - left) / 2, 1.0)


def seen(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Say where a face is looked at to see how the head moves: not in eyes and mouth, and not behind it.

    Args:
        landmarks: float (68, 2), x and y in pixels of the crop.

    Returns:
        float32 (GRID, GRID), 1 there and 0 elsewhere.
    """
    import cv2

    points = np.asarray(landmarks, np.float64)
    top = [(points[x, 0] + inwards, points[y, 1] - FOREHEAD_ABOVE) for x, y, inwards in FOREHEAD]
    outline = np.concatenate((points[JAW], top))
    middle = outline.mean(0)
    cell = CROP_SIZE / GRID
    inside = np.rint((middle + INNER * (outline - middle)) / cell).clip(-GRID, 2 * GRID).astype(np.int32)
    out = np.zeros((GRID, GRID), np.uint8)
    cv2.fillConvexPoly(out, cv2.convexHull(inside), 1)
    for part, around in ((MOUTH, AROUND_MOUTH), *((eye, AROUND_EYES) for eye in EYES)):
        low = ((points[part].min(0) - around) / cell).clip(0, GRID).astype(int)
        high = ((points[part].max(0) + around) / cell + 1).clip(0, GRID).astype(int)
        out[low[1] : high[1], low[0] : high[0]] = 0
    return out.astype(np.float32)


class _Crop(NamedTuple):
    """A crop that was drawn: seconds of its picture, its pixels, and flow from it."""

    time: float
    pixels: Gray
    flow: _native.RoiFlow


class SteadyFlow:
    """Measures frames of a face that is held where it was on an anchor frame.

    Args:
        anchor: uint8 (H, W), the window's first frame.
        box: the crop box on it.
        landmarks: float (68, 2), x and y in pixels of the 320x320 crop.
        time: of the anchor, seconds.
        roi_set: whose regions; "edge".

    Raises:
        FrameError: the anchor is not uint8 (H, W), or the box does not lie on it.
        TimestampError: ``time`` is not a finite number.
    """

    def __init__(
        self, anchor: Gray, box: Box, landmarks: npt.NDArray[np.float32], time: float = 0.0, roi_set: str = STEADY
    ) -> None:
        check_anchor(anchor, box)
        if not math.isfinite(time):
            raise TimestampError(f"expected a finite time, got {time}")
        middle, row = (float(value) for value in landmarks[NOSE_TIP])
        self._shape, self._box = anchor.shape, box
        self._layout = layout(roi_set, landmarks)
        self._head = _native.Registration(
            anchor, box, middle, half_width(landmarks), row, seen(landmarks), spots(landmarks)
        )
        (drawn,) = _native.follow([self._head], anchor, 1)
        self._began, self._thumbnail = time, thumbnail(drawn)
        self._crops = deque([_Crop(time, drawn, self._open(drawn))])
        self._spare: list[_native.RoiFlow] = []
        self._before: _Crop | None = None
        self.likeness = 1.0

    likeness: float
    """Correlation of the last crop with the anchor's, each reduced to 32x32 pixels, -1 to 1."""

    @property
    def box(self) -> Box:
        """Where the crop is now, as far as the head's shift says it. Set it to put the crop elsewhere."""
        across, down = self._scale
        parameters = self._head.parameters
        return self._box.moved(round(parameters[0] * across), round(parameters[4] * down), *self._shape)

    @box.setter
    def box(self, box: Box) -> None:
        across, down = self._scale
        shifted = np.zeros(len(self._head.parameters))
        shifted[0], shifted[4] = (box.left - self._box.left) / across, (box.top - self._box.top) / down
        self._head.parameters = shifted.tolist()

    @property
    def parameters(self) -> npt.NDArray[np.float64]:
        """The head's motion as of the last frame: float64 (8,), see csrc/include/metst/registration.h."""
        return np.array(self._head.parameters)

    @property
    def crop(self) -> Gray:
        """The last frame's crop, drawn as if the head had not moved: uint8 (320, 320)."""
        return self._crops[-1].pixels

    @property
    def before(self) -> Gray | None:
        """The crop that it was measured from; None where there was none so long ago."""
        return None if self._before is None else self._before.pixels

    def measure(self, frame: Gray, time: float) -> Features:
        """Return the channels of one frame: float32 (C,), pixels of the crop; see `measure_steady`.

        Raises:
            FrameError: ``frame`` is not uint8 of the anchor's shape.
            TimestampError: ``time`` is not finite, or before that of the last frame.
        """
        return measure_steady([self], frame, time, threads=1)[0]

    @property
    def _scale(self) -> tuple[float, float]:
        """Pixels of the picture for one of the crop, across and down."""
        return self._box.width / CROP_SIZE, self._box.height / CROP_SIZE

    def _open(self, crop: Gray) -> _native.RoiFlow:
        places = self._layout
        return _native.RoiFlow(crop, WHOLE, places.patches, places.regions, NOWHERE, NOWHERE, 0.0, False)

    def _take(self, crop: Gray, time: float) -> tuple[_native.RoiFlow, _native.RoiFlow | None]:
        """Keep a frame's crop; return the lane that takes it in and the one it is measured from, None before that."""
        self.likeness = correlation(self._thumbnail, thumbnail(crop))
        while self._crops and self._crops[-1].time >= time:
            self._spare.append(self._crops.pop().flow)  # the frame is measured again, from another place
        self._before = None
        if self._crops and time - self._began >= SOONEST * LAG:
            self._before = min(self._crops, key=lambda one: abs(time - LAG - one.time))
        while len(self._crops) > 1 and self._crops[1].time <= time - LAG:
            self._spare.append(self._crops.popleft().flow)
        flow = self._spare.pop() if self._spare else self._open(crop)
        self._crops.append(_Crop(time, crop, flow))
        return flow, None if self._before is None else self._before.flow


def measure_steady(flows: Sequence[SteadyFlow], frame: Gray, time: float, threads: int | None = None) -> list[Features]:
    """Measure one frame in several windows at once.

    Args:
        flows: the windows, with anchors of one size.
        frame: uint8 (H, W), of that size.
        time: of the frame, seconds; that of the last one again, or later.
        threads: at most, the calling one included; default `default_threads()`.

    Returns:
        For each window float32 (C,), dx and dy of each region since the frame nearest to LAG seconds ago, in pixels of
        the crop. Zero for the first frames of a window, that have nothing so long ago.

    Raises:
        FrameError: ``frame`` is not uint8 of the anchors' shape.
        TimestampError: ``time`` is not finite, or before that of a window's last frame.
    """
    for flow in flows:
        _check_gray(frame, flow._shape)
        last = flow._crops[-1].time
        if not last <= time < math.inf:
            raise TimestampError(f"expected a time of {last} seconds or later, got {time}")
    threads = threads or default_threads()
    crops = _native.follow([flow._head for flow in flows], frame, threads)
    taken = [flow._take(crop, time) for flow, crop in zip(flows, crops, strict=True)]
    return _native.step([now for now, _ in taken], [before for _, before in taken], crops, threads)
