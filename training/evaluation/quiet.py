"""False alarms of a model in video in which nothing is annotated: how many a minute, by person and by cause.

Every clip's result is written as soon as it is there, so a count that is broken off goes on where it stopped.

    OUT/videos/<clip>.json     events found in a clip
    OUT/false_alarms.json      what is counted
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from metst_edge import Analyzer, Bundle
from training.data.errors import DataError
from training.data.features import content_at
from training.data.tables import PEOPLE, expect_table, read_people
from training.evaluation.beside import CAUSES, Happening, happenings, read_causes
from training.evaluation.causes import by_cause
from training.evaluation.kept import expect_face, key_of, progress, result_before, result_path, write
from training.evaluation.metrics import Clip, Labelled
from training.evaluation.people import figures, tallies

T = TypeVar("T")


def false_alarms(
    bundle: Bundle,
    clips: Sequence[Path],
    out: Path,
    *,
    engine: str = "auto",
    people: Path | None = None,
    causes: Path | None = None,
    report: Callable[[str, float], None] = lambda clip, share: None,
) -> dict[str, Any]:
    """Count what is found in video in which nothing is annotated, as false alarms per minute of visible face.

    Args:
        bundle: the model.
        clips: video files or folders of images.
        out: folder for false_alarms.json; made if missing. Results of the same model in it are kept.
        engine: as for `metst_edge.load_engine`.
        people: table of who is seen; by default people.csv beside the clips. A clip that is in none is of a person of
            its own.
        causes: table of what happens; by default causes.csv beside the clips.
        report: called with a clip's name and the share of it that is done.

    Returns:
        What is written: ``clips`` (name -> events, gaps, minutes of face), ``per_minute`` over all of them, how many
        ``people``, the ``interval`` of per_minute over them (None for a single one) and ``causes`` (kind ->
        count and per_minute).

    Raises:
        DataError: ``out`` holds results of another model, a table is wrong, or no face is seen.
        MetstError: the model or a clip cannot be read.
    """
    who = [person or name for person, name in zip(people_in(clips, people), _names(clips), strict=True)]
    happened = _happened(clips, causes)
    key = key_of(bundle, bundle.decode_settings, engine)
    found = []
    with Analyzer(model=bundle.path, engine=engine) as analyzer:
        for clip in clips:
            found.append(_analysed(analyzer, bundle, clip, out, key, report))
            report(clip.name, 1.0)
    minutes = [each["minutes_of_face"] for each in found]
    expect_face(minutes)
    counted, total = [Clip(_alarms(each), ()) for each in found], sum(minutes)
    events = [len(clip.predicted) for clip in counted]
    alarms = figures(tallies(counted, who, minutes))["false_alarms_per_minute"]
    written = {
        "clips": {
            name: {"events": here, "gaps": len(each["events"]) - here, "minutes_of_face": round(seen, 4)}
            for name, here, each, seen in zip(_names(clips), events, found, minutes, strict=True)
        },
        "per_minute": round(sum(events) / total, 2),
        "people": len(set(who)),
        "interval": None if alarms.low is None or alarms.high is None else [alarms.low, alarms.high],
        "causes": {each.kind: each.to_dict() for each in by_cause(zip(counted, happened, strict=True), total)},
    }
    write(out / "false_alarms.json", written)
    return written


def expect_clips(clips: Sequence[Path]) -> None:
    """Check that there is something of each clip's name, before the first of them is analysed.

    Raises:
        DataError: there is nothing.
    """
    for clip in clips:
        if not clip.exists():
            raise DataError(f"expected a video file or a folder of pictures, found none at {clip}; check the path")


def people_in(clips: Sequence[Path], table: Path | None = None) -> list[str | None]:
    """Return who is seen in each clip as far as a table says.

    Args:
        clips: files or folders, looked up by their names.
        table: file,subject; by default people.csv beside each clip.

    Raises:
        DataError: there is no such table, or a cell of it is wrong.
    """
    tables = _tables(clips, table, PEOPLE, read_people)
    return [tables[clip.parent].get(clip.name) for clip in clips]


def _alarms(found: dict[str, Any]) -> tuple[Labelled, ...]:
    """Return what was found in a clip; of no emotion, since none of it is true."""
    events = (event for event in found["events"] if event["type"] == "micro_expression")
    return tuple(Labelled(event["onset_frame"], event["offset_frame"], 0) for event in events)


def _happened(clips: Sequence[Path], table: Path | None) -> list[tuple[Happening, ...]]:
    tables = _tables(clips, table, CAUSES, read_causes)
    return [happenings(clip, clip.name, tables[clip.parent]) for clip in clips]


def _tables(
    clips: Sequence[Path], table: Path | None, name: str, read: Callable[[Path], dict[str, T]]
) -> dict[Path, dict[str, T]]:
    """Return the table that tells of each clip's folder."""
    if table is not None:
        expect_table(table)
    return {folder: read(table or folder / name) for folder in {clip.parent for clip in clips}}


def _names(clips: Sequence[Path]) -> list[str]:
    """Name clips as briefly as tells them apart."""
    names = [clip.name for clip in clips]
    return [clip.name if names.count(clip.name) == 1 else str(clip) for clip in clips]


def _analysed(
    analyzer: Analyzer, bundle: Bundle, clip: Path, out: Path, key: str, report: Callable[[str, float], None]
) -> dict[str, Any]:
    """Return what is found in a clip, from before where it was looked at."""
    place = hashlib.sha256(str(clip.resolve()).encode()).hexdigest()[:8]
    path = result_path(out, f"{clip.name}-{place}")
    content = hashlib.sha256(content_at(clip)).hexdigest()
    found = result_before(path, key, partial(_is_whole, content))
    if found is None:
        analysis = analyzer.analyze(clip, partial(progress, report, clip.name))
        minutes = len(analysis.scores.spot) / bundle.fps / 60
        found = {"key": key, "content": content, **analysis.to_dict(), "minutes_of_face": minutes}
        write(path, found)
    return found


def _is_whole(content: str, found: dict[str, Any]) -> bool:
    return found["content"] == content and {"events", "minutes_of_face"} <= found.keys()
