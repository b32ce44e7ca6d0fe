"""The last line of a terminal while a stream is watched: what it is doing, how fast, and how much of it went unseen.

Knows no verb and no stage, only the `metst_edge.status.Status` that it is given.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO

from metst_edge.closing import Closing
from metst_edge.status import Status

REDRAW_SECONDS = 0.5
RATE_SECONDS = 3.0
"""Over which the rate is taken."""
STILL_SECONDS = 1.0
"""After which it is said that no frames come."""
CLEAR = "\r\x1b[K"
PART = ", "
NAME_COLUMNS = 12
"""That a source's name has on the line, where it is as long."""


class StatusLine(Closing):
    """Redraws a line until it is closed; does nothing where the file is no terminal.

    Drawn by a thread of its own, since a camera that has stalled calls nobody.

    Args:
        file: to draw on.
        status: returns what is to be told.
        name: of the source.
    """

    def __init__(self, file: TextIO, status: Callable[[], Status], name: str) -> None:
        self._file, self._status, self._name = file, status, name
        self._drawing = threading.Lock()
        self._ended = threading.Event()
        self._rate = Rate()
        self._found = 0
        self._thread: threading.Thread | None = None
        if file.isatty() and os.environ.get("TERM") not in (None, "dumb"):
            self._thread = threading.Thread(target=self._run, name="metst-edge status", daemon=True)
            self._thread.start()

    @contextlib.contextmanager
    def aside(self, found: int = 0) -> Iterator[None]:
        """Take the line away while something else is printed; count what was found."""
        self._found += found
        if self._thread is None:
            yield
            return
        with self._drawing:
            self._write(CLEAR)
            yield
        self._draw()

    def close(self) -> None:
        """Take the line away. Calling it twice is harmless."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self._thread = None
        self._write(CLEAR)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._draw()
            self._ended.wait(REDRAW_SECONDS)

    def _draw(self) -> None:
        with self._drawing:
            status = self._status()
            rate, still = self._rate.of(status.frames, time.monotonic())
            # A column stays free: in the last one, some terminals wrap already.
            self._write(CLEAR + fitted(self._name, describe(status, rate, still, self._found), self._width() - 1))

    def _width(self) -> int:
        """Return the terminal's columns; stdout may be another."""
        try:
            return os.get_terminal_size(self._file.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone needs no status
            self._file.write(text)
            self._file.flush()


class Rate:
    """Frames per second over the last seconds, by counts that are looked at now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._moved: float | None = None

    def of(self, frames: int, now: float) -> tuple[float | None, float]:
        """Take a count.

        Args:
            frames: counted so far.
            now: seconds.

        Returns:
            Frames per second, None until it is known, and the seconds since the count last rose.
        """
        if self._moved is None or not self._seen or frames != self._seen[-1][1]:
            self._moved = now
        if not frames:
            self._seen.clear()  # the time before the first frame says nothing of the rate
        self._seen.append((now, frames))
        while len(self._seen) > 2 and self._seen[1][0] <= now - RATE_SECONDS:
            self._seen.popleft()
        began, before = self._seen[0]
        rate = (frames - before) / (now - began) if now > began else None
        return rate, now - self._moved


def fitted(name: str, text: str, columns: int) -> str:
    """Return a line of a name and a text that fits into so many columns; the name gives way first.

    Args:
        name: of a file, with whatever is in it; from a colon on it has at least `NAME_COLUMNS`, or half the columns.
        text: of parts with ", " between them, of which the last ones give way then.
        columns: of the terminal.
    """
    name = "".join(char if char.isprintable() else "?" for char in name)
    left = max(columns - len(text) - 2, min(NAME_COLUMNS, columns // 2))
    if _columns_of(name) > left:
        while name and _columns_of(name) > left - 3:
            name = name[:-1]
        name += "..."
    line, *parts = f"{name}: {text}".split(PART)
    for part in parts:
        if _columns_of(line + PART + part) > columns:
            break
        line += PART + part
    while _columns_of(line) > columns:
        line = line[:-1]
    return line


def _columns_of(text: str) -> int:
    """Return how many columns a text takes on a terminal: none or two of some characters."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def describe(status: Status, rate: float | None, still: float, found: int) -> str:
    """Return a stream's status in words.

    Args:
        status: to tell.
        rate: frames per second, where known.
        still: seconds since the last frame.
        found: micro-expressions so far.
    """
    if not status.frames:
        return "waiting for the first frame"
    if still > STILL_SECONDS:
        state = f"no frames for {still:.0f} s"
    else:
        state = "following a face" if status.face else "looking for a face"
    parts = [state]
    if rate is not None:
        parts.append(f"{rate:.1f} frames/s")
    share = status.blind / status.seconds if status.seconds else 0.0
    parts.append(f"blind {status.blind:.1f} of {status.seconds:.1f} s ({share:.0%})")
    parts.append(f"{found} found")
    return PART.join(parts)
