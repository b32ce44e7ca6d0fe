"""The decode threshold of a model, chosen on training people: most F1 that a bound on false alarms allows.

The network runs once over every video and its scores are kept; they are then decoded with every pair of ratio and
floor. Of the people that a model is tested on, nothing may get here; but people that it was trained on it knows, and is
surer of than of others. With a model for each fold every one is looked at by the model that does not know them.

    OUT/scores/<video>.npz     scores of a video, with folds OUT/fold<N>/scores/...
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np

from metst_edge import Analyzer, Bundle
from metst_edge.decode.offline import find_peaks, smooth, threshold
from metst_edge.report import Scores
from metst_edge.scoring import found_in
from training.data.errors import DataError
from training.data.features import content_at, keep, load_kept
from training.evaluation.kept import expect_face, key_of, progress
from training.evaluation.metrics import Clip, Labelled, Spotting, match

RATIOS = tuple(round(0.05 * i, 2) for i in range(20))
FLOORS = tuple(round(0.02 * i, 2) for i in range(50))
"""What is tried of each."""

ARRAYS = ("time", "frame", "spot", "emotion")
"""Of `metst_edge.report.Scores`, kept as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One video that the network has been through.

    Attributes:
        bundle: the network's, all of whose decode settings but ratio and floor hold.
        scores: of all its slots.
        truth: its micro-expressions.
        minutes: of visible face.
        labelled: whether it counts for F1.
        quiet: whether its false alarms count against the bound.
    """

    bundle: Bundle
    scores: Scores
    truth: tuple[Labelled, ...]
    minutes: float
    labelled: bool
    quiet: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """What one pair of ratio and floor comes to.

    Attributes:
        ratio: of `metst_edge.decode.DecodeSettings`.
        floor: likewise.
        spotting: in the labelled videos.
        false_alarms: per minute of visible face in the quiet ones; 0 without any.
    """

    ratio: float
    floor: float
    spotting: Spotting
    false_alarms: float

    def to_dict(self) -> dict[str, Any]:
        own = {"ratio": self.ratio, "floor": self.floor, "false_alarms_per_minute": self.false_alarms}
        return own | self.spotting.to_dict()


@dataclass(frozen=True, slots=True)
class Source:
    """A video to choose on.

    Attributes:
        name: for people; no two share one.
        uri: what it is opened by.
        subject: who is seen.
        truth: its micro-expressions.
        labelled: whether it counts for F1.
        quiet: whether its false alarms count against the bound.
        path: where it lies; None where the uri is its path.
    """

    name: str
    uri: str | Path
    subject: str
    truth: tuple[Labelled, ...]
    labelled: bool
    quiet: bool
    path: Path | None = None


def score_all(
    bundle: Bundle,
    sources: Sequence[Source],
    out: Path,
    *,
    engine: str = "auto",
    report: Callable[[str, float], None] = lambda video, share: None,
) -> list[Scored]:
    """Run the network over videos, or read what it gave before.

    Args:
        bundle: the model.
        sources: the videos.
        out: folder for the scores; made if missing.
        engine: as for `metst_edge.load_engine`.
        report: called with a video's name and the share of it that is done.

    Raises:
        DataError: ``out`` holds scores of another model, or no face is seen.
        MetstError: the model or a video cannot be read.
    """
    key = key_of(bundle, bundle.decode_settings, engine)
    scored = []
    with Analyzer(model=bundle.path, engine=engine) as analyzer:
        for source in sources:
            place = hashlib.sha256(str(source.uri).encode()).hexdigest()[:8]
            path = out / "scores" / f"{source.name.replace('/', '__')}-{place}.npz"
            content = hashlib.sha256(content_at(source.path or Path(source.uri))).hexdigest()
            scores = _kept(path, key, content)
            if scores is None:
                scores = analyzer.analyze(source.uri, partial(progress, report, source.name)).scores
                _keep(path, key, content, scores)
            report(source.name, 1.0)
            minutes = len(scores.spot) / bundle.fps / 60
            scored.append(Scored(bundle, scores, source.truth, minutes, source.labelled, source.quiet))
    expect_face([video.minutes for video in scored])
    return scored


def search(
    videos: Sequence[Scored],
    ratios: Sequence[float] = RATIOS,
    floors: Sequence[float] = FLOORS,
    report: Callable[[float], None] = lambda share: None,
) -> list[Setting]:
    """Decode the scores of videos with every pair of ratio and floor.

    Args:
        videos: labelled ones count for F1, quiet ones for false alarms a minute.
        ratios: to try.
        floors: to try.
        report: called with the share that is done.
    """
    pairs = [(ratio, floor) for ratio in ratios for floor in floors]
    labelled, quiet = np.zeros((len(pairs), 3), np.int64), np.zeros(len(pairs), np.int64)
    for i, video in enumerate(videos):
        for row, (tp, fp, fn) in enumerate(_counts(video, pairs)):
            if video.quiet:
                quiet[row] += fp
            if video.labelled:
                labelled[row] += (tp, fp, fn)
        report((i + 1) / len(videos))
    minutes = sum(video.minutes for video in videos if video.quiet)
    return [
        Setting(ratio, floor, Spotting(*counts), alarms / minutes if minutes else 0.0)
        for (ratio, floor), counts, alarms in zip(pairs, labelled.tolist(), quiet.tolist(), strict=True)
    ]


def best(settings: Sequence[Setting], bound: float | None) -> Setting:
    """Return the setting of the highest F1 among those that keep the bound; of equals that of fewest false alarms.

    Where many settings come to the very same, as they do on little data, it is the one in their middle, since those at
    their edge are the first to fail on others.

    Args:
        settings: as `search` returns them.
        bound: false alarms a minute, at most; None where there is no quiet video to count them in.

    Raises:
        DataError: none keeps it, or none that does finds anything.
    """
    kept = [setting for setting in settings if bound is None or setting.false_alarms <= bound]
    if not kept:
        least = min(setting.false_alarms for setting in settings)
        raise DataError(
            f"expected a ratio and a floor that keep {bound:g} false alarms a minute, got {least:.2f} at the least; "
            "ask for more with --false-alarms"
        )
    most = max(map(_worth, kept))
    if most[0] == 0 and bound is None:
        raise DataError(
            "expected something to be found rightly, got nothing at any ratio and floor; is a face seen in the videos, "
            "and are the frames in labels.csv theirs?"
        )
    if most[0] == 0:
        raise DataError(
            f"expected something to be found rightly at {bound:g} false alarms a minute, got nothing at any ratio and "
            "floor; ask for more with --false-alarms"
        )
    equals = [setting for setting in kept if _worth(setting) == most]
    floor = median_low([setting.floor for setting in equals])
    of_floor = [setting for setting in equals if setting.floor == floor]
    ratio = median_low([setting.ratio for setting in of_floor])
    return next(setting for setting in of_floor if setting.ratio == ratio)


def _worth(setting: Setting) -> tuple[float, float]:
    return setting.spotting.f1, -setting.false_alarms


def _counts(video: Scored, pairs: Sequence[tuple[float, float]]) -> list[tuple[int, int, int]]:
    """Count (tp, fp, fn) in one video for every pair.

    Ratio and floor do nothing but say which peaks are high enough: where as many are, the same are, and what was
    counted for them counts again.
    """
    k_p = video.bundle.k_p
    smoothed = [smooth(video.scores.spot[run].astype(np.float64), k_p) for run in video.scores.runs]
    peaks = [sorted(curve[find_peaks(curve, -1.0, k_p)].tolist()) for curve in smoothed]
    known: dict[tuple[int, ...], tuple[int, int, int]] = {}
    counts = []
    for ratio, floor in pairs:
        heights = [threshold(curve, ratio, floor) for curve in smoothed]
        below = tuple(bisect_left(own, height) for own, height in zip(peaks, heights, strict=True))
        if below not in known:
            known[below] = _count(video, ratio, floor)
        counts.append(known[below])
    return counts


def _count(video: Scored, ratio: float, floor: float) -> tuple[int, int, int]:
    settings = video.bundle.decode_settings.changed(ratio=ratio, floor=floor)
    events = found_in(video.scores, video.bundle, settings)
    clip = Clip(tuple(Labelled(event.onset_frame, event.offset_frame, 0) for event in events), video.truth)
    found = len(match(clip.predicted, clip.truth))
    return found, len(clip.predicted) - found, len(clip.truth) - found


def _kept(path: Path, key: str, content: str) -> Scores | None:
    """Return the scores that the same model gave before, or None, also of another video and where they are damaged."""
    found = load_kept(path, ("key", "content", *ARRAYS, "runs"))
    if found is None:
        return None
    if str(found["key"]) != key:
        raise DataError(f"{path.parent.parent} holds scores of another model; remove it or name another --out")
    if str(found["content"]) != content:
        return None
    runs = tuple(slice(*ends) for ends in found["runs"].tolist())
    return Scores(**{name: found[name] for name in ARRAYS}, runs=runs)


def _keep(path: Path, key: str, content: str, scores: Scores) -> None:
    runs = np.array([(run.start, run.stop) for run in scores.runs], np.int64).reshape(-1, 2)
    arrays = {name: getattr(scores, name) for name in ARRAYS}
    own = {"key": np.array(key), "content": np.array(content)}
    keep(path, {**own, **arrays, "runs": runs}, "scores", np.savez_compressed)
