"""The failures of an evaluation that are worth a look: the highest false alarms and the strongest that were missed.

Knows what an evaluation keeps of a video, not how it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metst_edge.labels import EMOTIONS
from metst_edge.matching import match as match_spans
from training.evaluation.beside import Happening, Known, Traits
from training.evaluation.causes import cause, false_ones
from training.evaluation.metrics import Clip, Labelled

SHOWN = 4
"""Of false alarms and of missed ones, at most."""
SECONDS = 1.5
"""Of the curve that are kept before and after."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A video, what was found in it, and what there is.

    Attributes:
        name: of the video.
        clip: found and true, in frames of the video.
        found: what the evaluation has kept of it: "events" with frames and heights, and "curve".
        known: how its micro-expressions were made.
        happenings: what else is known to happen.
    """

    name: str
    clip: Clip
    found: dict[str, Any]
    known: Known
    happenings: Sequence[Happening]


@dataclass(frozen=True, slots=True)
class Failure:
    """One that is shown.

    Attributes:
        title: what it is.
        video: where.
        seconds: times of the curve around it, in the video.
        curve: smoothed spotting scores.
        truth: (onset, offset) of the true ones there, seconds.
        found: of the found ones.
    """

    title: str
    video: str
    seconds: tuple[float, ...]
    curve: tuple[float, ...]
    truth: tuple[tuple[float, float], ...]
    found: tuple[tuple[float, float], ...]


def worst(videos: Sequence[Seen]) -> tuple[Failure, ...]:
    """Return the highest false alarm of each of SHOWN causes, and the strongest that were missed, one of each video."""
    alarms: dict[str, tuple[float, Seen, Labelled]] = {}
    missed: dict[str, tuple[float, Seen, Labelled]] = {}
    for video in videos:
        heights = {(e["onset_frame"], e["offset_frame"]): e["height"] for e in video.found["events"] if "height" in e}
        for alarm in false_ones(video.clip):
            kind, height = cause(alarm, video.clip, video.happenings), heights[alarm.onset, alarm.offset]
            if kind not in alarms or height > alarms[kind][0]:
                alarms[kind] = (height, video, alarm)
        spans = ([(each.onset, each.offset) for each in some] for some in (video.clip.predicted, video.clip.truth))
        matched = {i for _, i in match_spans(*spans)}
        for i, true in enumerate(video.clip.truth):
            traits = _traits(video, true)
            strength = (traits.intensity if traits else None) or 0.0
            if i not in matched and (video.name not in missed or strength > missed[video.name][0]):
                missed[video.name] = (strength, video, true)
    highest = sorted(alarms.items(), key=lambda item: -item[1][0])[:SHOWN]
    strongest = sorted(missed.values(), key=lambda each: -each[0])[:SHOWN]
    return (
        *(_failure(video, alarm, f"false, {height:.2f}: {kind}") for kind, (height, video, alarm) in highest),
        *(_failure(video, true, f"missed: {_like(video, true)}") for _, video, true in strongest),
    )


def _traits(video: Seen, true: Labelled) -> Traits | None:
    return next((t for t in video.known.events if (t.onset, t.offset) == (true.onset, true.offset)), None)


def _like(video: Seen, true: Labelled) -> str:
    """Say what a true one is like, as far as it is known."""
    traits, parts = _traits(video, true), [EMOTIONS[true.emotion]]
    if traits is not None and traits.intensity is not None:
        parts.append(f"{traits.intensity:.1f} px")
    if traits is not None and traits.action_units:
        parts.append("AU " + "+".join(map(str, traits.action_units)))
    return ", ".join(parts)


def _failure(video: Seen, at: Labelled, title: str) -> Failure:
    rate = video.found["fps"]
    first, last = at.onset - SECONDS * rate, at.offset + SECONDS * rate
    curve = video.found["curve"]
    some = [(f / rate, y) for f, y in zip(curve["frame"], curve["height"], strict=True) if first <= f <= last]

    def spans(intervals: Sequence[Labelled]) -> tuple[tuple[float, float], ...]:
        return tuple((e.onset / rate, e.offset / rate) for e in intervals if e.offset >= first and e.onset <= last)

    seconds, heights = zip(*some, strict=True) if some else ((), ())
    return Failure(title, video.name, seconds, heights, spans(video.clip.truth), spans(video.clip.predicted))
