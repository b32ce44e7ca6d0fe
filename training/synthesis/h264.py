"""Frames to H.264 files and back, with the encoder that imageio-ffmpeg carries; the same frames give the same file."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def encode(frames: Iterable[Image], size: tuple[int, int], path: Path, fps: float, crf: int) -> None:
    """Write frames, uint8 (H, W, 3) BGR, as an H.264 file.

    Raises:
        ValueError: odd height or width.
        RuntimeError: the encoder failed.
    """
    import imageio_ffmpeg  # type: ignore[import-untyped]

    height, width = size
    if height % 2 or width % 2:
        raise ValueError(f"expected even height and width for H.264, got {height}x{width}")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        *("-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}"),
        *("-r", str(fps), "-i", "-", "-an", "-c:v", "libx264", "-preset", "medium", "-crf", str(crf)),
        # One thread and no encoder banner: the same frames give the same file.
        *("-pix_fmt", "yuv420p", "-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *("-movflags", "+faststart", str(path)),
    ]
    # What the encoder says goes to a file: nobody reads a pipe while frames are being written.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
        assert process.stdin is not None
        try:
            for frame in frames:
                process.stdin.write(np.ascontiguousarray(frame).data)
            process.stdin.close()
        except BrokenPipeError:
            pass  # It ended early; its exit status and last words follow.
        finally:
            status = process.wait()
        if status:
            said.seek(0)
            raise RuntimeError(f"expected a video at {path}, ffmpeg said: {said.read().decode()[-300:].strip()}")


def decode(path: Path) -> Image:
    """Read a video file whole: uint8 (n, H, W, 3), BGR."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    frames = []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame)
    capture.release()
    return np.array(frames, np.uint8)


def recompress(frames: Iterable[Image], size: tuple[int, int], fps: float, crf: int) -> Image:
    """Return frames as they come back from an H.264 file: uint8 (n, H, W, 3), BGR."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        encode(frames, size, path, fps, crf)
        return decode(path)
