"""A decoded picture as it is meant to be shown: its luma as gray levels at once, its colours when they are asked for.

Knows PyAV's frames; nothing of files or time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from metst_edge.capture.frames import Image

LUMA_FIRST = frozenset(
    {
        *("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "nv12", "nv21", "nv16", "nv24"),
        *("yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuvj411p"),
    }
)
"""FFmpeg's pixel formats whose first plane is 8-bit luma."""
FULL_RANGE = 2
"""FFmpeg's number for luma of 0 to 255 (AVCOL_RANGE_JPEG); all else is 16 to 235."""
SQUARE = 0.01
"""Pixel aspects nearer to 1 than this are taken as 1: a picture is not resampled for a rounding error."""

_WIDENED = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
"""uint8 (256,): gray levels of luma of 16 to 235 (ITU-R BT.601)."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How the pictures of one stream are to be shown.

    Attributes:
        aspect: width of a pixel over its height.
        turns: quarter turns counterclockwise.
    """

    aspect: float
    turns: int

    @classmethod
    def of(cls, stream: Any, picture: Any) -> Shown:
        """Read it from a stream's pixel aspect and its first picture's display matrix."""
        aspect = float(stream.sample_aspect_ratio or 1)
        return cls(aspect if aspect > 0 and abs(aspect - 1) > SQUARE else 1.0, round(picture.rotation / 90) % 4)

    def take(self, picture: Any) -> tuple[Image, Callable[[], Image]]:
        """Return the gray picture, uint8 (H, W), and what makes the coloured one, uint8 (H, W, 3) BGR."""
        return self._upright(_gray(picture)), lambda: self._upright(picture.to_ndarray(format="bgr24"))

    def _upright(self, image: Image) -> Image:
        import cv2

        if self.aspect != 1.0:
            height, width = image.shape[:2]
            # Whichever side grows: nothing of what was filmed is thrown away.
            size = (round(width * self.aspect), height) if self.aspect > 1 else (width, round(height / self.aspect))
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        if self.turns:
            turn = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)[self.turns - 1]
            image = cv2.rotate(image, turn)
        return image


def _gray(picture: Any) -> Image:
    """Return a picture's luma as gray levels 0 to 255: uint8 (H, W), memory of its own."""
    import cv2

    if picture.format.name not in LUMA_FIRST:  # ten bits, RGB, gray: FFmpeg converts it, to full range
        gray: Image = picture.to_ndarray(format="gray")
        return gray
    plane = picture.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    luma = rows[: picture.height, : picture.width]
    if picture.color_range == FULL_RANGE or picture.format.name.startswith("yuvj"):
        kept: Image = luma.copy()
        return kept
    widened: Image = cv2.LUT(luma, _WIDENED)
    return widened
