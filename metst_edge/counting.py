"""How many of something there are, in words. Imports nothing."""

from __future__ import annotations


def how_many(number: int, what: str, many: str | None = None) -> str:
    """Return a number with its noun.

    Args:
        number: of them.
        what: the noun of one.
        many: of several; by default with an s.
    """
    return f"{number} {what if number == 1 else many or what + 's'}"
