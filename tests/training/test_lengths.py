"""Recall and overlap by length, counted by hand and set by set."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.lengths import CLASSES, by_length
from training.evaluation.metrics import Clip, Labelled, score


def span(onset: int, offset: int) -> Labelled:
    return Labelled(onset, offset, 0)


def test_the_classes_hold_every_length_once() -> None:
    for length in range(1, 60):
        assert sum(least <= length and (most is None or length <= most) for least, most in CLASSES) == 1


def test_a_fixed_interval_of_13_frames_cannot_match_one_of_6() -> None:
    """What the table is for: at its best place it shares 6 of 13 frames."""
    truth = (span(100, 105), span(200, 206))
    rows = by_length([Clip((span(97, 109), span(197, 209)), truth)], [1.0])
    found = {row.name: (row.count, row.found, row.recall, row.iou) for row in rows if row.count}
    assert found == {"1 to 6": (1, 0, 0.0, pytest.approx(6 / 13)), "7 to 8": (1, 1, 1.0, pytest.approx(7 / 13))}


def test_lengths_are_counted_at_the_models_rate() -> None:
    """20 frames at 60 a second and 5 at 15 last as long as 10 at 30."""
    clips = [Clip((), (span(0, 19),)), Clip((), (span(0, 4),))]
    rows = by_length(clips, [0.5, 2.0])
    assert [(row.name, row.count, row.iou) for row in rows if row.count] == [("9 to 10", 2, 0.0)]


def test_all_classes_together_are_the_spotting_scores() -> None:
    random = np.random.default_rng(0)
    clips = []
    for _ in range(20):
        onsets = np.cumsum(random.integers(20, 40, size=8))
        truth = tuple(span(int(a), int(a + random.integers(3, 18))) for a in onsets)
        guesses = (span(t.onset + int(random.integers(-4, 5)), t.offset + int(random.integers(0, 5))) for t in truth)
        clips.append(Clip(tuple(guess for guess in guesses if random.uniform() < 0.7), truth))
    rows, spotting = by_length(clips, [1.0] * 20), score(clips).spotting
    assert (sum(row.found for row in rows), sum(row.count for row in rows)) == (spotting.tp, spotting.tp + spotting.fn)
    frames = [set(range(t.onset, t.offset + 1)) for clip in clips for t in clip.truth]
    guessed = [[set(range(p.onset, p.offset + 1)) for p in clip.predicted] for clip in clips for _ in clip.truth]
    best = [
        max((len(f & g) / len(f | g) for g in these), default=0.0) for f, these in zip(frames, guessed, strict=True)
    ]
    assert sum(row.iou * row.count for row in rows) / 160 == pytest.approx(np.mean(best))


def test_the_report_is_plain_values() -> None:
    (row, *_) = by_length([Clip((), (span(3, 5),))], [1.0])
    assert row.to_dict() == {"least": 1, "most": 6, "count": 1, "found": 0, "recall": 0.0, "iou": 0.0}
