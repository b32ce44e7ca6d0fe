"""Real video with micro-expressions put into it, as a labelled folder: real motion, true truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metst_edge.capture import path_of
from metst_edge.errors import MetstError
from metst_edge.face import FaceFinder
from metst_edge.writing import write_whole
from training.data.errors import DataError
from training.data.rendered import write_labels
from training.synthesis.insert import NotUsable, follow, insert_clip
from training.synthesis.timeline import Rates

SETTINGS = "inserted.json"


def insert_folder(
    folder: Path,
    videos: Sequence[str],
    seeds: Sequence[int],
    people: dict[str, str],
    rates: Rates,
    crf: int,
    drawing: str,
    report: Callable[[str, int, int], None] = lambda name, clip, frames: None,
) -> tuple[int, dict[str, str]]:
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

    Returns:
        How many clips the folder holds, and which videos were left out, with the reason.

    Raises:
        DataError: the folder holds something else, or two videos have one name.
    """
    stems = [path_of(video).stem for video in videos]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise DataError(f"expected videos of different names, got {', '.join(twice)} more than once; rename them")
    _claim(folder, {"rate": rates.micro, "pixels": list(rates.micro_pixels), "crf": crf, "drawing": drawing})
    finder, left_out, done = FaceFinder(), {}, 0
    for video, stem in zip(videos, stems, strict=True):
        name = path_of(video).name
        wanted = {seed: folder / f"{stem}-s{seed}.mp4" for seed in seeds}
        missing = {seed: path for seed, path in wanted.items() if not path.with_suffix(".json").exists()}
        heard = _Heard(report, name, done + len(wanted) - len(missing))
        try:
            course = follow(video, finder, heard) if missing else None
            for seed, path in missing.items():
                assert course is not None, "there is one where a clip is missing"
                insert_clip(course, seed, path, people.get(name, stem), rates, crf, drawing, heard)
                heard.clips += 1
        except (NotUsable, MetstError) as error:
            left_out[name] = str(error)
        done += len(wanted)
        report(name, done, 0)
    finder.close()
    clips = sorted(truth.with_suffix(".mp4") for truth in folder.glob("*-s*.json"))
    if clips:
        write_labels(folder, clips)
    return len(clips), left_out


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


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Make a folder for clips of these settings, or go on with it.

    Raises:
        DataError: it holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / SETTINGS
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != settings:
        raise DataError(f"{folder} holds clips of other settings; remove it or name another folder")
    if not note.exists() and any(folder.iterdir()):
        raise DataError(f"expected {folder} to be new or made by `insert`, found other files in it; name another")
    write_whole(note, (json.dumps(settings) + "\n").encode())
