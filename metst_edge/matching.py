"""Which predicted interval found which true one, as the micro-expression grand challenge (MEGC) counts it."""

from __future__ import annotations

from collections.abc import Sequence

Span = tuple[int, int]
"""First and last frame, inclusive."""

MATCH_IOU = 0.5
"""Least overlap of a predicted and a true interval that counts as found."""


def iou(a: Span, b: Span) -> float:
    """Return shared frames over all frames of two intervals."""
    shared = min(a[1], b[1]) - max(a[0], b[0]) + 1
    if shared <= 0:
        return 0.0
    return shared / ((a[1] - a[0] + 1) + (b[1] - b[0] + 1) - shared)


def match(predicted: Sequence[Span], truth: Sequence[Span]) -> list[tuple[int, int]]:
    """Pair predictions with the true intervals they find.

    Predictions are taken in time order. Each is tested against the one true interval it overlaps best (the earlier of
    equals), found already or not: if that one is taken or overlaps too little, the prediction is false.

    Returns:
        (index into predicted, index into truth), in the predictions' order of time.
    """
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for i in sorted(range(len(predicted)), key=lambda i: predicted[i]):
        best = max(
            range(len(truth)), key=lambda j: (iou(predicted[i], truth[j]), -truth[j][0], -truth[j][1]), default=None
        )
        if best is None or best in taken or iou(predicted[i], truth[best]) < MATCH_IOU:
            continue
        taken.add(best)
        pairs.append((i, best))
    return pairs
