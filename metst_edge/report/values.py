"""What analysing one source offline gives: its events and the score curve they were found on, as values and as JSON.

How rows and pictures are made of them is no business of this file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from metst_edge.counting import how_many
from metst_edge.events import SCHEMA, Event, MicroExpression
from metst_edge.report import csv, plot


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The scores on the model's time grid, stitched over the whole source.

    There is one for each slot of that grid in which a face was followed, not one for each frame of the source: a source
    of 60 frames a second has half as many as frames, one of 15 twice as many, and gaps have none.

    Attributes:
        time: float64 (n,), seconds of source time.
        frame: int64 (n,), the source frame nearest to each.
        spot: float32 (n,), the spotting curve, 0 to 1.
        emotion: float32 (n, E), logits in the model's label order.
        runs: the unbroken stretches of them, each decoded by itself.
        smoothed: float64 (n,), the smoothed curve, on which peaks are looked for and whose height is an event's;
            None where it was not kept.
        thresholds: of each run, what a peak of the smoothed curve had to reach.
        features: float32 (n, 2, C), what they were made of, in either lane, pixels of the 320x320 crop; None where it
            was not kept.
    """

    time: npt.NDArray[np.float64]
    frame: npt.NDArray[np.int64]
    spot: npt.NDArray[np.float32]
    emotion: npt.NDArray[np.float32]
    runs: tuple[slice, ...] = ()
    smoothed: npt.NDArray[np.float64] | None = None
    thresholds: tuple[float, ...] = ()
    features: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The analysis of one source.

    Attributes:
        source: what was analysed.
        model: name of the bundle.
        engine: name of what ran the network.
        fps: frames per second of the source, measured from its timestamps.
        frames: how many frames were read.
        start: seconds of source time of the first frame.
        duration: seconds from the first frame to the end of the last.
        events: micro-expressions and gaps in order of time.
        scores: the curve they were found on.
        complete: False where reading the source broke off.
        labels: the model's labels, in the order of its logits.
        recognizer: name of the bundle that gave a second opinion; None where none was asked.
        recognizer_labels: the emotions that it names.
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
    recognizer: str | None = None
    recognizer_labels: tuple[str, ...] = ()

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
            **({} if self.recognizer is None else {"recognizer": self.recognizer}),
            "fps": round(self.fps, 4),
            "frames": self.frames,
            "duration": round(self.duration, 4),
            "complete": self.complete,
            "events": [event.to_dict() for event in self.events],
            "schema": SCHEMA,
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
        """Write one row per event.

        Args:
            file: opened with ``newline=""``.
            header: whether the names of the columns come first.
        """
        opinions = None if self.recognizer is None else self.recognizer_labels
        csv.write(file, self.source, self.events, self.labels, header, opinions)

    def plot(self, path: str | Path, truth: Sequence[MicroExpression] = ()) -> None:
        """Draw the score curve with what was found, and what is true where it is known, as a PNG, PDF or SVG.

        Args:
            path: where to write; the ending decides the format.
            truth: annotated micro-expressions, drawn below the curve.

        Raises:
            PlotError: matplotlib is not installed.
            OSError: the picture cannot be written.
        """
        found = how_many(len(self.micro_expressions), "micro-expression")
        plot.draw(
            path,
            title=f"{Path(self.source).name}: {found} found by {self.model}"
            + ("" if self.recognizer is None else f", second opinion of {self.recognizer}"),
            span=(self.start, self.start + self.duration),
            curve=plot.Curve(
                self.scores.time, self.scores.spot, self.scores.smoothed, self.scores.runs, self.scores.thresholds
            ),
            found=self.events,
            truth=truth,
        )
