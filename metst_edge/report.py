"""What analysing one source offline gives: its events, its score curve, and how to write or draw them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from metst_edge.events import Event, Gap, MicroExpression


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The per-frame scores on the model's time grid, stitched over the whole source.

    Attributes:
        time: float64 (n,), seconds of source time.
        frame: int64 (n,), the source frame nearest to each.
        spot: float32 (n,), the spotting curve, 0 to 1.
        emotion: float32 (n, E), logits in the model's label order.
    """

    time: npt.NDArray[np.float64]
    frame: npt.NDArray[np.int64]
    spot: npt.NDArray[np.float32]
    emotion: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The analysis of one source.

    Attributes:
        source: what was analysed.
        model, engine: names.
        fps: frames per second of the source, measured from its timestamps.
        frames: how many frames were read.
        start: seconds of source time of the first frame.
        duration: seconds from the first frame to the end of the last.
        events: micro-expressions and gaps in order of time.
        scores: the curve they were found on.
        complete: False where reading the source broke off.
    """

    source: str
    model: str
    engine: str
    fps: float
    frames: int
    start: float
    duration: float
    events: tuple[Event, ...]
    scores: Scores
    complete: bool = True
    labels: tuple[str, ...] = field(default=())

    @property
    def micro_expressions(self) -> tuple[MicroExpression, ...]:
        """The events that are micro-expressions."""
        return tuple(event for event in self.events if isinstance(event, MicroExpression))

    def to_dict(self, scores: bool = False) -> dict[str, Any]:
        """Return the JSON object as a dict; with ``scores`` the curve as well (``spot``, one object of three lists)."""
        out: dict[str, Any] = {
            "source": self.source,
            "model": self.model,
            "engine": self.engine,
            "fps": round(self.fps, 4),
            "frames": self.frames,
            "duration": round(self.duration, 4),
            "complete": self.complete,
            "events": [event.to_dict() for event in self.events],
        }
        if scores:
            out["spot"] = {
                "time": np.round(self.scores.time, 4).tolist(),
                "frame": self.scores.frame.tolist(),
                "score": np.round(self.scores.spot.astype(float), 5).tolist(),
            }
        return out

    def to_json(self, scores: bool = False) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.to_dict(scores))

    def write_csv(self, file: IO[str], header: bool = True) -> None:
        """Write one row per event, opened with ``newline=""``."""
        probabilities = [f"p_{label}" for label in self.labels if label != "neutral"]
        names = ["source", "type", "onset", "apex", "offset", "onset_frame", "apex_frame", "offset_frame", "emotion"]
        writer = csv.DictWriter(file, [*names, "score", "reason", *probabilities])
        if header:
            writer.writeheader()
        for event in self.events:
            row: dict[str, Any] = {"source": self.source, **event.to_dict()}
            if isinstance(event, Gap):
                row["onset"], row["offset"] = row.pop("start"), row.pop("end")
            else:
                row.update({f"p_{label}": p for label, p in row.pop("probabilities").items()})
                del row["face"]
            writer.writerow(row)

    def plot(self, path: str | Path, truth: Sequence[MicroExpression] = ()) -> None:
        """Draw the score curve with what was found, and what is true where it is known, as a PNG, PDF or SVG.

        Args:
            path: where to write; the ending decides the format.
            truth: annotated micro-expressions, drawn below the curve.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 4), layout="constrained")
        axes = figure.subplots()
        time, spot = _broken_at_holes(self.scores.time, self.scores.spot)
        axes.plot(time, spot, color="#1f3a5f", linewidth=1.3, label="spotting curve")
        for event in self.events:
            if isinstance(event, Gap):
                axes.axvspan(event.start, event.end, color="0.88", zorder=0)
                middle = (event.start + event.end) / 2
                axes.text(middle, 0.5, event.reason.replace("_", " "), ha="center", va="center", color="0.35")
        for y, colour, name, events in (
            (1.10, "#d1495b", "found", self.micro_expressions),
            (-0.10, "#2a9d8f", "true", truth),
        ):
            for i, event in enumerate(events):
                axes.axvspan(event.onset, event.offset, color=colour, alpha=0.12, linewidth=0)
                axes.plot([event.onset, event.offset], [y, y], color=colour, linewidth=6, solid_capstyle="butt")
                axes.text(
                    event.apex,
                    y + (0.05 if y > 0 else -0.05),
                    event.emotion,
                    ha="center",
                    va="bottom" if y > 0 else "top",
                    fontsize=9,
                    color=colour,
                    label=None,
                )
                if i == 0:
                    axes.plot([], [], color=colour, linewidth=6, label=name)
        axes.set(
            xlabel="time (s)",
            ylabel="score",
            ylim=(-0.28, 1.3),
            yticks=[0, 0.25, 0.5, 0.75, 1.0],
        )
        title = f"{Path(self.source).name}: {len(self.micro_expressions)} micro-expressions found by {self.model}"
        axes.set_title(title, parse_math=False)  # a file name is no formula
        axes.set_xlim(self.start, self.start + max(self.duration, 1e-3))
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, dpi=130)


def _broken_at_holes(time: npt.NDArray[np.float64], spot: npt.NDArray[np.float32]) -> tuple[Any, Any]:
    """Put a NaN into every hole of the time grid, so that no line is drawn across it."""
    if len(time) < 3:
        return time, spot
    steps = np.diff(time)
    # Slots between two frames share the time of the nearer one.
    holes = np.flatnonzero(steps > 3.5 * np.median(steps[steps > 0])) + 1
    return np.insert(time, holes, np.nan), np.insert(spot, holes, np.nan)
