"""Pictures of a run: loss curves, the confusion matrix, failures. Drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training.evaluation.failures import Failure


def loss_curves(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the losses of a run over its steps.

    Args:
        records: one dict per step with "step", "loss", "spotting", "emotion", "learning_rate"; others are passed over.
        path: PNG to write.
    """
    from matplotlib.figure import Figure

    steps = [record for record in records if "loss" in record]
    x = [record["step"] for record in steps]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 3),
        ("loss", "spotting", "emotion"),
        ("loss", "spotting: squared error", "emotion: weighted cross-entropy"),
        strict=True,
    ):
        values = np.array([record[key] for record in steps], np.float64)
        axes.plot(x, values, color="tab:blue", alpha=0.25, linewidth=0.7)
        axes.plot(x, _smooth(values), color="tab:blue")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(values):
            axes.set_ylim(0, 1.05 * np.percentile(values, 99))
    figure.savefig(path, dpi=110)


def confusion(matrix: npt.NDArray[np.int64], labels: Sequence[str], path: Path, title: str) -> None:
    """Draw a confusion matrix: counts, coloured by their share of the row.

    Args:
        matrix: int64 (n, n), rows truth, columns prediction.
        labels: n names.
        path: PNG to write.
        title: above the picture.
    """
    from matplotlib.figure import Figure

    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*matrix.shape):
        dark = share[row, column] > 0.5
        axes.text(
            column,
            row,
            f"{matrix[row, column]}",
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    axes.set_xticks(range(len(labels)), labels, rotation=30)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=130)


def failures(some: Sequence[Failure], path: Path) -> None:
    """Draw the spotting curve around failures, what is true there and what was found.

    Args:
        some: at least one.
        path: PNG to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    rows = -(-len(some) // 2)
    figure = Figure(figsize=(9, 1.9 * rows + 0.4), layout="constrained")
    places = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, each in zip(places, some, strict=False):
        for start, end in each.truth:
            axes.axvspan(start, end, ymax=0.5, color="tab:green", alpha=0.3, linewidth=0)
        for start, end in each.found:
            axes.axvspan(start, end, ymin=0.5, color="tab:orange", alpha=0.3, linewidth=0)
        axes.plot(each.seconds, each.curve, color="black", linewidth=1)
        axes.set_ylim(0, 1)
        axes.set_title(f"{each.title}\n{each.video}", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in places[len(some) :]:
        axes.set_axis_off()
    known = [
        Line2D([], [], color="black", linewidth=1, label="spotting curve over seconds"),
        Patch(color="tab:green", alpha=0.3, label="true"),
        Patch(color="tab:orange", alpha=0.3, label="found"),
    ]
    figure.legend(handles=known, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Average over a fiftieth of the curve, fewer values at its ends."""
    width = max(1, len(values) // 50)
    ones = np.ones(width)
    total = np.convolve(values, ones, "same")
    return total / np.convolve(np.ones_like(values), ones, "same") if len(values) else values
