"""One picture's file: read after its header was looked at, so that none takes more memory than it should."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from metst_edge.capture.frames import LARGEST
from metst_edge.errors import SourceError

Raw: TypeAlias = "npt.NDArray[np.uint8] | npt.NDArray[np.uint16]"
"""(H, W, 3) BGR or (H, W) gray."""

MOST = 1 << 27
"""Pixels of a picture, at most: larger ones are no pictures of a face, but want to fill the memory."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras' values have."""


def read_picture(path: Path) -> Raw | None:
    """Read a JPEG, PNG or BMP, turned upright as it says itself; None where it is none, or damaged.

    Raises:
        SourceError: it is larger than any picture should be, or may not be read.
    """
    import cv2

    try:
        if path.stat().st_size > 8 * MOST:
            return None
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: this picture cannot be read: {error.strerror or error}") from error
    size = _size(data)
    if size is None:
        return None
    width, height = size
    if width > LARGEST or height > LARGEST or width * height > MOST:
        raise SourceError(
            f"{path}: expected a picture of at most {LARGEST} pixels a side and {MOST // 1000000} million in all; got "
            f"{width}x{height}; make it smaller"
        )
    if _cut(data):
        return None
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        return None
    return image if image is not None and image.dtype in (np.uint8, np.uint16) else None


def depth_of(largest: int) -> int:
    """Return how many bits values take of which this is the largest."""
    return next(depth for depth in DEPTHS if largest < 1 << depth)


def to_8_bits(image: npt.NDArray[np.uint16], depth: int) -> npt.NDArray[np.uint8]:
    """Scale values of so many bits to 0 to 255."""
    import cv2

    scaled: npt.NDArray[np.uint8] = cv2.convertScaleAbs(image, alpha=255 / ((1 << depth) - 1))
    return scaled


def _size(data: bytes) -> tuple[int, int] | None:
    """Return width and height by a picture's header; None where it has none that is known."""
    for magic, read in _HEADERS.items():
        if data.startswith(magic):
            try:
                return read(data)
            except struct.error:  # cut off
                return None
    return None


def _cut(data: bytes) -> bool:
    """Tell whether a PNG or JPEG has no end: decoders make pictures of it that are gray below."""
    if data.startswith(b"BM"):
        return False  # its decoder tells
    if data.startswith(b"\xff\xd8"):  # after its last scan; a thumbnail has an end too
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    return b"IEND" not in data


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)


def _jpeg(data: bytes) -> tuple[int, int] | None:
    place = 2
    while True:
        marker, kind, length = struct.unpack_from(">BBH", data, place)
        if marker != 0xFF:
            return None
        if kind == 0xFF:  # what fills up to the next marker
            place += 1
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        else:
            place += 2 + length


_HEADERS: dict[bytes, Callable[[bytes], tuple[int, int] | None]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"BM": _bmp,
    b"\xff\xd8": _jpeg,
}
"""How a format's files begin, and what reads width and height."""
