"""Fit an interval to the curve around each peak (prior-guided video-level regression, arXiv 2508.18834).

Works on the raw spotting curve; knows peaks and k_p, not how the peaks were found.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OVERLAP = 0.2
"""Intervals that share this much (IoU) with one kept before are dropped."""
REACH = 5
"""An interval is moved outwards while its end is at most this many k_p from its peak."""
RISE = 1.5
"""A sample counts as the curve's rise when it exceeds mean / RISE."""


class Span(NamedTuple):
    """An interval in frames, both ends inclusive and inside the clip, and the frame of the peak it was fitted to."""

    onset: int
    apex: int
    offset: int
    peak: int


class End(NamedTuple):
    """One end of an interval.

    Attributes:
        distance: frames from the peak.
        settled: whether it stays there whatever samples follow, where the curve is known only in part.
    """

    distance: int
    settled: bool


def adaptive_spans(spot: NDArray[np.float64], peaks: list[int], k_p: int) -> list[Span]:
    """Return every interval kept, in order of onset, inside the clip.

    Args:
        spot: float64 (n,), not smoothed.
        peaks: frames of the smoothed curve's peaks, rising.
        k_p: half the median duration, frames.
    """
    if not peaks:
        return []
    curve = spot.tolist()
    mean = statistics.mean(curve)
    spans = []
    for peak in peaks:
        onset = peak - find_end(curve[peak::-1], k_p, mean).distance
        offset = peak + find_end(curve[peak:], k_p, mean).distance
        spans.append(Span(onset, onset + highest(curve[onset : offset + 1]), offset, peak))
    kept: list[Span] = []
    # With one mean, onsets rise with the peaks: this is the peaks' order, in which a stream decides.
    for span in sorted(spans, key=lambda span: span.onset):
        if is_apart(span, kept, k_p):
            kept.append(span)
    return kept


def find_end(outward: Sequence[float], k_p: int, mean: float) -> End:
    """Return where an interval ends on one side of its peak.

    First it ends before the outermost rise towards the peak within k_p, else k_p from the peak. From there it moves
    outwards until two successive samples lie below the mean, the nearer one at most REACH k_p from the peak, and ends
    just inside them; where there are no such two, it stays.

    Args:
        outward: the curve from the peak outwards, the peak first, to the clip's end or as far as it is known; at least
            k_p samples beside the peak, where more are to come.
        k_p: half the median duration, frames.
        mean: of the curve.
    """
    last = len(outward) - 1
    end = min(k_p, last)
    for i in range(end - 1, 0, -1):
        if outward[i] > outward[i + 1] and outward[i] > mean / RISE:
            end = i + 1
            break
    limit = REACH * k_p
    for i in range(end + 1, min(limit, last - 1) + 1):
        if outward[i] < mean and outward[i + 1] < mean:
            return End(i - 1, True)
    return End(end, last > limit or (last == limit and outward[limit] >= mean))


def highest(curve: Sequence[float]) -> int:
    """Return the index of the highest sample, of equals the first."""
    return max(range(len(curve)), key=curve.__getitem__)


def is_apart(span: Span, kept: Iterable[Span], k_p: int) -> bool:
    """Whether an interval overlaps none of those kept by OVERLAP and its apex is more than k_p from theirs."""
    return all(_iou(span, other) < OVERLAP and abs(span.apex - other.apex) > k_p for other in kept)


def _iou(a: Span, b: Span) -> float:
    """As published: of lengths from the first frame to the last, not of counted frames as in `metst_edge.matching`."""
    shared = min(a.offset, b.offset) - max(a.onset, b.onset)
    union = max(a.offset, b.offset) - min(a.onset, b.onset)
    return shared / union if shared > 0 else 0.0
