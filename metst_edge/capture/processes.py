"""Sources that have threads behind them belong to the process that opened them: a fork leaves the threads behind."""

from __future__ import annotations

import ctypes
import os
import weakref

from metst_edge.closing import Closing
from metst_edge.errors import SourceError


class OfOneProcess(Closing):
    """A source that a forked process can neither read nor free: both would wait for threads that are not there."""

    uri: str
    forked = False
    """Whether this is the copy of a source that the parent has opened."""

    def __init__(self) -> None:
        _OPEN.add(self)

    def _never_freed(self) -> list[object]:
        """Return what must never be freed in a forked process."""
        return []

    def _check_process(self) -> None:
        if self.forked:
            raise SourceError(
                f"{self.uri}: expected to be read by the process that opened it; this one was forked from it later; "
                "open sources in the process that reads them"
            )


_OPEN: weakref.WeakSet[OfOneProcess] = weakref.WeakSet()


def _after_fork() -> None:
    for source in list(_OPEN):
        source.forked = True
        for thing in source._never_freed():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
