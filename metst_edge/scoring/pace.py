"""What the steps from frame to frame say of a source: whether it keeps pace with the model, and its clock's unit.

Knows times only. What is done about a source that is too slow is the scorer's business.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from statistics import median_low

from metst_edge.capture.retime import HOLE
from metst_edge.errors import TimestampError

STEPS = 5
"""Steps between frames that the median is taken of; fewer at the beginning."""
FEWEST = 3
"""Steps before there is a median: one pause is none."""
SLOW, FAST = 2.2, 2.05
"""Grid periods: a source whose median step is above the first is too slow, until it is no longer above the second. Half
the grid's rate (2.0), and what is refused before it is read (0.95 of that, 2.11), pass."""

FRAME_NUMBERS = 3.0
"""Whole steps up to this are of frames that are counted, perhaps every second or third one."""
UNITS = (("nanoseconds", "1e9", 1e6), ("microseconds", "1e6", 1e3), ("milliseconds", "1000", 0.0))
"""Name, how many are a second, and from how many on a step between frames is one in this unit: a millisecond."""


class Pace:
    """Watches the steps from frame to frame.

    Args:
        fps: of the model's grid.

    Attributes:
        slow: whether the source is too slow, as of the last frame.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self.reset()

    def reset(self) -> None:
        """Forget the video."""
        self.slow = False
        self._last: float | None = None
        self._steps: deque[float] = deque(maxlen=STEPS)  # grid periods

    def push(self, time: float) -> bool:
        """Take the next frame's time, seconds; return whether the source is too slow."""
        if self._last is not None:
            self._steps.append((time - self._last) * self._fps)
        self._last = time
        if len(self._steps) >= FEWEST:
            self.slow = median_low(self._steps) > (FAST if self.slow else SLOW)
        return self.slow

    @property
    def interrupted(self) -> bool:
        """Whether the last step was a hole in time by itself."""
        return bool(self._steps) and self._steps[-1] > HOLE


class SecondsCheck:
    """Refuses times that are no seconds: frame numbers, milliseconds, and finer units.

    No camera is slower than a frame a second, for several frames in a row.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=FEWEST)

    def took(self, time: float) -> None:
        """Take note of a frame's time."""
        self._times.append(time)

    def check(self, time: float) -> None:
        """Refuse a time that, with the frames taken before it, is none in seconds.

        Raises:
            TimestampError: it is not; the message names what it may be.
        """
        times = [*self._times, time]
        steps = [later - earlier for earlier, later in pairwise(times)]
        if len(steps) < FEWEST or min(steps) < 1.0:
            return
        step = median_low(steps)
        if step <= FRAME_NUMBERS and all(step.is_integer() for step in steps):
            likely = "frame numbers? divide them by the frame rate"
        else:
            name, factor = next((name, factor) for name, factor, least in UNITS if step >= least)
            likely = f"{name}? divide them by {factor}"
        raise TimestampError(
            f"expected timestamps in seconds, got {', '.join(f'{time:g}' for time in times)}, {step:g} apart: are they "
            f"{likely}; reset before you begin anew"
        )
