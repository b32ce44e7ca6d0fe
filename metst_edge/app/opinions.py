"""What people are told of second opinions: what one says, and on how many intervals there was none, and why."""

from __future__ import annotations

from collections.abc import Mapping

from metst_edge.counting import how_many

REASONS = {
    "skipped": "came while too many were waiting",
    "unseen": "had no frames that show it",
    "late": "was waited for until the end",
    "failed": "made the recogniser fail",
}
"""Of an interval on which there was no opinion, by the field that counts them."""


def said(probabilities: Mapping[str, float]) -> str:
    """Return the emotion that is most probable, and how probable."""
    emotion = first(probabilities)
    return f"{emotion} {probabilities[emotion]:.2f}"


def first(probabilities: Mapping[str, float]) -> str:
    """Return the emotion that is most probable."""
    return max(probabilities, key=probabilities.__getitem__)


def missing(opinions: Mapping[str, int]) -> str | None:
    """Return a line on the intervals without an opinion; None where there are none.

    Args:
        opinions: the fields of `metst_edge.recognise.second.Opinions`.
    """
    counts = {why: count for field, why in REASONS.items() if (count := opinions[field])}
    if not counts:
        return None
    total = opinions["given"] + sum(counts.values())
    reasons = ", ".join(f"{count} {why}" for why, count in counts.items())
    return f"no second opinion on {sum(counts.values())} of {how_many(total, 'interval')}: {reasons}"
