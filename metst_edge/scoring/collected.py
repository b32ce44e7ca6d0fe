"""Scores of a recorded source until its end, then decoded as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise

import numpy as np

from metst_edge.bundle import Bundle
from metst_edge.capture import Frame
from metst_edge.decode import DecodeSettings, decode_clip
from metst_edge.decode.offline import smooth, threshold
from metst_edge.events import Event, Gap, MicroExpression
from metst_edge.report import Report, Scores
from metst_edge.scoring.items import Item, RunEnd, Scored, Told, named


class Collected:
    """What one offline analysis has gathered so far.

    Args:
        bundle: whose scores they are.
        settings: what they are decoded with.
        engine: name of what computes them.
        source: what is analysed.

    Attributes:
        nominal_fps: frames per second that the source states; None where it does not.
    """

    def __init__(self, bundle: Bundle, settings: DecodeSettings, engine: str, source: str) -> None:
        self._bundle, self._settings, self._engine, self._source = bundle, settings, engine, source
        self._runs: list[list[Scored]] = [[]]
        self._gaps: list[Gap] = []
        self._times: list[float] = []
        self._names: list[str | None] = []
        self.nominal_fps: float | None = None

    def saw(self, frame: Frame) -> None:
        """Count a frame that was read."""
        self._times.append(frame.timestamp)
        self._names.append(frame.name)

    @property
    def frames(self) -> int:
        """How many were read."""
        return len(self._times)

    def add(self, items: Iterable[Item]) -> None:
        """Keep scores, run by run, and gaps once they have ended."""
        for item in items:
            if isinstance(item, Gap):
                if item.end is not None:
                    self._gaps.append(item)
            elif isinstance(item, RunEnd):
                self._runs.append([])
            else:
                self._runs[-1].append(item)

    def report(self, complete: bool = True) -> Report:
        """Decode what was gathered; ``complete`` says whether that is all of the source."""
        bundle = self._bundle
        scores = _smoothed(_stacked(self._runs, len(bundle.labels)), bundle.k_p, self._settings)
        events: list[Event] = [*self._gaps, *map(self._named, found_in(scores, bundle, self._settings))]
        period = self._period()
        start, end = (self._times[0], self._times[-1]) if self._times else (0.0, 0.0)
        return Report(
            source=self._source,
            model=bundle.name,
            engine=self._engine,
            fps=1 / period,
            frames=self.frames,
            start=start,
            duration=end - start + period if self._times else 0.0,
            events=tuple(sorted(events, key=_begin)),
            scores=scores,
            labels=bundle.labels,
            complete=complete,
        )

    def _named(self, event: MicroExpression) -> MicroExpression:
        files = (self._names[frame] for frame in (event.onset_frame, event.apex_frame, event.offset_frame))
        return replace(event, names=named(*files))

    def _period(self) -> float:
        """Return the seconds from frame to frame."""
        if self.frames < 2:
            return 1 / (self.nominal_fps or self._bundle.fps)
        steps = np.diff(self._times)
        # Holes in time do not make a source slower.
        return float(steps[steps <= 3 * np.median(steps)].mean())


def found_in(scores: Scores, bundle: Bundle, settings: DecodeSettings) -> list[MicroExpression]:
    """Decode scores run by run.

    Args:
        scores: of a report.
        bundle: whose they are.
        settings: what they are decoded with.

    Returns:
        What is found, in the order of the runs.
    """
    told = Told(bundle, settings)
    events: list[MicroExpression] = []
    for run in scores.runs:
        intervals = decode_clip(scores.spot[run], scores.emotion[run], bundle.k_p, told.decoding, bundle.labels)
        events += told.events(intervals, partial(_slot, scores, run.start))
    return events


def _slot(scores: Scores, first: int, slot: int) -> Scored:
    """Return what is known of a slot of the run that begins with the slot ``first``."""
    i = first + slot
    features = None if scores.features is None else scores.features[i]
    return Scored(
        int(scores.frame[i]), float(scores.time[i]), float(scores.spot[i]), scores.emotion[i], features=features
    )


def _smoothed(scores: Scores, k_p: int, settings: DecodeSettings) -> Scores:
    """Add what peaks are looked for on, and what they must reach, as decoding has it."""
    curves = [smooth(scores.spot[run].astype(np.float64), k_p) for run in scores.runs]
    return replace(
        scores,
        smoothed=np.concatenate([np.empty(0), *curves]),
        thresholds=tuple(threshold(curve, settings.ratio, settings.floor) for curve in curves),
    )


def _begin(event: Event) -> float:
    return event.start if isinstance(event, Gap) else event.onset


def _stacked(runs: list[list[Scored]], classes: int) -> Scores:
    scored = [item for run in runs for item in run]
    ends = list(accumulate((len(run) for run in runs), initial=0))
    features = [item.features for item in scored if item.features is not None]
    return Scores(
        time=np.array([item.time for item in scored], np.float64),
        frame=np.array([item.frame for item in scored], np.int64),
        spot=np.array([item.spot for item in scored], np.float32),
        emotion=np.array([item.emotion for item in scored], np.float32).reshape(-1, classes),
        runs=tuple(slice(*ends_of) for ends_of in pairwise(ends)),
        features=np.stack(features) if features and len(features) == len(scored) else None,
    )
