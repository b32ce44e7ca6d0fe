"""The online rule read plainly, one prefix of the curve at a time, and what streams need to be set beside it."""

import statistics
from fractions import Fraction

import numpy as np
from scipy.signal import find_peaks

from metst_edge.decode import OnlineDecoder

FPS = 10.0


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
