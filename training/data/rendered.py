"""Rendered clips as a labelled folder of H.264 files: synthetic truth, real video.

Of the test identity, which is never trained on, or of the training identities, each clip of another variant of them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from metst_edge.face import FaceFinder
from training.data.errors import DataError
from training.data.folder import COLUMNS
from training.synthesis.render import write_clip
from training.synthesis.testclips import test_clip, training_clip

SETTINGS = "rendered.json"


def render_folder(
    folder: Path,
    seed: int,
    count: int,
    seconds: float,
    report: Callable[[int], None] = lambda done: None,
    portraits: Path | None = None,
) -> None:
    """Render ``count`` clips into ``folder`` and label them; clips that are there already are kept.

    Args:
        folder: made if missing.
        seed: of the clips; clip i of a seed is the same however many are asked for.
        count: how many.
        seconds: length of each.
        report: called with the number of clips that are there.
        portraits: folder of the training portraits, for clips of those; None for the test identity.

    Raises:
        DataError: the folder holds something else.
    """
    settings = {"seed": seed, "seconds": seconds, **({} if portraits is None else {"identities": "training"})}
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / SETTINGS
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != settings:
        raise DataError(f"{folder} holds clips of another seed or length; remove it or name another folder")
    if not note.exists() and any(folder.iterdir()):
        raise DataError(f"expected {folder} to be new or rendered before, found other files in it; name another folder")
    note.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    clips, finder = [], FaceFinder()
    for i in range(count):
        path = folder / f"clip-{i:03d}.mp4"
        truth = path.with_suffix(".json")
        if not truth.exists():  # it is written last
            if portraits is None:
                clip = test_clip(seed, i, seconds, finder=finder)
            else:
                clip = training_clip(portraits, seed, i, seconds, finder=finder)
            write_clip(clip, path)
        clips.append(path)
        report(i + 1)
    write_labels(folder, clips)


def write_labels(folder: Path, clips: Sequence[Path]) -> None:
    """Write labels.csv of clips in a folder, out of the truth beside each."""
    rows = []
    for path in clips:
        known = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        events = [(event["onset"], event["apex"], event["offset"], event["emotion"]) for event in known["events"]]
        subject = known.get("subject", known["source"])
        rows += [(path.name, subject, *event) for event in events or [("", "", "", "")]]
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
