"""What is found of micro-expressions by what they are like: size, length, action units, emotion, face, head.

Knows intervals and traits, not how either was got at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from metst_edge.labels import EMOTIONS
from metst_edge.matching import match as match_spans
from training.evaluation.beside import Traits
from training.evaluation.lengths import CLASSES, class_name
from training.evaluation.metrics import Clip, Labelled

INTENSITIES = (1.0, 2.0)
"""Bounds between classes of a micro-expression's displacement, px of the 320 px crop."""
FACES = (130.0, 200.0, 320.0)
"""Of the face's width, px of the picture; the crop is 320 px wide."""
HEADS = (0.5, 1.0, 2.0)
"""Of the head's movement, px of the 320 px crop."""

TITLES = {
    "size": "size at the apex, px of the crop",
    "length": "length, frames of the model",
    "action_unit": "action unit",
    "emotion": "emotion",
    "face": "width of the face, px",
    "head": "movement of the head, px of the crop",
}
"""What micro-expressions are told apart by, for people."""


@dataclass(frozen=True, slots=True)
class Event:
    """One true micro-expression.

    Attributes:
        emotion: index into EMOTIONS.
        length: frames of the model, both ends counted.
        found: whether something matches it.
        traits: None where nothing more is known.
    """

    emotion: int
    length: int
    found: bool
    traits: Traits | None


@dataclass(frozen=True, slots=True)
class Share:
    """What is found of one class.

    Attributes:
        name: of the class, for people.
        count: how many there are.
        found: how many of them are matched.
    """

    name: str
    count: int
    found: int

    @property
    def recall(self) -> float:
        return self.found / self.count

    def to_dict(self) -> dict[str, Any]:
        return {"count": self.count, "found": self.found, "recall": self.recall}


def events_in(clip: Clip, rate: float, known: Sequence[Traits]) -> list[Event]:
    """List what is true in a clip with whether it was found.

    Args:
        clip: what was found beside what is there.
        rate: frames of the model per frame of the clip.
        known: traits of what is true, found by onset and offset.
    """
    spans = ([(each.onset, each.offset) for each in intervals] for intervals in (clip.predicted, clip.truth))
    matched = {j for _, j in match_spans(*spans)}
    by_span = {(each.onset, each.offset): each for each in known}
    return [_event(true, rate, j in matched, by_span) for j, true in enumerate(clip.truth)]


def breakdown(events: Sequence[Event]) -> dict[str, tuple[Share, ...]]:
    """Return what is found by each of TITLES; what is known of no micro-expression is left out, empty classes too."""
    tables: dict[str, tuple[Share, ...]] = {}
    for trait, (classes, of) in _CLASSES.items():
        named = [(of(event), event.found) for event in events]
        present = {name for names, _ in named for name in names}
        order = classes or sorted(present, key=lambda name: (len(name), name))
        hits = {name: [found for names, found in named if name in names] for name in order if name in present}
        if hits:
            tables[trait] = tuple(Share(name, len(found), sum(found)) for name, found in hits.items())
    return tables


def _event(true: Labelled, rate: float, found: bool, known: Mapping[tuple[int, int], Traits]) -> Event:
    length = max(round((true.offset - true.onset + 1) * rate), 1)
    return Event(true.emotion, length, found, known.get((true.onset, true.offset)))


def _names(bounds: Sequence[float]) -> tuple[str, ...]:
    between = (f"{low:g} to {high:g}" for low, high in pairwise(bounds))
    return (f"below {bounds[0]:g}", *between, f"{bounds[-1]:g} and more")


def _binned(bounds: Sequence[float], of: Callable[[Traits], float | None]) -> Callable[[Event], tuple[str, ...]]:
    names = _names(bounds)

    def classes(event: Event) -> tuple[str, ...]:
        value = None if event.traits is None else of(event.traits)
        return () if value is None else (names[sum(value >= bound for bound in bounds)],)

    return classes


def _length(event: Event) -> tuple[str, ...]:
    return tuple(class_name(*bounds) for bounds in CLASSES if bounds[0] <= event.length <= (bounds[1] or event.length))


def _action_units(event: Event) -> tuple[str, ...]:
    return () if event.traits is None else tuple(f"AU {unit}" for unit in event.traits.action_units)


# Names of a trait's classes in their order, () where they follow from what is there; and the classes of an event.
_CLASSES: dict[str, tuple[tuple[str, ...], Callable[[Event], tuple[str, ...]]]] = {
    "size": (_names(INTENSITIES), _binned(INTENSITIES, lambda traits: traits.intensity)),
    "length": (tuple(class_name(*bounds) for bounds in CLASSES), _length),
    "action_unit": ((), _action_units),
    "emotion": (tuple(EMOTIONS), lambda event: (EMOTIONS[event.emotion],)),
    "face": (_names(FACES), _binned(FACES, lambda traits: traits.face)),
    "head": (_names(HEADS), _binned(HEADS, lambda traits: traits.head)),
}
