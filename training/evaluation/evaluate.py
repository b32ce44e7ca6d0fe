"""Scores of a finished model on labelled video, through the whole of the SDK: files in, events out.

Every video's result is written as soon as it is there, so an evaluation that is broken off goes on where it stopped.

Knows bundles only: a checkpoint is exported to one by whoever asks, so nothing here needs torch.

    OUT/videos/<video>.json    events found, and those that every decoder finds in the same scores
    OUT/metrics.json           all scores, and those of every decoder by the length of micro-expressions
    OUT/confusion.png          confusion matrix of the true positives
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from metst_edge import Analyzer, Bundle, Report
from metst_edge.choices import DECODERS
from metst_edge.decode import DecodeSettings
from metst_edge.labels import EMOTIONS
from metst_edge.scoring import found_in
from training.data.errors import DataError
from training.data.folder import Video
from training.evaluation.lengths import DecoderScores, by_length
from training.evaluation.metrics import Clip, Labelled, Scores, score
from training.evaluation.plots import confusion


def evaluate(
    bundle: Bundle,
    videos: Sequence[Video],
    out: Path,
    *,
    engine: str = "auto",
    decoding: Mapping[str, Any] = MappingProxyType({}),
    report: Callable[[str, float], None] = lambda video, share: None,
) -> Scores:
    """Analyse every video offline and score what was found.

    Args:
        bundle: the model.
        videos: with their truth.
        out: folder for the results; results of the same model in it are kept.
        engine: as for `metst_edge.load_engine`.
        decoding: ``decoder``, ``synergy`` and ``class_priors`` of `metst_edge.Analyzer`; what is not there is the
            model's.
        report: called with a video's name and the share of it that is done.

    Raises:
        DataError: ``out`` holds results of another model, or a truth lies behind a video's end.
        MetstError: the model or a video cannot be read.
    """
    settings = bundle.decode_settings.changed(**decoding)
    key = _key(bundle, settings, engine)
    results = out / "videos"
    results.mkdir(parents=True, exist_ok=True)
    clips = []
    with Analyzer(model=bundle.path, engine=engine, **decoding) as analyzer:
        for video in videos:
            path = _result_path(out, video)
            found = _result_before(path, key)
            if found is None:
                analysis = analyzer.analyze(video.uri, partial(_progress, report, video.name))
                found = {"key": key, **analysis.to_dict(), "decoders": _by_decoder(analysis, bundle, settings)}
                _write(path, found)
            report(video.name, 1.0)
            clips.append(_clip(video, found, found["events"]))
    scores = score(clips)
    decoders = {name: each.to_dict() for name, each in compare_decoders(bundle, videos, out).items()}
    _write(out / "metrics.json", {"model": bundle.name, "key": key, **scores.to_dict(), "decoders": decoders})
    title = f"{scores.spotting.tp} true positives, UF1 {scores.recognition.uf1:.2f}"
    confusion(scores.confusion, EMOTIONS, out / "confusion.png", title)
    return scores


def compare_decoders(bundle: Bundle, videos: Sequence[Video], out: Path) -> dict[str, DecoderScores]:
    """Score what every decoder finds in the same scores.

    Args:
        bundle: the model.
        videos: with their truth.
        out: where `evaluate` left the results of these videos.

    Returns:
        By the name of the decoder, in the order of `metst_edge.choices.DECODERS`.
    """
    results = [json.loads(_result_path(out, video).read_text(encoding="utf-8")) for video in videos]
    rates = [bundle.fps / found["fps"] for found in results]
    compared = {}
    for decoder in DECODERS:
        clips = [_clip(video, found, found["decoders"][decoder]) for video, found in zip(videos, results, strict=True)]
        compared[decoder] = DecoderScores(score(clips), by_length(clips, rates))
    return compared


def false_alarms(
    bundle: Bundle,
    clips: Sequence[Path],
    out: Path,
    *,
    engine: str = "auto",
    report: Callable[[str, float], None] = lambda clip, share: None,
) -> dict[str, Any]:
    """Count what is found in video in which nothing is annotated, as false alarms per minute of visible face.

    Args:
        bundle: the model.
        clips: video files or folders of images.
        out: folder for false_alarms.json; made if missing.
        engine: as for `metst_edge.load_engine`.
        report: called with a clip's name and the share of it that is done.

    Returns:
        What is written: ``clips`` (name -> events, gaps, minutes of face) and ``per_minute`` over all of them.
    """
    out.mkdir(parents=True, exist_ok=True)
    counts: dict[str, dict[str, float]] = {}
    events, minutes = 0, 0.0
    with Analyzer(model=bundle.path, engine=engine) as analyzer:
        for clip in clips:
            analysis = analyzer.analyze(clip, partial(_progress, report, clip.name))
            found_here = len(analysis.micro_expressions)
            minutes_here = len(analysis.scores.spot) / bundle.fps / 60
            events, minutes = events + found_here, minutes + minutes_here
            counts[clip.name] = {
                "events": found_here,
                "gaps": len(analysis.events) - found_here,
                "minutes_of_face": round(minutes_here, 4),
            }
            report(clip.name, 1.0)
    found = {"clips": counts, "per_minute": round(events / minutes, 2) if minutes else 0.0}
    _write(out / "false_alarms.json", found)
    return found


def _progress(report: Callable[[str, float], None], video: str, done: int, total: int | None) -> None:
    # Containers are often off by a few frames.
    report(video, min(done / total, 1.0) if total else 0.0)


def _by_decoder(analysis: Report, bundle: Bundle, settings: DecodeSettings) -> dict[str, list[dict[str, Any]]]:
    return {
        decoder: [event.to_dict() for event in found_in(analysis.scores, bundle, settings.changed(decoder=decoder))]
        for decoder in DECODERS
    }


def _key(bundle: Bundle, settings: DecodeSettings, engine: str) -> str:
    """Name what results depend on: weights, decoding, engine; not when the bundle was written."""
    manifest = bundle.manifest
    parts = (manifest["files"]["weights.bin"]["sha256"], bundle.k_p, settings.to_dict(), engine)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _result_path(out: Path, video: Video) -> Path:
    return out / "videos" / f"{video.name.replace('/', '__')}.json"


def _result_before(path: Path, key: str) -> dict[str, Any] | None:
    """Return the result that an evaluation of the same model left, or None, also where it is damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        other = found.get("key") != key
        whole = other or (
            found["frames"] < math.inf and 0 < found["fps"] < math.inf and {*DECODERS} <= found["decoders"].keys()
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if other:
        raise DataError(
            f"{path.parent.parent} holds results of another model or other decode settings; remove it or name another "
            "--out"
        )
    return found if whole else None


def _clip(video: Video, found: dict[str, Any], events: Sequence[dict[str, Any]]) -> Clip:
    """Set events that were found beside the truth, in frames of the video."""
    for each in video.annotations:
        if each.offset >= found["frames"]:
            raise DataError(
                f"labels.csv, {video.name}: expected offsets below the video's {found['frames']} frames "
                f"(counted from 0), got {each.offset}; were the frames counted from 1 (--first-frame 1)?"
            )
    predicted = tuple(
        Labelled(event["onset_frame"], event["offset_frame"], EMOTIONS.index(event["emotion"]))
        for event in events
        if event["type"] == "micro_expression" and event["emotion"] in EMOTIONS
    )
    return Clip(predicted, tuple(Labelled(a.onset, a.offset, a.emotion) for a in video.annotations))


def _write(path: Path, value: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
