"""Frames to H.264 files and back, with the encoder that imageio-ffmpeg carries; the same frames give the same file."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def encode(
    frames: Iterable[Image], size: tuple[int, int], path: Path, fps: float, crf: int, gop: int | None = None
) -> None:
    """Write frames, uint8 (H, W, 3) BGR, as an H.264 file.

    Args:
        frames: one at a time.
        size: their height and width.
        path: of the file.
        fps: frames per second.
        crf: constant rate factor, 0 (lossless) to 51.
        gop: frames from one key frame to the next; where the encoder sets them if not given.

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
        *(() if gop is None else ("-g", str(gop), "-keyint_min", str(gop), "-sc_threshold", "0")),
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
        except BaseException:  # from whoever makes the frames: the encoder would wait for more of them
            process.kill()
            process.wait()
            raise
        status = process.wait()
        if status:
            said.seek(0)
            raise RuntimeError(f"expected a video at {path}, ffmpeg said: {said.read().decode()[-300:].strip()}")


TICKS = 90_000
"""Of a second, in which the times of frames are written."""


def retime(path: Path, out: Path, times: Sequence[float]) -> None:
    """Write a file of even rate again, its frames as they are coded, at the times at which they were taken.

    Args:
        path: what `encode` wrote.
        out: another file.
        times: seconds, rising, one a frame; the first frame begins the file.
    """
    import av

    shown = [round((time - times[0]) * TICKS) for time in times]
    with av.open(str(path)) as before, av.open(str(out), "w") as after:
        packets = [packet for packet in before.demux(video=0) if packet.pts is not None]
        stream = after.add_stream_from_template(before.streams.video[0])
        place = {pts: i for i, pts in enumerate(sorted(packet.pts for packet in packets))}
        order = [place[packet.pts] for packet in packets]  # as coded: some frames build on later ones
        late = max(coded - i for coded, i in enumerate(order))
        for coded, (packet, i) in enumerate(zip(packets, order, strict=True)):
            packet.stream, packet.time_base = stream, Fraction(1, TICKS)
            packet.pts, packet.dts = shown[i], shown[coded - late] if coded >= late else coded - late
            last = i + 1 == len(shown)
            packet.duration = shown[i] - shown[i - 1] if last else shown[i + 1] - shown[i]
            after.mux(packet)


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
