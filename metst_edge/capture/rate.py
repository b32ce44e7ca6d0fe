"""The rate at which pictures were taken, where somebody says it: a user, or a folder's fps.txt."""

from __future__ import annotations

import math
from pathlib import Path

from metst_edge.choices import HIGHEST_RATE, LOWEST_RATE
from metst_edge.errors import SourceError

RATE_FILE = "fps.txt"
"""In a folder of pictures: how many were taken a second, as a number alone, such as 200 or 30000/1001."""


def check_rate(value: str | float, where: str) -> float:
    """Return frames per second.

    Args:
        value: a number, or the text of one or of a fraction.
        where: what says it, for the error.

    Raises:
        SourceError: it is no number of frames per second.
    """
    try:
        over, _, under = str(value).partition("/")
        fps = float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        fps = math.nan
    if not fps > 0 or math.isinf(fps):
        raise SourceError(f"{where}: expected fps to be a number above 0; got {value!r}")
    if not LOWEST_RATE <= fps <= HIGHEST_RATE:
        raise SourceError(f"{where}: expected fps from {LOWEST_RATE:g} to {HIGHEST_RATE:g}; got {value!r}")
    return fps


def rate_of_folder(folder: Path) -> float | None:
    """Return what a folder's fps.txt says; None where it has none.

    Raises:
        SourceError: it holds something else than one number.
    """
    path = folder / RATE_FILE
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return check_rate(file.read(100).decode("utf-8-sig", "replace").strip(), str(path))
