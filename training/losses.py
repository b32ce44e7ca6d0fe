"""What training minimises: how far the spotting curve is off, and how wrong each frame's emotion is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from metst_edge.labels import LABELS, NEUTRAL

SPOT_WEIGHT = 0.9
"""Share of the spotting error; the emotion error has the rest (ME-TST, arXiv 2409.09707)."""

NEUTRAL_FACTOR = 6.0
"""Neutral's balanced weight is multiplied by this (same source)."""


def class_weights(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Weigh each class inversely to its share of the frames ("balanced"), neutral times six.

    Args:
        labels: int64, any shape: the class of every training frame.

    Returns:
        float32 (E,): frames / (occurring classes * frames of the class); 0 for a class without frames.
    """
    counts = np.bincount(labels.ravel(), minlength=len(LABELS)).astype(np.float64)
    occurring = counts > 0
    weights = np.zeros(len(LABELS))
    weights[occurring] = counts.sum() / (occurring.sum() * counts[occurring])
    weights[LABELS.index(NEUTRAL)] *= NEUTRAL_FACTOR
    return weights.astype(np.float32)


def loss(spot: Tensor, logits: Tensor, y: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute 0.9 MSE(spot, y) + 0.1 weighted cross-entropy.

    Args:
        spot: float32 (B, T), after the sigmoid.
        logits: float32 (B, T, E).
        y: float32 (B, T), 1 inside a micro-expression.
        labels: int64 (B, T), class of each frame.
        weights: float32 (E,).

    Returns:
        (total, spotting part, emotion part), scalars, the parts unweighted. The emotion part is the mean of the
        weighted terms over the frames, not over the sum of their weights.
    """
    spotting = functional.mse_loss(spot, y)
    each = functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), weights, reduction="none")
    emotion = each.mean()
    return SPOT_WEIGHT * spotting + (1 - SPOT_WEIGHT) * emotion, spotting, emotion
