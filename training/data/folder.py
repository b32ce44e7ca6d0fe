"""A labelled folder: the one layout in which video from anywhere can be trained and evaluated on.

    DIR/labels.csv       video,subject,onset,apex,offset,emotion[,fps]
    DIR/<video>          a video file, or a folder of images in the order of the numbers in their names

One row per micro-expression. ``video`` is the path below DIR, never out of it, ``subject`` whoever is seen in it.
``onset``, ``apex`` and ``offset`` are frames of the video, counted from 0 (``first_frame=1`` where the annotators
counted from 1), both ends inclusive. ``emotion`` is negative, positive, surprise or others, or one of the finer names
that belong to them. A video in which nothing happens has one row whose last four columns are empty: false alarms are
counted on it. ``fps`` is the frame rate of an image folder; a video file has its own.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from metst_edge.capture.listing import PICTURES
from metst_edge.counting import how_many
from metst_edge.labels import EMOTIONS
from training.data.errors import DataError
from training.data.tables import in_short
from training.samples import Annotation
from training.unreadable import why

COLUMNS = ("video", "subject", "onset", "apex", "offset", "emotion")

# Classes of CAS(ME)3 and SAMM as ME-TST joins them (arXiv 2409.09707).
EMOTION_CLASSES = {
    name: EMOTIONS.index(emotion)
    for emotion, names in {
        "negative": ("negative", "anger", "contempt", "disgust", "fear", "sad", "sadness"),
        "positive": ("positive", "happy", "happiness"),
        "surprise": ("surprise",),
        "others": ("other", "others"),
    }.items()
    for name in names
}


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a labelled folder.

    Attributes:
        name: path below the folder, as labels.csv gives it.
        path: the video file or image folder.
        subject: who is seen.
        fps: frames per second of an image folder; None for a video file.
        annotations: in frames of this video, in time order.
    """

    name: str
    path: Path
    subject: str
    fps: float | None
    annotations: tuple[Annotation, ...]

    @property
    def uri(self) -> str | Path:
        """What `metst_edge.capture.open_source` opens it by."""
        return self.path if self.fps is None else f"folder://{quote(str(self.path))}?fps={self.fps}"


def read_folder(folder: Path, first_frame: int = 0) -> list[Video]:
    """Read ``labels.csv`` of a labelled folder and check every cell of it.

    Args:
        folder: holds labels.csv and what it names.
        first_frame: the number of a video's first frame in labels.csv, 0 or 1.

    Returns:
        The videos, in the order in which they first occur.

    Raises:
        DataError: a file, column, row or cell is missing or wrong; the message names line and column.
    """
    table = folder / "labels.csv"
    if not table.is_file():
        there = "" if folder.is_dir() else ", which is a file" if folder.exists() else ", which does not exist"
        raise DataError(f"expected a labelled folder with labels.csv in it, found none in {folder}{there}")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            missing = [name for name in COLUMNS if name not in names]
            if missing:
                raise DataError(
                    f"{table}: expected the columns {', '.join(COLUMNS)}, got {in_short(names)}; "
                    f"missing: {', '.join(missing)}"
                )
            reader.fieldnames = names
            videos: dict[str, Video] = {}
            for cells in reader:
                row = _Row(table, reader.line_num, {k: (v or "").strip() for k, v in cells.items() if k is not None})
                _add(videos, row, folder, first_frame)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected a UTF-8 table with commas, got: {error}") from error
    except OSError as error:
        raise DataError(f"{table}: expected a UTF-8 table with commas ({why(table, error)})") from error
    if not videos:
        raise DataError(f"{table}: expected at least one row below the header, got none")
    return list(videos.values())


def split_subjects(videos: Sequence[Video], test_subjects: Sequence[str]) -> tuple[list[Video], list[Video]]:
    """Part videos into (training, test) by who is seen in them.

    Raises:
        DataError: a test subject is in no video, or nobody is left to train on.
    """
    present = {video.subject for video in videos}
    unknown = sorted(set(test_subjects) - present)
    if unknown:
        raise DataError(
            f"expected test subjects that labels.csv names, got {', '.join(unknown)}; "
            f"it names {', '.join(sorted(present))}"
        )
    training = [video for video in videos if video.subject not in test_subjects]
    if not training:
        raise DataError("expected at least one subject to train on, got all of them as test subjects")
    return training, [video for video in videos if video.subject in test_subjects]


def expect_events(videos: Sequence[Video], people: str) -> None:
    """Check that somebody shows a micro-expression, before videos are measured for it.

    Args:
        videos: of these people.
        people: what to call them in the error.

    Raises:
        DataError: nobody does.
    """
    if not any(video.annotations for video in videos):
        seen = how_many(len({video.subject for video in videos}), "person", "people")
        raise DataError(
            f"expected micro-expressions in labels.csv of {people}, got none in {how_many(len(videos), 'video')} of "
            f"{seen}; where there are any, they are all of people who are kept apart"
        )


def pictures_in(folder: Path) -> list[Path]:
    """List the pictures of an image folder by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name[0] != ".")


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of labels.csv and where it stands."""

    table: Path
    line: int
    cells: dict[str, str]

    def wrong(self, column: str, expected: str) -> DataError:
        cell = self.cells.get(column, "")
        return DataError(f"{self.table} line {self.line}, column {column}: expected {expected}, got {cell!r}")

    def required(self, column: str) -> str:
        if not self.cells.get(column):
            raise self.wrong(column, "a value")
        return self.cells[column]

    def frame(self, column: str, first_frame: int) -> int:
        cell = self.required(column)
        if not re.fullmatch(r"[0-9]+", cell) or int(cell) < first_frame:
            raise self.wrong(column, f"a frame number, {first_frame} or more")
        return int(cell) - first_frame

    def fps(self) -> float | None:
        cell = self.cells.get("fps")
        if not cell:
            return None
        try:
            fps = float(cell)
        except ValueError:
            raise self.wrong("fps", "frames per second, above 0") from None
        if not (math.isfinite(fps) and fps > 0):
            raise self.wrong("fps", "frames per second, above 0")
        return fps

    def annotation(self, first_frame: int) -> Annotation | None:
        if not any(self.cells.get(column) for column in ("onset", "apex", "offset", "emotion")):
            return None
        onset, apex, offset = (self.frame(column, first_frame) for column in ("onset", "apex", "offset"))
        if apex < onset:
            raise self.wrong("apex", f"a frame not before the onset, {onset + first_frame}")
        if offset < apex:
            raise self.wrong("offset", f"a frame not before the apex, {apex + first_frame}")
        emotion = EMOTION_CLASSES.get(self.required("emotion").lower())
        if emotion is None:
            raise self.wrong("emotion", f"one of {', '.join(EMOTION_CLASSES)}")
        return Annotation(onset, apex, offset, emotion)


def _add(videos: dict[str, Video], row: _Row, folder: Path, first_frame: int) -> None:
    """Enter one row, checking it against the rows of the same video before it."""
    name, subject, fps = row.required("video"), row.required("subject"), row.fps()
    annotation = row.annotation(first_frame)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise row.wrong("video", f"a path below {folder}, without '..'")
    path = folder / name
    if not path.exists():
        raise row.wrong("video", f"a video file or image folder below {folder}")
    if path.is_dir() and not pictures_in(path):
        raise row.wrong("video", f"a folder with pictures ({', '.join(PICTURES)}) in it")
    if path.is_dir() and fps is None:
        raise row.wrong("fps", "the frames per second of this image folder, in a column fps")
    if path.is_file() and fps is not None:
        raise row.wrong("fps", "nothing, because a video file states its own")
    before = videos.get(name)
    if before is not None and before.subject != subject:
        raise row.wrong("subject", f"{before.subject!r}, as in an earlier row of {name}")
    if before is not None and before.fps != fps:
        raise row.wrong("fps", f"{before.fps if before.fps else 'nothing'}, as in an earlier row of {name}")
    annotations = (*(before.annotations if before else ()), *((annotation,) if annotation else ()))
    ordered = tuple(sorted(annotations, key=lambda each: each.onset))
    videos[name] = Video(name, path, subject, fps, ordered)
