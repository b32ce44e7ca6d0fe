"""Who may use an object that is made for one thread at a time, and for how long. Knows nothing of what it guards."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from metst_edge.errors import StateError

CLOSING_SECONDS = 1.0
"""How long `Guard.close` waits for another thread to leave. That thread releases what is held as it leaves."""


class Guard:
    """Lets one thread in at a time, nobody once it is closed, and nobody in a process that was forked off.

    What is held is released when it is closed, or when the owner is forgotten without that. A forked process releases
    nothing: what it sees are copies, whose threads do not run there and would be waited for.

    Args:
        owner: what is guarded.
        name: of it, for messages.
        release: gives back what the owner holds; must not know the owner. Called once at most.
    """

    def __init__(self, owner: object, name: str, release: Callable[[], None]) -> None:
        self._name, self._process = name, os.getpid()
        self._changed = threading.Condition()
        self._user: int | None = None  # the thread that is in
        self._closed = False
        self._release = weakref.finalize(owner, _release_in, self._process, release)
        self._release.atexit = False

    def closed(self) -> bool:
        """Tell whether `close` was called, by whatever thread: who is in should leave soon."""
        return self._closed

    @contextmanager
    def use(self) -> Iterator[None]:
        """Be the one who is in, or raise StateError: forked, closed or busy."""
        if os.getpid() != self._process:  # before the lock, which another thread may have held at the fork
            raise StateError(
                f"expected the process that made the {self._name}, got one that was forked off; make another "
                f"{self._name} here, or start processes by 'spawn'",
                "forked",
            )
        mine = False
        try:
            with self._changed:
                self._check()
                mine, self._user = True, threading.get_ident()
            yield
        finally:
            if mine:
                self._user = None  # first of all: Ctrl-C may come between any two lines
                with self._changed:
                    self._changed.notify_all()
                if self._closed:
                    self._release()

    def _check(self) -> None:
        if self._closed:
            raise StateError(f"expected an open {self._name}, this one was closed; make another", "closed")
        if self._user is not None:
            who = "a callback of its own" if self._user == threading.get_ident() else "another thread"
            raise StateError(
                f"expected one call of the {self._name} at a time, got one from {who} while another was under way; "
                "make one for each thread, or let calls wait for each other",
                "busy",
            )

    def shut(self) -> None:
        """Let nobody in any more; who is in, stays."""
        if os.getpid() == self._process:
            self._closed = True

    def close(self) -> None:
        """Let nobody in any more, and release what is held once nobody is in. Calling it twice is harmless."""
        if os.getpid() != self._process:
            return
        self.shut()
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._user in (None, me), CLOSING_SECONDS)
        if self._user is None:
            self._release()


def _release_in(process: int, release: Callable[[], None]) -> None:
    if os.getpid() == process:
        release()
