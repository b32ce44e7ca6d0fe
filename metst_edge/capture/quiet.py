"""Keep OpenCV and FFmpeg from writing to stderr what our own exceptions say better.

What the user has set (OPENCV_LOG_LEVEL, OPENCV_FFMPEG_LOGLEVEL, OPENCV_FFMPEG_DEBUG) is left as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

_FFMPEG_QUIET = "-8"  # AV_LOG_QUIET; OpenCV reads it when it first opens a file


@contextmanager
def quiet() -> Iterator[None]:
    """Silence OpenCV for the body, and its FFmpeg for good."""
    if "OPENCV_FFMPEG_DEBUG" not in os.environ:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _FFMPEG_QUIET)
    import cv2

    if "OPENCV_LOG_LEVEL" in os.environ:
        yield
        return
    # OpenCV 4.14 moved both functions.
    log: Any = cv2 if hasattr(cv2, "getLogLevel") else import_module("cv2.utils.logging")
    level = log.getLogLevel()
    log.setLogLevel(0)
    try:
        yield
    finally:
        log.setLogLevel(level)
