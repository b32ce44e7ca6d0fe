"""What false alarms come of: each is set against what is known to happen in its clip.

Knows intervals in frames, not how either was got at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from metst_edge.matching import iou
from metst_edge.matching import match as match_spans
from training.evaluation.beside import Happening
from training.evaluation.metrics import Clip, Labelled

MISPLACED = "micro-expression"
"""Cause of a false alarm at a true micro-expression that it overlaps too little, or that was found already."""
UNKNOWN = "nothing known"


@dataclass(frozen=True, slots=True)
class Cause:
    """How many false alarms one thing brought.

    Attributes:
        kind: of what happened, MISPLACED or UNKNOWN.
        count: false alarms.
        per_minute: of visible face; 0 where none was seen.
    """

    kind: str
    count: int
    per_minute: float

    def to_dict(self) -> dict[str, Any]:
        return {"count": self.count, "per_minute": self.per_minute}


def false_ones(clip: Clip) -> list[Labelled]:
    """Return what was found in a clip and matches nothing true."""
    spans = ([(each.onset, each.offset) for each in intervals] for intervals in (clip.predicted, clip.truth))
    matched = {i for i, _ in match_spans(*spans)}
    return [found for i, found in enumerate(clip.predicted) if i not in matched]


def cause(alarm: Labelled, clip: Clip, happenings: Sequence[Happening]) -> str:
    """Name what a false alarm is of: the kind of what it overlaps best, as intersection over union.

    A blink inside a false alarm so comes before the speech of a minute around both. Of equals the earlier counts.

    Args:
        alarm: matches nothing true.
        clip: that it is of.
        happenings: all that is known to happen in it.
    """
    there = [*happenings, *(Happening(MISPLACED, true.onset, true.offset) for true in clip.truth)]
    overlaps = [(iou((alarm.onset, alarm.offset), (each.onset, each.offset)), each) for each in there]
    best = max(overlaps, key=lambda pair: (pair[0], -pair[1].onset, -pair[1].offset), default=None)
    return best[1].kind if best is not None and best[0] > 0 else UNKNOWN


def by_cause(clips: Iterable[tuple[Clip, Sequence[Happening]]], minutes: float) -> tuple[Cause, ...]:
    """Count false alarms by cause, the most frequent first.

    Args:
        clips: each with what is known to happen in it.
        minutes: of visible face in all of them.
    """
    counts = Counter(cause(alarm, clip, known) for clip, known in clips for alarm in false_ones(clip))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Cause(kind, count, count / minutes if minutes else 0.0) for kind, count in ordered)
