"""The scores against a brute-force count over sets of frames, and against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metst_edge.labels import EMOTIONS
from metst_edge.matching import iou
from training.evaluation.beside import Happening, Traits
from training.evaluation.breakdown import Event, breakdown, events_in
from training.evaluation.causes import MISPLACED, UNKNOWN, by_cause, cause, false_ones
from training.evaluation.metrics import Clip, Labelled, match, recognition, score
from training.evaluation.people import FIGURES, RESAMPLES, SEED, Figure, figures, tallies

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


people_clips = st.lists(
    st.tuples(st.builds(lambda p, t: Clip(tuple(p), tuple(t)), intervals, intervals), st.sampled_from("abc")),
    min_size=1,
    max_size=5,
)


def slow_figures(clips: list[Clip], people: list[str], minutes: list[float]) -> dict[str, tuple[float, ...] | None]:
    """Draw people anew and score all their clips from the beginning, a clip of a person drawn twice twice."""

    def figures_of(chosen: list[str]) -> dict[str, float | None]:
        drawn = [
            (clip, m) for name in chosen for clip, who, m in zip(clips, people, minutes, strict=True) if who == name
        ]
        tp, fp, fn, emotions = by_sets([clip for clip, _ in drawn])
        time = sum(m for _, m in drawn)
        return {
            "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
            "precision": tp / (tp + fp) if tp + fp else None,
            "recall": tp / (tp + fn) if tp + fn else None,
            "uf1": one_against_rest(emotions, [0, 1, 2, 3])[0] if emotions else None,
            "emotions_right": sum(a == b for a, b in emotions) / len(emotions) if emotions else None,
            "false_alarms_per_minute": fp / time if time else None,
        }

    names = sorted(set(people))
    whole = figures_of(names)
    random = np.random.default_rng(SEED)
    draws = [figures_of([names[i] for i in random.integers(len(names), size=len(names))]) for _ in range(RESAMPLES)]
    slow: dict[str, tuple[float, ...] | None] = {}
    for name, value in whole.items():
        ordered = sorted(each[name] for each in draws if each[name] is not None)
        if value is None:
            slow[name] = None
        elif ordered[-1] - ordered[0] < 1e-12:
            slow[name] = (value,)  # nothing differs: what then is said has a test of its own
        else:
            ends = []
            for share in (0.025, 0.975):
                place = share * (len(ordered) - 1)
                below, above = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
                ends.append(below + (place - int(place)) * (above - below))
            slow[name] = (value, *ends)
    return slow


@settings(max_examples=8, deadline=None)
@given(people_clips)
def test_intervals_are_those_of_scoring_every_draw_of_people_from_the_beginning(
    drawn: list[tuple[Clip, str]],
) -> None:
    clips, people = [clip for clip, _ in drawn], [person for _, person in drawn]
    minutes = [0.5 + i for i in range(len(clips))]
    with pytest.MonkeyPatch.context() as patch:
        for module in ("training.evaluation.people", __name__):
            patch.setattr(f"{module}.RESAMPLES", 60)
        got = figures(tallies(clips, people, minutes))
        slow = slow_figures(clips, people, minutes)
    assert list(got) == list(FIGURES)
    for name, figure in got.items():
        if slow[name] is None:
            assert figure == Figure(None)
        elif len(slow[name]) == 3:
            assert (figure.value, figure.low, figure.high) == pytest.approx(slow[name])
        else:
            assert figure.value == pytest.approx(slow[name][0])


def test_where_nobody_errs_the_interval_is_that_of_the_counts() -> None:
    """The ends at which so good a score, or a better one, still has a chance of 0.025."""
    hit = Clip((Labelled(0, 9, 0),), (Labelled(0, 9, 0),))
    got = figures(tallies([hit] * 8, list("aabbccdd"), [1.5] * 8))
    for name in ("precision", "recall", "emotions_right"):
        assert got[name].high == 1 and got[name].low ** 8 == pytest.approx(0.025)
    alarms = got["false_alarms_per_minute"]
    assert (alarms.value, alarms.low) == (0, 0) and np.exp(-12 * alarms.high) == pytest.approx(0.025)
    assert got["f1"] == Figure(1.0) and got["uf1"] == Figure(1.0)
    miss = figures(tallies([Clip((Labelled(50, 59, 0),), hit.truth)] * 3, list("abc"), [1.0] * 3))
    assert miss["recall"].low == 0 and (1 - miss["recall"].high) ** 3 == pytest.approx(0.025)
    assert miss["false_alarms_per_minute"] == Figure(1.0)  # each as many: of how they differ nothing is seen


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Thirty people who each find a share of their own: the interval of recall holds the mean share nearly always."""
    random = np.random.default_rng(1)
    held = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.evaluation.people.RESAMPLES", 200)
        for _ in range(60):
            shares = random.beta(2, 2, size=30)
            rows = {}
            for i, hits in enumerate(random.binomial(20, shares)):
                rows[f"s{i}"] = np.array([hits, 0, 20 - hits, 1, *np.zeros(16)])
            recall = figures(rows)["recall"]
            held += recall.low <= 0.5 <= recall.high
    assert held >= 51  # 57 are to be expected; of 60 fair draws fewer than 51 come once in a thousand


def test_one_person_has_no_interval() -> None:
    clip = Clip((Labelled(0, 9, 0),), (Labelled(0, 9, 0),))
    got = figures(tallies([clip, clip], ["s1", "s1"], [1.0, 2.0]))
    assert got["f1"] == Figure(1.0) and got["false_alarms_per_minute"] == Figure(0.0)
    assert figures({}) == dict.fromkeys(FIGURES, Figure(None))


def event(onset: int, found: bool, **traits: object) -> Event:
    (event,) = events_in(
        Clip((Labelled(onset, onset + 9, 0),) if found else (), (Labelled(onset, onset + 9, 0),)),
        1.0,
        [Traits(onset, onset + 9, **traits)] if traits else [],
    )
    return event


def test_recall_is_told_by_what_micro_expressions_are_like() -> None:
    events = [
        event(0, True, intensity=0.99, action_units=(4,), face=130.0),
        event(20, False, intensity=1.0, action_units=(4, 12), face=129.9),
        event(40, True, intensity=2.0, action_units=(12,)),
        event(60, False),
    ]
    told = {
        trait: [(share.name, share.count, share.found) for share in shares]
        for trait, shares in breakdown(events).items()
    }
    assert told == {
        "size": [("below 1", 1, 1), ("1 to 2", 1, 0), ("2 and more", 1, 1)],
        "length": [("9 to 10", 4, 2)],
        "action_unit": [("AU 4", 2, 1), ("AU 12", 2, 1)],
        "emotion": [("negative", 4, 2)],
        "face": [("below 130", 1, 0), ("130 to 200", 1, 1)],
    }
    assert breakdown(events)["size"][1].to_dict() == {"count": 1, "found": 0, "recall": 0.0}


@settings(max_examples=100, deadline=None)
@given(people_clips)
def test_every_true_one_is_in_one_class_of_length_and_emotion(drawn: list[tuple[Clip, str]]) -> None:
    clips = [clip for clip, _ in drawn]
    tables, spotting = breakdown([each for clip in clips for each in events_in(clip, 1.0, [])]), score(clips).spotting
    assert {*tables} <= {"length", "emotion"}
    for shares in tables.values():
        assert sum(share.count for share in shares) == spotting.tp + spotting.fn
        assert sum(share.found for share in shares) == spotting.tp


@settings(max_examples=200, deadline=None)
@given(intervals, intervals, intervals)
def test_a_false_alarm_is_of_what_shares_most_frames_with_it(
    predicted: list[Labelled], truth: list[Labelled], there: list[Labelled]
) -> None:
    kinds = ("blink", "speech", "head", "light")
    known = [Happening(kinds[each.emotion], each.onset, each.offset) for each in there]
    clip = Clip(tuple(predicted), tuple(truth))
    alarms = false_ones(clip)
    assert len(alarms) == score([clip]).spotting.fp
    for alarm in alarms:
        shared = [(overlap(alarm, each), kinds[each.emotion]) for each in there]
        shared += [(overlap(alarm, each), MISPLACED) for each in truth]
        most = max((value for value, _ in shared), default=0.0)
        named = cause(alarm, clip, known)
        assert named == UNKNOWN if not most else named in {kind for value, kind in shared if value == most}
    counted = by_cause([(clip, known), (clip, known)], 4.0)
    assert sum(each.count for each in counted) == 2 * len(alarms)
    assert all(each.per_minute == each.count / 4 for each in counted)


def test_a_blink_inside_a_false_alarm_comes_before_the_speech_around_it() -> None:
    alarm = Labelled(100, 112, 0)
    known = [Happening("speech", 0, 300), Happening("blink", 102, 107)]
    assert cause(alarm, Clip((alarm,), ()), known) == "blink"
    assert cause(Labelled(400, 412, 0), Clip((), ()), known) == UNKNOWN
    assert by_cause([(Clip((alarm,), ()), known)], 0.0)[0].to_dict() == {"count": 1, "per_minute": 0.0}
