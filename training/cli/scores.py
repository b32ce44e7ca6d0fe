"""Scores as they are printed: tables, and one line while training."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from metst_edge.labels import EMOTIONS
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


def in_short(scores: Scores) -> str:
    """Return the scores that tell how a run is going."""
    spotting = scores.spotting
    return (
        f"spotting F1 {spotting.f1:.3f} (P {spotting.precision:.3f}, R {spotting.recall:.3f}), "
        f"UF1 {scores.recognition.uf1:.3f} on {spotting.tp}"
    )
