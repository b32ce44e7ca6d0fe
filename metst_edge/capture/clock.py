"""The time of every frame of a file, from what its container says of them, some of which may be wrong.

Knows numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

LATER = 4
"""Frames that are looked at ahead to tell whether a time is out of line."""
ALONE = 2
"""Frames; so many at most at either end may lie far from all others, and have wrong times then."""
FAR = 1.0
"""Seconds."""
NEVER = 1e8
"""Seconds, three years; a time beyond them is none."""
LONG = 2.5
"""Periods; a step of more is no step from frame to frame."""
PAUSE = 10.0
"""Seconds; so far two frames that follow each other may lie from all others, and be right: cameras pause when they have
just begun."""


class Clock:
    """Gives frames their times, rising, in seconds.

    A container's time is taken as it is where it fits its neighbours. It does not where it does not rise, where more of
    the frames after it fall back behind it than go on from it, or where one or two frames lie far from all others, at
    the start or the end, but for two that follow each other after or before a short pause. Such a frame gets the time
    it should have: one period after the frame before, but before the next one that is right.
    Frames after it keep their own times. Where all times begin anew, as in recordings that were joined, they go on from
    the last one.

    Args:
        fps: frames per second, nominal; None where it is unknown.

    Attributes:
        time: the one given last; -inf before the first.

    Example:
        >>> clock = Clock(10.0)
        >>> [clock.take(times) for times in ([0.0, 99.0, 0.2], [99.0, 0.2], [0.2])]
        [0.0, 0.1, 0.2]
    """

    def __init__(self, fps: float | None) -> None:
        self._period = None if fps is None else 1.0 / fps
        self.time = -math.inf
        self._shift = 0.0  # to be added to the container's times
        self._alone = 0  # frames at the start whose times are not to be read
        self._taken = 0

    def take(self, times: Sequence[float], ended: bool = False) -> float | None:
        """Return the time of the next frame.

        Args:
            times: seconds by the container, NaN where it does not tell: the frame's, and those of up to LATER after it.
            ended: whether these frames are the last.

        Returns:
            Seconds; None where neither the container nor the rate tells.
        """
        times = [time if -NEVER < time < NEVER else math.nan for time in times]
        if self._taken == 0:
            self._begin(times)
        now, *later = (time + self._shift for time in times)
        if self._anew(now, later):
            self._shift += self.time + (self._period or later[0] - now) - now
            now, *later = (time + self._shift for time in times)
        if self._taken < self._alone or self._wrong(now, later, ended):
            guessed = self._first(now, later) if self._taken == 0 else self._guess(later)
            if guessed is None:
                return None
            now = guessed
        self._taken += 1
        self.time = now
        return now

    def _begin(self, times: Sequence[float]) -> None:
        """Tell whether frames at the start are alone; then the others follow a period after them."""
        for number in range(1, min(ALONE + 1, len(times) - 1)):
            steps = [b - a for a, b in pairwise(times[number:])]
            together = all(0 < step < FAR for step in steps)
            if number == ALONE and self._paused(times[1] - times[0], times[2] - times[1]):
                continue
            if together and not any(abs(times[number] - time) < FAR for time in times[:number]):
                self._alone = number
                self._shift = number * (self._period or steps[0]) - times[number]

    def _anew(self, now: float, later: Sequence[float]) -> bool:
        """Tell whether the times begin anew: they rise from here on, but all lie before the last one."""
        rising = all(b > a for a, b in pairwise((now, *later)))
        return len(later) >= LATER and later[-1] <= self.time and rising

    def _wrong(self, now: float, later: Sequence[float], ended: bool) -> bool:
        if not now > self.time:
            return True
        if any(self.time < time < now for time in later):
            on, back = ([time for time in later if time > least] for least in (now, self.time))
            if self._taken == 0:
                return 1 + _rising(on) < _rising(back)
            return len(later) < LATER or 1 + _rising(on) <= _rising(back)
        if not ended or len(later) >= ALONE or self._period is None or self._taken == 0:
            return False
        if later and self._paused(later[0] - now, now - self.time):
            return False
        return now - self.time > max(FAR, LONG * self._period)

    def _paused(self, step: float, pause: float) -> bool:
        """Tell whether two frames, a step apart, may be right though a pause lies between them and all others."""
        return 0 < step <= LONG * (self._period or FAR / LONG) and 0 < pause < PAUSE

    def _first(self, now: float, later: Sequence[float]) -> float:
        """Return the first frame's time, one period before the others but not before 0: then they are moved."""
        if self._alone:
            return 0.0
        known = [time - (self._period or 0.0) for time in later if time >= 0.0]
        first = min([*known, now] if now >= 0.0 else known, default=0.0)
        self._shift -= min(first, 0.0)
        return max(first, 0.0)

    def _guess(self, later: Sequence[float]) -> float | None:
        for number, time in enumerate(later, 2):
            if time > self.time and not any(self.time < after < time for after in later[number - 1 :]):
                even = (time - self.time) / number
                return self.time + (even if self._period is None else min(self._period, even))
        return None if self._period is None else self.time + self._period


def _rising(times: Sequence[float]) -> int:
    """Return how many of these times rise, if as few as possible are left out."""
    longest: list[int] = []
    for number, time in enumerate(times):
        longest.append(1 + max((longest[i] for i in range(number) if times[i] < time), default=0))
    return max(longest, default=0)
