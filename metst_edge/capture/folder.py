"""A folder of pictures, taken at an even rate, as a source of frames."""

from __future__ import annotations

import re
from pathlib import Path

from metst_edge.capture.frames import Frame, native_path
from metst_edge.closing import Closing
from metst_edge.errors import FrameError, SourceError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
FOLDER_FPS = 30.0


class ImageFolder(Closing):
    """Reads pictures in the order of the numbers in their names: 2.jpg before 10.jpg.

    Gray pictures give (H, W), colour (H, W, 3); all must have one shape. Sub-folders and hidden files are left alone.

    Args:
        path: the folder.
        fps: pictures per second.
        uri: what messages and `uri` say; by default the path.

    Raises:
        SourceError: no such folder, no pictures in it; while iterating, a picture that cannot be read.
        FrameError: while iterating, a picture of another shape than the first.
    """

    live = False
    dropped = None

    def __init__(self, path: Path, fps: float = FOLDER_FPS, uri: str | None = None) -> None:
        if not path.is_dir():
            kind = "a file" if path.exists() else "nothing of that name"
            raise SourceError(f"{path}: expected a folder of pictures; found {kind}; check the path")
        self.uri = str(path) if uri is None else uri
        self.fps: float | None = fps
        self._path, self._rate = path, fps
        names = [entry for entry in path.iterdir() if entry.suffix.lower() in PICTURES and entry.name[0] != "."]
        self._files = sorted((entry for entry in names if entry.is_file()), key=_natural)
        if not self._files:
            raise SourceError(f"{path}: expected pictures ({', '.join(PICTURES)}) in this folder; there are none")
        self.frame_count: int | None = len(self._files)
        self._index = 0
        self._shape: tuple[int, ...] | None = None

    def __iter__(self) -> ImageFolder:
        return self

    def __next__(self) -> Frame:
        if self._index >= len(self._files):
            raise StopIteration
        import cv2

        index, file = self._index, self._files[self._index]
        image = cv2.imread(native_path(file), cv2.IMREAD_ANYCOLOR)
        if image is None:
            raise SourceError(
                f"{file}: this picture cannot be read; {index} of {len(self._files)} pictures were; "
                "replace it or take it out"
            )
        if self._shape is None:
            self._shape = image.shape
        if image.shape != self._shape:
            raise FrameError(
                f"{file}: expected a picture of shape {self._shape} like those before; got {image.shape}; "
                "one folder holds pictures of one size and kind"
            )
        self._index += 1
        return Frame(index, index / self._rate, image)

    def close(self) -> None:
        """End iterating."""
        self._files = []


def _natural(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Order names by the numbers in them, and names that differ only in leading zeros by their letters."""
    parts = re.findall(r"(\d+)|(\D+)", file.stem)
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts], file.name
