"""What all verbs do with the terminal: a bar while they work, Ctrl-C, and errors of one line."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
