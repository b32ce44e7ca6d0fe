"""An outcome as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metst_edge.app.demo.outcome import Outcome, frames
from metst_edge.app.opinions import first, said
from metst_edge.events import MicroExpression
from metst_edge.matching import MATCH_IOU, iou

if TYPE_CHECKING:
    from rich.console import Console


def show(console: Console, outcome: Outcome, recognizer: str | None = None) -> None:
    """Print found beside true as a table, and the counts.

    Args:
        console: to print on.
        outcome: what was found, and what is true.
        recognizer: name of what was asked for a second opinion, which is shown then; None where nothing was.
    """
    from rich.table import Table

    table = Table(title="Micro-expressions of the demo clip", title_justify="left")
    for name in ("true s", "found s", "overlap", "score"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("true", "found"):  # emotions
        table.add_column(name, no_wrap=True)
    if recognizer is not None:
        table.add_column("2nd opinion")
    table.add_column("")  # narrow enough for a terminal of 80 columns, but for what it says of an emotion

    def opinion(found: MicroExpression | None) -> tuple[str, ...]:
        if recognizer is None:
            return ()
        return ("" if found is None or found.recognizer is None else said(found.recognizer.probabilities),)

    rows: list[tuple[float, tuple[str, ...]]] = []
    for true, found in outcome.pairs:
        verdict = "[green]found[/green]" if true.emotion == found.emotion else "[yellow]found, other emotion[/yellow]"
        numbers = (_span(true), _span(found), f"{iou(frames(true), frames(found)):.2f}", f"{found.score:.2f}")
        rows.append((true.onset, (*numbers, true.emotion, found.emotion, *opinion(found), verdict)))
    for true in outcome.missed:
        rows.append((true.onset, (_span(true), "", "", "", true.emotion, "", *opinion(None), "[red]missed[/red]")))
    for found in outcome.false_alarms:
        score = f"{found.score:.2f}"
        cells = ("", _span(found), "", score, "", found.emotion, *opinion(found), "[red]false alarm[/red]")
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
    if recognizer is not None:
        opinions = [(true, found.recognizer) for true, found in outcome.pairs if found.recognizer is not None]
        named = sum(true.emotion == first(given.probabilities) for true, given in opinions)
        console.print(
            f"The recogniser {recognizer} says the true emotion of {named} of {len(opinions)} that it was asked about; "
            "found is what both say together.",
            highlight=False,
            markup=False,
        )


def _span(event: MicroExpression) -> str:
    return f"{event.onset:.2f}-{event.offset:.2f}"
