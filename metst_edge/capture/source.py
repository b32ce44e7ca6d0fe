"""From a URI to a source of frames.

0, "0", camera://0               a camera by its index
clip.mp4, file:///a/clip.mp4     a video file
frames/, folder://frames?fps=25  a folder of pictures, in the order of the numbers in their names
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote

from metst_edge.capture.camera import Camera
from metst_edge.capture.folder import FOLDER_FPS, PICTURES, ImageFolder
from metst_edge.capture.frames import Frame, Interruption
from metst_edge.capture.video import VideoFile
from metst_edge.errors import SourceError

_HERE = "this version reads a camera by index (0), a video file, or a folder of pictures"
_LATER = ("rtsp", "rtsps", "csi", "http", "https", "udp", "rtp", "gst")


class Source(Protocol):
    """Yields frames once, in order, and ends at the end of input; close it, or use it in a with statement.

    Attributes:
        uri: what was opened, as given.
        fps: nominal frames per second, None when unknown.
        frame_count: how many frames there should be, None when unknown. Containers are often off by a few.
        live: whether time goes on while nobody reads; a live source also yields `Interruption`.
        dropped: frames that nobody fetched in time; None where frames wait to be read.

    Iterating raises SourceError where reading breaks off, after the frames before have been yielded.
    """

    uri: str
    fps: float | None
    frame_count: int | None
    live: bool

    @property
    def dropped(self) -> int | None: ...
    def __iter__(self) -> Iterator[Frame | Interruption]: ...
    def __next__(self) -> Frame | Interruption: ...
    def __enter__(self) -> Source: ...
    def __exit__(self, *exception: object) -> None: ...
    def close(self) -> None:
        """Release the device or file; iterating then ends. Calling it twice is harmless."""


def open_source(uri: str | int | Path) -> Source:
    """Open a camera, a video file or a folder of pictures.

    Args:
        uri: camera index, path, or URI as at the head of this file. Digits alone are a camera; for a file of such a
            name write "./0".

    Raises:
        SourceError: there is no such thing, it cannot be read, or this version does not know its kind.
    """
    try:
        return _open(uri)
    except OSError as error:  # an unreadable folder, a name that is too long
        raise SourceError(f"{uri}: expected a source that can be read; {error.strerror or error}") from error


def _open(uri: str | int | Path) -> Source:
    if isinstance(uri, Path):
        return _open_path(uri, str(uri))
    text = str(uri)
    if not text:
        raise SourceError(f"expected a source, got an empty text; {_HERE}")
    if isinstance(uri, int) or text.isdecimal():
        return _open_camera(text, text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        try:
            return _open_path(Path(text).expanduser(), text)
        except RuntimeError:  # ~name, and there is no such user
            return _open_path(Path(text), text)
    opener = _OPENERS.get(scheme.lower())
    if opener is not None:
        return opener(rest, text)
    if scheme.lower() in _LATER:
        raise SourceError(f"{text}: {scheme.lower()}:// is not in this version yet; {_HERE}")
    raise SourceError(f"{text}: expected camera://, file:// or folder://; got {scheme.lower()}://; {_HERE}")


def _open_camera(index: str, uri: str) -> Source:
    if not index.isdecimal():
        raise SourceError(f"{uri}: expected a camera index, 0 or above; got {index!r}")
    return Camera(int(index), uri=uri)


def _open_path(path: Path, uri: str) -> Source:
    if path.is_dir():
        return ImageFolder(path, FOLDER_FPS, uri)
    if path.suffix.lower() in PICTURES and path.is_file():
        raise SourceError(f"{path}: expected a video, got one picture; give the folder that holds the pictures")
    return _open_video(path, uri)


def _open_video(path: Path, uri: str) -> Source:
    if path.is_dir():
        raise SourceError(f"{path}: expected a video file, got a folder; give it as a path or as folder://{path}")
    return VideoFile(path, uri)


def _open_folder(rest: str, uri: str) -> Source:
    path, _, query = rest.partition("?")
    return ImageFolder(Path(unquote(path)), _fps(query, uri), uri)


def _fps(query: str, uri: str) -> float:
    options = dict(parse_qsl(query, keep_blank_values=True))
    value = options.pop("fps", str(FOLDER_FPS))
    if options:
        raise SourceError(f"{uri}: expected no option but fps; got {', '.join(sorted(options))}")
    try:
        fps = float(value)
    except ValueError:
        fps = 0.0
    if not 0.0 < fps < float("inf"):
        raise SourceError(f"{uri}: expected fps to be a number above 0; got {value!r}")
    return fps


_OPENERS: dict[str, Callable[[str, str], Source]] = {
    "camera": _open_camera,
    "file": lambda rest, uri: _open_video(Path(unquote(rest)), uri),
    "folder": _open_folder,
}
"""Scheme of a URI -> what opens it, given what follows "://" and the whole of it."""
