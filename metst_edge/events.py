"""What an analysis reports: frozen values with one JSON form, the same live, offline and in the web page.

Seconds are source time; frames are source frames counted from 0; both ends of an interval are inclusive. The JSON is
described by docs/schema, and `SCHEMA` counts what changes in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

STRONGEST = 6
"""Regions at most that an event's motion tells of: more are read by nobody."""

SCHEMA = 1
"""Of the JSON of events and reports: raised when a key goes or changes its meaning, not when one is added."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a recogniser says of an interval that was spotted.

    Attributes:
        name: of the recogniser's bundle.
        probabilities: emotion -> probability, of the recogniser's own emotions; they sum to 1.
    """

    name: str
    probabilities: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict."""
        return {"name": self.name, "probabilities": {name: round(p, 4) for name, p in self.probabilities.items()}}


@dataclass(frozen=True, slots=True)
class RegionMotion:
    """How far a region of the face has moved at the apex of a micro-expression, the head's motion taken out.

    Attributes:
        region: its name, `metst_edge.face.rois.Roi.name`; left and right as on the picture.
        dx: pixels of the 320x320 crop to the right on the picture; negative to the left.
        dy: likewise downwards; negative upwards.
    """

    region: str
    dx: float
    dy: float

    @property
    def px(self) -> float:
        """Its length in pixels of the crop."""
        return math.hypot(self.dx, self.dy)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict, pixels rounded to hundredths."""
        dx, dy, px = (round(value, 2) + 0.0 for value in (self.dx, self.dy, self.px))  # no -0.0
        return {"region": self.region, "dx": dx, "dy": dy, "px": px}

    def __str__(self) -> str:
        """In words, with the nearest of four directions: "left brow 1.4 px up"."""
        across, along = ("left", "right"), ("up", "down")
        way = along[self.dy > 0] if abs(self.dy) >= abs(self.dx) else across[self.dx > 0]
        return f"{self.region} {self.px:.1f} px {way}"


@dataclass(frozen=True, slots=True)
class MicroExpression:
    """One spotted micro-expression.

    Where a recogniser is asked, an event may come twice: first as it was spotted (revision 0), and once more with the
    recogniser's opinion in it (revision 1). Both have the same interval, score and face; the later one counts.

    Attributes:
        onset: where it begins, seconds of source time.
        apex: where it is at its height, seconds of source time.
        offset: where it ends, seconds of source time.
        onset_frame: the source frame of the onset.
        apex_frame: the source frame of the apex.
        offset_frame: the source frame of the offset.
        emotion: the emotion voted for by the interval's frames; in revision 1 the most probable one.
        probabilities: emotion -> mean probability over the interval's frames, in revision 1 combined with the
            recogniser's; they sum to 1.
        score: 0 to 1. Of a model whose bundle has a calibration, the share of events of this height that are true, at
            the base rate that it states. Of others the height, which is not a probability of being right.
        face: which face of the picture; always 0 while one face is followed.
        recognizer: its opinion; None in revision 0, and where none is asked.
        revision: 0 or 1; None where no recogniser is asked. Its JSON has neither of the two then.
        source: what it was found in, as given; None of frames that were pushed. No part of what makes events equal.
        time: wall clock at the onset, with its time zone; None where the source is not live. Likewise.
        names: of the files of the onset's, the apex's and the offset's picture; None where pictures have no files of
            their own. Its JSON has no names then.
        height: of the smoothed spotting curve at the peak, 0 to 1, whatever the score is made of it; the score where it
            is not given.
        motion: what moved most from the onset to the apex, the strongest region first, STRONGEST at most; None where it
            was not measured, and no key then. See `metst_edge.scoring.motion`.
    """

    onset: float
    apex: float
    offset: float
    onset_frame: int
    apex_frame: int
    offset_frame: int
    emotion: str
    probabilities: Mapping[str, float]
    score: float
    face: int = 0
    recognizer: Opinion | None = None
    revision: int | None = None
    source: str | None = field(default=None, compare=False)
    time: datetime | None = field(default=None, compare=False)
    names: tuple[str, str, str] | None = None
    height: float | None = None
    motion: tuple[RegionMotion, ...] | None = None

    def __post_init__(self) -> None:
        if self.height is None:
            object.__setattr__(self, "height", self.score)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict, seconds rounded to a tenth of a millisecond."""
        out: dict[str, Any] = {
            "type": "micro_expression",
            "onset": round(self.onset, 4),
            "apex": round(self.apex, 4),
            "offset": round(self.offset, 4),
            "onset_frame": self.onset_frame,
            "apex_frame": self.apex_frame,
            "offset_frame": self.offset_frame,
            "emotion": self.emotion,
            "probabilities": {name: round(p, 4) for name, p in self.probabilities.items()},
            "score": round(self.score, 4),
            "height": round(self.score if self.height is None else self.height, 4),
            "face": self.face,
        }
        if self.motion is not None:
            out["motion"] = [region.to_dict() for region in self.motion]
        out |= _origin(self.source, self.time)
        if self.names is not None:
            out["onset_name"], out["apex_name"], out["offset_name"] = self.names
        if self.revision is not None:
            out["recognizer"] = None if self.recognizer is None else self.recognizer.to_dict()
            out["revision"] = self.revision
        return out

    def to_json(self) -> str:
        """Return the event as one line of JSON."""
        return json.dumps(self.to_dict())


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of source time in which nothing could be spotted; no interval crosses it.

    Live, one that lasts is told twice: when it begins, its end None, and whole when it has ended, at the latest with
    the source. One that is over when it is noticed is told once. A report holds whole ones only.

    Attributes:
        start: seconds of source time, of the last frame before it, or of the source's first.
        end: seconds of source time, of the first frame after it, or of the source's last; None while it lasts.
        reason: "face_lost", "no_frames" (a hole in the timestamps), "too_slow" (frames come too slowly for the model),
            "scene_cut", or what the camera reported ("camera_stalled", "camera_frozen", "camera_lost", "size_changed").
        source: as of a `MicroExpression`.
        time: wall clock at the start; as of a `MicroExpression`.
    """

    start: float
    end: float | None
    reason: str
    source: str | None = field(default=None, compare=False)
    time: datetime | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict, seconds rounded to a tenth of a millisecond."""
        end = None if self.end is None else round(self.end, 4)
        out = {"type": "gap", "start": round(self.start, 4), "end": end, "reason": self.reason}
        return {**out, **_origin(self.source, self.time)}

    def to_json(self) -> str:
        """Return the event as one line of JSON."""
        return json.dumps(self.to_dict())


Event = MicroExpression | Gap


def _origin(source: str | None, time: datetime | None) -> dict[str, Any]:
    """Return what the JSON of every event has: where it comes from, and by which rules it is written."""
    out: dict[str, Any] = {}
    if source is not None:
        out["source"] = source
    if time is not None:
        out["time"] = time.isoformat(timespec="milliseconds")
    return {**out, "schema": SCHEMA}
