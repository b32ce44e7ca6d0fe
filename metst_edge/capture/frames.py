"""A frame, what a source may say between frames, and what makes a frame fit to be analysed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from metst_edge.errors import FrameError, SourceError, TimestampError

Image = NDArray[np.uint8]
"""uint8 (H, W, 3) BGR or (H, W) gray."""

SMALLEST = 32
"""Pixels; no face can be measured in a smaller picture."""
LARGEST = 32766
"""Pixels; OpenCV resamples no wider or higher picture."""


class Frame:
    """One picture of a source.

    A decoder's picture is gray to begin with: its colours are made when `image` is first asked for.

    Args:
        index: frames of the source before this one.
        timestamp: seconds of source time, rising.
        image: uint8 (H, W, 3) BGR or (H, W) gray; left out where `gray` and `colour` are given.
        gray: uint8 (H, W).
        colour: makes the image.
        name: of the file that holds this picture alone; None where there is none.
    """

    __slots__ = ("_colour", "_gray", "_image", "index", "name", "timestamp")

    def __init__(
        self,
        index: int,
        timestamp: float,
        image: Image | None = None,
        *,
        gray: Image | None = None,
        colour: Callable[[], Image] | None = None,
        name: str | None = None,
    ) -> None:
        self.index, self.timestamp, self.name = index, timestamp, name
        self._image, self._gray, self._colour = image, gray, colour

    @property
    def image(self) -> Image:
        """uint8 (H, W, 3) BGR or (H, W) gray."""
        if self._image is None:
            assert self._colour is not None, "a frame has an image, or what makes it"
            self._image = self._colour()
        return self._image

    @property
    def given(self) -> Image:
        """What the source gave: a decoder's gray levels, else the image."""
        return self.image if self._gray is None else self._gray

    @property
    def gray(self) -> Image:
        """uint8 (H, W)."""
        if self._gray is None:
            self._gray = to_gray(self.image)
        return self._gray


@dataclass(frozen=True, slots=True)
class Interruption:
    """A live source is away, or is back; the frames before and after do not belong together.

    It comes twice: as soon as the source is away, and before the first frame after it.

    Attributes:
        start: seconds of source time, of the last frame before it; 0 where there was none.
        end: seconds of source time, of the first frame after it; None while the source is away.
        reason: "camera_stalled", "camera_frozen", "camera_lost" or "size_changed".
    """

    start: float
    end: float | None
    reason: str


def check_frame(image: object, expected_shape: tuple[int, ...] | None = None) -> Image:
    """Return the image if it can be analysed.

    Args:
        image: what should be uint8 (H, W, 3) or (H, W), 32 to 32766 pixels a side.
        expected_shape: that of the frames before, None for the first.

    Raises:
        FrameError: what is wrong with it, and what to do.
    """
    wanted = "expected a frame that is a numpy array, uint8 (H, W, 3) BGR or (H, W) gray"
    if not isinstance(image, np.ndarray) or isinstance(image, np.ma.MaskedArray | np.matrix):  # which compute otherwise
        raise FrameError(f"{wanted}; got {type(image).__name__}: convert it with numpy.asarray")
    if image.dtype != np.uint8:
        raise FrameError(f"{wanted}; got dtype {image.dtype}: scale it to 0..255 and convert it to uint8")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise FrameError(f"{wanted}; got shape {image.shape}: pass one picture, without alpha channel")
    height, width = image.shape[:2]
    if height < SMALLEST or width < SMALLEST:
        raise FrameError(
            f"expected a frame of at least {SMALLEST}x{SMALLEST} pixels; got {width}x{height}: "
            "pass the whole picture of the camera"
        )
    if height > LARGEST or width > LARGEST:
        raise FrameError(
            f"expected a frame of at most {LARGEST} pixels a side; got {width}x{height}: pass a smaller picture"
        )
    if expected_shape is not None and image.shape != tuple(expected_shape):
        raise FrameError(
            f"expected a frame of shape {tuple(expected_shape)} like those before; got {image.shape}: "
            "a stream keeps one size; reset before another video"
        )
    return cast(Image, image)


def native_path(path: Path) -> str:
    """Return the path as OpenCV can take it.

    Raises:
        SourceError: its name is no UTF-8 text; OpenCV crashes on such.
    """
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise SourceError(f"{text!a}: expected a name in UTF-8; rename the file") from None
    return text


def to_gray(image: Image) -> Image:
    """Return uint8 (H, W), by OpenCV's weights of BGR; a gray image is returned as it is."""
    if image.ndim == 2:
        return image
    import cv2

    return cast(Image, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def check_timestamp(timestamp: Any, previous: float | None = None) -> float:
    """Return the timestamp as a float if it can follow the one before.

    Args:
        timestamp: seconds.
        previous: that of the frame before, None for the first.

    Raises:
        TimestampError: it is not a finite number, or does not rise.
    """
    try:
        # What float() takes besides numbers is text and truth values: an accident, whatever it says.
        seconds = math.nan if isinstance(timestamp, str | bytes | bytearray | bool | np.bool_) else float(timestamp)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise TimestampError(
            f"expected a timestamp in seconds, a finite number; got {timestamp!r}: pass the time of capture"
        )
    if previous is not None and seconds <= previous:
        raise TimestampError(
            f"expected a timestamp above {previous} s, that of the frame before; got {seconds} s: "
            "pass frames in order of capture; reset before another video"
        )
    return seconds
