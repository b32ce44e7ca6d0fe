"""A folder of pictures as a source of frames, whose names tell when they were taken."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from metst_edge.capture.frames import Frame, Image
from metst_edge.capture.listing import counted, pictures_in
from metst_edge.capture.picture import Raw, depth_of, read_picture, to_8_bits
from metst_edge.capture.rate import RATE_FILE, check_rate, rate_of_folder
from metst_edge.capture.remarks import remark
from metst_edge.closing import Closing
from metst_edge.counting import how_many
from metst_edge.errors import FrameError, SourceError

LOOKED_AT = 16
"""Pictures, spread over the folder, whose values tell how many bits 16-bit files really hold."""

_LOG = logging.getLogger(__name__)


class ImageFolder(Closing):
    """Reads pictures in the order of the numbers in their names: 2.jpg before 10.jpg.

    Where names differ in one number only, it tells the time: the first picture is at 0, and one whose number is n
    higher n / fps later, so that pictures that are missing leave a hole. Else one picture follows the other.

    Gray pictures give (H, W), colour (H, W, 3); all must have one shape. Values of 16-bit files are scaled from the
    bits that the data take, 10, 12, 14 or 16. Sub-folders and hidden files are left alone.

    Args:
        path: the folder.
        fps: pictures per second; by default what a file fps.txt in the folder says.
        uri: what messages and `uri` say; by default the path.

    Attributes:
        fps: pictures per second, those that are missing all over (every second number, say) not counted.

    Raises:
        SourceError: no such folder, no pictures in it, or other things too; nobody says how many were taken a second;
            while iterating, a picture that cannot be read.
        FrameError: while iterating, a picture of another shape than the first.
    """

    live = False
    dropped = None

    def __init__(self, path: Path, fps: float | None = None, uri: str | None = None) -> None:
        self.uri = str(path) if uri is None else uri
        self._path = path
        self._files = pictures_in(path)
        said_by, rate = _rate(path, fps)
        numbers = counted(self._files)
        steps = numbers or range(len(self._files))
        self._times = [(number - steps[0]) / rate for number in steps]
        step = median(b - a for a, b in pairwise(steps)) if len(steps) > 1 else 1
        self.fps: float | None = rate / step
        self.frame_count: int | None = len(self._files)
        self._index = 0
        self._shape: tuple[int, ...] | None = None
        self._depth: int | None = None
        line = f"{path}: {how_many(len(self._files), 'picture')}, {rate:g} a second as {said_by} says"
        missing = steps[-1] - steps[0] + 1 - len(steps)
        if numbers is None:
            remark(f"{line}, one after the other: their names differ in more than one number, which tells no time")
        elif missing:
            lacking = f"{missing} {'is' if missing == 1 else 'are'} missing"
            remark(f"{line}; of the numbers in their names {lacking}, and no picture stands for them")
        elif fps is None:
            remark(line)
        else:
            _LOG.info("%s", line)

    def __iter__(self) -> ImageFolder:
        return self

    def __next__(self) -> Frame:
        files, index = self._files, self._index  # once: another thread may close
        if index >= len(files):
            raise StopIteration
        file = files[index]
        raw = read_picture(file)
        if raw is None:
            raise SourceError(
                f"{file}: this picture cannot be read; {index} of {len(files)} pictures were; replace it or take it out"
            )
        if self._shape is None:
            self._shape = raw.shape
        if raw.shape != self._shape:
            raise FrameError(
                f"{file}: expected a picture of shape {self._shape} like those before; got {raw.shape}; "
                "one folder holds pictures of one size and kind"
            )
        image = self._gray_levels(raw, file)
        self._index += 1
        return Frame(index, self._times[index], image, name=file.name)

    def close(self) -> None:
        """End iterating."""
        self._files = []

    def _gray_levels(self, raw: Raw, file: Path) -> Image:
        """Return a picture's values as 0 to 255."""
        if raw.dtype == np.uint8:
            return raw  # type: ignore[return-value]
        largest = int(raw.max())
        if self._depth is None:
            self._depth = depth_of(max([largest, *self._largest()]))
            if self._depth < 16:
                remark(
                    f"{self._path}: 16-bit pictures whose values take {self._depth} bits; {(1 << self._depth) - 1} is "
                    "taken for white"
                )
        if largest >= 1 << self._depth:
            raise SourceError(
                f"{file}: expected values of {self._depth} bits, as the other pictures have; got {largest}; convert "
                "all pictures to 8 bits alike"
            )
        return to_8_bits(raw, self._depth)  # type: ignore[arg-type]

    def _largest(self) -> list[int]:
        """Return the largest value of each of some pictures."""
        some = self._files[:: max(1, len(self._files) // LOOKED_AT)]
        return [int(raw.max()) for raw in map(read_picture, some) if raw is not None and raw.dtype == np.uint16]


def _rate(path: Path, fps: float | None) -> tuple[str, float]:
    """Return who says how many pictures were taken a second, and how many."""
    if fps is not None:
        return "the option fps", check_rate(fps, str(path))
    rate = rate_of_folder(path)
    if rate is None:
        raise SourceError(
            f"{path}: expected to be told at how many pictures a second these were taken; give it as folder://{path}"
            f"?fps=30 (or --fps 30), or put a file {RATE_FILE} that holds the number into the folder"
        )
    return RATE_FILE, rate
