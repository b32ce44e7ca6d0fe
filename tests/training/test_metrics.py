"""The scores against a brute-force count over sets of frames, and against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metst_edge.labels import EMOTIONS
from metst_edge.matching import iou
from training.evaluation.metrics import Clip, Labelled, match, recognition, score

NEGATIVE, POSITIVE, SURPRISE, OTHERS = range(4)

intervals = st.lists(
    st.builds(
        lambda onset, length, emotion: Labelled(onset, onset + length, emotion),
        st.integers(0, 40),
        st.integers(0, 12),
        st.integers(0, 3),
    ),
    max_size=6,
)


def frames(interval: Labelled) -> set[int]:
    return set(range(interval.onset, interval.offset + 1))


def overlap(a: Labelled, b: Labelled) -> float:
    return len(frames(a) & frames(b)) / len(frames(a) | frames(b))


def by_sets(clips: list[Clip]) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Count tp, fp, fn and (true, predicted) emotions frame set by frame set."""
    tp = fp = fn = 0
    emotions = []
    for clip in clips:
        truth = sorted(clip.truth, key=lambda t: (t.onset, t.offset))
        free = [True] * len(truth)
        for guess in sorted(clip.predicted, key=lambda p: (p.onset, p.offset)):
            overlaps = [overlap(guess, t) for t in truth]
            best = overlaps.index(max(overlaps)) if overlaps else -1
            if best >= 0 and free[best] and overlaps[best] >= 0.5:
                free[best] = False
                tp += 1
                emotions.append((truth[best].emotion, guess.emotion))
            else:
                fp += 1
        fn += sum(free)
    return tp, fp, fn, emotions


def one_against_rest(pairs: list[tuple[int, int]], classes: list[int]) -> tuple[float, float, float]:
    """UF1, UAR and the published F1 by counting every class against the rest."""
    f1s, precisions, recalls, of_true = [], [], [], []
    for c in classes:
        tp = sum(t == c and p == c for t, p in pairs)
        fp = sum(t != c and p == c for t, p in pairs)
        fn = sum(t == c and p != c for t, p in pairs)
        if tp + fp + fn == 0:
            continue
        f1s.append(tp / (tp + 0.5 * (fp + fn)))
        precisions.append(tp / (tp + fp) if tp + fp else 0.0)
        recalls.append(tp / (tp + fn) if tp + fn else 0.0)
        if tp + fn:
            of_true.append(tp / (tp + fn))
    if not f1s:
        return 0.0, 0.0, 0.0
    p, r = np.mean(precisions), np.mean(recalls)
    return float(np.mean(f1s)), float(np.mean(of_true)), float(2 * p * r / (p + r)) if p + r else 0.0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.builds(lambda p, t: Clip(tuple(p), tuple(t)), intervals, intervals), max_size=4))
def test_scores_are_those_of_counting_frame_sets(clips: list[Clip]) -> None:
    tp, fp, fn, emotions = by_sets(clips)
    got = score(clips)
    assert (got.spotting.tp, got.spotting.fp, got.spotting.fn) == (tp, fp, fn)
    assert got.spotting.precision == pytest.approx(tp / (tp + fp) if tp + fp else 0)
    assert got.spotting.recall == pytest.approx(tp / (tp + fn) if tp + fn else 0)
    f1 = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0
    assert got.spotting.f1 == pytest.approx(f1)

    uf1, uar, recognition_f1 = one_against_rest(emotions, [0, 1, 2, 3])
    assert (got.recognition.uf1, got.recognition.uar, got.recognition.f1) == pytest.approx((uf1, uar, recognition_f1))
    assert got.strs == pytest.approx(f1 * recognition_f1)

    kept = [(t, p) for t, p in emotions if t != OTHERS]
    uf1, uar, recognition_f1 = one_against_rest(kept, [0, 1, 2])
    three = got.recognition_without_others
    assert (three.uf1, three.uar, three.f1, three.count) == pytest.approx((uf1, uar, recognition_f1, len(kept)))
    assert got.strs_without_others == pytest.approx(f1 * recognition_f1)
    assert got.confusion.sum() == tp


def test_overlap_counts_both_ends() -> None:
    assert iou((0, 9), (5, 14)) == pytest.approx(5 / 15)
    assert iou((3, 3), (3, 3)) == 1
    assert iou((0, 4), (5, 9)) == 0


def test_overlap_of_exactly_one_half_is_found() -> None:
    assert len(match([Labelled(0, 9, 0)], [Labelled(0, 4, 0)])) == 1
    assert match([Labelled(0, 10, 0)], [Labelled(0, 4, 0)]) == []


def test_a_second_prediction_of_the_same_truth_is_false_even_when_it_fits_better() -> None:
    first, better = Labelled(0, 7, 0), Labelled(1, 9, 0)
    pairs = match([better, first], [Labelled(1, 9, 0)])
    assert pairs == [(first, Labelled(1, 9, 0))]


def test_a_prediction_is_tested_against_its_best_truth_only() -> None:
    # Both truths overlap enough; the better one is taken, so the prediction does not fall back on the other.
    left, right = Labelled(0, 9, 0), Labelled(4, 13, 0)
    taken_by = Labelled(2, 12, 0)
    second = Labelled(3, 12, 0)
    assert overlap(second, right) > overlap(second, left) >= 0.5
    assert match([taken_by, second], [left, right]) == [(taken_by, right)]


def test_videos_without_micro_expressions_count_their_false_alarms() -> None:
    hit = Clip((Labelled(0, 9, 0),), (Labelled(0, 9, 0),))
    empty = Clip((Labelled(0, 9, 0), Labelled(20, 29, 1)), ())
    silent = Clip((), ())
    got = score([hit, empty, silent])
    assert (got.spotting.tp, got.spotting.fp, got.spotting.fn, got.videos) == (1, 2, 0, 3)
    assert got.spotting.precision == pytest.approx(1 / 3)


def test_nothing_found_and_nothing_there_score_zero() -> None:
    got = score([Clip((), ())])
    assert (got.spotting.f1, got.recognition.uf1, got.strs) == (0, 0, 0)


def test_a_claim_of_others_is_a_miss_when_others_are_left_out() -> None:
    confusion = np.zeros((4, 4), np.int64)
    confusion[NEGATIVE, NEGATIVE], confusion[NEGATIVE, OTHERS], confusion[OTHERS, NEGATIVE] = 1, 1, 5
    three = recognition(confusion, left_out=[OTHERS])
    assert three.count == 2
    assert three.uar == pytest.approx(1 / 2)
    assert three.uf1 == pytest.approx(2 / 3)


def test_a_class_that_is_claimed_but_never_true_has_recall_0_in_the_f1_as_published() -> None:
    confusion = np.zeros((4, 4), np.int64)
    confusion[NEGATIVE, NEGATIVE], confusion[NEGATIVE, POSITIVE] = 3, 1
    got = recognition(confusion)
    precision, recall = (1 + 0) / 2, (0.75 + 0) / 2
    assert got.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert got.uar == pytest.approx(0.75)


def test_the_report_is_plain_values() -> None:
    import json

    report = json.loads(json.dumps(score([Clip((Labelled(0, 9, 2),), (Labelled(0, 9, 2),))]).to_dict()))
    assert report["labels"] == list(EMOTIONS)
    assert report["confusion"][SURPRISE][SURPRISE] == 1
    assert report["spotting"]["f1"] == report["strs"] == 1
