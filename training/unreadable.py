"""Why a small file that somebody names cannot be read, in a few words for an error of one line.

Knows the standard library only, so that export may use it too.
"""

from __future__ import annotations

from pathlib import Path

UNREADABLE = (OSError, ValueError, RecursionError)
"""What reading a file of text or JSON fails with, whatever is in it."""


def why(path: Path, error: Exception) -> str:
    """Say why a file cannot be read, and what to do where that helps.

    Args:
        path: of the file.
        error: one of UNREADABLE.
    """
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return "there is no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return "it is a folder; name a file"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text"
    return str(error) if path.stat().st_size else "it is empty"
