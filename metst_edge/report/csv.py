"""Events as rows of a CSV file; knows no report, so that other collections of events can be written too."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import IO, Any

from metst_edge.events import Event, Gap
from metst_edge.labels import NEUTRAL

COLUMNS = ("source", "type", "onset", "apex", "offset", "onset_frame", "apex_frame", "offset_frame", "emotion")
"""Before score, reason, a probability for every emotion of the model, height and motion."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that spreadsheets take for a formula (OWASP, CSV injection)."""


def write(
    file: IO[str],
    source: str,
    events: Sequence[Event],
    labels: Sequence[str],
    header: bool,
    opinions: Sequence[str] | None = None,
) -> None:
    """Write one row per event; a gap has its start and end where others have onset and offset.

    Of what moved, the strongest region is told, in words.

    Args:
        file: opened with ``newline=""``.
        source: the first column of every row.
        events: in order of time.
        labels: of the model, each but neutral a column of probabilities.
        header: whether the names of the columns come first.
        opinions: emotions of the recogniser that gave a second opinion, each a column of its probabilities after the
            revision; None where none was asked.
    """
    columns = [*COLUMNS, "score", "reason", *(f"p_{label}" for label in labels if label != NEUTRAL), "height", "motion"]
    if opinions is not None:
        columns += ["revision", *(f"r_{label}" for label in opinions)]
    writer = csv.DictWriter(file, columns)
    if header:
        writer.writeheader()
    for event in events:
        row: dict[str, Any] = {**event.to_dict(), "source": source}
        del row["schema"]
        row.pop("time", None)
        if isinstance(event, Gap):
            row["onset"], row["offset"] = row.pop("start"), row.pop("end")
        else:
            row.update({f"p_{label}": p for label, p in row.pop("probabilities").items()})
            opinion = row.pop("recognizer", None)
            if opinion is not None:
                row.update({f"r_{label}": p for label, p in opinion["probabilities"].items()})
            del row["face"]
            row["motion"] = str(event.motion[0]) if event.motion else None
        writer.writerow({name: _harmless(cell) for name, cell in row.items()})


def _harmless(cell: Any) -> Any:
    """Keep a spreadsheet from taking a text for a formula, which could run a command: put a quote before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
