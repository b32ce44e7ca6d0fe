"""What must be closed, and is where a with statement ends."""

from __future__ import annotations

from typing import TypeVar

Self = TypeVar("Self", bound="Closing")


class Closing:
    """Gives a class that has `close` its with statement."""

    def close(self) -> None:
        """Give back what is held. Calling it twice is harmless."""
        raise NotImplementedError

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
