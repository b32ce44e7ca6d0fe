"""causes.csv made by watching: what happens in the faces of real video, a row for each.

Rows of a video are written at once when it is done, so what is broken off goes on with the next one; a video that the
table names already is left as it is, whoever wrote its rows. Knows video and the table, not how things are told apart.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from metst_edge.capture import path_of
from metst_edge.errors import MetstError
from metst_edge.face import FaceFinder
from metst_edge.writing import write_whole
from training.data.errors import DataError
from training.evaluation.beside import CAUSES, Happening, read_causes
from training.evaluation.happenings import happened
from training.synthesis.insert import NotUsable, watch

COLUMNS = ("video", "kind", "onset", "offset")


def label_causes(
    videos: Sequence[str],
    out: Path | None = None,
    report: Callable[[str, int, int], None] = lambda name, videos, frames: None,
) -> tuple[dict[Path, tuple[int, int]], dict[str, str]]:
    """Label what happens in videos.

    Args:
        videos: their URIs. A table names them by their path below its folder, those elsewhere by their file's name.
        out: the table; by default causes.csv beside each video.
        report: called with a video's name, the number of videos that are done or given up, and the frames seen of the
            one under way.

    Returns:
        Of how many of these videos each table tells, and of how many of them it did before; and which were left out,
        with the reason. A video in which nothing
        happens has no row; it is watched again when it is asked for again.

    Raises:
        DataError: a table is wrong, or two videos would have one name in it.
        OSError: a table cannot be written.
    """
    places = [_place(path_of(video), out) for video in videos]
    twice = sorted({name for table, name in places if places.count((table, name)) > 1})
    if twice:
        raise DataError(f"expected videos of different names, got {', '.join(twice)} more than once; rename them")
    told = {table: read_causes(table) for table, _ in places}
    counts, left_out = dict.fromkeys(told, (0, 0)), {}
    finder = FaceFinder()
    try:
        for done, (video, (table, name)) in enumerate(zip(videos, places, strict=True)):
            report(name, done, 0)
            try:
                if name not in told[table]:
                    sight = watch(video, finder, partial(report, name, done))
                    _append(table, name, happened(sight.landmarks, sight.times))
                count, before = counts[table]
                counts[table] = (count + 1, before + (name in told[table]))
            except (NotUsable, MetstError) as error:
                left_out[name] = str(error)
            report(name, done + 1, 0)
    finally:
        finder.close()
    return counts, left_out


def _place(video: Path, out: Path | None) -> tuple[Path, str]:
    """Return the table that tells of a video, and its name there."""
    if out is None:
        return video.parent / CAUSES, video.name
    folder, whole = out.resolve().parent, video.resolve()
    return out, whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else video.name


def _append(table: Path, name: str, happenings: Sequence[Happening]) -> None:
    """Write the rows of a video behind those that are there, in the columns that are there."""
    before = table.read_text(encoding="utf-8-sig") if table.is_file() else ",".join(COLUMNS) + "\n"
    header = next(csv.reader(before.splitlines()), [])
    rows = io.StringIO()
    writer = csv.DictWriter(rows, [column.strip() for column in header], lineterminator="\n")
    for each in happenings:
        writer.writerow({"video": name, "kind": each.kind, "onset": each.onset, "offset": each.offset})
    table.parent.mkdir(parents=True, exist_ok=True)
    end = "" if before.endswith("\n") else "\n"
    write_whole(table, (before + end + rows.getvalue()).encode())
