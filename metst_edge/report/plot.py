"""A score curve with its events as a picture. The only file that needs matplotlib, and only once it draws."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.choices import PLOTS
from metst_edge.errors import PlotError
from metst_edge.events import Event, Gap, MicroExpression
from metst_edge.writing import write_whole

CURVE, SMOOTHED, LIMIT = "#1f3a5f", "#e08e0b", "#7a5195"
FOUND, TRUE, GAP, REASON = "#d1495b", "#2a9d8f", "0.88", "0.35"
"""Colours."""
SIZE = 9
"""Of texts, points."""
ROWS = 4
"""Of names above and below the curve; what finds no room in them is counted instead."""
BAR, FIRST, ROW = 0.10, 0.05, 0.10
"""Distances in units of the score: from the curve's end to a bar, from there to the first name, from name to name."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What is drawn of a report's scores.

    Attributes:
        time: float64 (n,), seconds of source time.
        spot: float32 (n,), the spotting curve, 0 to 1.
        smoothed: float64 (n,), the curve that peaks are looked for on; None where it is not known.
        runs: the unbroken stretches.
        thresholds: of each run, what a peak of the smoothed curve had to reach.
    """

    time: npt.NDArray[np.float64]
    spot: npt.NDArray[np.float32]
    smoothed: npt.NDArray[np.float64] | None
    runs: Sequence[slice]
    thresholds: Sequence[float]


def draw(
    path: str | Path,
    *,
    title: str,
    span: tuple[float, float],
    curve: Curve,
    found: Sequence[Event],
    truth: Sequence[MicroExpression],
) -> None:
    """Draw a score curve, what was found above it, and what is true below it.

    Args:
        path: where to write; the ending decides the format.
        title: above the picture, as it is.
        span: seconds of source time of the axis's ends.
        curve: what to draw.
        found: micro-expressions and gaps.
        truth: annotated micro-expressions.

    Raises:
        PlotError: matplotlib is not installed, or draws nothing of that ending.
        OSError: the picture cannot be written.
    """
    path = Path(path)
    if not path.suffix:
        path = path.with_name(f"{path.name}.png")
    if path.suffix.lower() not in PLOTS:
        raise PlotError(f"{path}: expected a name ending in {', '.join(PLOTS)}, got {path.suffix}")
    figure = figure_class()(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    start, end = span
    axes.set_xlim(start, max(end, start + 1e-3))
    axes.set(xlabel="time (s)", ylabel="score", ylim=(-0.28, 1.3), yticks=[0, 0.25, 0.5, 0.75, 1.0])
    axes.set_title(title, parse_math=False)  # a file name is no formula
    axes.spines[["top", "right"]].set_visible(False)
    _draw_curve(axes, curve)
    measure = _Measure(figure, axes)
    _draw_gaps(axes, [event for event in found if isinstance(event, Gap)], end, measure)
    micro_expressions = [event for event in found if isinstance(event, MicroExpression)]
    top = _mark(axes, micro_expressions, "found", FOUND, measure, 1.0, 1)
    bottom = _mark(axes, truth, "true", TRUE, measure, 0.0, -1)
    axes.set_ylim(min(bottom, -0.05), max(top, 1.05))
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=130)
    write_whole(path, picture.getvalue())


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


class _Measure:
    """How wide texts are, in seconds of the axes; each different one is measured once."""

    def __init__(self, figure: Any, axes: Any) -> None:
        self._figure, self._axes = figure, axes
        figure.draw_without_rendering()  # lays out
        self._widths: dict[str, float] = {}

    def __call__(self, text: str) -> float:
        """Return the width of a text as it is drawn."""
        if text not in self._widths:
            drawn = self._axes.text(0, 0, text, fontsize=SIZE, parse_math=False)
            box = self._axes.transData.inverted().transform_bbox(drawn.get_window_extent())
            drawn.remove()
            self._widths[text] = float(box.width)
        return self._widths[text]


def _draw_curve(axes: Any, curve: Curve) -> None:
    """Draw what the network said, what peaks are looked for on, and what they had to reach."""
    time = curve.time
    thin = curve.smoothed is not None
    line = {"color": CURVE, "linewidth": 0.8 if thin else 1.3, "label": "spotting curve"}
    axes.plot(*_broken_at_holes(time, curve.spot), **line)
    if curve.smoothed is None:
        return
    axes.plot(*_broken_at_holes(time, curve.smoothed), color=SMOOTHED, linewidth=1.6, label="smoothed")
    label: str | None = "threshold"
    for run, height in zip(curve.runs, curve.thresholds, strict=True):
        if len(time[run]):
            ends = time[run][[0, -1]]
            axes.plot(ends, [height, height], color=LIMIT, linewidth=1, linestyle=(0, (5, 3)), label=label)
            label = None


def _draw_gaps(axes: Any, gaps: Sequence[Gap], end: float, measure: _Measure) -> None:
    """Shade gaps, count them by reason in the legend, and name those that have room for it: no curve runs there."""
    names = [gap.reason.replace("_", " ") for gap in gaps]
    counts = ", ".join(f"{count} {name}" for name, count in Counter(names).items())
    label: str | None = f"gap ({counts})"
    for gap, name in zip(gaps, names, strict=True):
        stop = end if gap.end is None else gap.end
        axes.axvspan(gap.start, stop, color=GAP, zorder=0, linewidth=0.5, label=label)
        label = None
        if measure(name) < stop - gap.start:
            middle = (gap.start + stop) / 2
            axes.text(middle, 0.5, name, ha="center", va="center", fontsize=SIZE, color=REASON, parse_math=False)


def _mark(
    axes: Any,
    events: Sequence[MicroExpression],
    name: str,
    colour: str,
    measure: _Measure,
    base: float,
    side: int,
) -> float:
    """Draw intervals as bars, each with its emotion at the apex, in as many rows as it takes that none overprints.

    Args:
        axes: to draw on.
        events: in any order.
        name: of all of them, for the legend.
        colour: of them.
        measure: how wide names are.
        base: the end of the curve they lie beyond.
        side: 1 above, -1 below.

    Returns:
        How far they reach.
    """
    if not events:
        return base + side * BAR
    y = base + side * BAR
    events = sorted(events, key=lambda event: event.apex)
    gap = measure("n")
    spans = [(event.apex, measure(event.emotion) + gap) for event in events]
    rows = rows_of([(centre - width / 2, centre + width / 2) for centre, width in spans], ROWS)
    left_out = sum(row is None for row in rows)
    label: str | None = name if not left_out else f"{name} ({left_out} without room for a name)"
    for event, row in zip(events, rows, strict=True):
        if side > 0:  # one shade only: two over each other would look like a gap
            axes.axvspan(event.onset, event.offset, color=colour, alpha=0.12, linewidth=0)
        bar = {"color": colour, "linewidth": 6, "solid_capstyle": "butt"}
        axes.plot([event.onset, event.offset], [y, y], label=label, **bar)
        label = None
        if row is not None:
            text_y = y + side * (FIRST + row * ROW)
            style = {"ha": "center", "va": "bottom" if side > 0 else "top", "fontsize": SIZE, "color": colour}
            axes.text(event.apex, text_y, event.emotion, parse_math=False, **style)
    used = 1 + max((row for row in rows if row is not None), default=-1)
    return y + side * (FIRST + used * ROW)


def rows_of(spans: Sequence[tuple[float, float]], most: int) -> list[int | None]:
    """Put spans into rows so that none overlaps another of its row; None where no row has room.

    Args:
        spans: (begin, end), in order of their middles.
        most: rows.

    Returns:
        Of each span its row, the lowest that has room.
    """
    ends, rows = [-np.inf] * most, list[int | None]()
    for begin, end in spans:
        row = next((row for row, taken in enumerate(ends) if begin >= taken), None)
        if row is not None:
            ends[row] = end
        rows.append(row)
    return rows


def _broken_at_holes(time: npt.NDArray[np.float64], spot: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Put a NaN into every hole of the time grid, so that no line is drawn across it."""
    if len(time) < 3:
        return time, spot
    steps = np.diff(time)
    # Slots between two frames share the time of the nearer one.
    holes = np.flatnonzero(steps > 3.5 * np.median(steps[steps > 0])) + 1
    return np.insert(time, holes, np.nan), np.insert(spot, holes, np.nan)
