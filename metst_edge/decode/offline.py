"""Decode a whole clip: smooth the spotting curve, pick its peaks, make each an interval with an emotion.

The rule is that of ME-TST (arXiv 2409.09707); `metst_edge.decode.online` is its causal counterpart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from metst_edge.decode.adaptive import adaptive_spans
from metst_edge.decode.interval import Interval, check_finite, check_priors, read_interval
from metst_edge.decode.settings import DEFAULTS, DecodeSettings, Method, Synergy
from metst_edge.labels import LABELS


def decode(
    spot: NDArray[Any],
    logits: NDArray[Any],
    k_p: int,
    ratio: float = DEFAULTS.ratio,
    floor: float = DEFAULTS.floor,
    synergy: Synergy = DEFAULTS.synergy,
    method: Method = DEFAULTS.decoder,
    class_priors: Sequence[float] = (),
    min_score: float = DEFAULTS.min_score,
) -> list[Interval]:
    """Return the micro-expressions of a clip, in time order.

    Args:
        spot: float (n,), the spotting score of every frame after the sigmoid.
        logits: float (n, E), the emotion logits of every frame, neutral last.
        k_p: half the typical duration, frames; peaks are at least this far apart.
        ratio: see `DecodeSettings`.
        floor: see `DecodeSettings`.
        synergy: see `DecodeSettings`.
        method: "fixed" or "adaptive"; see `DecodeSettings.decoder`.
        class_priors: added to the logits of every frame before they vote, one number a label in the order of the
            logits; see `DecodeSettings.priors`. Empty: none.
        min_score: see `DecodeSettings`.

    Raises:
        ValueError: shapes that do not belong together, scores that are not finite, an unknown mode.
    """
    spot, logits = np.asarray(spot, dtype=np.float64), np.asarray(logits, dtype=np.float64)
    if spot.ndim != 1 or logits.ndim != 2 or len(logits) != len(spot) or logits.shape[1] < 2:
        raise ValueError(
            f"expected spot (n,) and logits (n, E), E >= 2 with neutral last; got {spot.shape} and {logits.shape}"
        )
    check_k_p(k_p)
    settings = DecodeSettings(ratio, floor, synergy)
    priors = check_priors(class_priors, logits.shape[1])
    check_finite("spotting scores", spot)
    check_finite("emotion logits", logits)
    smoothed = smooth(spot, k_p)
    peaks = find_peaks(smoothed, threshold(smoothed, settings.ratio, settings.floor), k_p)
    if method == "fixed":
        spans = [(fixed_span(peak, k_p), peak) for peak in peaks]
    elif method == "adaptive":
        spans = [(span[:3], span.peak) for span in adaptive_spans(spot, peaks, k_p)]
    else:
        raise ValueError(f"expected method to be one of {', '.join(get_args(Method))}; got {method!r}")
    intervals = (
        read_interval(span, float(smoothed[peak]), logits, 0, len(spot), settings.synergy, priors)
        for span, peak in spans
    )
    return [interval for interval in intervals if interval is not None and interval.score >= min_score]


def decode_clip(
    spot: NDArray[Any], logits: NDArray[Any], k_p: int, settings: DecodeSettings, labels: Sequence[str] = LABELS
) -> list[Interval]:
    """As `decode`, with the settings of a bundle and the labels of its logits; a clip is its own window."""
    s = settings
    return decode(spot, logits, k_p, s.ratio, s.floor, s.synergy, s.decoder, s.priors(labels), s.min_score)


def fixed_span(peak: int, k_p: int) -> tuple[int, int, int]:
    """Return onset, apex, offset of a peak, not clipped to the clip."""
    return peak - k_p, peak, peak + k_p


def smooth(spot: NDArray[np.float64], k_p: int) -> NDArray[np.float64]:
    """Return the mean of each frame's surroundings i - k_p .. i + k_p - 1, with zeros outside the clip.

    This is a convolution 'same' with a box of 2 k_p. Sums are rounded once (fsum), so that equal surroundings give
    equal values, plateaus are flat, and the stream reproduces every bit.

    Args:
        spot: float64 (n,).
        k_p: frames.

    Returns:
        float64 (n,).
    """
    padded = [0.0] * k_p + spot.tolist() + [0.0] * (k_p - 1)
    width = 2 * k_p
    return np.array([math.fsum(padded[i : i + width]) / width for i in range(len(spot))], dtype=np.float64)


def threshold(smoothed: NDArray[np.float64], ratio: float, floor: float) -> float:
    """Return the height a peak must reach: mean + ratio * (maximum - mean), and never less than the floor."""
    if len(smoothed) == 0:
        return floor
    mean = math.fsum(smoothed) / len(smoothed)
    return max(floor, mean + ratio * (float(smoothed.max()) - mean))


def find_peaks(curve: NDArray[np.float64], height: float, distance: int) -> list[int]:
    """Return the local maxima that reach `height`, thinned until they are `distance` apart, in order.

    A maximum is higher than what is beside it on both sides, so the ends of the curve are none; a flat top counts once,
    at its middle (the earlier of two). Higher peaks go first and push out what is nearer than `distance`. This is how
    scipy.signal.find_peaks reads `height` and `distance`. Of equal peaks the later goes first here; in SciPy it is the
    one that its sort, which is not stable, happens to put last, so where peaks of the very same height lie nearer than
    `distance` the published code, which calls it, may keep another one of them.

    Args:
        curve: float64 (n,).
        height: inclusive.
        distance: frames, at least 1.
    """
    peaks = [peak for peak in _local_maxima(curve) if curve[peak] >= height]
    kept = set(peaks)
    for peak in sorted(peaks, key=lambda peak: (curve[peak], peak), reverse=True):
        if peak in kept:
            kept -= {p for p in range(peak - distance + 1, peak + distance) if p != peak}
    return sorted(kept)


def _local_maxima(curve: NDArray[np.float64]) -> list[int]:
    if len(curve) < 3:
        return []
    starts = np.concatenate(([0], np.flatnonzero(np.diff(curve)) + 1))  # first frame of every flat stretch
    ends = np.concatenate((starts[1:], [len(curve)])) - 1
    level = curve[starts]
    above = (level[1:-1] > level[:-2]) & (level[1:-1] > level[2:])
    middles: list[int] = ((starts[1:-1] + ends[1:-1]) // 2)[above].tolist()
    return middles


def check_k_p(k_p: int) -> None:
    """Raise ValueError unless `k_p` is a positive whole number."""
    if isinstance(k_p, bool) or not isinstance(k_p, (int, np.integer)) or k_p < 1:
        raise ValueError(f"expected k_p to be a whole number of frames, at least 1; got {k_p!r}")
