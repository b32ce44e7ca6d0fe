"""A video file as a source of frames."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

from metst_edge.capture.clock import LATER, Clock
from metst_edge.capture.container import (
    COUNT_SLACK,
    expected_of,
    open_container,
    open_file,
    rate_of,
    taken_at,
    timeless,
)
from metst_edge.capture.frames import Frame
from metst_edge.capture.planes import Shown, depth_used
from metst_edge.capture.processes import OfOneProcess
from metst_edge.capture.rate import check_rate
from metst_edge.capture.remarks import remark
from metst_edge.errors import SourceError


class VideoFile(OfOneProcess):
    """Reads a video file with PyAV (FFmpeg), as it is meant to be shown: upright, with square pixels.

    Timestamps are those of the container, seconds from the start of the picture; `Clock` says what becomes of those
    that are wrong.

    The file counts as broken off when it ends more than two frames short of the container's count and also short of
    the time it should show. Count alone does not tell: files trimmed by a phone still count the frames they no longer
    show. Damage in the middle that the decoder gets over is no end, but a hole in the timestamps.

    One thread at a time may read; any may close.

    Args:
        path: the file.
        uri: what messages and `uri` say; by default the path.
        fps: frames per second that were taken, where the file shows them at another rate (slow motion): times are
            scaled by it. By default the file is believed.

    Raises:
        SourceError: no such file, empty, not a video, no frame in it; while iterating, that it broke off.
    """

    live = False
    dropped = None

    def __init__(self, path: Path, uri: str | None = None, fps: float | None = None) -> None:
        self.uri = str(path) if uri is None else uri
        self._path = path
        if fps is not None:
            check_rate(fps, self.uri)
        self._file = open_file(path)
        try:
            self._container, self._stream = open_container(path, self._file)
        except BaseException:
            self._file.close()
            raise
        shown = rate_of(self._container, self._stream)
        # Where times cannot be scaled, or are made up, frames are counted.
        self._counted = timeless(self._container) or (shown is None and fps is not None)
        if self._counted and fps is not None:
            shown = fps
        self.fps = shown if fps is None else fps
        self._pace = 1.0 if shown is None or fps is None else shown / fps
        self._period = None if shown is None else 1.0 / shown
        self._expected = expected_of(self._container, self._stream, shown, self._file)
        self.frame_count = self._expected.frames
        self._clock = Clock(shown)
        self._origin: int | None = self._stream.start_time
        self._index = 0
        self._lasting = 0.0  # how long the last frame is shown
        self._lock, self._closed, self._freed = threading.Lock(), False, False
        self._failure: str | None = None  # of the disk
        self._shown: Shown | None = None
        self._decoded = self._decode()
        self._waiting: deque[tuple[float, Any]] = deque()
        super().__init__()
        self._check_start()
        taken = taken_at(self._container, self._stream, shown) if fps is None else None
        if taken is not None:
            remark(
                f"{self.uri}: {taken:g} frames a second were taken and are shown at {shown:g}, in "
                f"{'slow motion' if taken > (shown or 0) else 'time lapse'}, which hides micro-expressions; "
                f"--fps {taken:g} (or ?fps={taken:g} behind the name) undoes it"
            )

    def _check_start(self) -> None:
        """Decode the first frames, and close the file where there are none, or where they have no times."""
        self._fetch()
        wrong = None
        if not self._waiting:
            wrong = "expected a video; no frame of it can be decoded; check that it plays, or convert it to MP4 (H.264)"
        elif self._counted and self.fps is None:
            wrong = (
                "expected to be told at how many frames a second this was taken, since a video without a container "
                "does not say; give it behind the name as ?fps=30 (or as --fps 30)"
            )
        if wrong is not None:
            self.close()
            raise SourceError(f"{self._path}: {wrong}")

    def __iter__(self) -> VideoFile:
        return self

    def __next__(self) -> Frame:
        self._check_process()
        try:
            with self._lock:
                frame = None if self._closed else self._read()
        finally:
            if self._closed:  # at the end, or meanwhile by another thread
                self._free()
        if frame is None:
            raise StopIteration
        return frame

    def close(self) -> None:
        """Release the file; iterating then ends, in whatever thread. Calling it twice is harmless."""
        self._closed = True
        self._free()

    def _free(self) -> None:
        """Release the file, unless a thread is reading it, which then does it."""
        if self.forked or not self._lock.acquire(blocking=False):
            return
        try:
            if not self._freed:
                self._freed = True
                self._decoded.close()
                self._waiting.clear()
                self._container.close()
                self._file.close()
        finally:
            self._lock.release()

    def _never_freed(self) -> list[object]:
        return [self._container, self._stream, self._decoded, self._waiting]

    def _read(self) -> Frame | None:
        """Return the next frame; None at the end."""
        ended = self._fetch()
        if not self._waiting:
            self._closed = True
            if self._failure is not None:
                raise SourceError(
                    f"{self._path}: broke off after {self._index} frames: it cannot be read any further: "
                    f"{self._failure}; copy it from where it lies, if that can be done"
                )
            if self._broke_off():
                raise SourceError(
                    f"{self._path}: broke off: {self._index} of {self.frame_count} frames could be read; "
                    "the file is cut off or damaged; copy or record it again"
                )
            return None
        time = self._clock.take([time for time, _ in self._waiting], ended)
        if time is None:
            raise SourceError(
                f"{self._path}: expected timestamps or a frame rate; the file has neither after frame "
                f"{self._index - 1}; convert it to MP4 (H.264)"
            )
        if self._shown is None:
            depth = depth_used([picture for _, picture in self._waiting], str(self._path))
            self._shown = Shown.of(self._stream, self._waiting[0][1], depth)
        _, picture = self._waiting.popleft()
        self._lasting = float((picture.duration or 0) * (picture.time_base or 0))
        gray, colour = self._shown.take(picture)
        self._index += 1
        return Frame(self._index - 1, time * self._pace, gray=gray, colour=colour)

    def _fetch(self) -> bool:
        """Decode until there are enough frames to judge the next one's time by; tell whether there are no more."""
        while len(self._waiting) <= LATER:
            picture = next(self._decoded, None)
            if picture is None:
                return True
            self._waiting.append((self._time_of(picture), picture))
        return False

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
            except OSError as error:  # of the disk: PyAV hands on what reading the file raised
                packet, self._failure = None, error.strerror or str(error)
            try:
                pictures = self._stream.decode(None) if packet is None else packet.decode()
            except av.error.FFmpegError:  # damage, or the decoder has nothing left
                continue
            yield from pictures

    def _time_of(self, picture: Any) -> float:
        """Return seconds from the start of the picture; NaN where the container does not tell."""
        if picture.pts is None or not picture.time_base or self._counted:
            return math.nan
        if self._origin is None:
            self._origin = picture.pts
        return float((picture.pts - self._origin) * picture.time_base)

    def _broke_off(self) -> bool:
        frames, seconds = self._expected.frames, self._expected.seconds
        if frames is None or seconds is None or self._period is None:
            return False
        shown = self._clock.time + max(self._period, self._lasting)
        return self._index < frames - COUNT_SLACK and shown < seconds - self._expected.slack
