"""The part of a picture that a recogniser is shown: a square on the nose, the same for all frames of an interval.

Its place and size follow SLSTT (arXiv 2112.05851). Large faces are reduced, so that memory and work are bounded
whatever the camera.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from metst_edge.face import Box

Gray = npt.NDArray[np.uint8]

NOSE, CHIN, BROW, LOWER_LIP = 30, 8, 19, 57
"""Landmarks that the square is laid by."""
SMALLEST = 32
"""Pixels, least side of a square; no frame is smaller."""
WANTED = 256
"""Pixels of side that a face is reduced towards: by a whole number, so that at most 1.65 times as many remain; a
smaller face is kept as it is, as in pictures of 640x480 it always is."""
SLACK = 0.15
"""How far beyond its range a side may go before the reduction changes: an interval must not cross it."""


class View(NamedTuple):
    """A square of the picture, and how much it is reduced.

    Attributes:
        square: in pixels of the picture, inside it; its edges are multiples of `factor`.
        factor: pixels of the picture for one of the crop, each way.
    """

    square: Box
    factor: int


def face_square(landmarks: npt.NDArray[np.float32], height: int, width: int) -> Box:
    """Return the square around a face, moved or shrunk as far as the picture's edges demand.

    Its centre is the tip of the nose (landmark 30), its side (y8 - y19) + (y8 - y57): from brow to chin, and once more
    from lip to chin.

    Args:
        landmarks: float32 (68, 2), x and y in pixels of the picture.
        height: of the picture, pixels, 32 at least.
        width: likewise.
    """
    y = landmarks[:, 1]
    wanted = 2 * y[CHIN] - y[BROW] - y[LOWER_LIP]
    side = min(max(round(float(wanted)), SMALLEST), height, width)
    left = min(max(round(float(landmarks[NOSE, 0]) - side / 2), 0), width - side)
    top = min(max(round(float(landmarks[NOSE, 1]) - side / 2), 0), height - side)
    return Box(top, top + side, left, left + side)


def view_of(landmarks: npt.NDArray[np.float32], height: int, width: int, before: View | None = None) -> View:
    """Return what is shown of a face.

    Args:
        landmarks: float32 (68, 2), x and y in pixels of the picture.
        height: of the picture, pixels, 32 at least.
        width: likewise.
        before: what was shown before of this video; its reduction stays where it is still near enough.
    """
    square = face_square(landmarks, height, width)
    factor = max(1, round(square.width / WANTED))
    if before is not None and abs(square.width / WANTED - before.factor) < 0.5 + SLACK:
        factor = before.factor
    return View(_aligned(square, factor), factor)


def cut(gray: Gray, view: View) -> Gray:
    """Cut a view out of a whole gray picture, uint8 (H, W): uint8 (n, n), a mean of factor x factor pixels each."""
    return reduced(gray, view.square, view.factor)


def reduced(gray: Gray, box: Box, factor: int) -> Gray:
    """Return the part of a picture in a box whose edges are multiples of the factor; memory of its own."""
    part = gray[box.top : box.bottom, box.left : box.right]
    if factor == 1:
        return np.array(part)
    import cv2

    # By a whole number, area resampling is the mean of each block, whatever lies around it: crops of different places
    # agree in every pixel that they share.
    size = (box.width // factor, box.height // factor)
    return cast(Gray, cv2.resize(part, size, interpolation=cv2.INTER_AREA))


def _aligned(square: Box, factor: int) -> Box:
    top, left, side = square.top // factor * factor, square.left // factor * factor, square.width // factor * factor
    return Box(top, top + side, left, left + side)
