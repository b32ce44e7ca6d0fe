"""A video file as a source of frames."""

from __future__ import annotations

import math
import os
from pathlib import Path

from metst_edge.capture.frames import Frame, native_path
from metst_edge.capture.mp4 import video_duration
from metst_edge.capture.quiet import quiet
from metst_edge.closing import Closing
from metst_edge.errors import SourceError

COUNT_SLACK = 2
"""Frames; a container's count is often off by one or two."""
SOUND_SLACK = 1.0
"""Seconds, or a fifth of a short file; a container tells how long its longest stream is, maybe sound."""
HIGHEST_FPS = 1000.0
"""What lies above is a container's tick rate, not a frame rate."""


class VideoFile(Closing):
    """Reads a video file with OpenCV's FFmpeg.

    Timestamps are those of the container where they rise; a frame without a sound one comes 1 / fps after the frame
    before.

    The file counts as broken off when it ends more than two frames short of the container's count and also short of the
    time it should show. Count alone does not tell: files trimmed by a phone still count the frames they no longer show.
    Damage in the middle that the decoder gets over is no end, but a hole in the timestamps.

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
        if not path.exists():
            raise SourceError(f"{path}: expected a video file; there is nothing of that name; check the path")
        if not path.is_file():
            raise SourceError(f"{path}: expected a video file; this is not a file")
        if path.stat().st_size == 0:
            raise SourceError(f"{path}: expected a video file; this file is empty; copy or record it again")
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path}: expected a video file; this one may not be read; check its permissions")
        with quiet():
            import cv2

            self._capture = cv2.VideoCapture(native_path(path), cv2.CAP_FFMPEG)
            opened = self._capture.isOpened()
        if not opened:
            raise SourceError(
                f"{path}: expected a video file; this is none, or it was cut off; check that it plays, "
                "or convert it to MP4 (H.264)"
            )
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps: float | None = fps if 0.0 < fps <= HIGHEST_FPS else None
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._count = int(count) if 0 < count < 2**31 else None
        self._duration, self._slack = self._expected_duration()
        self.frame_count = self._count
        if self._count is not None and self._duration is not None and self.fps is not None:
            self.frame_count = min(self._count, max(1, round(self._duration * self.fps)))
        self._index = 0
        self._time = -math.inf
        self._ended = False
        self._first = self._read()
        if self._first is None:
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
        if self._first is not None:
            frame, self._first = self._first, None
            self._start = frame.timestamp
            return frame
        following = self._read()
        if following is None:
            self.close()
            if self._broke_off():
                raise SourceError(
                    f"{self._path}: broke off: {self._index} of {self.frame_count} frames could be read; "
                    "the file is cut off or damaged; copy or record it again"
                )
            raise StopIteration
        return following

    def close(self) -> None:
        """Release the file; iterating then ends. Calling it twice is harmless."""
        self._capture.release()
        self._ended = True

    def _read(self) -> Frame | None:
        ok, image = self._capture.read()
        if not ok or image is None:
            return None
        import cv2

        time = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0
        if not (math.isfinite(time) and time > self._time):
            time = self._guess()
        self._time = time
        self._index += 1
        return Frame(self._index - 1, time, image)

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

    def _expected_duration(self) -> tuple[float | None, float]:
        """Return how long the picture should be shown and by how much less will do, seconds."""
        if self.fps is None or self._count is None:
            return None, 0.0
        few_frames = (COUNT_SLACK + 0.5) / self.fps
        own = video_duration(self._path)
        if own is not None:
            return own, few_frames
        duration = self._count / self.fps
        if self._path.suffix.lower() == ".avi":  # its count is that of the pictures
            return duration, few_frames
        return duration, min(SOUND_SLACK, duration / 5)

    def _broke_off(self) -> bool:
        if self._count is None or self._duration is None or self.fps is None:
            return False
        shown = self._time - self._start + 1.0 / self.fps
        return self._index < self._count - COUNT_SLACK and shown < self._duration - self._slack
