"""The packaged clip: where it lies, what is true in it, and how a result compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metst_edge.events import MicroExpression
from metst_edge.matching import MATCH_IOU, Span, iou, match

if TYPE_CHECKING:
    from rich.console import Console

FOLDER = Path(__file__).parent / "demo_clip"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Found against true, matched in order of time."""

    pairs: tuple[tuple[MicroExpression, MicroExpression], ...]
    missed: tuple[MicroExpression, ...]
    false_alarms: tuple[MicroExpression, ...]

    @property
    def truth(self) -> list[MicroExpression]:
        return sorted([true for true, _ in self.pairs] + list(self.missed), key=lambda event: event.onset)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``demo --json`` prints beside the report."""
        return {
            "truth": [event.to_dict() for event in self.truth],
            "found": [found.to_dict() for _, found in self.pairs],
            "missed": [event.to_dict() for event in self.missed],
            "false_alarms": [event.to_dict() for event in self.false_alarms],
        }


def demo_clip() -> Path:
    """Return the path of the packaged clip."""
    return FOLDER / "clip.mp4"


def demo_truth() -> tuple[MicroExpression, ...]:
    """Return the micro-expressions rendered into the packaged clip, in order of time."""
    truth = json.loads((FOLDER / "truth.json").read_text(encoding="utf-8"))
    events = []
    for event in sorted(truth["events"], key=lambda event: event["onset"]):
        onset, apex, offset = (int(event[name]) for name in ("onset", "apex", "offset"))
        fps, emotion = truth["fps"], event["emotion"]
        seconds = (onset / fps, apex / fps, offset / fps)
        events.append(MicroExpression(*seconds, onset, apex, offset, emotion, {emotion: 1.0}, score=1.0))
    return tuple(events)


def compare(found: Sequence[MicroExpression], truth: Sequence[MicroExpression]) -> Outcome:
    """Match found intervals to true ones by their frames."""
    matched = match([_frames(event) for event in found], [_frames(event) for event in truth])
    hits, taken = {i for i, _ in matched}, {j for _, j in matched}
    return Outcome(
        pairs=tuple((truth[j], found[i]) for i, j in matched),
        missed=tuple(event for j, event in enumerate(truth) if j not in taken),
        false_alarms=tuple(event for i, event in enumerate(found) if i not in hits),
    )


def _frames(event: MicroExpression) -> Span:
    return event.onset_frame, event.offset_frame


def show(console: Console, outcome: Outcome) -> None:
    """Print found beside true as a table, and the counts."""
    from rich.table import Table

    table = Table(title="Micro-expressions of the demo clip", title_justify="left")
    for name in ("true s", "found s", "overlap", "score"):
        table.add_column(name, justify="right")
    for name in ("true emotion", "found emotion", ""):
        table.add_column(name)
    rows: list[tuple[float, tuple[str, ...]]] = []
    for true, found in outcome.pairs:
        verdict = "[green]found[/green]" if true.emotion == found.emotion else "[yellow]found, other emotion[/yellow]"
        numbers = (_span(true), _span(found), f"{iou(_frames(true), _frames(found)):.2f}", f"{found.score:.2f}")
        rows.append((true.onset, (*numbers, true.emotion, found.emotion, verdict)))
    for true in outcome.missed:
        rows.append((true.onset, (_span(true), "", "", "", true.emotion, "", "[red]missed[/red]")))
    for found in outcome.false_alarms:
        cells = ("", _span(found), "", f"{found.score:.2f}", "", found.emotion, "[red]false alarm[/red]")
        rows.append((found.onset, cells))
    for _, row in sorted(rows, key=lambda item: item[0]):
        table.add_row(*row)
    console.print(table)
    right = sum(true.emotion == found.emotion for true, found in outcome.pairs)
    console.print(
        f"{len(outcome.pairs)} of {len(outcome.truth)} found (overlap {MATCH_IOU} or more), "
        f"{right} of them with the true emotion; {len(outcome.false_alarms)} false.",
        highlight=False,
    )


def _span(event: MicroExpression) -> str:
    return f"{event.onset:.2f}-{event.offset:.2f}"
