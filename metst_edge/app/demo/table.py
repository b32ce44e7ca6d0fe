"""An outcome as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metst_edge.app.demo.outcome import Outcome, frames
from metst_edge.events import MicroExpression
from metst_edge.matching import MATCH_IOU, iou

if TYPE_CHECKING:
    from rich.console import Console


def show(console: Console, outcome: Outcome) -> None:
    """Print found beside true as a table, and the counts."""
    from rich.table import Table

    table = Table(title="Micro-expressions of the demo clip", title_justify="left")
    for name in ("true s", "found s", "overlap", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("true", "found"):  # emotions
        table.add_column(name, no_wrap=True)
    table.add_column("")  # narrow enough for a terminal of 80 columns, but for what it says of an emotion
    rows: list[tuple[float, tuple[str, ...]]] = []
    for true, found in outcome.pairs:
        verdict = "[green]found[/green]" if true.emotion == found.emotion else "[yellow]found, other emotion[/yellow]"
        numbers = (_span(true), _span(found), f"{iou(frames(true), frames(found)):.2f}", f"{found.score:.2f}")
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
