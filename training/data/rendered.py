"""Rendered clips as a labelled folder of H.264 files: synthetic truth, real video.

Of the test identity, which is never trained on; of the training identities, each clip of another variant of them; or
of people by the names of their portraits.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from metst_edge.face import FaceFinder
from metst_edge.writing import write_whole
from training.data.errors import DataError
from training.data.folder import COLUMNS
from training.data.tables import read_json
from training.synthesis.portrait import TRAINING_PORTRAITS
from training.synthesis.render import DRAWING, write_clip
from training.synthesis.testclips import person_clip, portrait_of, test_clip, training_clip

SETTINGS = "rendered.json"
PORTRAITS = "portraits"
"""In SETTINGS: name -> hash of the portrait that clips are of."""


def render_folder(
    folder: Path,
    seed: int,
    count: int,
    seconds: float,
    report: Callable[[int], None] = lambda done: None,
    portraits: Path | None = None,
    people: Sequence[str] = (),
    drawing: str = DRAWING,
) -> None:
    """Render ``count`` clips into ``folder`` and label them; clips that are there already are kept.

    Args:
        folder: made if missing.
        seed: of the clips; clip i of a seed is the same however many are asked for.
        count: how many.
        seconds: length of each.
        report: called with the number of clips that are there.
        portraits: folder of portraits, for clips of those; None for the test identity.
        people: names of portraits in it, one after the other; none: the training portraits.
        drawing: of `render.DRAWINGS`.

    Raises:
        DataError: the folder holds something else.
        ValueError: a portrait is missing, or has no face.
    """
    settings: dict[str, object] = {"seed": seed, "seconds": seconds}
    if portraits is not None:
        settings["identities"] = list(people) or "training"
    if drawing != DRAWING:
        settings["drawing"] = drawing
    pictures = {} if portraits is None else {PORTRAITS: _hashes(portraits, people)}
    note = folder / SETTINGS
    if note.exists():
        _expect_same(folder, read_json(note, "the settings of rendered clips"), settings, pictures)
    if not note.exists() and folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"expected {folder} to be new or rendered before, found other files in it; name another folder")
    clips, finder = [], FaceFinder()
    for i in range(count):
        path = folder / f"clip-{i:03d}.mp4"
        truth = path.with_suffix(".json")
        if not truth.exists():  # it is written last
            if portraits is None:
                clip = test_clip(seed, i, seconds, finder=finder, drawing=drawing)
            elif people:
                clip = person_clip(portraits, people, seed, i, seconds, finder=finder, drawing=drawing)
            else:
                clip = training_clip(portraits, seed, i, seconds, finder=finder, drawing=drawing)
            if not note.exists():  # only now is there something to put into a folder
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(note, (json.dumps({**settings, **pictures}) + "\n").encode())
            write_clip(clip, path, extra={"subject": clip.source})
        clips.append(path)
        report(i + 1)
    write_labels(folder, clips)


def _hashes(portraits: Path, people: Sequence[str]) -> dict[str, str]:
    """Return what is in the portraits that clips are made of, by their names; those that are missing are said later."""
    paths = [portrait_of(portraits, person) for person in people] or [portraits / name for name in TRAINING_PORTRAITS]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def _expect_same(folder: Path, found: object, settings: Mapping[str, object], pictures: Mapping[str, object]) -> None:
    """Check that the clips that are there are those that are asked for.

    Args:
        folder: of the clips.
        found: settings they were made with; those of before portraits were told apart by what is in them lack those.
        settings: that are asked for.
        pictures: PORTRAITS and their hashes, or nothing.

    Raises:
        DataError: they are others.
    """
    before = dict(found) if isinstance(found, dict) else {}
    wanted = {**settings, **(pictures if PORTRAITS in before else {})}
    changed = [name for name in {**before, **wanted} if before.get(name) != wanted.get(name)]
    if changed:
        raise DataError(
            f"{folder} holds clips of another seed or length, or made of something else ({', '.join(changed)}); remove "
            "it or name another folder"
        )


def write_labels(folder: Path, clips: Sequence[Path]) -> None:
    """Write labels.csv of clips in a folder, out of the truth beside each.

    Raises:
        DataError: a truth cannot be read.
    """
    rows = []
    for path in clips:
        truth, expected = path.with_suffix(".json"), f"the truth of {path.name}; remove both, to have them made anew"
        known = read_json(truth, expected)
        try:
            events = [(event["onset"], event["apex"], event["offset"], event["emotion"]) for event in known["events"]]
            subject = known.get("subject", known["source"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{truth}: expected {expected} (it is something else: {error!r})") from error
        rows += [(path.name, subject, *event) for event in events or [("", "", "", "")]]
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
