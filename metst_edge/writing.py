"""Writing a file so that its name never holds half of it: aside, synced, then renamed.

Knows no format. Whatever goes wrong on the way (a full disk, a signal, a power cut), the name holds what it held.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from metst_edge.closing import Closing


class Output(Closing):
    """A file that is written piece by piece beside its name, and takes the name when it is closed.

    Closed without a piece, it leaves the name as it was; closed after some, an exception under way or not, it holds
    them. Behind a symbolic link the link's target is replaced. What is no regular file (a pipe, a device) is written to
    as it is.

    Args:
        path: to write.

    Attributes:
        path: as given.

    Raises:
        OSError: it cannot be written there; the path is its ``filename``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._target = os.path.realpath(path)
        self._aside: str | None = None
        self._whole = 0  # bytes of pieces that are written
        self._file = -1
        try:
            self._open()
        except OSError as error:
            raise self._named(error) from error

    def _open(self) -> None:
        try:
            there: os.stat_result | None = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is not None and not stat.S_ISREG(there.st_mode):
            self._file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            return
        if there is not None and not os.access(self._target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # renaming would get round it
        folder, name = os.path.split(self._target)
        self._file, self._aside = tempfile.mkstemp(dir=folder, prefix=f".{name[:100]}.", suffix=".part")
        with suppress(OSError):  # not every file system has modes
            os.fchmod(self._file, 0o666 & ~_umask() if there is None else stat.S_IMODE(there.st_mode))

    def write(self, piece: str | bytes) -> None:
        """Write a piece, whole or not at all.

        Args:
            piece: text becomes UTF-8; what cannot be, an escape.

        Raises:
            OSError: it cannot be written. The name stays as it was; pieces before this one stay aside.
        """
        data = memoryview(piece if isinstance(piece, bytes) else piece.encode("utf-8", "backslashreplace"))
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise self._given_up(error) from error
        self._whole = os.lseek(self._file, 0, os.SEEK_CUR) if self._aside else 0

    def close(self) -> None:
        """Take the name, if there is a piece. Calling it twice is harmless."""
        if self._file < 0:
            return
        try:
            if self._aside and self._whole:
                os.ftruncate(self._file, self._whole)  # a piece that was broken off is none
                os.fsync(self._file)
                os.replace(self._aside, self._target)
                self._aside = None
                _sync_folder(os.path.dirname(self._target))
        except OSError as error:
            raise self._given_up(error) from error
        finally:
            self._let_go()

    def _given_up(self, error: OSError) -> OSError:
        """Leave the name alone; keep what is whole aside, and return an error that says where."""
        if self._aside and self._whole:
            with suppress(OSError):
                os.ftruncate(self._file, self._whole)
            kept, self._aside = self._aside, None
            error = OSError(error.errno, f"{error.strerror} (what was written before is in {kept})")
        self._let_go()
        return self._named(error)

    def _let_go(self) -> None:
        if self._aside:
            with suppress(OSError):
                os.unlink(self._aside)
        if self._file >= 0:
            with suppress(OSError):
                os.close(self._file)
        self._aside, self._file = None, -1

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror or str(error), self.path)


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file in one piece; the name holds the old content or the new one.

    Raises:
        OSError: it cannot be written; the path is its ``filename``.
    """
    with Output(path) as output:
        output.write(content)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    with suppress(OSError, StopIteration, ValueError):
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            line = next(line for line in status if line.startswith("Umask:"))
        return int(line.split()[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: str) -> None:
    """Make a renaming last through a power cut, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
