"""What all verbs do with the terminal: a bar while they work, Ctrl-C, and errors of one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.data.errors import DataError


def console() -> Console:
    """Return the console that results go to."""
    return Console(highlight=False)


def bar(on: Console, *columns: TextColumn) -> Progress:
    """Return a progress bar with more columns behind the share that is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *columns,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=on,
    )


def expect_place(out: Path) -> None:
    """Check that a folder can be made and written to, before the work whose results go there.

    Raises:
        DataError: it is a file, or lies where this user may not write.
    """
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise DataError(f"expected a folder that can be written to, got {out}: {there} is none; name another place")


def expect_file(out: Path) -> None:
    """Check that a file can be written, before the work whose result it is to hold.

    Raises:
        DataError: it is a folder, or lies where this user may not write.
    """
    if out.is_dir():
        raise DataError(f"expected a file to write, got the folder {out}; name a file in it")
    expect_place(out.parent)


def expect_device(name: str) -> None:
    """Check that torch can compute on a device.

    Raises:
        DataError: it cannot, or there is none of that name.
    """
    import torch

    try:
        torch.zeros(1, device=name).item()
    except Exception as error:  # of many kinds, some of forty lines
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"expected --device cpu, or one that torch can use here, got {name!r} ({reason})") from error


@contextmanager
def ctrl_c() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C instead of breaking off in the middle of a step; the second one breaks off.

    Yields:
        Tells whether there was one.
    """
    asked = False

    def note(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def refused_input() -> Iterator[None]:
    """Turn what the synthesis says about its input into an error of one line."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error)) from error
