"""Fit an interval to the curve around each peak (prior-guided video-level regression, arXiv 2508.18834).

Works on the raw spotting curve; knows peaks and k_p, not how the peaks were found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OVERLAP = 0.2
"""Intervals that share this much (IoU) with one kept before are dropped."""
REACH = 5
"""An interval ends at most this many k_p from its peak."""
RISE = 1.5
"""A sample counts as the curve's rise when it exceeds mean / RISE."""


def adaptive_spans(spot: NDArray[np.float64], peaks: list[int], k_p: int) -> list[tuple[int, int, int, int]]:
    """Return (onset, apex, offset, peak) of every interval kept, in order of onset, inside the clip.

    Args:
        spot: float64 (n,), not smoothed.
        peaks: frames of the smoothed curve's peaks.
        k_p: half the median duration, frames.
    """
    if not peaks:
        return []
    mean = float(spot.mean())
    last = len(spot) - 1
    spans = []
    for peak in peaks:
        onset = _end(spot, peak, k_p, mean)
        # The offset is the onset of the curve read backwards.
        offset = last - _end(spot[::-1], last - peak, k_p, mean)
        spans.append((onset, onset + int(np.argmax(spot[onset : offset + 1])), offset, peak))
    kept: list[tuple[int, int, int, int]] = []
    for span in sorted(spans):
        if all(_iou(span, other) < OVERLAP and abs(span[1] - other[1]) > k_p for other in kept):
            kept.append(span)
    return kept


def _end(spot: NDArray[np.float64], peak: int, k_p: int, mean: float) -> int:
    """Return the frame before the peak where the interval starts."""
    end = max(peak - k_p, 0)
    for i in range(max(peak - k_p + 1, 1), peak):
        if spot[i] > spot[i - 1] and spot[i] > mean / RISE:
            end = i - 1
            break
    while end > max(peak - REACH * k_p, 0) and (spot[max(end - 2, 0) : end] >= mean).any():
        end -= 1
    return end


def _iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    shared = min(a[2], b[2]) - max(a[0], b[0]) + 1
    union = (a[2] - a[0] + 1) + (b[2] - b[0] + 1) - max(shared, 0)
    return max(shared, 0) / union
