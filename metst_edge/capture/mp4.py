"""How long the picture of an MP4 or MOV file is shown, from its headers.

OpenCV reports the frames stored. A file trimmed by an edit list shows fewer, so only this tells a whole file from one
that breaks off. Box layout: ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_LARGEST_HEADER = 64 << 20  # bytes; the headers of a day of video


def video_duration(path: Path) -> float | None:
    """Return the duration of the first video track in seconds, edits applied; None where it is not told."""
    try:
        with path.open("rb") as file:
            moov = _find_moov(file)
        return None if moov is None else _duration(moov)
    except (OSError, struct.error):
        return None


def _find_moov(file: BinaryIO) -> bytes | None:
    """Walk the boxes at the top level, without reading the pictures between them."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        read = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            read = 16
        if kind == b"moov":
            return file.read(size - read) if read <= size <= _LARGEST_HEADER else None
        if size < read:  # 0: up to the end of the file; anything else is no box
            return None
        file.seek(size - read, 1)
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _duration(moov: bytes) -> float | None:
    scale = 0
    for kind, body in _boxes(moov):
        if kind == b"mvhd":
            (scale,) = struct.unpack_from(">I", body, 20 if body[:1] == b"\x01" else 12)
        elif kind == b"trak" and _is_video(body):
            header = dict(_boxes(body)).get(b"tkhd", b"")
            long = header[:1] == b"\x01"
            (duration,) = struct.unpack_from(">Q" if long else ">I", header, 28 if long else 20)
            unknown = duration in (0, 2**32 - 1, 2**64 - 1)  # fragmented files do not know theirs
            return None if unknown or not scale else duration / scale
    return None


def _is_video(track: bytes) -> bool:
    media = dict(_boxes(dict(_boxes(track)).get(b"mdia", b"")))
    return media.get(b"hdlr", b"")[8:12] == b"vide"
