"""Sources as nobody should make them, drawn from seeds: names, videos, folders of pictures, times.

    python -m tests.capture.fuzz videos 0 25000

runs the seeds from 0 on and prints each that fails, or the one under way where the process dies.
"""

import math
import os
import random
import sys
import tempfile
import traceback
from pathlib import Path
from urllib.parse import quote

import av
import cv2
import numpy as np

from metst_edge.capture import check_frame, clips_of, open_source, source
from metst_edge.capture.clock import LATER, Clock
from metst_edge.errors import FrameError, SourceError

FRAMES = 12
"""Read of a source, at most."""
PIECES = (
    *(
        "http:",
        "http://",
        "tcp:",
        "file://",
        "folder://",
        "camera://",
        "concat:",
        "subfile,,:",
        "pipe:",
        "fd:",
        "data:",
    ),
    *(
        "?",
        "?fps=",
        "fps=",
        "&",
        "=",
        "30",
        "1e999",
        "-1",
        "nan",
        "1/0",
        "%",
        "%00",
        "%zz",
        "|",
        ":",
        "/",
        "//",
        "..",
        ".",
    ),
    *(
        "~",
        "~root",
        "~nobody-of-this-name",
        "\0",
        "\n",
        "\ud800",
        "é",
        "٣",
        "²",
        " ",
        "a.mp4",
        "frames",
        "clips",
        "*",
        "x" * 300,
    ),
)


def names(rng: random.Random, folder: Path) -> None:
    """Open a name made of pieces that mean something somewhere."""
    name = "".join(rng.choices(PIECES, k=rng.randrange(6)))
    if rng.random() < 0.2:
        name = (
            f"{rng.choice(('file://', 'folder://', ''))}{quote(str(folder / name), safe='/', errors='surrogatepass')}"
        )
    clips_of(name)
    with open_source(rng.choice((name, Path(name))), rng.choice((None, None, 30.0, 0.0, math.nan, 1e9))) as opened:
        read(opened)


def videos(rng: random.Random, folder: Path) -> None:
    """Read a damaged video."""
    path = folder / rng.choice(("a.mp4", "a.mkv", "a.avi", "a.h264", "a.nut", "a.gif"))
    path.write_bytes(damaged(rng, video(path.suffix)))
    with open_source(path, rng.choice((None, None, 60.0))) as opened:
        read(opened)


def pictures(rng: random.Random, folder: Path) -> None:
    """Read a folder of pictures of odd names, some of them damaged."""
    for _ in range(rng.randrange(5)):
        stem = "".join(
            rng.choices(("img", "1", "2", "007", "_", "é", "٣", "²", "-5", "9" * 60, "poster", ".", " "), k=3)
        )
        kind = rng.choice((".png", ".jpg", ".bmp", ".PNG", ".mp4", ".txt"))
        data = picture(
            rng.choice((".png", ".jpg", ".bmp", ".tiff")), rng.choice((np.uint8, np.uint16)), rng.randrange(3)
        )
        (folder / f"{stem}{kind}").write_bytes(damaged(rng, data) if rng.random() < 0.5 else data)
    if rng.random() < 0.5:
        said = rng.choice((b"30", b"", b"30000/1001", b"1/0", b"\xff\xfe", b"nan", b"1e308", b"9" * 90))
        (folder / "fps.txt").write_bytes(said)
    clips_of(str(folder))
    with open_source(folder, rng.choice((None, 30.0))) as opened:
        read(opened)


def times(rng: random.Random, folder: Path) -> None:
    """Give a clock times of every kind: those it gives back rise, and are numbers."""
    kinds = (
        lambda i: i / 30,
        lambda i: rng.uniform(-5, 5),
        lambda i: rng.choice((math.nan, math.inf, -math.inf, 0, 1e300)),
    )
    told = [rng.choices(kinds, (rng.choice((1, 20)), 1, 1))[0](i) for i in range(rng.randrange(40))]
    clock, last = Clock(rng.choice((30.0, 1e-3, 1e5))), -math.inf
    for i in range(len(told)):
        time = clock.take(told[i : i + 1 + LATER], i + 1 + LATER >= len(told))
        assert time is not None and last < time < math.inf, (told, i, time)
        last = time


KINDS = {"names": names, "videos": videos, "pictures": pictures, "times": times}


def run(kind: str, seed: int) -> None:
    """Run one; whatever it raises but what is documented is a mistake of ours."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            KINDS[kind](random.Random(f"{kind} {seed}"), Path(folder))
        except (SourceError, FrameError) as error:
            assert str(error)
        finally:
            os.chdir(here)


def read(opened) -> None:
    """Read a source's frames as far as FRAMES; they are as they should be."""
    last = -math.inf
    for number, frame in zip(range(FRAMES), opened, strict=False):
        assert frame.index == number and last < frame.timestamp < math.inf
        last = frame.timestamp
        try:
            check_frame(frame.given)
        except FrameError:
            return
        assert frame.image.shape[:2] == frame.gray.shape


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return data cut, overwritten, moved or repeated in places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        if not out:
            break
        # Half of it near the start, where headers are.
        at = rng.randrange(min(len(out), rng.choice((256, len(out)))))
        length = rng.choice((1, 1, 2, 4, 8, 64))
        what = rng.randrange(6)
        if what == 0:
            out[at : at + length] = rng.randbytes(length)
        elif what == 1:
            out[at : at + length] = rng.choice((b"\0", b"\xff", b"\x80", b"\x7f")) * length
        elif what == 2:
            del out[at : at + length]
        elif what == 3:
            out[at:at] = out[at : at + length]
        elif what == 4:
            other = rng.randrange(len(out))
            out[at : at + length] = out[other : other + length]
        elif rng.random() < 0.2:
            del out[at:]
    return bytes(out)


_MADE: dict[object, bytes] = {}


def video(suffix: str) -> bytes:
    """Return a small video."""
    if suffix not in _MADE:
        path = Path(tempfile.mkdtemp()) / f"a{suffix}"
        codec, form = {".gif": ("gif", "rgb8"), ".h264": ("libx264", "yuv420p")}.get(suffix, ("mpeg4", "yuv420p"))
        rng = np.random.default_rng(0)
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 48, form
            for _ in range(FRAMES):
                level = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
            container.mux(stream.encode())
        _MADE[suffix] = path.read_bytes()
        path.unlink()
        path.parent.rmdir()
    return _MADE[suffix]


def picture(kind: str, dtype: type, size: int) -> bytes:
    """Return a small picture."""
    key = kind, dtype, size
    if key not in _MADE:
        top = 255 if dtype is np.uint8 or kind in (".jpg", ".bmp") else 4095
        shape = ((48, 64), (48, 64, 3), (40, 64, 3))[size]
        image = np.random.default_rng(0).integers(0, top + 1, shape).astype(np.uint8 if top == 255 else dtype)
        _MADE[key] = cv2.imencode(kind, image)[1].tobytes()
    return _MADE[key]


def without_cameras() -> None:
    """Let no name open a camera of this machine."""

    def refused(index: int, uri: str) -> None:
        raise SourceError(f"{uri}: no camera here")

    source.Camera = refused


if __name__ == "__main__":
    without_cameras()
    wanted, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    under_way = Path(tempfile.gettempdir()) / f"fuzz-{wanted}-{first}"
    failed = 0
    for number in range(first, first + count):
        under_way.write_text(str(number))
        try:
            run(wanted, number)
        except Exception:
            failed += 1
            print(wanted, number, traceback.format_exc(), flush=True)
    under_way.unlink()
    print(f"{wanted}: {count} runs from {first}, {failed} failed")
