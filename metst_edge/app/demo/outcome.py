"""Found micro-expressions beside the true ones, as a value; knows neither the clip nor a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metst_edge.events import MicroExpression
from metst_edge.matching import Span, match


@dataclass(frozen=True, slots=True)
class Outcome:
    """Found against true, matched in order of time.

    Attributes:
        pairs: (true, found), which overlap enough to be one.
        missed: true ones that were not found.
        false_alarms: found ones that are not true.
    """

    pairs: tuple[tuple[MicroExpression, MicroExpression], ...]
    missed: tuple[MicroExpression, ...]
    false_alarms: tuple[MicroExpression, ...]

    @property
    def truth(self) -> list[MicroExpression]:
        """All true ones in order of time."""
        return sorted([true for true, _ in self.pairs] + list(self.missed), key=lambda event: event.onset)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``demo --json`` prints beside the report."""
        return {
            "truth": [event.to_dict() for event in self.truth],
            "found": [found.to_dict() for _, found in self.pairs],
            "missed": [event.to_dict() for event in self.missed],
            "false_alarms": [event.to_dict() for event in self.false_alarms],
        }


def compare(found: Sequence[MicroExpression], truth: Sequence[MicroExpression]) -> Outcome:
    """Match found intervals to true ones by their frames."""
    matched = match([frames(event) for event in found], [frames(event) for event in truth])
    hits, taken = {i for i, _ in matched}, {j for _, j in matched}
    return Outcome(
        pairs=tuple((truth[j], found[i]) for i, j in matched),
        missed=tuple(event for j, event in enumerate(truth) if j not in taken),
        false_alarms=tuple(event for i, event in enumerate(found) if i not in hits),
    )


def frames(event: MicroExpression) -> Span:
    """Return the interval in frames, both ends inclusive."""
    return event.onset_frame, event.offset_frame
