"""A video file as a source of frames."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from metst_edge.capture.frames import Frame, native_path
from metst_edge.capture.planes import Shown
from metst_edge.closing import Closing
from metst_edge.errors import SourceError

COUNT_SLACK = 2
"""Frames; a container's count is often off by one or two."""
SOUND_SLACK = 1.0
"""Seconds, or a fifth of a short file; a container tells how long its longest stream is, maybe sound."""
HIGHEST_FPS = 1000.0
"""What lies above is a container's tick rate, not a frame rate."""
LATER = 3
"""Frames that are looked at ahead to tell whether a time is out of line."""


class VideoFile(Closing):
    """Reads a video file with PyAV (FFmpeg), as it is meant to be shown: upright, with square pixels.

    Timestamps are those of the container, seconds from the start of the picture. A time that does not rise, or that
    one of the next three frames falls back behind, is wrong: its frame comes 1 / fps after the one before, and the
    frames after it keep their own times.

    The file counts as broken off when it ends more than two frames short of the container's count and also short of
    the time it should show. Count alone does not tell: files trimmed by a phone still count the frames they no longer
    show. Damage in the middle that the decoder gets over is no end, but a hole in the timestamps.

    Args:
        path: the file.
        uri: what messages and `uri` say; by default the path.

    Raises:
        SourceError: no such file, empty, not a video, no frame in it; while iterating, that it broke off.
    """

    live = False
    dropped = None

    def __init__(self, path: Path, uri: str | None = None) -> None:
        self.uri = str(path) if uri is None else uri
        self._path = path
        self._file = _open_file(path)
        try:
            self._container, self._stream = _open(path, self._file)
        except BaseException:
            self._file.close()
            raise
        self.fps: float | None = _rate(self._stream)
        self._expected = _expected(self._container, self._stream, self.fps)
        self.frame_count = self._expected.frames
        self._origin: int | None = self._stream.start_time
        self._index = 0
        self._time = -math.inf
        self._ended = False
        self._shown: Shown | None = None
        self._decoded = self._decode()
        self._waiting: deque[tuple[float, Any]] = deque()
        self._fetch()
        if not self._waiting:
            self.close()
            raise SourceError(
                f"{path}: expected a video; no frame of it can be decoded; check that it plays, "
                "or convert it to MP4 (H.264)"
            )

    def __iter__(self) -> VideoFile:
        return self

    def __next__(self) -> Frame:
        if self._ended:
            raise StopIteration
        self._fetch()
        if not self._waiting:
            self.close()
            if self._broke_off():
                raise SourceError(
                    f"{self._path}: broke off: {self._index} of {self.frame_count} frames could be read; "
                    "the file is cut off or damaged; copy or record it again"
                )
            raise StopIteration
        time, picture = self._waiting.popleft()
        if not time > self._time or any(self._time < later < time for later, _ in self._waiting):
            time = self._guess()
        self._time = time
        self._index += 1
        if self._shown is None:
            self._shown = Shown.of(self._stream, picture)
        gray, colour = self._shown.take(picture)
        return Frame(self._index - 1, time, gray=gray, colour=colour)

    def close(self) -> None:
        """Release the file; iterating then ends. Calling it twice is harmless."""
        self._decoded.close()
        self._waiting.clear()
        self._container.close()
        self._file.close()
        self._ended = True

    def _fetch(self) -> None:
        """Decode until there are enough frames to judge the next one's time by."""
        while len(self._waiting) <= LATER:
            picture = next(self._decoded, None)
            if picture is None:
                return
            self._waiting.append((self._time_of(picture), picture))

    def _decode(self) -> Generator[Any, None, None]:
        """Yield the pictures in the order they are shown; what cannot be decoded is left out."""
        import av

        packets = self._container.demux(self._stream)
        packet: Any = True
        while packet is not None:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, IndexError):
                # The container breaks off; or damage looks like one more stream, on which PyAV 18 stumbles at the end.
                packet = None
            try:
                pictures = self._stream.decode(None) if packet is None else packet.decode()
            except av.error.FFmpegError:  # damage, or the decoder has nothing left
                continue
            yield from pictures

    def _time_of(self, picture: Any) -> float:
        """Return seconds from the start of the picture; NaN where the container does not tell."""
        if picture.pts is None or not picture.time_base:
            return math.nan
        if self._origin is None:
            self._origin = picture.pts
        return float((picture.pts - self._origin) * picture.time_base)

    def _guess(self) -> float:
        """Return a timestamp for a frame that has none."""
        if self._index == 0:
            return 0.0
        if self.fps is None:
            raise SourceError(
                f"{self._path}: expected timestamps or a frame rate; the file has neither after frame "
                f"{self._index - 1}; convert it to MP4 (H.264)"
            )
        return self._time + 1.0 / self.fps

    def _broke_off(self) -> bool:
        frames, seconds = self._expected.frames, self._expected.seconds
        if frames is None or seconds is None or self.fps is None:
            return False
        shown = self._time + 1.0 / self.fps
        return self._index < frames - COUNT_SLACK and shown < seconds - self._expected.slack


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a whole file should show, as far as its container tells.

    Attributes:
        frames: how many.
        seconds: how long.
        slack: by how many seconds less will do.
    """

    frames: int | None
    seconds: float | None
    slack: float


def _open_file(path: Path) -> BinaryIO:
    if not path.exists():
        raise SourceError(f"{path}: expected a video file; there is nothing of that name; check the path")
    if not path.is_file():
        raise SourceError(f"{path}: expected a video file; this is not a file")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: expected a video file; this file is empty; copy or record it again")
    try:
        return open(native_path(path), "rb")
    except PermissionError as error:
        raise SourceError(f"{path}: expected a video file; this one may not be read; check its permissions") from error


def _open(path: Path, file: BinaryIO) -> tuple[Any, Any]:
    """Open a file and pick its picture. FFmpeg is given its bytes and nothing else to read: no name is taken for a URL,
    and no playlist is followed to other files."""
    try:
        import av
    except ImportError as error:
        raise SourceError(
            f"expected PyAV to read video files, got: {error}; install it with: pip install av"
        ) from error
    try:
        container = av.open(file, metadata_errors="replace", options={"protocol_whitelist": "none"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"{path}: expected a video file; this is none, or it was cut off; check that it plays, "
            "or convert it to MP4 (H.264)"
        ) from error
    kinds = av.stream.Disposition
    pictures = [stream for stream in container.streams.video if not stream.disposition & kinds.attached_pic]
    if not pictures:  # but perhaps the cover of a record
        container.close()
        raise SourceError(f"{path}: expected a video file; this one holds no picture, perhaps sound only")
    stream = max(pictures, key=lambda stream: bool(stream.disposition & kinds.default))  # of equals the first
    stream.thread_type = "AUTO"
    return container, stream


def _rate(stream: Any) -> float | None:
    """Return the frame rate of a stream where it keeps it: pauses, and frames that are late, do not lower it."""
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate and 0.0 < rate <= HIGHEST_FPS:
            return float(rate)
    return None


def _expected(container: Any, stream: Any, fps: float | None) -> _Expected:
    count = stream.frames or None
    if fps is None:
        return _Expected(count, None, 0.0)
    few_frames = (COUNT_SLACK + 0.5) / fps
    # The picture's own, less what an edit list hides. FFmpeg makes an AVI's of what there is, of its header the count.
    ticks = count if container.format.name == "avi" else stream.duration
    if ticks:
        seconds, slack = float(ticks * stream.time_base), few_frames
    elif container.duration:
        seconds = container.duration / 1e6 - float((stream.start_time or 0) * stream.time_base)
        slack = min(SOUND_SLACK, seconds / 5)
    else:
        return _Expected(count, None, 0.0)
    # At a variable rate there are fewer frames than the rate makes of the time.
    shown = max(1, round(seconds * fps))
    return _Expected(shown if count is None else min(count, shown), seconds, slack)
