"""The online rule read plainly, one prefix of the curve at a time, and what streams need to be set beside it."""

import statistics
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import find_peaks

from metst_edge.decode import OnlineDecoder

FPS = 10.0


def any_curve(longest):
    """Draw a test's spot, k_p, ratio, floor and window_seconds: any curve of at most so many frames."""
    ratios, windows = st.sampled_from([0.0, 0.3, 0.55, 1.0]), st.sampled_from([1.1, 2.0, 60.0])
    spot = st.lists(st.floats(0, 1), max_size=longest)
    return _drawn(spot, st.integers(1, 5), ratios, st.sampled_from([0.0, 0.2]), windows)


def plateaus_and_ties(longest):
    """Draw a test's spot, k_p, ratio and window_seconds: a curve of levels, each of at most so many frames."""
    levels = st.tuples(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(1, longest))
    spot = st.lists(levels, max_size=12).map(lambda runs: [level for level, length in runs for _ in range(length)])
    return _drawn(spot, st.integers(1, 5), st.sampled_from([0.0, 0.55]), st.sampled_from([1.1, 1.6, 60.0]))


def _drawn(*strategies):
    return lambda test: settings(max_examples=60, deadline=None)(given(*strategies)(test))


def stream(spot, logits, **parameters):
    """Return the events as (frame that returned it, interval); those of flush come at frame n."""
    decoder = OnlineDecoder(fps=FPS, **parameters)
    events = []
    for frame, (score, row) in enumerate(zip(spot, logits, strict=True)):
        events += [(frame, interval) for interval in decoder.push(score, row)]
    return events + [(len(spot), interval) for interval in decoder.flush()]


def causal_run(spot, k_p, ratio, floor, window_seconds):
    """The rule as it is written, slowly: everything anew from the prefix at every step, except what was decided.

    Returns (frame that returns it, apex, score) of every accepted peak.
    """
    window, n = round(window_seconds * FPS), len(spot)
    accepted, decided = [], set()
    for known in range(1, n + 1):  # so many values of the smoothed curve
        prefix = [float(score) for score in spot[: known + k_p - 1]]
        padded = [0.0] * k_p + prefix + [0.0] * k_p
        sums = [sum(map(Fraction, padded[i : i + 2 * k_p])) for i in range(known)]
        curve = np.array([float(total) / (2 * k_p) for total in sums])
        recent = curve[-window:]
        mean, maximum = statistics.mean(recent.tolist()), recent.max()
        height = max(floor, mean + ratio * (maximum - mean))
        peaks, tops = find_peaks(curve, plateau_size=(1, window))
        for peak, right in zip(peaks, tops["right_edges"], strict=True):
            final = known > right + 1 and known > peak + k_p
            if peak in decided or not (final or known == n):
                continue
            decided.add(peak)
            superseded = curve[peak + 1 : peak + k_p + 1].max() > curve[peak]
            near = any(peak - apex < k_p for _, apex, _ in accepted)
            if not superseded and not near and curve[peak] >= height:
                accepted.append((min(known + k_p - 2, n), peak, curve[peak]))
    return accepted


def bump(n, at, height=0.9, width=4.0):
    return height * np.exp(-(((np.arange(n) - at) / width) ** 2))
