"""People in folds: everybody is in one of them, so that each model can be tested on people whom it never saw.

Knows names and numbers of events; videos only by who is seen in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from metst_edge.counting import how_many
from metst_edge.writing import write_whole
from training.data.errors import DataError
from training.data.folder import Video
from training.data.tables import read_json

Folds = tuple[tuple[str, ...], ...]
"""The people of each fold, by name."""


def events_of(videos: Sequence[Video]) -> dict[str, int]:
    """Count the micro-expressions of everybody who is seen, 0 of those who show none."""
    events: dict[str, int] = {}
    for video in videos:
        events[video.subject] = events.get(video.subject, 0) + len(video.annotations)
    return events


def split(events: Mapping[str, int], count: int) -> Folds:
    """Part people into folds of about as many micro-expressions.

    Whoever shows most goes first, into the fold that has fewest so far: folds then differ by no more than one person
    shows. People who show none are dealt out last, to the fold with fewest people. Nothing is drawn, so the same people
    always give the same folds.

    Args:
        events: micro-expressions of everybody, over all folders.
        count: how many folds.

    Raises:
        DataError: there are fewer people than folds.
    """
    if len(events) < count:
        raise DataError(
            f"expected at least {how_many(count, 'person', 'people')} for {how_many(count, 'fold')}, "
            f"got {len(events)}; ask for fewer folds"
        )
    people: list[list[str]] = [[] for _ in range(count)]
    totals = [0] * count
    for name in sorted(events, key=lambda name: (-events[name], name)):
        heads = [len(fold) for fold in people]
        first, second = (totals, heads) if events[name] else (heads, totals)
        chosen = min(range(count), key=lambda i: (first[i], second[i], i))
        people[chosen].append(name)
        totals[chosen] += events[name]
    return tuple(tuple(sorted(fold)) for fold in people)


def write_folds(folds: Folds, path: Path) -> None:
    """Write folds as an object of the fold's number -> its people; its folder is made.

    Raises:
        DataError: something else is there, such as other folds, by which models may have been trained.
    """
    if path.exists():
        if _are_there(folds, path):
            return
        raise DataError(
            f"{path} holds other folds or something else, and models may have been trained by it; name another --out, "
            "or remove it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({str(i): list(fold) for i, fold in enumerate(folds)}, indent=1) + "\n"
    write_whole(path, text.encode())


def _are_there(folds: Folds, path: Path) -> bool:
    try:
        return read_folds(path) == folds
    except DataError:
        return False


def read_folds(path: Path) -> Folds:
    """Read what `write_folds` wrote.

    Raises:
        DataError: it cannot be read, is no such object, or somebody is in two folds.
    """
    found = read_json(path, "JSON, as `python -m training folds` writes it")
    numbers = [str(i) for i in range(len(found))] if isinstance(found, dict) else []
    if not (
        numbers
        and sorted(found) == sorted(numbers)
        and all(isinstance(fold, list) and all(isinstance(name, str) for name in fold) for fold in found.values())
    ):
        raise DataError(
            f'{path}: expected folds, numbered from 0, of names, such as {{"0": ["s01"], "1": ["s02"]}}; '
            "write it with `python -m training folds`"
        )
    names = sorted(name for fold in found.values() for name in fold)
    twice = sorted({a for a, b in pairwise(names) if a == b})
    if twice:
        raise DataError(f"{path}: expected everybody in one fold, got {', '.join(twice)} in two")
    return tuple(tuple(found[number]) for number in numbers)


def split_fold(videos: Sequence[Video], path: Path, number: int) -> tuple[list[Video], list[Video]]:
    """Part videos into (training, test) by whether who is seen in them is of a fold.

    Args:
        videos: of one labelled folder; folds may name people of others too.
        path: of the folds.
        number: of the test fold.

    Raises:
        DataError: as of `in_fold`, or nobody is left to train on.
    """
    test = in_fold(videos, path, number)
    tested = {video.subject for video in test}
    training = [video for video in videos if video.subject not in tested]
    if not training:
        raise DataError(f"{path}: expected somebody to train on outside fold {number}, got nobody in labels.csv")
    return training, test


def in_fold(videos: Sequence[Video], path: Path, number: int) -> list[Video]:
    """Return the videos of a fold's people; arguments as of `split_fold`.

    Raises:
        DataError: there is no such fold, or somebody is in none.
    """
    folds = read_folds(path)
    if number >= len(folds):
        raise DataError(f"{path}: expected a fold from 0 to {len(folds) - 1}, got {number}")
    unknown = sorted({video.subject for video in videos} - {name for fold in folds for name in fold})
    if unknown:
        raise DataError(
            f"{path}: expected everybody of labels.csv in a fold, got {', '.join(unknown)} in none; make the folds "
            "anew with `python -m training folds` and all folders"
        )
    return [video for video in videos if video.subject in folds[number]]
