"""Dynamic images: a stretch of pictures as one, by approximate rank pooling. Knows pictures only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.uint8]


def dynamic_image(pictures: Levels) -> Levels:
    """Pool pictures into one that tells how they change over time (Bilen et al., CVPR 2016).

    Args:
        pictures: uint8 (T, 3, S, S), at least one.

    Returns:
        uint8 (3, S, S), its least value as 0 and its greatest as 255; of one picture, that picture.
    """
    if len(pictures) == 1:
        only: Levels = pictures[0]  # whose coefficient is 0: there is no change to tell of
        return only
    pooled = np.tensordot(coefficients(len(pictures)), pictures.astype(np.float64), 1)
    least, greatest = pooled.min(), pooled.max()
    if greatest - least < 1e-6:  # pictures that do not change, but for rounding
        return np.zeros_like(pictures[0])
    scaled: Levels = np.rint((pooled - least) * (255 / (greatest - least))).astype(np.uint8)
    return scaled


def phases(pictures: Levels, apex: int) -> Levels:
    """Return an interval's two dynamic images: onset to apex and apex to offset (arXiv 2510.15466).

    Args:
        pictures: uint8 (n, 3, S, S), of every frame from onset to offset, 2 at least.
        apex: index of the apex among them.

    Returns:
        uint8 (2, 3, S, S).
    """
    # The onset's own picture, flow from itself, shows nothing.
    first = pictures[1 : max(apex, 1) + 1]
    second = pictures[max(apex, 1) :]
    return np.stack((dynamic_image(first), dynamic_image(second)))


def coefficients(length: int) -> npt.NDArray[np.float64]:
    """Return the weight of each of T pictures: 2 (T - t + 1) - (T + 1) (H_T - H_(t-1)), H the harmonic numbers."""
    t = np.arange(1, length + 1)
    harmonic = np.concatenate(([0.0], np.cumsum(1 / t)))
    weights: npt.NDArray[Any] = 2 * (length - t + 1) - (length + 1) * (harmonic[length] - harmonic[t - 1])
    return weights
