"""How many of something there are, and which, in words. Imports nothing."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 8
"""Things that are listed before the rest is only counted: nobody reads a hundred names in an error."""


def some(things: Sequence[str], between: str = "; ") -> str:
    """Return the first of some things, and how many more there are."""
    more = len(things) - MOST
    return between.join(things[:MOST]) + (f"{between}and {more} more" if more > 0 else "")


def how_many(number: int, what: str, many: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        number: of them.
        what: the noun of one.
        many: of several; by default with an s.
    """
    return f"{number} {what if number == 1 else many or what + 's'}"
