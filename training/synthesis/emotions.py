"""Which emotion a combination of facial action units tells of; knows nothing of how they move a face."""

from __future__ import annotations

from collections.abc import Iterable

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25)
"""The action units that micro- and macro-expressions are made of."""

UNILATERAL = frozenset({14})
"""Action units that tell an emotion on one side of the face only (contempt)."""


def _sets(*units: tuple[int, ...]) -> tuple[frozenset[int], ...]:
    return tuple(frozenset(some) for some in units)


# Combinations with the emotion they tell of. Two tables are held against each other: the prototypes and major variants
# of the FACS Investigator's Guide (2002; EMFACS), and the objective classes of A. Davison et al., "Objective classes
# for micro-facial expression recognition" (J. Imaging 2018), made from EMFACS for real micro-expressions. Only what
# neither contradicts is in here; see `_AMBIGUOUS` for what was left out.
# fmt: off
_COMBINATIONS: dict[str, tuple[frozenset[int], ...]] = {
    "negative": _sets(
        # anger
        (4,), (4, 5), (4, 7), (4, 5, 7), (4, 7, 23), (4, 5, 7, 23), (4, 5, 7, 24),
        # disgust
        (9,), (10,), (9, 10), (4, 9), (7, 10), (9, 17), (10, 17), (4, 7, 9), (4, 7, 10),
        # sadness
        (15,), (1, 4), (1, 4, 15), (1, 4, 15, 17), (6, 15), (15, 17),
        # fear
        (20,), (5, 20), (1, 2, 4), (1, 2, 4, 5), (1, 2, 4, 20), (1, 2, 4, 5, 20), (1, 2, 4, 5, 20, 25),
        # contempt
        (14,),
    ),
    "positive": _sets((12,), (6, 12), (7, 12), (6, 7, 12), (12, 25), (6, 12, 25)),
    "surprise": _sets((1, 2), (1, 2, 5), (1, 2, 25), (1, 2, 5, 25)),
    # Mouth movements that neither table gives an emotion.
    "others": _sets((17,), (24,), (23, 24), (17, 25)),
}
# fmt: on

_AMBIGUOUS = {
    frozenset({25}): "surprise in the objective classes, no emotion in EMFACS",
    frozenset({17, 24}): "anger in the objective classes, no emotion in EMFACS without brows or lids",
    frozenset({1}): "sadness in the objective classes, a part of surprise and fear in EMFACS",
    frozenset({1, 2, 5, 20}): "surprise without AU 20, fear with AU 4 or without AU 1 and 2",
}


def combinations(emotion: str) -> tuple[frozenset[int], ...]:
    """Return the sets of action units that tell of ``emotion`` and of no other."""
    return _COMBINATIONS[emotion]


def emotion_of(action_units: Iterable[int]) -> str:
    """Return the emotion that a combination of action units tells of.

    Args:
        action_units: numbers of the action units, in any order.

    Returns:
        "negative", "positive", "surprise" or "others".

    Raises:
        ValueError: the sources disagree about the combination, or none of them has it.
    """
    units = frozenset(action_units)
    for emotion, sets in _COMBINATIONS.items():
        if units in sets:
            return emotion
    listed = "+".join(map(str, sorted(units))) or "no action unit"
    if units in _AMBIGUOUS:
        raise ValueError(f"expected a combination with one emotion, got {listed}: {_AMBIGUOUS[units]}")
    raise ValueError(f"expected a combination of action units with a known emotion, got {listed}; see combinations()")
