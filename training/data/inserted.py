"""Real video with micro-expressions put into it, as a labelled folder: real motion, true truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from metst_edge.capture import path_of
from metst_edge.errors import MetstError
from metst_edge.face import FaceFinder
from metst_edge.writing import write_whole
from training.data.errors import DataError
from training.data.features import content_at
from training.data.folder import read_folder
from training.data.rendered import write_labels
from training.data.tables import read_json
from training.synthesis.insert import NotUsable, follow, insert_clip
from training.synthesis.timeline import Rates

SETTINGS = "inserted.json"
SOURCES = "sources"
"""In SETTINGS: file name without ending -> hash of the video that clips of this name are of."""


@dataclass(frozen=True, slots=True)
class Inserted:
    """What a folder holds.

    Attributes:
        events: micro-expressions, in all clips.
        clips: how many.
        people: who are seen in them, how many.
    """

    events: int
    clips: int
    people: int


def insert_folder(
    folder: Path,
    videos: Sequence[str],
    seeds: Sequence[int],
    people: dict[str, str],
    rates: Rates,
    crf: int,
    drawing: str,
    report: Callable[[str, int, int], None] = lambda name, clip, frames: None,
    faults: float = 0.0,
) -> tuple[Inserted, dict[str, str]]:
    """Put micro-expressions into videos, one clip a seed, and label the folder; clips that are there are kept.

    Args:
        folder: made if missing.
        videos: their URIs; names of files, without ending, differ.
        seeds: of the clips of each video.
        people: file name -> who is seen; anybody else is called as the file.
        rates: how many and how strong.
        crf: H.264 constant rate factor.
        drawing: of `render.DRAWINGS`.
        report: called with a video's name, the number of clips that are done or given up, and the frames of the
            passage under way.
        faults: of the camera, how many a minute.

    Returns:
        What the folder holds, and which videos were left out, with the reason.

    Raises:
        DataError: the folder holds something else or clips of other settings, a clip in it is of another video or
            person, or two videos have one name.
    """
    stems = [path_of(video).stem for video in videos]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise DataError(f"expected videos of different names, got {', '.join(twice)} more than once; rename them")
    pixels = list(rates.micro_pixels)
    settings = {"rate": rates.micro, "pixels": pixels, "crf": crf, "drawing": drawing, "faults": faults}
    note = _claimed(folder, settings)
    wanted = {stem: {seed: folder / f"{stem}-s{seed}.mp4" for seed in seeds} for stem in stems}
    for video, stem in zip(videos, stems, strict=True):
        for path in wanted[stem].values():
            _expect_of(path_of(video), people.get(path_of(video).name, stem), path, note.get(stem))
    finder, left_out, done = FaceFinder(), {}, 0
    try:
        for video, stem in zip(videos, stems, strict=True):
            name = path_of(video).name
            missing = {seed: path for seed, path in wanted[stem].items() if not path.with_suffix(".json").exists()}
            heard = _Heard(report, name, done + len(seeds) - len(missing))
            try:
                course = follow(video, finder, heard) if missing else None
                if missing and (stem in note or not any(folder.glob(f"{escape(stem)}-s*.json"))):
                    note[stem] = _digest(path_of(video))
                for seed, path in missing.items():
                    assert course is not None, "there is one where a clip is missing"
                    folder.mkdir(parents=True, exist_ok=True)
                    write_whole(folder / SETTINGS, (json.dumps({**settings, SOURCES: note}) + "\n").encode())
                    insert_clip(course, seed, path, people.get(name, stem), rates, crf, drawing, heard, faults)
                    heard.clips += 1
            except (NotUsable, MetstError) as error:
                left_out[name] = str(error)
            done += len(seeds)
            report(name, done, 0)
    finally:
        finder.close()
    return _labelled(folder), left_out


def _labelled(folder: Path) -> Inserted:
    """Label what is in a folder, and count it."""
    clips = sorted(truth.with_suffix(".mp4") for truth in folder.glob("*-s*.json"))
    if not clips:
        return Inserted(0, 0, 0)
    write_labels(folder, clips)
    videos = read_folder(folder)
    events = sum(len(video.annotations) for video in videos)
    return Inserted(events, len(clips), len({video.subject for video in videos}))


@dataclass(slots=True)
class _Heard:
    """What is told of one video while it is worked on.

    Attributes:
        report: whom to tell.
        name: of the video.
        clips: that are done.
    """

    report: Callable[[str, int, int], None]
    name: str
    clips: int

    def __call__(self, frames: int) -> None:
        self.report(self.name, self.clips, frames)


def _claimed(folder: Path, settings: dict[str, object]) -> dict[str, str]:
    """Check that a folder is new, or holds clips of these settings; return of which videos they are.

    Raises:
        DataError: it holds something else.
    """
    note = folder / SETTINGS
    if not note.exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"expected {folder} to be new or made by `insert`, found other files in it; name another")
        return {}
    found = read_json(note, "the settings of clips, as `insert` writes them")
    before = {"faults": 0.0, **(found if isinstance(found, dict) else {})}
    sources = before.pop(SOURCES, {})  # clips of before it was recorded lack it, as they do faults
    changed = [
        f"{name} was {before.get(name)}, is {settings.get(name)}"
        for name in {**before, **settings}
        if before.get(name) != settings.get(name)
    ]
    if changed or not isinstance(sources, dict):
        raise DataError(
            f"{folder} holds clips of other settings ({', '.join(changed)}); remove it or name another folder"
        )
    return sources


def _expect_of(video: Path, subject: str, clip: Path, digest: str | None) -> None:
    """Check that a clip, if it is there, is of this video and person, lest an old one be kept for a new one.

    Args:
        video: that it should be of.
        subject: who is seen.
        clip: where it is.
        digest: of the video that clips of this name are of; None where it is not known.

    Raises:
        DataError: it is of another.
    """
    truth = clip.with_suffix(".json")
    if not truth.exists():
        return
    known = read_json(truth, f"the truth of {clip.name}; remove both, to have them made anew")
    source, seen = (known.get("source"), known.get("subject")) if isinstance(known, dict) else (None, None)
    if source != video.name or (digest is not None and video.exists() and digest != _digest(video)):
        raise DataError(
            f"{clip}: expected a clip of {video}, got one of another video, {source}; name another --out, remove the "
            "clip and its JSON to have it made anew, or rename the video"
        )
    if seen != subject:
        raise DataError(
            f"{clip}: expected a clip of {subject}, as --people says, got one of {seen}; name another --out, or remove "
            "the clip and its JSON to have it made anew"
        )


def _digest(video: Path) -> str:
    return hashlib.sha256(content_at(video)).hexdigest()
