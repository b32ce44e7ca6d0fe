"""A diagnosis as lines for people."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO

from metst_edge import __version__
from metst_edge.app.doctor.diagnosis import Diagnosis

CHOICES = ("mediapipe", "matplotlib", "onnxruntime")
"""What is of use on every machine, though nothing else needs it: told how it is got."""
NARROW = 4
"""Columns before a command that has no room below what it is for."""


def show(diagnosis: Diagnosis, file: TextIO) -> None:
    """Print a diagnosis for people; on a terminal, lines end between words."""
    columns = _columns(file)
    print(f"metst-edge {__version__}\n", file=file)
    width = max(len(finding.name) for finding in diagnosis.findings)
    for finding in diagnosis.findings:
        mark = "-" if finding.state == "unneeded" else finding.state
        _print(f"{mark:<7}  {finding.name:<{width}}  ", finding.text, columns, file)
        if finding.fix and (finding.state != "unneeded" or finding.name in CHOICES):
            indent = " " * (len(mark.ljust(7)) + width + 4)
            if columns and len(indent) + 3 + len(finding.fix) > columns:
                indent = " " * NARROW
            _print(f"{indent}-> ", finding.fix, columns, file, " \\" if _is_command(finding.fix) else "")
    print(file=file)
    if diagnosis.blocked is not None:
        _print("", f"metst-edge cannot run here: {diagnosis.blocked}", columns, file)
        return
    runs = [name for name, why in diagnosis.engines.items() if not why]
    flow = "GPU" if diagnosis.flow == "cuda" else "CPU"
    _print("", f"This machine runs --engine {', '.join(runs)}, and optical flow on the {flow}.", columns, file)
    for name, why in diagnosis.engines.items():
        if why:
            _print("", f"Not --engine {name}: {why}.", columns, file)


def _is_command(fix: str) -> bool:
    return fix.startswith(("sudo ", "PATH=")) or " -m pip " in fix


def _print(head: str, text: str, columns: int | None, file: TextIO, more: str = "") -> None:
    """Print a text behind a head, and what has no room in its line below its beginning; ``more`` ends broken lines."""
    if columns is None or len(head) + len(text) <= columns:
        print(f"{head}{text}", file=file)
        return
    # A word that is too long for a line stays whole: the terminal breaks it, and gives it back whole when it is copied.
    lines = textwrap.wrap(
        text, columns - len(head) - len(more), break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    for i, line in enumerate(lines):
        print(f"{' ' * len(head) if i else head}{line}{more if line is not lines[-1] else ''}", file=file)


def _columns(file: TextIO) -> int | None:
    """Return how wide the terminal is; None where there is none."""
    try:
        return os.get_terminal_size(file.fileno()).columns or None if file.isatty() else None
    except (OSError, ValueError):
        return None
