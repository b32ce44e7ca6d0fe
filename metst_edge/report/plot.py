"""A score curve with its events as a picture. The only file that needs matplotlib, and only once it draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.errors import PlotError
from metst_edge.events import Event, Gap, MicroExpression

CURVE, FOUND, TRUE, GAP, REASON = "#1f3a5f", "#d1495b", "#2a9d8f", "0.88", "0.35"
"""Colours."""


def draw(
    path: str | Path,
    *,
    title: str,
    span: tuple[float, float],
    time: npt.NDArray[np.float64],
    spot: npt.NDArray[np.float32],
    found: Sequence[Event],
    truth: Sequence[MicroExpression],
) -> None:
    """Draw a score curve, what was found above it, and what is true below it.

    Args:
        path: where to write; the ending decides the format.
        title: above the picture, as it is.
        span: seconds of source time of the axis's ends.
        time: float64 (n,), seconds of source time.
        spot: float32 (n,), the spotting curve, 0 to 1.
        found: micro-expressions and gaps.
        truth: annotated micro-expressions.

    Raises:
        PlotError: matplotlib is not installed.
        OSError: the picture cannot be written.
    """
    figure = figure_class()(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*_broken_at_holes(time, spot), color=CURVE, linewidth=1.3, label="spotting curve")
    for gap in (event for event in found if isinstance(event, Gap)):
        if gap.end is None:  # told once more, when it has ended
            continue
        axes.axvspan(gap.start, gap.end, color=GAP, zorder=0)
        middle = (gap.start + gap.end) / 2
        axes.text(middle, 0.5, gap.reason.replace("_", " "), ha="center", va="center", color=REASON)
    _mark(axes, [event for event in found if isinstance(event, MicroExpression)], "found", FOUND, above=True)
    _mark(axes, truth, "true", TRUE, above=False)
    axes.set(xlabel="time (s)", ylabel="score", ylim=(-0.28, 1.3), yticks=[0, 0.25, 0.5, 0.75, 1.0])
    axes.set_title(title, parse_math=False)  # a file name is no formula
    start, end = span
    axes.set_xlim(start, max(end, start + 1e-3))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)


def figure_class() -> Any:
    """Return what is drawn on; called ahead of long work, it tells at once that nothing can be drawn.

    Raises:
        PlotError: matplotlib is not installed, or does not load.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError(
            f"expected matplotlib to draw a picture, got: {error}; install it with: pip install matplotlib"
        ) from error
    return Figure


def _mark(axes: Any, events: Sequence[MicroExpression], name: str, colour: str, above: bool) -> None:
    """Draw intervals as bars above or below the curve, each with its emotion at the apex."""
    y, text_y, side = (1.10, 1.15, "bottom") if above else (-0.10, -0.15, "top")
    for i, event in enumerate(events):
        axes.axvspan(event.onset, event.offset, color=colour, alpha=0.12, linewidth=0)
        axes.plot([event.onset, event.offset], [y, y], color=colour, linewidth=6, solid_capstyle="butt")
        axes.text(event.apex, text_y, event.emotion, ha="center", va=side, fontsize=9, color=colour, label=None)
        if i == 0:
            axes.plot([], [], color=colour, linewidth=6, label=name)


def _broken_at_holes(time: npt.NDArray[np.float64], spot: npt.NDArray[np.float32]) -> tuple[Any, Any]:
    """Put a NaN into every hole of the time grid, so that no line is drawn across it."""
    if len(time) < 3:
        return time, spot
    steps = np.diff(time)
    # Slots between two frames share the time of the nearer one.
    holes = np.flatnonzero(steps > 3.5 * np.median(steps[steps > 0])) + 1
    return np.insert(time, holes, np.nan), np.insert(spot, holes, np.nan)
