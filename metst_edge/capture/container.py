"""Opening a video's container, and what it tells of its picture before a frame is decoded.

Knows PyAV's containers; FFmpeg is given a file's bytes and nothing else to read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from metst_edge.capture.frames import native_path
from metst_edge.capture.picture import MOST
from metst_edge.errors import SourceError

COUNT_SLACK = 2
"""Frames; a container's count is often off by one or two."""
SOUND_SLACK = 1.0
"""Seconds, or a fifth of a short file; a container tells how long its longest stream is, maybe sound."""
HIGHEST_FPS = 1000.0
"""What lies above is a container's tick rate, not a frame rate."""
SLOWED = 1.5
"""Times as many frames a second taken as shown, then it is slow motion; or shown as taken, then it is time lapse."""
RAW = ("h264", "hevc", "vvc", "obu", "av1", "m4v", "mpegvideo", "mjpeg", "vc1", "h261", "h263", "cavsvideo", "dirac")
"""FFmpeg's demuxers of what comes out of an encoder, without times: FFmpeg numbers such pictures as if 25 were taken a
second."""
FORMATS = (
    *("mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "live_flv", "asf", "ogg", "mxf", "rm", "dv", "nut"),
    *("ivf", "yuv4mpegpipe", "gif", "apng", "wtv", "gxf", "swf", "vc1test", "nsv", "nuv", "r3d", "mvi", "smjpeg"),
    *RAW,
)
"""FFmpeg's demuxers of files that hold a video. Playlists, and what describes a connection, are not among them."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a whole file should show, as far as its container tells.

    Attributes:
        frames: how many.
        seconds: how long.
        slack: by how many seconds less will do.
    """

    frames: int | None
    seconds: float | None
    slack: float


def open_file(path: Path) -> BinaryIO:
    """Open a video's file.

    Raises:
        SourceError: there is none, it is no file, empty, or may not be read.
    """
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


def open_container(path: Path, file: BinaryIO) -> tuple[Any, Any]:
    """Open a file and pick its picture: no name is taken for a URL, and no playlist is followed to other files.

    Raises:
        SourceError: it is no video, or PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise SourceError(
            f"expected PyAV to read video files, got: {error}; install it with: pip install av"
        ) from error
    options = {"protocol_whitelist": "none", "format_whitelist": ",".join(FORMATS)}
    try:
        container = av.open(file, metadata_errors="replace", options=options)
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
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
    if stream.codec_context is None:
        name = container.format.name
        container.close()
        raise SourceError(
            f"{path}: expected a video file; this one ({name}) is of a codec that FFmpeg does not know; check that it "
            "plays, or convert it to MP4 (H.264)"
        )
    stream.thread_type = "AUTO"
    # A picture that says it is larger is refused by the decoder, before its memory is taken.
    stream.codec_context.options = {"max_pixels": str(MOST)}
    return container, stream


def timeless(container: Any) -> bool:
    """Tell whether frames have no times of their own but what FFmpeg makes up."""
    return container.format.name in RAW


def rate_of(container: Any, stream: Any) -> float | None:
    """Return the frame rate of a stream where it keeps it: pauses, and frames that are late, do not lower it."""
    rates = (stream.guessed_rate, stream.average_rate)
    for rate in (stream.codec_context.framerate,) if timeless(container) else rates:
        if rate and 0.0 < rate <= HIGHEST_FPS:
            return float(rate)
    return None


def taken_at(container: Any, stream: Any, fps: float | None) -> float | None:
    """Return how many frames a second were taken, where a phone says so and shows them at another pace; else None."""
    said = _text_of({**container.metadata, **stream.metadata}, "com.android.capture.fps")
    try:
        taken = float(said or 0)
    except ValueError:
        return None
    if fps is None or not 0 < taken <= HIGHEST_FPS:
        return None
    return taken if taken >= SLOWED * fps or SLOWED * taken <= fps else None


def expected_of(container: Any, stream: Any, fps: float | None, file: BinaryIO) -> Expected:
    """Return what a whole file should show."""
    count, cut = stream.frames or None, _cut(file)
    if fps is None or timeless(container):
        return Expected(count, None, 0.0)
    few_frames = (COUNT_SLACK + 0.5) / fps
    start = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
    # The picture's own, less what an edit list hides. FFmpeg makes an AVI's of what there is, of its header the count.
    ticks = count if container.format.name == "avi" else stream.duration
    own = _seconds(_text_of(stream.metadata, "DURATION"))
    if cut is None and not own:  # FFmpeg guesses how long by the size of the file
        return Expected(count, None, 0.0)
    if ticks and stream.time_base:
        seconds, slack = float(ticks * stream.time_base), few_frames
    elif own:
        seconds, slack = own - start, few_frames
    elif container.duration:
        seconds = container.duration / 1e6 - start
        slack = few_frames if cut else min(SOUND_SLACK, seconds / 5)
    else:
        return Expected(count, None, 0.0)
    # At a variable rate there are fewer frames than the rate makes of the time.
    shown = max(1, round(seconds * fps))
    return Expected(shown if count is None else min(count, shown), seconds, slack)


def _text_of(metadata: Mapping[str, str], name: str) -> str | None:
    """Return an entry; names may have a language behind them (DURATION-eng)."""
    return next((value for key, value in metadata.items() if key.partition("-")[0] == name), None)


def _seconds(text: str | None) -> float | None:
    """Return the seconds of Matroska's 00:00:22.000000000."""
    found = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)", (text or "").strip("\0 "))
    if found is None:
        return None
    hours, minutes, seconds = (float(part) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _cut(file: BinaryIO) -> bool | None:
    """Tell whether a Matroska or WebM file is shorter than it says itself; None where it does not say.

    EBML (RFC 8794): a file is a header and a segment, each an identifier, a size of 1 to 8 bytes whose leading zeros
    tell how many, and so many bytes. A size of ones only is unknown, as of a live recording.
    """
    place = file.tell()
    try:
        file.seek(0)
        head = file.read(4096)
        end = file.seek(0, 2)
    finally:
        file.seek(place)
    at = 0
    for identifier in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[at : at + 4] != identifier or len(head) <= at + 4:
            return False
        length = 9 - head[at + 4].bit_length()
        if length > 8:
            return False
        ones = (1 << 7 * length) - 1
        size = int.from_bytes(head[at + 4 : at + 4 + length], "big") & ones
        at += 4 + length + size
        if size == ones:
            return None
    return at > end
