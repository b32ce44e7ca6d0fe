"""What lies in a folder: the pictures of one sequence, or clips; and what the numbers in pictures' names say.

Knows names only. Hidden files, sub-folders and files of other kinds are left alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from metst_edge.counting import how_many
from metst_edge.errors import SourceError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp")
VIDEOS = (
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".3gp", ".ogv", ".mxf", ".mjpeg", ".mjpg"),
)
"""Endings of the names of what is taken for a clip in a folder. A clip given by its own name may end in anything."""
NAMED = 3
"""Names that a message gives of many."""

_NUMBER = re.compile(r"\d+")


def clips_in(folder: Path) -> list[Path]:
    """Return the clips of a folder of clips, in the order of the numbers in their names; none of any other folder."""
    pictures, videos = _files(folder)
    return [] if pictures else videos


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of the numbers in their names.

    Raises:
        SourceError: no such folder, no pictures in it, or clips too; a picture twice, or one that does not belong to
            the others.
    """
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "nothing of that name"
        raise SourceError(f"{folder}: expected a folder of pictures; found {kind}; check the path")
    pictures, videos = _files(folder)
    if videos and pictures:
        raise SourceError(
            f"{folder}: expected pictures or clips; found both, {_listed(pictures, 'picture')} and "
            f"{_listed(videos, 'clip')}; put them into folders of their own"
        )
    if videos:
        raise SourceError(
            f"{folder}: expected a folder of pictures; found {_listed(videos, 'clip')}; give a clip by its own name, "
            "or analyse all of them: metst-edge analyze takes a folder of clips"
        )
    if not pictures:
        raise SourceError(f"{folder}: expected pictures ({', '.join(PICTURES)}) in this folder; there are none")
    _check_once(folder, pictures)
    _check_alike(folder, pictures)
    return pictures


def counted(files: Sequence[Path]) -> list[int] | None:
    """Return the number of each picture: what differs from name to name is one number.

    Args:
        files: in order.

    Returns:
        The numbers, rising; None where the names differ in more than that.

    Raises:
        SourceError: a number comes twice.
    """
    if len({_text(file) for file in files}) > 1:
        return None
    columns = zip(*([int(number) for number in _NUMBER.findall(file.stem)] for file in files), strict=True)
    varying = [column for column in columns if len(set(column)) > 1]
    if len(varying) > 1:
        return None
    numbers = varying[0] if varying else (0,) * len(files)
    for (before, file), (number, again) in pairwise(zip(numbers, files, strict=True)):
        if before == number:
            raise SourceError(
                f"{file.parent}: expected every number once; found {file.name} and {again.name}; take one of them out"
            )
    return list(numbers)


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's pictures and videos, in order."""
    pictures: list[Path] = []
    videos: list[Path] = []
    for entry in folder.iterdir():
        kind = entry.suffix.lower()
        if entry.name[0] != "." and kind in (*PICTURES, *VIDEOS) and entry.is_file():
            (pictures if kind in PICTURES else videos).append(entry)
    return sorted(pictures, key=_natural), sorted(videos, key=_natural)


def _check_once(folder: Path, pictures: Iterable[Path]) -> None:
    """Refuse a folder that holds one picture in two formats."""
    stems = defaultdict(list)
    for picture in pictures:
        stems[picture.stem].append(picture.name)
    twice = [names for names in stems.values() if len(names) > 1]
    if twice:
        raise SourceError(
            f"{folder}: expected every picture once; found {' and '.join(twice[0])}"
            f"{f', and {len(twice) - 1} more of the kind' if len(twice) > 1 else ''}; keep one format of each"
        )


def _check_alike(folder: Path, pictures: Sequence[Path]) -> None:
    """Refuse pictures that are few among many of another name, such as a poster."""
    families = Counter(map(_text, pictures))
    (most, count), *_ = families.most_common(1)
    if len(families) == 1 or 2 * count <= len(pictures):
        return
    like = next(picture for picture in pictures if _text(picture) == most)
    others = [picture for picture in pictures if _text(picture) != most]
    raise SourceError(
        f"{folder}: expected the pictures of one sequence; found {count} like {like.name}, and {len(others)} other "
        f"({_some(others)}); take what does not belong to it out"
    )


def _text(file: Path) -> str:
    """Return what of a name is no number."""
    return _NUMBER.sub("#", file.stem)


def _listed(files: Sequence[Path], what: str) -> str:
    return f"{how_many(len(files), what)} ({_some(files)})"


def _some(files: Sequence[Path]) -> str:
    names = ", ".join(file.name for file in files[:NAMED])
    return names if len(files) <= NAMED else f"{names}, ..."


def _natural(file: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Order names by the numbers in them, and names that differ only in leading zeros by their letters."""
    parts = re.findall(r"(\d+)|(\D+)", file.stem)
    return [(0, int(number), "") if number else (1, 0, text) for number, text in parts], file.name
