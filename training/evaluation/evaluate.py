"""Scores of finished models on labelled video, through the whole of the SDK: files in, events out.

Every video's result is written as soon as it is there, so an evaluation that is broken off goes on where it stopped.
Several models may share the videos, each on people whom it never saw: all are scored together then.

Knows bundles only: a checkpoint is exported to one by whoever asks, so nothing here needs torch.

    OUT/videos/<video>.json    events found, those that every decoder finds in the same scores, and the spotting curve
    OUT/metrics.json           all scores, how sure they are, and what they are of each kind of micro-expression
    OUT/confusion.png          confusion matrix of the true positives
    OUT/failures.png           the highest false alarms and the strongest that were missed, if any
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from metst_edge import Analyzer, Bundle, Report
from metst_edge.choices import DECODERS
from metst_edge.counting import how_many
from metst_edge.decode import DecodeSettings
from metst_edge.decode.offline import smooth
from metst_edge.labels import EMOTIONS
from metst_edge.scoring import found_in
from training.data.errors import DataError
from training.data.folder import Video
from training.evaluation.beside import CAUSES, Happening, happenings, read_causes, read_known
from training.evaluation.breakdown import Share, breakdown, events_in
from training.evaluation.causes import Cause, by_cause
from training.evaluation.failures import Seen, worst
from training.evaluation.kept import (
    content_hash,
    expect_face,
    identity,
    key_of,
    progress,
    result_before,
    result_path,
    write,
)
from training.evaluation.lengths import DecoderScores, by_length
from training.evaluation.metrics import Clip, Labelled, Scores, score
from training.evaluation.people import RESAMPLES, Figure, figures, tallies
from training.evaluation.plots import confusion, failures


@dataclass(frozen=True, slots=True)
class Part:
    """What one model is scored on.

    Attributes:
        bundle: the model.
        videos: with their truth, of people whom it never saw.
    """

    bundle: Bundle
    videos: Sequence[Video]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that an evaluation tells.

    Attributes:
        scores: over all videos.
        people: how many are seen.
        figures: by their names in `people.FIGURES`, with intervals.
        breakdown: recall by what micro-expressions are like, as of `breakdown.breakdown`.
        causes: of the false alarms.
        decoders: what every decoder finds in the same scores, in the order of `metst_edge.choices.DECODERS`.
    """

    scores: Scores
    people: int
    figures: dict[str, Figure]
    breakdown: dict[str, tuple[Share, ...]]
    causes: tuple[Cause, ...]
    decoders: dict[str, DecoderScores]

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.scores.to_dict(),
            "people": self.people,
            "resamples": RESAMPLES,
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "breakdown": {
                trait: {each.name: each.to_dict() for each in shares} for trait, shares in self.breakdown.items()
            },
            "causes": {each.kind: each.to_dict() for each in self.causes},
            "decoders": {name: each.to_dict() for name, each in self.decoders.items()},
        }


def evaluate(
    bundle: Bundle,
    videos: Sequence[Video],
    out: Path,
    *,
    engine: str = "auto",
    decoding: Mapping[str, Any] = MappingProxyType({}),
    report: Callable[[str, float], None] = lambda video, share: None,
) -> Scores:
    """Analyse every video offline and score what was found: `evaluate_parts` with one model."""
    return evaluate_parts([Part(bundle, videos)], out, engine=engine, decoding=decoding, report=report).scores


def evaluate_parts(
    parts: Sequence[Part],
    out: Path,
    *,
    engine: str = "auto",
    decoding: Mapping[str, Any] = MappingProxyType({}),
    report: Callable[[str, float], None] = lambda video, share: None,
) -> Evaluation:
    """Analyse every video offline with its part's model and score what was found in all of them together.

    Args:
        parts: models and their videos; no video is in two of them.
        out: folder for the results; results of the same models in it are kept.
        engine: as for `metst_edge.load_engine`.
        decoding: ``decoder``, ``synergy`` and ``class_priors`` of `metst_edge.Analyzer`; what is not there is the
            model's.
        report: called with a video's name and the share of it that is done.

    Raises:
        DataError: ``out`` holds results of another model, a truth lies behind a video's end, or no face is seen.
        MetstError: a model or a video cannot be read.
    """
    for part in parts:
        _analyse(part, out, engine, decoding, report)
    seen = _seen(parts, out)
    reached = _evaluation(parts, seen)
    write(out / "metrics.json", {**_models(parts, engine, decoding), **reached.to_dict()})
    scores = reached.scores
    title = f"{scores.spotting.tp} true positives, UF1 {scores.recognition.uf1:.2f}"
    confusion(scores.confusion, EMOTIONS, out / "confusion.png", title)
    shown, picture = worst(seen), out / "failures.png"
    if shown:
        failures(shown, picture)
    else:
        picture.unlink(missing_ok=True)
    return reached


def compare_decoders(bundle: Bundle, videos: Sequence[Video], out: Path) -> dict[str, DecoderScores]:
    """Score what every decoder finds in the same scores.

    Args:
        bundle: the model.
        videos: with their truth.
        out: where `evaluate` left the results of these videos.

    Returns:
        By the name of the decoder, in the order of `metst_edge.choices.DECODERS`.
    """
    parts = [Part(bundle, videos)]
    return _evaluation(parts, _seen(parts, out)).decoders


def _analyse(
    part: Part, out: Path, engine: str, decoding: Mapping[str, Any], report: Callable[[str, float], None]
) -> None:
    """Write the result of every video of a part that has none yet."""
    bundle = part.bundle
    settings, key = bundle.decode_settings.changed(**decoding), _key(part, engine, decoding)
    with Analyzer(model=bundle.path, engine=engine, **decoding) as analyzer:
        for video in part.videos:
            path, content = result_path(out, video.name), content_hash(video)
            if result_before(path, key, partial(_is_whole, content)) is None:
                analysis = analyzer.analyze(video.uri, partial(progress, report, video.name))
                found = {
                    "key": key,
                    "content": content,
                    **analysis.to_dict(),
                    "decoders": _by_decoder(analysis, bundle, settings),
                    "curve": _curve(analysis, bundle),
                }
                write(path, {**found, "minutes_of_face": len(analysis.scores.spot) / bundle.fps / 60})
            report(video.name, 1.0)


def _evaluation(parts: Sequence[Part], seen: Sequence[Seen]) -> Evaluation:
    """Score what was found in the videos of all parts."""
    videos = [video for part in parts for video in part.videos]
    rates = [part.bundle.fps for part in parts for _ in part.videos]
    rates = [fps / each.found["fps"] for fps, each in zip(rates, seen, strict=True)]
    clips = [each.clip for each in seen]
    minutes = [each.found["minutes_of_face"] for each in seen]
    expect_face(minutes)
    known = [each.known.events for each in seen]
    events = [event for each in zip(clips, rates, known, strict=True) for event in events_in(*each)]
    decoders = {}
    for decoder in DECODERS:
        found_by = [
            _clip(video, each.found, each.found["decoders"][decoder]) for video, each in zip(videos, seen, strict=True)
        ]
        decoders[decoder] = DecoderScores(score(found_by), by_length(found_by, rates))
    people = tallies(clips, [video.subject for video in videos], minutes)
    return Evaluation(
        scores=score(clips),
        people=len(people),
        figures=figures(people),
        breakdown=breakdown(events),
        causes=by_cause(((each.clip, each.happenings) for each in seen), sum(minutes)),
        decoders=decoders,
    )


def _seen(parts: Sequence[Part], out: Path) -> list[Seen]:
    """Set the result of every video that lies in ``out`` beside what is known of it."""
    videos = [video for part in parts for video in part.videos]
    seen = []
    for video, happened in zip(videos, _happenings(videos), strict=True):
        found = json.loads(result_path(out, video.name).read_text(encoding="utf-8"))
        seen.append(Seen(video.name, _clip(video, found, found["events"]), found, read_known(video.path), happened))
    return seen


def _curve(analysis: Report, bundle: Bundle) -> dict[str, list[float]]:
    """Return the smoothed spotting curve as plain numbers: of each slot its frame in the video and the height."""
    scores = analysis.scores
    heights = [height for run in scores.runs for height in smooth(scores.spot[run].astype(np.float64), bundle.k_p)]
    frames = [frame for run in scores.runs for frame in scores.frame[run].tolist()]
    return {"frame": frames, "height": [round(float(height), 3) for height in heights]}


def _happenings(videos: Sequence[Video]) -> list[tuple[Happening, ...]]:
    """Return what is known to happen in each video of labelled folders."""
    tables: dict[Path, dict[str, list[Happening]]] = {}
    found = []
    for video in videos:
        # labels.csv and causes.csv name a video by its path below the folder that holds them.
        folder = video.path.parents[len(Path(video.name).parts) - 1]
        if folder not in tables:
            tables[folder] = read_causes(folder / CAUSES)
        found.append(happenings(video.path, video.name, tables[folder]))
    return found


def _models(parts: Sequence[Part], engine: str, decoding: Mapping[str, Any]) -> dict[str, Any]:
    """Say which model was scored; of several, on whom each was."""
    models = [{**identity(part.bundle), "key": _key(part, engine, decoding)} for part in parts]
    if len(parts) == 1:
        return models[0]
    people = [sorted({video.subject for video in part.videos}) for part in parts]
    names = ", ".join(each["model"] for each in models)
    return {"model": names, "models": [{**each, "people": who} for each, who in zip(models, people, strict=True)]}


def _key(part: Part, engine: str, decoding: Mapping[str, Any]) -> str:
    return key_of(part.bundle, part.bundle.decode_settings.changed(**decoding), engine)


def _by_decoder(analysis: Report, bundle: Bundle, settings: DecodeSettings) -> dict[str, list[dict[str, Any]]]:
    return {
        decoder: [event.to_dict() for event in found_in(analysis.scores, bundle, settings.changed(decoder=decoder))]
        for decoder in DECODERS
    }


def _is_whole(content: str, found: dict[str, Any]) -> bool:
    return bool(
        found["content"] == content
        and found["frames"] < math.inf
        and 0 < found["fps"] < math.inf
        and {*DECODERS} <= found["decoders"].keys()
        and len(found["curve"]["frame"]) == len(found["curve"]["height"])
        and 0 <= found["minutes_of_face"] < math.inf
    )


def _clip(video: Video, found: dict[str, Any], events: Sequence[dict[str, Any]]) -> Clip:
    """Set events that were found beside the truth, in frames of the video."""
    for each in video.annotations:
        if each.offset >= found["frames"]:
            raise DataError(
                f"labels.csv, {video.name}: expected offsets below the video's {how_many(found['frames'], 'frame')} "
                f"(counted from 0), got {each.offset}; were the frames counted from 1 (--first-frame 1)?"
            )
    predicted = tuple(
        Labelled(event["onset_frame"], event["offset_frame"], EMOTIONS.index(event["emotion"]))
        for event in events
        if event["type"] == "micro_expression" and event["emotion"] in EMOTIONS
    )
    return Clip(predicted, tuple(Labelled(a.onset, a.offset, a.emotion) for a in video.annotations))
