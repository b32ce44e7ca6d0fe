"""From a URI to a source of frames.

0, "0", camera://0               a camera by its index
clip.mp4, file:///a/clip.mp4     a video file
frames/, folder://frames         a folder of pictures, in the order of the numbers in their names

Files and folders take ?fps=25 behind them: how many pictures were taken a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, unquote

from metst_edge.capture.camera import Camera
from metst_edge.capture.folder import ImageFolder
from metst_edge.capture.frames import Frame, Interruption
from metst_edge.capture.listing import PICTURES, clips_in
from metst_edge.capture.rate import check_rate
from metst_edge.capture.video import VideoFile
from metst_edge.errors import SourceError

_HERE = "this version reads a camera by index (0), a video file, or a folder of pictures"
_NO_FPS = "expected no fps of a camera, whose frames have the times at which they come; leave it out"
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


def open_source(uri: str | int | Path, fps: float | None = None) -> Source:
    """Open a camera, a video file or a folder of pictures.

    Args:
        uri: camera index, path, or URI as at the head of this file. Digits alone are a camera; for a file of such a
            name write "./0".
        fps: how many pictures were taken a second: of a folder, and of a file whose own rate is not the one it was
            taken at (slow motion). ``?fps=`` in the URI says the same.

    Raises:
        SourceError: there is no such thing, it cannot be read, or this version does not know its kind.
    """
    try:
        return _open(uri, fps if fps is None else check_rate(fps, str(uri)))
    except OSError as error:  # an unreadable folder, a name that is too long
        raise SourceError(f"{uri}: expected a source that can be read; {error.strerror or error}") from error


def clips_of(uri: str) -> list[str]:
    """Return the clips of a folder of clips, by their paths; of all else, it alone.

    Raises:
        SourceError: the folder cannot be read.
    """
    try:
        folder = Path(uri).expanduser()
        clips = clips_in(folder) if folder.is_dir() else []
    except (OSError, RuntimeError, ValueError):
        return [uri]  # to open it says what is wrong
    return [str(clip) for clip in clips] or [uri]


def path_of(name: str) -> Path:
    """Return the file or folder that is meant by a name without a scheme; ``?fps=`` may be part of it, or behind it."""
    path, before = _expanded(name), name.rpartition("?")[0]
    return _expanded(before) if before and not path.exists() and _expanded(before).exists() else path


def with_rate(uri: str, fps: float | None) -> str:
    """Return a URI that says at what rate a source was taken.

    Raises:
        SourceError: it is said already.
    """
    if fps is None:
        return uri
    if uri.isdecimal() or uri.lower().startswith("camera:"):
        raise SourceError(f"{uri}: {_NO_FPS}")
    if "?fps=" in uri and not Path(uri).exists():
        raise SourceError(f"{uri}: expected fps once; got it here, and {fps:g} beside it; leave one out")
    return f"{uri}?fps={fps!r}"


def _open(uri: str | int | Path, fps: float | None) -> Source:
    if isinstance(uri, Path):
        return _open_path(uri, str(uri), fps)
    text = str(uri)
    if not text:
        raise SourceError(f"expected a source, got an empty text; {_HERE}")
    if "\0" in text:
        raise SourceError(f"{text!a}: expected a source, got a text that holds a zero character; {_HERE}")
    if isinstance(uri, int) or text.isdecimal():
        return _open_camera(text, text, fps)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _open_name(text, fps)
    opener = _OPENERS.get(scheme.lower())
    if opener is not None:
        return opener(rest, text, fps)
    if scheme.lower() in _LATER:
        raise SourceError(f"{text}: {scheme.lower()}:// is not in this version yet; {_HERE}")
    raise SourceError(f"{text}: expected camera://, file:// or folder://; got {scheme.lower()}://; {_HERE}")


def _open_name(text: str, fps: float | None) -> Source:
    """Open a path as somebody types it. A name of a file is never anything else, whatever characters it has."""
    path = path_of(text)
    if path != _expanded(text):
        _, fps = _options("?" + text.rpartition("?")[2], text, fps)
    return _open_path(path, text, fps)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except (RuntimeError, ValueError):  # ~name, and there is no such user, or no such character in names
        return Path(text)


def _open_camera(index: str, uri: str, fps: float | None) -> Source:
    if not index.isdecimal() or len(index) > 9:
        raise SourceError(f"{uri}: expected a camera index, 0 or above; got {index[:40]!r}")
    if fps is not None:
        raise SourceError(f"{uri}: {_NO_FPS}")
    return Camera(int(index), uri=uri)


def _open_path(path: Path, uri: str, fps: float | None) -> Source:
    if path.is_dir():
        return ImageFolder(path, fps, uri)
    if path.suffix.lower() in PICTURES and path.is_file():
        raise SourceError(f"{path}: expected a video, got one picture; give the folder that holds the pictures")
    return VideoFile(path, uri, fps)


def _open_video(rest: str, uri: str, fps: float | None) -> Source:
    path = Path(unquote(rest))
    if not path.exists():  # else a name that holds a question mark
        rest, fps = _options(rest, uri, fps)
        path = Path(unquote(rest))
    if path.is_dir():
        raise SourceError(f"{path}: expected a video file, got a folder; give it as a path or as folder://{path}")
    return VideoFile(path, uri, fps)


def _open_folder(rest: str, uri: str, fps: float | None) -> Source:
    rest, fps = _options(rest, uri, fps)
    return ImageFolder(Path(unquote(rest)), fps, uri)


def _options(rest: str, uri: str, fps: float | None) -> tuple[str, float | None]:
    """Return what stands before a URI's options, and the rate they or the caller give."""
    before, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    value = options.pop("fps", None)
    if options:
        raise SourceError(f"{uri}: expected no option but fps; got {', '.join(sorted(options))}")
    if value is None:
        return before, fps
    if fps is not None:
        raise SourceError(f"{uri}: expected fps once; got {value} here, and {fps:g} beside it; leave one out")
    return before, check_rate(value, uri)


_OPENERS: dict[str, Callable[[str, str, float | None], Source]] = {
    "camera": _open_camera,
    "file": _open_video,
    "folder": _open_folder,
}
"""Scheme of a URI -> what opens it, given what follows "://", the whole of it, and the rate that the caller gives."""
