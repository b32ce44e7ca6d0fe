"""The square around the eyes and mouth that every measurement is made on, 320x320 pixels.

Its place and size follow ME-TST (arXiv 2409.09707): nine times the half distance of the inner eye corners wide and
high, the eyes' midpoint 3.5 of the nine from the top.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CROP_SIZE = 320
"""Pixels, width and height of the crop that landmarks and flow are measured on."""

INNER_EYE_CORNERS = (39, 42)


class Box(NamedTuple):
    """A rectangle in whole pixels: rows top..bottom-1, columns left..right-1. May be empty.

    A tuple, because that is how the compiled code takes it.
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def empty(self) -> bool:
        return self.bottom <= self.top or self.right <= self.left

    def inside(self, height: int, width: int) -> Box:
        """Return the part of it that lies in a height x width array."""
        return Box(max(self.top, 0), min(self.bottom, height), max(self.left, 0), min(self.right, width))

    def moved(self, dx: int, dy: int, height: int, width: int) -> Box:
        """Return the box shifted by (dx, dy) picture pixels, as far as it stays inside a height x width picture."""
        dy = min(max(dy, -self.top), height - self.bottom)
        dx = min(max(dx, -self.left), width - self.right)
        return Box(self.top + dy, self.bottom + dy, self.left + dx, self.right + dx)


def crop_box(landmarks: npt.NDArray[np.float32], height: int, width: int) -> Box | None:
    """Place the crop box from 68 landmarks, cut off where the picture ends.

    Args:
        landmarks: float32 (68, 2), x and y in pixels of the picture.
        height: of the picture in pixels.
        width: likewise.

    Returns:
        The box, or None where the face is too small or too far outside the picture to be measured.
    """
    (x39, y39), (x42, y42) = (landmarks[i] for i in INNER_EYE_CORNERS)
    half = int((x42 - x39) / 2)
    if half < 2:
        return None
    cx, cy = int((x39 + x42) / 2), int((y39 + y42) / 2)
    box = Box(
        top=max(0, cy - int(3.5 * half)),
        bottom=min(height, cy + int(5.5 * half)),
        left=max(0, cx - int(4.5 * half)),
        right=min(width, cx + int(4.5 * half)),
    )
    # A face more than half outside shows too little of brows and mouth to be measured.
    if box.height < 4.5 * half or box.width < 4.5 * half:
        return None
    return box


def crop(gray: npt.NDArray[np.uint8], box: Box) -> npt.NDArray[np.uint8]:
    """Cut ``box`` out of a gray picture and resize it to the crop size (bilinear).

    Args:
        gray: uint8 (H, W).
        box: lies inside the picture.

    Returns:
        uint8 (320, 320).
    """
    import cv2

    patch = gray[box.top : box.bottom, box.left : box.right]
    out: npt.NDArray[np.uint8] = cv2.resize(patch, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)
    return out


def to_crop(landmarks: npt.NDArray[np.float32], box: Box) -> npt.NDArray[np.float32]:
    """Convert points from pixels of the picture to pixels of the box's 320x320 crop: float32 (n, 2) to (n, 2)."""
    scale = np.array([CROP_SIZE / box.width, CROP_SIZE / box.height], np.float32)
    # Pixel centres, not corners, are what the bilinear resize maps onto each other.
    return (landmarks - np.array([box.left, box.top], np.float32) + 0.5) * scale - 0.5
