"""What a score means: from an evaluation's events, the share of those of a height that are true, as a rising table.

Fitted by isotonic regression, so nothing is assumed of the curve but that it rises. Results are those that
`training.evaluation.evaluate` leaves.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from metst_edge.decode.table import MOST_POINTS, ScoreTable
from metst_edge.matching import match
from training.data.errors import DataError
from training.data.folder import Video
from training.data.tables import read_json
from training.evaluation.kept import content_hash, result_path
from training.unreadable import UNREADABLE, why

FEWEST = 20
"""Events that a table is fitted on, at least: of fewer, a share says nothing."""


def events_of(videos: Sequence[Video], out: Path) -> list[tuple[float, bool]]:
    """Return height and truth of every event that an evaluation found.

    Args:
        videos: with their truth.
        out: where `evaluate` left the results of these videos.

    Raises:
        DataError: a video's result is not there, or damaged.
    """
    found = []
    for video in videos:
        path = result_path(out, video.name)
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            events = result["events"]
            events = [event for event in events if event["type"] == "micro_expression"]
            spans = [(event["onset_frame"], event["offset_frame"]) for event in events]
            heights = [float(event.get("height", event["score"])) for event in events]
        except UNREADABLE as error:
            raise _no_result(path, why(path, error)) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise _no_result(path, f"it is something else: {error!r}") from error
        if "content" in result and result["content"] != content_hash(video):
            raise DataError(f"{path}: expected the result of {video.path}, got that of another video of this name")
        true = {i for i, _ in match(spans, [(each.onset, each.offset) for each in video.annotations])}
        found += [(height, i in true) for i, height in enumerate(heights)]
    return found


def model_of(out: Path) -> dict[str, str]:
    """Return whose events an evaluation found, as `kept.identity` names a model; nothing where it does not say.

    Of several, one for each fold, their names alone: a table of their events is for one that was trained on everybody.

    Args:
        out: where `evaluate` left its results.

    Raises:
        DataError: what is there cannot be read.
    """
    path = out / "metrics.json"
    found = read_json(path, "the scores that `python -m training evaluate` writes") if path.exists() else {}
    known = found if isinstance(found, dict) else {}
    return {name: known[name] for name in ("model", "weights_sha256") if isinstance(known.get(name), str)}


def _no_result(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: expected the result of an evaluation, but it cannot be read ({reason}); run `python -m training "
        "evaluate` with this --data and --out first"
    )


def fit_table(events: Iterable[tuple[float, bool]]) -> ScoreTable:
    """Fit the share of events that are true to their height.

    One true event is imagined below all and one false one above all, so that no share is 0 or 1 after so few events.
    A table's point is a stretch of heights that has one share, at their mean.

    Args:
        events: height, 0 to 1, and whether it is true.

    Raises:
        DataError: less than FEWEST events.
    """
    events = sorted(events)
    if len(events) < FEWEST:
        raise DataError(
            f"expected at least {FEWEST} events to fit on, got {len(events)}; evaluate more video, or with a lower "
            "--floor and --ratio"
        )
    counts, trues = Counter[float](), Counter[float]()
    for height, true in [(events[0][0], True), *events, (events[-1][0], False)]:
        counts[height] += 1
        trues[height] += true
    heights = sorted(counts)
    step = -(-len(heights) // MOST_POINTS)
    groups = [heights[i : i + step] for i in range(0, len(heights), step)]
    blocks = rising(
        [
            (sum(counts[h] for h in group), sum(trues[h] for h in group), sum(counts[h] * h for h in group))
            for group in groups
        ]
    )
    points = tuple((round(total / count, 6), round(true / count, 6)) for count, true, total in blocks)
    return ScoreTable(points, round(sum(true for _, true in events) / len(events), 6), len(events))


def rising(blocks: Iterable[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Pool neighbours until shares rise: the least-squares fit of a rising curve (pool adjacent violators).

    Args:
        blocks: number of events, number of true ones, and sum of heights each, in order of height.

    Returns:
        Those that are left; neighbours that fell or were level are one.
    """
    pooled: list[tuple[int, int, float]] = []
    for count, true, total in blocks:
        while pooled and pooled[-1][1] * count >= true * pooled[-1][0]:
            before = pooled.pop()
            count, true, total = before[0] + count, before[1] + true, before[2] + total
        pooled.append((count, true, total))
    return pooled
