"""Decode a stream: the offline rule with a sliding minute in place of the clip, one frame at a time.

Knows the scores of one unbroken run of frames. Where the run breaks (a gap), the caller flushes.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metst_edge.decode.interval import Interval, check_finite, read_interval
from metst_edge.decode.offline import check_k_p, fixed_span
from metst_edge.decode.settings import DEFAULTS, DecodeSettings, Synergy


class OnlineDecoder:
    """Finds intervals as the scores come in.

    The rule, which looks at nothing but the frames so far:

    - The curve is smoothed as offline, so its value at frame i is known once frame i + k_p - 1 has come.
    - A candidate is a local maximum (a flat top counts at its middle; one longer than the window is none). It is final
      at the first smoothed frame that is k_p after it and past its flat top, unless a higher value came within those
      k_p frames, or a peak was already accepted less than k_p before it (of equals, the first stays).
    - It is accepted if it reaches mean + ratio * (maximum - mean) of the last `window_seconds` of the smoothed curve up
      to that moment, and the floor.

    An event is therefore returned by the `push` of frame apex + 2 k_p - 1 (later only for a flat top of 2 k_p frames or
    more).

    While the stream is younger than the window, the statistics are those of what there is: in the first seconds even
    noise stands out from itself, and the floor is what holds it back. No frame is ignored; set the floor.

    Frames count from 0 at the start, after `reset` and after `flush`. Work per frame is constant on average and memory
    is bounded by the window.

    Args:
        k_p: half the typical duration, frames; peaks are at least this far apart.
        fps: frames per second of the scores.
        ratio: see `DecodeSettings`.
        floor: see `DecodeSettings`.
        synergy: see `DecodeSettings`.
        window_seconds: see `DecodeSettings`; at least 2 k_p + 1 frames.

    Attributes:
        reach: an interval returned by `push` or `flush` lies within so many latest frames; what the caller keeps about
            frames (their times) it may forget beyond.

    Raises:
        ValueError: an unknown mode, or a window too short to hold a peak and its surroundings.
    """

    def __init__(
        self,
        k_p: int,
        fps: float,
        ratio: float = DEFAULTS.ratio,
        floor: float = DEFAULTS.floor,
        synergy: Synergy = DEFAULTS.synergy,
        window_seconds: float = DEFAULTS.window_seconds,
    ) -> None:
        check_k_p(k_p)
        self._settings = DecodeSettings(ratio, floor, synergy, window_seconds)
        if not (math.isfinite(fps) and fps > 0 and math.isfinite(window_seconds)):
            raise ValueError(f"expected fps > 0 and a finite window; got {fps} and {window_seconds} s")
        self._window = round(window_seconds * fps)
        if self._window < 2 * k_p + 1:
            raise ValueError(
                f"expected a window of at least 2 k_p + 1 = {2 * k_p + 1} frames; got {window_seconds} s at {fps} fps"
            )
        # A span starts k_p before its apex, which lies at most half a window and 2 k_p back.
        self.reach = self._window // 2 + 3 * int(k_p) + 1
        self._k_p = int(k_p)
        self.reset()

    @classmethod
    def of(cls, settings: DecodeSettings, k_p: int, fps: float) -> OnlineDecoder:
        """Set up an empty stream with the settings of a bundle."""
        return cls(k_p, fps, settings.ratio, settings.floor, settings.synergy, settings.window_seconds)

    def reset(self) -> None:
        """Forget everything; the next frame is frame 0."""
        self._frames = 0
        # The surroundings of the next smoothed value; zeros stand for what lies before the start.
        self._spot: deque[float] = deque([0.0] * (2 * self._k_p), maxlen=2 * self._k_p)
        self._next = 1 - self._k_p  # the frame they surround
        self._logits: deque[NDArray[np.float64]] = deque(maxlen=self.reach)
        self._statistics = _SlidingStatistics(self._window)
        self._value = math.inf  # the latest smoothed value; from here it can only fall: no peak at frame 0
        self._top: int | None = None  # the frame to which the curve last rose, until it falls
        self._candidates: deque[tuple[int, float]] = deque()  # frame and value, values never rising
        self._accepted = -self._k_p  # the latest accepted peak; so far none that is near

    def push(self, spot: float, logits: NDArray[Any]) -> list[Interval]:
        """Take the scores of the next frame and return the intervals that are final with it, in time order.

        Args:
            spot: spotting score after the sigmoid.
            logits: (E,) emotion logits, neutral last.

        Raises:
            ValueError: a score that is not finite, or logits of another shape; the frame is then not taken.
        """
        spot, row = float(spot), np.array(logits, dtype=np.float64)
        if row.ndim != 1 or len(row) < 2 or (self._logits and len(row) != len(self._logits[-1])):
            raise ValueError(
                "expected logits (E,) with the same E >= 2 for every frame, neutral last; "
                f"got shape {row.shape} at frame {self._frames}"
            )
        check_finite(f"spotting score at frame {self._frames}", [spot])
        check_finite(f"emotion logits at frame {self._frames}", row)
        self._frames += 1
        self._logits.append(row)
        return self._advance(spot)

    def flush(self) -> list[Interval]:
        """End the stream and return the intervals it still held; the decoder is then as new.

        The end is that of a clip: the smoothed curve is completed with zeros, a candidate needs no frames beyond its
        end, and those still waiting there are judged by the window that ends with it.
        """
        intervals: list[Interval] = []
        if self._frames:
            for _ in range(self._k_p - 1):
                intervals += self._advance(0.0)
        while self._candidates:
            intervals += self._judge(*self._candidates.popleft())
        self.reset()
        return intervals

    def _advance(self, spot: float) -> list[Interval]:
        """Smooth the next frame that can be smoothed and judge the candidates that are final with it."""
        self._spot.append(spot)
        frame = self._next
        self._next += 1
        if frame < 0:
            return []
        value = math.fsum(self._spot) / len(self._spot)
        self._statistics.push(value)
        while self._candidates and self._candidates[-1][1] < value:
            self._candidates.pop()
        if value > self._value:
            self._top = frame
        elif value < self._value and self._top is not None:
            if frame - self._top <= self._window:
                self._candidates.append(((self._top + frame - 1) // 2, self._value))
            self._top = None
        self._value = value
        intervals: list[Interval] = []
        while self._candidates and self._candidates[0][0] + self._k_p <= frame:
            intervals += self._judge(*self._candidates.popleft())
        return intervals

    def _judge(self, peak: int, value: float) -> list[Interval]:
        """Accept the peak or not by the statistics of now; a list of one interval or none."""
        mean, maximum = self._statistics.mean, self._statistics.maximum
        height = max(self._settings.floor, mean + self._settings.ratio * (maximum - mean))
        if peak - self._accepted < self._k_p or value < height:
            return []
        self._accepted = peak
        first = max(peak - self._k_p, 0)
        held = self._frames - len(self._logits)
        rows = np.stack(list(islice(self._logits, first - held, peak + self._k_p + 1 - held)))
        span, synergy = fixed_span(peak, self._k_p), self._settings.synergy
        interval = read_interval(span, value, rows, first, self._frames, synergy)
        return [] if interval is None else [interval]


class _SlidingStatistics:
    """Mean and maximum of the last `length` values, in constant time per value on average.

    The running sum is a whole number of 2^-1074, the spacing of the smallest doubles: adding and taking away are exact,
    so the mean does not drift however long the stream runs.
    """

    _BITS = 1074

    def __init__(self, length: int) -> None:
        self._length = length
        self._values: deque[float] = deque()
        self._sum = 0
        self._count = 0  # values ever pushed
        self._maxima: deque[tuple[int, float]] = deque()  # values that may still become the maximum, falling

    def push(self, value: float) -> None:
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
        return self._sum / (len(self._values) << self._BITS)

    @property
    def maximum(self) -> float:
        return self._maxima[0][1]

    def _whole(self, value: float) -> int:
        numerator, denominator = value.as_integer_ratio()  # the denominator is a power of two
        return numerator << (self._BITS + 1 - denominator.bit_length())
