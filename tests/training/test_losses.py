"""The loss and its weights against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.losses import class_weights, loss  # noqa: E402


def test_loss_is_the_published_sum() -> None:
    random = np.random.default_rng(0)
    spot, y = random.uniform(size=(3, 7)), (random.uniform(size=(3, 7)) > 0.5).astype(float)
    logits, labels = random.normal(size=(3, 7, 5)) * 3, random.integers(0, 5, (3, 7))
    weights = random.uniform(0.1, 4, 5)

    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    emotion = (-chosen * weights[labels]).sum() / labels.size  # over the frames, not over the sum of the weights
    spotting = ((spot - y) ** 2).mean()

    got = loss(
        *(torch.tensor(a, dtype=torch.float32) for a in (spot, logits, y)),
        torch.tensor(labels),
        torch.tensor(weights, dtype=torch.float32),
    )
    assert [float(part) for part in got] == pytest.approx([0.9 * spotting + 0.1 * emotion, spotting, emotion], rel=1e-5)


def test_class_weights_are_balanced_and_neutral_counts_six_times() -> None:
    labels = np.array([0] * 2 + [1] * 4 + [2] * 1 + [3] * 3 + [4] * 90)
    expected = [100 / (5 * 2), 100 / (5 * 4), 100 / 5, 100 / (5 * 3), 6 * 100 / (5 * 90)]
    assert class_weights(labels) == pytest.approx(expected)


def test_a_class_that_does_not_occur_weighs_nothing_and_does_not_change_the_others() -> None:
    assert class_weights(np.array([0, 0, 1, 4])) == pytest.approx([4 / (3 * 2), 4 / 3, 0, 0, 6 * 4 / 3])
