"""Which recognisers are trained, and how."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecognitionPreset:
    """One recogniser and how it is trained: SGD, whose rate is divided by 10 every so many epochs.

    Attributes:
        model: name for `training.models.slstt.build_recogniser`.
        learning_rate: at first.
        batch: intervals per step.
        epochs: passes over the intervals.
        decay_every: epochs.
    """

    model: str
    learning_rate: float
    batch: int
    epochs: int
    decay_every: int


# The first two as published (arXiv 2112.05851; the batch is the default of its code), for weights that know ImageNet.
# The small one begins from nothing and wants a higher rate.
PRESETS = {
    "slstt_lstm": RecognitionPreset("slstt_lstm", learning_rate=0.01, batch=1, epochs=40, decay_every=30),
    "slstt_mean": RecognitionPreset("slstt_mean", learning_rate=0.01, batch=1, epochs=40, decay_every=30),
    "slstt_small": RecognitionPreset("slstt_small", learning_rate=0.1, batch=16, epochs=40, decay_every=30),
}

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
"""As published, of every preset."""
