"""Where a command writes what it found: checked before the work, so that no result takes the place of an input.

Knows no verb. How a file is written is `metst_edge.writing`'s business.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from metst_edge.errors import OutputError
from metst_edge.writing import Output

STDOUT = "-"
"""As the name of an output."""

RESULTS = (".json", ".jsonl", ".csv", ".pdf", ".svg", ".txt", ".log")
"""Endings of what may lie in a folder that is read: none of them is taken for a picture or a clip."""


class Writer(Protocol):
    """Takes a result piece by piece."""

    def write(self, piece: str) -> None: ...


def check(outputs: Sequence[tuple[str, str]], inputs: Iterable[str | Path]) -> None:
    """Refuse outputs that would take the place of an input or of each other, by whatever name or link, or cannot be.

    Args:
        outputs: (option, path) each; "-" is stdout.
        inputs: paths and URIs that are read; what is no path is left alone.

    Raises:
        OutputError: one does, would lie among the pictures of a folder that is read, or cannot be written.
    """
    read = [path for name in inputs for path in _paths(name)]
    if all(output != STDOUT for _, output in outputs) and _is_file(1):
        outputs = [("stdout", STDOUT), *outputs]  # where the table goes
    for option, output in outputs:
        for path in read:
            if output != STDOUT and _same(output, path):
                raise OutputError(f"{option} {output}: expected a file of its own, got the input {path}")
            if output != STDOUT and path.is_dir() and _among(Path(output), path):
                raise OutputError(
                    f"{option} {output}: expected a file outside the folder {path}, which is read and would take it "
                    "for one of its own"
                )
    for i, (option, output) in enumerate(outputs):
        for other, before in outputs[:i]:
            if _same(output, before):
                raise OutputError(
                    f"{option} {output}: expected a file of its own, got that of {other}; give each result another"
                )
    for option, output in outputs:
        if output != STDOUT:
            _expect_writable(option, output)


@contextmanager
def opened(path: str) -> Iterator[Writer]:
    """Open an output, which takes its name when all is written; "-" is stdout.

    Raises:
        OSError: it cannot be written; the path is its ``filename``.
    """
    if path == STDOUT:
        yield _Stdout()
        return
    with Output(path) as output:
        yield output


def _expect_writable(option: str, output: str) -> None:
    """Refuse what cannot be written as things are, so that nobody hears of it when the work is done."""
    folder = os.path.dirname(os.path.realpath(output))
    if os.path.isdir(output):
        raise OutputError(f"{option} {output}: expected a file to write, got a folder; give a name in it")
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.exists(folder) else "does not exist; make it first"
        raise OutputError(f"{option} {output}: expected a file in a folder that is there, but {folder} {what}")
    if not os.access(output if os.path.exists(output) else folder, os.W_OK):
        raise OutputError(f"{option} {output}: expected a file that may be written, got none that this user may write")


class _Stdout:
    """stdout as an output: what fails is told by name."""

    def write(self, piece: str) -> None:
        try:
            sys.stdout.write(piece)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, "stdout") from error


def _paths(name: str | Path) -> Iterator[Path]:
    """Yield what a source's name may mean as a path."""
    text = str(name)
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() not in ("file", "folder"):
        return
    texts = [text] if not separator else [unquote(rest)]
    texts += [part for part in (text.partition("?")[0] for text in texts) if part not in texts]
    for text in filter(None, texts):
        try:
            yield Path(text).expanduser()
        except RuntimeError:  # ~name, and there is no such user
            yield Path(text)


def _same(one: str | Path, other: str | Path) -> bool:
    """Tell whether two names are of one file: the same path, or the same file by links of either kind."""
    first, second = _identity(one), _identity(other)
    if first is not None and second is not None:
        return first == second and first != _identity(os.devnull)
    if STDOUT in (one, other):
        return one == other
    return os.path.realpath(one) == os.path.realpath(other)


def _identity(path: str | Path) -> tuple[int, int] | None:
    """Return what is the same for all names of a file; None where there is none."""
    try:
        status = os.fstat(1) if path == STDOUT else os.stat(path)
    except (OSError, ValueError):  # whatever is wrong with it, opening it will tell
        return None
    return status.st_dev, status.st_ino


def _is_file(descriptor: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _among(output: Path, folder: Path) -> bool:
    """Tell whether an output would lie in a folder and be taken for a picture or a clip there."""
    if output.suffix.lower() in RESULTS:
        return False
    return _same(os.path.dirname(os.path.realpath(output)), folder)
