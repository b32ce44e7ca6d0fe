"""A decoded picture as it is meant to be shown: its luma as gray levels at once, its colours when they are asked for.

Knows PyAV's frames; nothing of files or time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from metst_edge.capture.frames import Image
from metst_edge.capture.picture import depth_of, to_8_bits
from metst_edge.capture.remarks import remark
from metst_edge.errors import FrameError

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
FARTHEST = 4.0
"""Pixel aspects farther from 1 than this, either way, are damage and taken as 1: no camera has them, and the picture
would not fit the memory."""

_STRETCH = 255 / 219
"""Gray levels for one of luma of 16 to 235 (ITU-R BT.601)."""


class Converter:
    """Has FFmpeg convert pictures: one set of tables for a stream, and one picture at a time, from whatever thread.

    Two threads at one picture of PyAV's hang.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter, self._lock = VideoReformatter(), threading.Lock()

    def take(self, picture: Any, form: str) -> Any:
        """Return a picture in one of FFmpeg's pixel formats: uint8 or uint16, (H, W) or (H, W, 3)."""
        with self._lock:
            # A thread of its own for so little would cost more than it saves.
            return self._reformatter.reformat(picture, format=form, threads=1).to_ndarray()


@dataclass(frozen=True, slots=True)
class Shown:
    """How the pictures of one stream are to be shown.

    Attributes:
        aspect: width of a pixel over its height.
        transposed: whether rows become columns.
        flipped: whether left and right, and whether top and bottom are then exchanged.
        depth: bits that the values of 16-bit pictures really have; None where FFmpeg knows.
    """

    aspect: float
    transposed: bool
    flipped: tuple[bool, bool]
    depth: int | None = None
    _converter: Converter = field(default_factory=Converter, compare=False, repr=False)

    @classmethod
    def of(cls, stream: Any, picture: Any, depth: int | None = None) -> Shown:
        """Read it from a stream's pixel aspect and its first picture's display matrix, to the nearest quarter turn."""
        aspect = float(stream.sample_aspect_ratio or 1)
        if not 1 / FARTHEST <= aspect <= FARTHEST or abs(aspect - 1) <= SQUARE:
            aspect = 1.0
        (xx, xy), (yx, yy) = _display_matrix(picture)
        transposed = abs(xy) > abs(xx)
        return cls(aspect, transposed, (yx < 0, xy < 0) if transposed else (xx < 0, yy < 0), depth)

    def take(self, picture: Any) -> tuple[Image, Callable[[], Image]]:
        """Return the gray picture, uint8 (H, W), and what makes the coloured one, uint8 (H, W, 3) BGR."""
        return self._upright(self._gray(picture)), lambda: self._upright(self._colour(picture))

    def _colour(self, picture: Any) -> Image:
        if self.depth is None:
            return cast(Image, self._converter.take(picture, "bgr24"))
        return to_8_bits(self._converter.take(picture, "bgr48le"), self.depth)

    def _gray(self, picture: Any) -> Image:
        """Return a picture's luma as gray levels 0 to 255: uint8 (H, W), memory of its own."""
        import cv2

        if self.depth is not None:
            gray = self._converter.take(picture, "gray16le")
            if gray.max() >= 1 << self.depth:
                raise FrameError(
                    f"expected 16-bit pictures whose values take {self.depth} bits, as the first ones do; got "
                    f"{gray.max()}: convert the video to 8 bits"
                )
            return to_8_bits(gray, self.depth)
        if picture.format.name not in LUMA_FIRST:  # ten bits, RGB, gray: FFmpeg converts it, to full range
            return cast(Image, self._converter.take(picture, "gray"))
        plane = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        luma = rows[: picture.height, : picture.width]
        if picture.color_range == FULL_RANGE or picture.format.name.startswith("yuvj"):
            own: Image = luma.copy()
            return own
        # Stretched from 16 to 235, rounded and clipped; a table would take twice as long.
        return cast(Image, cv2.addWeighted(luma, _STRETCH, luma, 0.0, -16 * _STRETCH))

    def _upright(self, image: Image) -> Image:
        import cv2

        if self.aspect != 1.0:
            height, width = image.shape[:2]
            # Whichever side grows: nothing of what was filmed is thrown away.
            size = (round(width * self.aspect), height) if self.aspect > 1 else (width, round(height / self.aspect))
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        if self.transposed:
            image = cv2.transpose(image)
        if any(self.flipped):
            across, over = self.flipped
            image = cv2.flip(image, -1 if across and over else int(across))
        return image


def depth_used(pictures: Sequence[Any], name: str) -> int | None:
    """Return how many bits the values of pictures take that say they have 16; None where it is all, or they have less.

    Args:
        pictures: the first of a stream.
        name: of the file, for a remark.
    """
    if any(component.bits != 16 for component in pictures[0].format.components):
        return None
    converter = Converter()
    depth = depth_of(max(int(converter.take(picture, "gray16le").max()) for picture in pictures))
    if depth == 16:
        return None
    remark(f"{name}: 16-bit pictures whose values take {depth} bits; {(1 << depth) - 1} is taken for white")
    return depth


def _display_matrix(picture: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return what of x goes to x and y, and what of y; of any scale."""
    with suppress(ValueError):  # PyAV 18 knows not every kind of side data, and then gives none of it
        # Of a tiny copy: whose side data is looked at, a picture and its side data hold each other, and its memory with
        # that of the whole decoder waits for the garbage collector.
        side = picture.reformat(width=16, height=16, format="gray").side_data.get("DISPLAYMATRIX")
        if side is not None:
            matrix = np.frombuffer(side, np.int32)
            return (float(matrix[0]), float(matrix[1])), (float(matrix[3]), float(matrix[4]))
    cos, sin = math.cos(math.radians(picture.rotation)), math.sin(math.radians(picture.rotation))
    return (cos, -sin), (sin, cos)
