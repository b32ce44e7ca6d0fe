"""The compiled kernels of csrc/cuda, as functions of a library that are called by ctypes. Knows none of them."""

from __future__ import annotations

import ctypes
from pathlib import Path

from metst_edge.errors import EngineError


def load_functions(path: Path | str, prefix: str, version: int, what: str, again: str) -> ctypes.CDLL:
    """Load the library with a set of functions.

    Args:
        path: the library's.
        prefix: of the functions' names; PREFIX_version and PREFIX_text are among them.
        version: that they must be of.
        what: they do, in an error.
        again: what to do about it.

    Raises:
        EngineError: it cannot be loaded, has none, or is of another version.
    """
    try:
        library = ctypes.CDLL(str(path))
        found = getattr(library, f"{prefix}_version")()
    except (OSError, AttributeError) as error:
        raise EngineError(f"{path}: expected a library with {what}, got {error}; {again}") from error
    if found != version:
        raise EngineError(f"{path}: expected version {version} of {what}, got {found}; {again}")
    getattr(library, f"{prefix}_text").restype = ctypes.c_char_p
    return library
