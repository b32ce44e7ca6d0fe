"""How two opinions on an emotion are combined: the vote of an interval's frames, and a recogniser's. Plain numbers.

The combined probabilities are the weighted geometric mean, p^(1 - w) q^w, of both: who is sure counts more than who is
undecided, and what either rules out is out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

LEAST = 1e-12
"""A probability below this counts as this much: nothing is excluded by an underflow."""


def combine(vote: Mapping[str, float], recognised: Mapping[str, float], weight: float) -> dict[str, float]:
    """Combine probabilities of emotions, matched by name.

    Only what both know is weighed anew: an emotion that the recogniser does not know keeps the vote's probability, and
    those that both know share what the vote gave to all of them. What only the recogniser knows does not count.

    Args:
        vote: emotion -> probability; they sum to 1.
        recognised: likewise, of the recogniser.
        weight: of the recogniser, 0 (no say) to 1 (the whole say about the emotions it knows).

    Returns:
        emotion -> probability, of the vote's emotions in their order; they sum to 1.
    """
    shared = [label for label in vote if label in recognised]
    if len(shared) < 2:
        return dict(vote)
    p = np.array([vote[label] for label in shared])
    q = np.array([recognised[label] for label in shared])
    q = np.full_like(q, 1 / len(q)) if q.sum() <= LEAST else q / q.sum()
    total = float(p.sum())
    logs = (1 - weight) * np.log(np.maximum(p, LEAST)) + weight * np.log(np.maximum(q, LEAST))
    powers = np.exp(logs - logs.max())
    combined = powers / powers.sum() * total
    return {**vote, **dict(zip(shared, combined.tolist(), strict=True))}


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the probabilities of logits, float (E,): float64 (E,)."""
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    probabilities: npt.NDArray[np.float64] = powers / powers.sum()
    return probabilities
