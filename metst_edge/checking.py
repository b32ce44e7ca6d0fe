"""Arguments that are of the wrong type or out of range become one error that names them; knows what none of them means.

Type hints say the same, but who calls from a notebook or with what a file held has nothing that reads them.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from typing import Any, TypeVar

from metst_edge.errors import OptionError

T = TypeVar("T")


def text(name: str, value: T, choices: Iterable[str] = ()) -> T:
    """Return a value that is a str.

    Args:
        name: of the argument, for the error.
        value: what came.
        choices: what is told as expected; that the value is one of them, its user checks.

    Raises:
        OptionError: it is something else.
    """
    if not isinstance(value, str):
        raise OptionError(f"expected {name} as a text{_such_as(choices)}, got {value!r}")
    return value


def path(name: str, value: T, what: str) -> T:
    """Return a value that is a str or a path.

    Args:
        name: of the argument, for the error.
        value: what came.
        what: is expected, in words.

    Raises:
        OptionError: it is something else, or an empty text, which would be the current folder.
    """
    if not isinstance(value, (str, os.PathLike)) or value == "":
        raise OptionError(f"expected {name} to be {what}, got {value!r}")
    return value


def function(name: str, value: T, called: str) -> T:
    """Return a value that can be called, or None.

    Args:
        name: of the argument, for the error.
        value: what came.
        called: what with, in words.

    Raises:
        OptionError: it is something else.
    """
    if value is not None and not callable(value):
        raise OptionError(f"expected {name} to be a function, called with {called}, or None; got {value!r}")
    return value


def whole(name: str, value: Any, least: int, most: int, otherwise: str) -> int:
    """Return a whole number, of whatever integer type.

    Args:
        name: of the argument, plural, for the error.
        value: what came.
        least: that it may be.
        most: likewise.
        otherwise: what else can be done.

    Raises:
        OptionError: it is no whole number, or out of the range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise OptionError(f"expected {name} as a whole number from {least} to {most}, got {value!r}; {otherwise}")
    if number < least:
        raise OptionError(f"expected at least {least} {name.removesuffix('s')}, got {number}; {otherwise}")
    if number > most:
        raise OptionError(f"expected at most {most} {name}, got {number}; {otherwise}")
    return number


def _such_as(choices: Iterable[str]) -> str:
    named = ", ".join(map(repr, choices))
    return f", one of {named}" if named else ""
