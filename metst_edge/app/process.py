"""What a process of ours owes its surroundings: open descriptors, signals that end it with its results written.

Knows no verb. Imports nothing heavy, since it is there before anything else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

AGAIN_SECONDS = 0.05
"""After which a signal that came in the middle of an import is heard."""

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, a terminal that is closed."""


def keep_standard_descriptors() -> None:
    """Open /dev/null in place of each of the descriptors 0, 1 and 2 that is closed.

    A daemon closes them, and the next file that is opened would be one of them: a library's log would land in it.
    """
    for descriptor, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            file = open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, file)


def give_up_stdout() -> None:
    """Let what is still to be written to stdout go nowhere: it is full or closed, and ending would try it once more."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Let each of `STOPPING` end the body with a KeyboardInterrupt, so that what was found is written.

    One that comes in the middle of an import waits until that is over: libraries take an interruption of theirs for a
    broken installation, or are left half loaded. One that is ignored (nohup) stays ignored.
    """
    before = {}
    with contextlib.suppress(ValueError):  # only the main thread may
        for number in (*STOPPING, signal.SIGALRM):
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN and handler is not None:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)


def _stop(number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        return
    for other in signal.SIGTERM, signal.SIGHUP:
        # They come in pairs, and the second would break off the writing; Ctrl-C can still do so.
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
