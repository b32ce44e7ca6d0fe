"""Fit intervals to a stream's curve while its samples come: `metst_edge.decode.adaptive` one frame at a time.

Knows the raw curve and which peaks were accepted, and when; not how they were found, nor emotions.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from metst_edge.decode.adaptive import REACH, Span, find_end, highest, is_apart
from metst_edge.decode.sliding import SlidingStatistics


@dataclass(frozen=True, slots=True)
class _Open:
    """A peak whose interval may still grow.

    Attributes:
        peak: frame.
        score: height of the smoothed curve there.
        mean: of the curve when it was accepted.
        onset: of its interval.
        curve: the samples from the onset on.
    """

    peak: int
    score: float
    mean: float
    onset: int
    curve: list[float]


class StreamFitter:
    """Fits intervals to peaks, and gives each as soon as no sample to come can change it.

    The mean that an interval is fitted against is that of the window of samples which ends where its peak is accepted.
    Intervals are closed in the order of their peaks, since one kept before may rule another out: an interval waits for
    those of earlier peaks.

    Args:
        k_p: half the median duration, frames.
        window: samples in the sliding window.
        behind: an accepted peak lies at most so many frames before the latest one.
    """

    def __init__(self, k_p: int, window: int, behind: int) -> None:
        self._k_p = k_p
        self._latest: deque[float] = deque(maxlen=behind + REACH * k_p + 2)
        self._frames = 0
        self._statistics = SlidingStatistics(window)
        self._open: deque[_Open] = deque()
        # An interval and its apex lie within REACH k_p of its peak, so what was kept 2 REACH + 1 peaks ago, which are
        # at least k_p apart, can rule nothing out.
        self._kept: deque[Span] = deque(maxlen=2 * REACH + 1)

    def push(self, spot: float) -> None:
        """Take the next sample of the curve."""
        self._frames += 1
        self._latest.append(spot)
        self._statistics.push(spot)
        for fit in self._open:
            fit.curve.append(spot)

    def accept(self, peak: int, score: float) -> None:
        """Take a peak of the smoothed curve, at least k_p samples before the latest one unless the stream has ended."""
        mean = self._statistics.mean
        known = list(self._latest)
        at = peak - (self._frames - len(known))
        start = at - find_end(known[at::-1], self._k_p, mean).distance
        self._open.append(_Open(peak, score, mean, peak - (at - start), known[start:]))

    def settled(self, ended: bool = False) -> list[tuple[Span, float]]:
        """Return the intervals that are final now and kept, with their scores; all of them where the stream ended."""
        found: list[tuple[Span, float]] = []
        while self._open:
            fit = self._open[0]
            before = fit.peak - fit.onset
            end = find_end(fit.curve[before:], self._k_p, fit.mean)
            if not (end.settled or ended):
                break
            self._open.popleft()
            apex = fit.onset + highest(fit.curve[: before + end.distance + 1])
            span = Span(fit.onset, apex, fit.peak + end.distance, fit.peak)
            if is_apart(span, self._kept, self._k_p):
                self._kept.append(span)
                found.append((span, fit.score))
        return found
