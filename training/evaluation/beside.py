"""What is known of a video beside its labels: what happens in it, how its micro-expressions were made.

    <video>.json    written with rendered and inserted clips: ``events`` and ``distractors``
    causes.csv      video,kind,onset,offset: what happens in real video, and in what was made of it; frames counted
                    from 0, both ends inclusive

Everything here may be missing: then nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.errors import DataError
from training.data.tables import read_json, rows

CAUSES = "causes.csv"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that is no micro-expression.

    Attributes:
        kind: such as "blink".
        onset: first frame, counted from 0.
        offset: last frame, inclusive.
    """

    kind: str
    onset: int
    offset: int


@dataclass(frozen=True, slots=True)
class Traits:
    """How a true micro-expression was made; None where it is not known.

    Attributes:
        onset: first frame, counted from 0.
        offset: last frame, inclusive.
        intensity: displacement of the most moved point at the apex, px of the 320 px crop.
        action_units: their numbers; empty where not known.
        face: width of the face, px of the picture.
        head: how far the head moves meanwhile, px of the 320 px crop.
    """

    onset: int
    offset: int
    intensity: float | None = None
    action_units: tuple[int, ...] = ()
    face: float | None = None
    head: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What the JSON beside a video tells; nothing where there is none, or one of another kind.

    Attributes:
        events: how its micro-expressions were made.
        distractors: what else was put in.
        source: name of the video or portrait that it was made of.
    """

    events: tuple[Traits, ...] = ()
    distractors: tuple[Happening, ...] = ()
    source: str = ""


def read_known(video: Path) -> Known:
    """Read the JSON beside a video.

    Raises:
        DataError: it is no JSON, or one of its values is not what it should be.
    """
    path = video.with_suffix(".json")
    if not path.is_file():
        return Known()
    found = read_json(path, f"the truth of {video.name} as JSON")
    if not (isinstance(found, dict) and isinstance(found.get("distractors"), list)):
        return Known()  # of something else, such as what an analysis found in it
    try:
        events = tuple(_traits(event) for event in found["events"])
        distractors = tuple(Happening(str(d["kind"]), int(d["onset"]), int(d["offset"])) for d in found["distractors"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: expected events and distractors with onset and offset, as `python -m training render` writes "
            f"them ({error!r})"
        ) from error
    return Known(events, distractors, str(found.get("source", "")))


def read_causes(table: Path) -> dict[str, list[Happening]]:
    """Read what happens in videos: video -> happenings; nothing where there is no such table.

    Raises:
        DataError: a column or a cell is missing or wrong.
    """
    causes: dict[str, list[Happening]] = {}
    for line, (video, kind, onset, offset) in rows(table, ("video", "kind", "onset", "offset")):
        if not (re.fullmatch(r"[0-9]+", onset) and re.fullmatch(r"[0-9]+", offset) and int(onset) <= int(offset)):
            raise DataError(
                f"{table} line {line}: expected onset and offset as frames from 0, in this order, "
                f"got {onset!r} and {offset!r}"
            )
        causes.setdefault(video, []).append(Happening(kind, int(onset), int(offset)))
    return causes


def happenings(video: Path, name: str, causes: Mapping[str, Sequence[Happening]]) -> tuple[Happening, ...]:
    """Return all that is known to happen in a video, from the JSON beside it and from a table.

    Args:
        video: the file or folder.
        name: of it in the table.
        causes: the table. What it says of the video that this one was made of, holds for this one too.
    """
    known = read_known(video)
    return (*known.distractors, *causes.get(name, ()), *(causes.get(known.source, ()) if known.source != name else ()))


def _traits(event: dict[str, Any]) -> Traits:
    return Traits(
        onset=int(event["onset"]),
        offset=int(event["offset"]),
        intensity=_number(event.get("intensity_px")),
        action_units=tuple(int(unit) for unit in event.get("action_units", ())),
        face=_number(event.get("face_px")),
        head=_number(event.get("head_px")),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
