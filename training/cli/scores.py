"""Scores as they are printed: tables, and one line while training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from metst_edge.labels import EMOTIONS
from training.evaluation.breakdown import TITLES, Share
from training.evaluation.causes import Cause
from training.evaluation.lengths import DecoderScores
from training.evaluation.metrics import Scores
from training.evaluation.people import FIGURES, Figure


def show(console: Console, scores: Scores, title: str) -> None:
    """Print all scores as tables."""
    spotting = scores.spotting
    table = Table(title=title, title_justify="left")
    for name in ("videos", "found", "false", "missed", "precision", "recall", "spotting F1"):
        table.add_column(name, justify="right")
    counts = (scores.videos, spotting.tp, spotting.fp, spotting.fn)
    table.add_row(*map(str, counts), *(f"{x:.3f}" for x in (spotting.precision, spotting.recall, spotting.f1)))
    console.print(table)
    table = Table(title="Emotion of the true positives", title_justify="left")
    for name in ("classes", "count", "UF1", "UAR", "F1", "STRS"):
        table.add_column(name, justify="left" if name == "classes" else "right")
    rows = (
        ("four", scores.recognition, scores.strs),
        ("without others", scores.recognition_without_others, scores.strs_without_others),
    )
    for name, recognition, strs in rows:
        values = (recognition.uf1, recognition.uar, recognition.f1, strs)
        table.add_row(name, str(recognition.count), *(f"{x:.3f}" for x in values))
    console.print(table)
    table = Table(title="Confusion (rows: true, columns: predicted)", title_justify="left")
    table.add_column("")
    for name in EMOTIONS:
        table.add_column(name, justify="right")
    for name, row in zip(EMOTIONS, scores.confusion.tolist(), strict=True):
        table.add_row(name, *map(str, row))
    console.print(table)


def show_figures(console: Console, reached: Mapping[str, Figure], people: int) -> None:
    """Print figures and how sure they are.

    Args:
        console: where to.
        reached: as of `training.evaluation.people.figures`.
        people: whom they are of.
    """
    said = f"95 % over {people} people" if people > 1 else "one person only: no interval"
    table = Table("figure", title="How sure the figures are", title_justify="left")
    for name in ("value", said):
        table.add_column(name, justify="right")
    for name, figure in reached.items():
        value = "-" if figure.value is None else f"{figure.value:.3f}"
        interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f} to {figure.high:.3f}"
        table.add_row(FIGURES[name], value, interval)
    console.print(table)


def show_breakdown(console: Console, tables: Mapping[str, Sequence[Share]]) -> None:
    """Print what is found by what micro-expressions are like, a table for each of `breakdown.TITLES` that is known."""
    for trait, shares in tables.items():
        table = Table(TITLES[trait], title=f"Found by {TITLES[trait].partition(',')[0]}", title_justify="left")
        for name in ("true", "found", "recall"):
            table.add_column(name, justify="right")
        for share in shares:
            table.add_row(share.name, str(share.count), str(share.found), f"{share.recall:.2f}")
        console.print(table)


def show_causes(console: Console, causes: Sequence[Cause]) -> None:
    """Print what false alarms come of, if there are any."""
    if not causes:
        return
    table = Table("what happens there", title="False alarms by cause", title_justify="left")
    for name in ("false alarms", "a minute"):
        table.add_column(name, justify="right")
    for each in causes:
        table.add_row(each.kind, str(each.count), f"{each.per_minute:.2f}")
    console.print(table)


def show_decoders(console: Console, decoders: Mapping[str, DecoderScores], fps: float) -> None:
    """Print what every decoder finds in the same scores: a line for each, then by the length of micro-expressions.

    Args:
        console: where to.
        decoders: as of `training.evaluation.evaluate.compare_decoders`.
        fps: the model's frames per second.
    """
    table = Table(title="The same curves by decoder", title_justify="left")
    table.add_column("decoder")
    for name in ("found", "false", "missed", "spotting F1", "F1", "STRS"):
        table.add_column(name, justify="right")
    for decoder, reached in decoders.items():
        spotting = reached.scores.spotting
        values = (spotting.f1, reached.scores.recognition.f1, reached.scores.strs)
        counts = map(str, (spotting.tp, spotting.fp, spotting.fn))
        table.add_row(decoder, *counts, *(f"{x:.3f}" for x in values))
    console.print(table)
    table = Table(title=f"By length, frames at {fps:g} a second", title_justify="left")
    for name in ("frames", "true"):
        table.add_column(name, justify="right")
    for decoder in decoders:
        table.add_column(f"{decoder}: recall", justify="right")
        table.add_column("IoU", justify="right")
    for row in zip(*(reached.lengths for reached in decoders.values()), strict=True):
        if row[0].count:
            cells = (cell for each in row for cell in (f"{each.recall:.2f}", f"{each.iou:.2f}"))
            table.add_row(row[0].name, str(row[0].count), *cells)
    console.print(table)


def in_short(scores: Scores) -> str:
    """Return the scores that tell how a run is going."""
    spotting = scores.spotting
    return (
        f"spotting F1 {spotting.f1:.3f} (P {spotting.precision:.3f}, R {spotting.recall:.3f}), "
        f"UF1 {scores.recognition.uf1:.3f} on {spotting.tp}"
    )
