"""What people see of a command: lines, tables and progress, and how stdout, stderr and files are written to.

Knows no verb and no option; whatever draws is imported once it does.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from metst_edge.app.opinions import missing, said
from metst_edge.counting import how_many

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.analyzer import Progress
    from metst_edge.events import Event
    from metst_edge.recognise.second import Opinions
    from metst_edge.report import Report

REDRAW_SECONDS = 0.2
REMARKS = "metst_edge.capture.remarks"
"""The log in which a source says what it takes its pictures for."""
_ARGUMENT = re.compile(r"\b(engine|precision|flow|face|decoder|synergy)='([a-z0-9_]+)'")


def tell(line: str) -> None:
    """Print a line of ours to stderr; where that is gone, with its terminal or its disk, nobody is told."""
    with contextlib.suppress(OSError):
        print(f"metst-edge: {line}", file=sys.stderr, flush=True)


def tell_error(error: BaseException, more: str = "") -> None:
    """Print what went wrong as a line of ours, in the words of the command line, and what else there is to say."""
    tell(f"error: {as_options(str(error))}{more}")


def as_options(text: str) -> str:
    """Return a message with options in place of Python's arguments: ``engine='native'`` is --engine native here."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')} {found[2]}", text)


@contextlib.contextmanager
def logged(level: str = "warning") -> Iterator[None]:
    """Show what the package logs, from a level on, as lines of ours on stderr."""
    handler = _Lines()
    logger = logging.getLogger("metst_edge")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # A status line, where there is one, is drawn again below.
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""
        with contextlib.suppress(OSError):
            # What a source has to tell is no warning of anything, only shown as long as those are.
            level = "" if record.name == REMARKS else f"{record.levelname.lower()}: "
            print(f"{clear}metst-edge: {level}{as_options(record.getMessage())}", file=sys.stderr, flush=True)


def tell_missing(opinions: Opinions) -> None:
    """Print a line to stderr where intervals have no second opinion."""
    line = missing(asdict(opinions))
    if line is not None:
        tell(line)


def describe(event: Event) -> str:
    """Return an event as a line for people."""
    from metst_edge.events import Gap

    if isinstance(event, Gap) and event.end is None:
        return f"{event.start:8.2f} -      s  gap: {event.reason.replace('_', ' ')}"
    if isinstance(event, Gap):
        end = "..." if event.end is None else f"{event.end:.2f}"
        return f"{event.start:8.2f} - {end} s  gap: {event.reason.replace('_', ' ')}"
    line = f"{event.onset:8.2f} - {event.offset:.2f} s  {event.emotion:<9} apex {event.apex:.2f} s"
    line += f"  score {event.score:.2f}"
    if event.emotion in event.probabilities:
        line += f"  p({event.emotion}) {event.probabilities[event.emotion]:.2f}"
    if event.motion:
        line += f"  moved: {event.motion[0]}"
    if event.recognizer is not None:
        line += f"  revised: {event.recognizer.name} says {said(event.recognizer.probabilities)}"
    return line


def show_report(console: Console, report: Report) -> None:
    """Print a report as a table of its events, or as one line where there are none."""
    from rich.table import Table
    from rich.text import Text

    found = how_many(len(report.micro_expressions), "micro-expression")
    frames = how_many(report.frames, "frame") + ("" if report.complete else ", broken off")
    title = f"{report.source}: {found} in {report.duration:.1f} s ({frames})"
    if not report.events:
        console.print(title, highlight=False, markup=False)
        return
    table = Table(title=Text(title), title_justify="left")
    for name in ("onset s", "apex s", "offset s", "score", "p"):
        table.add_column(name, justify="right")
    table.add_column("emotion")
    if report.recognizer is not None:
        table.add_column(Text(report.recognizer))
    for event in report.events:
        fields = event.to_dict()
        if fields["type"] == "gap":
            reason = f"[dim]gap: {fields['reason'].replace('_', ' ')}[/dim]"
            table.add_row(f"{fields['start']:.2f}", "", f"{fields['end']:.2f}", "", "", reason)
        else:
            times = [f"{fields[name]:.2f}" for name in ("onset", "apex", "offset", "score")]
            probability = fields["probabilities"].get(fields["emotion"])
            cells = [*times, "" if probability is None else f"{probability:.2f}", fields["emotion"]]
            if fields.get("recognizer"):
                cells.append(said(fields["recognizer"]["probabilities"]))
            table.add_row(*cells)
    console.print(table)


def console_on(file: TextIO) -> Console:
    """Return a console that leaves a closed pipe to the caller, and cuts nothing that goes to a pipe or a file."""
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process; the command line knows better

    # A pipe has no width of its own: wide enough that no table cell is cut.
    return PipeConsole(file=file, width=None if file.isatty() else 120)


@contextlib.contextmanager
def progress(name: str, quiet: bool = False) -> Iterator[Progress]:
    """Show a progress bar on a terminal; yield what is to be called with the steps done and in all."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Drawn between frames, not by a thread of its own: that would take its time from the frame being measured.
    bar = Bar(*columns, console=console, transient=True, disable=quiet or not console.is_terminal, auto_refresh=False)
    drawn = -math.inf

    def advance(done: int, total: int | None) -> None:
        nonlocal drawn
        due = time.monotonic() - drawn >= REDRAW_SECONDS
        bar.update(task, completed=done, total=total, refresh=due)
        if due:
            drawn = time.monotonic()

    with bar:
        task = bar.add_task(escape(name), total=None)
        yield advance


@contextlib.contextmanager
def quiet_native_stderr() -> Iterator[None]:
    """Keep what the native code of OpenCV, FFmpeg and MediaPipe prints off the terminal.

    They log before any setting of theirs is read, so file descriptor 2 is put aside, and what Python prints goes to a
    copy of it. METST_EDGE_VERBOSE=1 shows everything.
    """
    python_stderr = sys.stderr
    if os.environ.get("METST_EDGE_VERBOSE") or python_stderr is None:  # None where a daemon has closed it
        yield
        return
    python_stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, null)
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        stack.callback(setattr, sys, "stderr", python_stderr)
        os.dup2(null, 2)
        if python_stderr is sys.__stderr__:
            sys.stderr = stack.enter_context(open(kept, "w", buffering=1, errors="backslashreplace", closefd=False))
        yield
