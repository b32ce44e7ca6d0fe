"""Mean and maximum of the latest values of a stream. Knows numbers only."""

from __future__ import annotations

from collections import deque


class SlidingStatistics:
    """Mean and maximum of the last `length` values, in constant time per value on average.

    The running sum is a whole number of 2^-1074, the spacing of the smallest doubles: adding and taking away are exact,
    so the mean does not drift however long the stream runs.

    Args:
        length: how many values count, at least 1.
    """

    _BITS = 1074

    def __init__(self, length: int) -> None:
        self._length = length
        self._values: deque[float] = deque()
        self._sum = 0
        self._count = 0  # values ever pushed
        self._maxima: deque[tuple[int, float]] = deque()  # values that may still become the maximum, falling

    def push(self, value: float) -> None:
        """Take the next value."""
        if len(self._values) == self._length:
            self._sum -= self._whole(self._values.popleft())
        self._values.append(value)
        self._sum += self._whole(value)
        while self._maxima and self._maxima[-1][1] <= value:
            self._maxima.pop()
        self._maxima.append((self._count, value))
        self._count += 1
        if self._maxima[0][0] < self._count - self._length:
            self._maxima.popleft()

    @property
    def mean(self) -> float:
        """Of at least one value."""
        return self._sum / (len(self._values) << self._BITS)

    @property
    def maximum(self) -> float:
        """Of at least one value."""
        return self._maxima[0][1]

    def _whole(self, value: float) -> int:
        numerator, denominator = value.as_integer_ratio()  # the denominator is a power of two
        return numerator << (self._BITS + 1 - denominator.bit_length())
