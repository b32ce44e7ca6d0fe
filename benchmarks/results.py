"""What every benchmark says about the machine, and how its rows are shown and kept: results/DATE-NAME.json and .md."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from metst_edge.app.machine import describe, processor

PACKAGES = ("metst-edge", "numpy", "av", "onnx", "onnxruntime", "torch", "mambapy")
Rows = list[dict[str, Any]]
"""Of a table: column -> value, the same columns in all."""
FOLDER = Path(__file__).parent / "results"
WIDTH = (140, 260)
"""Of what is printed to a file or a pipe, characters: at least, and at most where a table needs more."""


def machine() -> dict[str, str]:
    """Return what decides the times, without names of the machine or its user."""
    about = describe()
    for package in PACKAGES:
        try:
            about[package] = version(package)
        except PackageNotFoundError:
            about[package] = "not installed"
    about["opencv"] = cv2.__version__  # of whichever of its packages is there
    return about


def verdict(what: str, value: float, unit: str, *, most: float | None = None, least: float | None = None) -> str:
    """Return one line: whether a figure is what was asked for, and by how much it is not.

    Args:
        what: the figure.
        value: measured.
        unit: of the value and the bound.
        most: the bound above, or
        least: the bound below; one of them.
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
    rows: Rows,
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
    # Cells are text, not rich's markup, and are folded where there is no room: half a number is none.
    headings = (Column(Text(heading), overflow="fold") for heading in rows[0])
    table = Table(*headings, title=Text(f"{title}, {processor()}"))
    for row in rows:
        table.add_row(*(Text(text(value)) for value in row.values()))
    console = Console()
    if not console.is_terminal:
        least, most = WIDTH
        natural = console.measure(table, options=console.options.update(width=most)).maximum
        console = Console(width=max(least, natural))
    console.print(table)
    for note in notes:
        console.print(f"- {note}", highlight=False, markup=False)
    if save:
        write(title, rows, name, notes, profile, more)


def write(
    title: str,
    rows: Rows,
    name: str,
    notes: Sequence[str] = (),
    profile: str = "",
    more: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Write DATE-NAME.json and .md, over those that are there; arguments as of `show`.

    Args:
        folder: made where it is missing; benchmarks/results by default.
    """
    folder, date = folder or FOLDER, datetime.date.today().isoformat()
    about, header = machine() | dict(more or {}), list(rows[0])
    lines = [f"# {title}, {date}", "", *(f"- {key}: {value}" for key, value in about.items()), ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(text, row.values())) + " |" for row in rows]
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    if profile:
        # Indented, it is shown as it is: a report may hold fences of its own.
        lines += ["", "## Profile", "", *(f"    {line}".rstrip() for line in profile.strip("\n").splitlines())]
    folder.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "date": date, "machine": about, "rows": rows, "notes": list(notes), "profile": profile}
    (folder / f"{date}-{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / f"{date}-{name}.md").write_text("\n".join(lines) + "\n")


def text(value: object) -> str:
    """Return a cell of a table: four digits of a number, all before the point of a large one."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
