"""The selective scan in float64 NumPy, as metst/selective_scan.h defines it: what every scan is held against."""

from __future__ import annotations

import numpy as np


def reference(
    u: np.ndarray,
    delta: np.ndarray,
    A: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
    D: np.ndarray | None = None,
    z: np.ndarray | None = None,
    delta_bias: np.ndarray | None = None,
    h0: np.ndarray | None = None,
    delta_softplus: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return y, h and the sums of magnitudes behind their elements, in float64, as the definition reads."""
    u, delta, A, B, C = (np.asarray(x, np.float64) for x in (u, delta, A, B, C))
    batch, length, channels = u.shape
    dt = delta if delta_bias is None else delta + np.asarray(delta_bias, np.float64)
    if delta_softplus:
        dt = np.logaddexp(0.0, dt)
    h = np.zeros((batch, channels, A.shape[1])) if h0 is None else np.asarray(h0, np.float64)
    skip = np.zeros(channels) if D is None else np.asarray(D, np.float64)
    size_h = np.abs(h)
    y, size_y = np.empty_like(u), np.empty_like(u)
    for t in range(length):
        decay = np.exp(dt[:, t, :, None] * A)
        entering = (dt[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        h = decay * h + entering
        size_h = decay * size_h + np.abs(entering)
        y[:, t] = np.einsum("bdn,bn->bd", h, C[:, t]) + skip * u[:, t]
        size_y[:, t] = np.einsum("bdn,bn->bd", size_h, np.abs(C[:, t])) + np.abs(skip * u[:, t])
    if z is not None:
        z = np.asarray(z, np.float64)
        gate = z / (1.0 + np.exp(-z))
        y, size_y = y * gate, size_y * np.abs(gate)
    return y, h, size_y, size_h


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference over the largest expected magnitude."""
    if expected.size == 0:
        return 0.0
    return float(np.abs(actual - expected).max() / np.abs(expected).max())
