"""What every benchmark says about the machine, and how its rows are shown and kept: results/DATE-NAME.json and .md."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from metst_edge.app.machine import describe, processor

PACKAGES = ("metst-edge", "numpy", "opencv-contrib-python", "mediapipe", "onnx", "onnxruntime", "torch", "mambapy")
FOLDER = Path(__file__).parent / "results"


def machine() -> dict[str, str]:
    """Return what decides the times, without names of the machine or its user."""
    about = describe()
    for package in PACKAGES:
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            about[package] = "not installed"
    return about


def verdict(what: str, value: float, unit: str, *, most: float | None = None, least: float | None = None) -> str:
    """Return one line: whether a figure is what was asked for, and by how much it is not.

    Args:
        what: the figure. value: measured, in ``unit``. most, least: the bound; one of them.
    """
    assert (most is None) != (least is None), "one bound"
    if most is not None:
        asked, missed, by = f"at most {most:g}", value > most, value / most - 1
    else:
        assert least is not None
        asked, missed, by = f"at least {least:g}", value < least, 1 - value / least
    state = f"MISSED by {100 * by:.0f} %" if missed else "met"
    return f"{state}: {what}: {value:.3g} {unit} ({asked})"


def missed(line: str) -> bool:
    """Whether a ``verdict`` is one of a bound that does not hold."""
    return line.startswith("MISSED")


def show(
    title: str,
    rows: list[dict[str, Any]],
    name: str,
    save: bool,
    notes: Sequence[str] = (),
    profile: str = "",
    more: Mapping[str, str] | None = None,
) -> None:
    """Print rows of equal keys as a table and, with ``save``, write them down with the machine's description.

    Args:
        title: what was measured, and under which conditions.
        rows: column -> value; the keys are the headings, units included.
        name: of the benchmark, for the file names.
        save: whether to write results/DATE-NAME.json and .md.
        notes: lines under the table: what was asked for and missed, where the time goes, what the figures are not.
        profile: a report of a profiler, written down as it is under its own heading.
        more: what else of the machine decides the times, such as its GPU.
    """
    header = list(rows[0])
    table = Table(*header, title=f"{title}, {processor()}")
    for row in rows:
        table.add_row(*map(_text, row.values()))
    console = Console(width=None if Console().is_terminal else 140)
    console.print(table)
    for note in notes:
        console.print(f"- {note}", highlight=False, markup=False)
    if not save:
        return
    date, about = datetime.date.today().isoformat(), machine() | dict(more or {})
    lines = [f"# {title}, {date}", "", *(f"- {key}: {value}" for key, value in about.items()), ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(_text, row.values())) + " |" for row in rows]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    if profile:
        # Indented, it is shown as it is: a report may hold fences of its own.
        lines += ["", "## Profile", "", *(f"    {line}".rstrip() for line in profile.strip("\n").splitlines())]
    FOLDER.mkdir(exist_ok=True)
    content = {"title": title, "date": date, "machine": about, "rows": rows, "notes": list(notes), "profile": profile}
    (FOLDER / f"{date}-{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (FOLDER / f"{date}-{name}.md").write_text("\n".join(lines) + "\n")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
