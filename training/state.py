"""What a run keeps in its folder while it goes on: state.pt to resume from, and the log metrics.jsonl.

Reads and writes; decides nothing about training.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch

from metst_edge.closing import Closing
from training.data.errors import DataError
from training.models.checkpoint import reason_of

STATE = "state.pt"
LOG = "metrics.jsonl"
LATER = ("people",)
"""Settings that states of before they were recorded lack."""
MOST_LETTERS = 200
"""Of a setting that an error shows."""


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that a crash leaves either the old one or the whole new one.

    Args:
        folder: of the run.
        state: tensors and plain values; "settings" are those of `Run.settings`, "step" counts the steps done.
    """
    partial = folder / f"{STATE}.part"
    torch.save(state, partial)
    os.replace(partial, folder / STATE)


def load_state(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Read the state of an interrupted run and check that it is the run that is asked for.

    Args:
        folder: of the run.
        settings: of the run that is to go on.

    Raises:
        DataError: there is none, it cannot be read, or it was begun with other settings.
    """
    state = _read_state(folder)
    before = state["settings"]
    changed = [
        f"{key} was {_brief(before.get(key))}, is {_brief(settings[key])}"
        for key in settings
        if before.get(key) != settings[key] and (key in before or key not in LATER)
    ]
    if changed:
        raise DataError(f"expected the settings {folder} was begun with, got others: {'; '.join(changed)}")
    return state


def _brief(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= MOST_LETTERS else shown[:MOST_LETTERS] + "..."


def saved_steps(folder: Path) -> int:
    """Return how many steps the interrupted run in ``folder`` was begun with.

    Raises:
        DataError: there is none.
    """
    steps: int = _read_state(folder)["settings"]["steps"]
    return steps


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    if not path.is_file():
        raise DataError(f"expected the state of an interrupted run in {folder}, found none; leave --resume out")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise DataError(f"{path} cannot be read ({reason_of(error)}); remove {folder} and start anew") from error
    if not (isinstance(state, dict) and isinstance(state.get("settings"), dict) and "step" in state):
        raise DataError(f"{path} cannot be read (it holds no run's state); remove {folder} and start anew")
    return state


class Log(Closing):
    """metrics.jsonl, cut back to the step a resumed run goes on from.

    Args:
        folder: of the run.
        step: what was logged of later ones is dropped; 0 begins anew.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / LOG
        kept = [record for record in self.records() if record["step"] <= step] if step else []
        self._path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def write(self, record: dict[str, Any]) -> None:
        """Add one line, which is on the disk when this returns."""
        self._file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """Return every whole line."""
        if not self._path.is_file():
            return []
        records = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break  # the last line of a run that was killed
        return records


def expect_run(folder: Path, *, resume: bool) -> None:
    """Check that a folder holds no run, or one to go on with.

    Raises:
        DataError: it is the other way round.
    """
    if resume:
        _read_state(folder)
    elif holds_run(folder):
        raise DataError(f"{folder} already holds a run; add --resume to go on with it, or name another --out")


def holds_run(folder: Path) -> bool:
    """Tell whether a run was begun in ``folder``."""
    return (folder / LOG).exists()


def expect_finite(loss: float, step: int, learning_rate: float) -> None:
    """Check that a step's loss is a number, before a state that is none is kept.

    Raises:
        DataError: it is none, and the learning rate too high.
    """
    if not math.isfinite(loss):
        raise DataError(
            f"expected a finite loss, got {loss} at step {step}; lower --learning-rate (now {learning_rate:g})"
        )
