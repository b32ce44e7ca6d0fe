"""Scores as they are printed: tables, and one line while training."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from metst_edge.labels import EMOTIONS
from training.evaluation.lengths import DecoderScores
from training.evaluation.metrics import Scores


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
