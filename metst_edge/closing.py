"""What must be closed, and is where a with statement ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

Self = TypeVar("Self", bound="Closing")


class Closing(ABC):
    """Gives a class that has `close` its with statement."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held. Calling it twice is harmless."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
