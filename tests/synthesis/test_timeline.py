"""A timeline's truth is what its tracks do, and nothing else is called a micro-expression."""

import itertools
import json

import numpy as np
import pytest

from training.synthesis.emotions import emotion_of
from training.synthesis.render import write_truth
from training.synthesis.timeline import (
    HEAD,
    LIGHT,
    MICRO_SECONDS,
    NOTHING,
    TRACK,
    TRACKS,
    Rates,
    draw_timeline,
    pulse,
)

ONLY_MICRO = Rates(micro=20, blinks=0, speech=0, macros=0, head_moves=0, drift=0, flicker=0)
NO_MICRO = Rates(micro=0, blinks=20, speech=10, macros=20, head_moves=10)


def timelines(rates, count=20, seconds=20, fps=30.0):
    return [draw_timeline(np.random.default_rng(seed), round(seconds * fps), fps, rates) for seed in range(count)]


@pytest.mark.parametrize("fps", [28.57, 30.0, 60.0])
def test_truth_is_exact(fps):
    """Still up to the onset, strongest at the apex, still from the offset on, and nothing moves elsewhere."""
    for timeline in timelines(ONLY_MICRO, 8, fps=fps):
        strength = timeline.tracks.max(axis=0)
        expected_still = np.ones(timeline.frames, bool)
        for event in timeline.truth:
            inside = strength[event.onset : event.offset + 1]
            assert inside[0] == 0 and inside[-1] == 0
            assert np.all(inside[1:-1] > 0)
            assert inside.argmax() == event.apex - event.onset
            assert inside.max() == pytest.approx(event.intensity_px, rel=1e-5)
            expected_still[event.onset + 1 : event.offset] = False
        np.testing.assert_array_equal(strength == 0, expected_still)


def test_the_named_action_units_are_those_that_move():
    for timeline in timelines(ONLY_MICRO, 10):
        for event in timeline.truth:
            moving = {TRACKS[row] for row in np.flatnonzero(timeline.tracks[:, event.apex])}
            units = {int(name.split()[0].removeprefix("AU")) for name in moving}
            assert units == set(event.action_units)
            assert emotion_of(units) == event.emotion


def test_a_dimpler_is_one_sided():
    found = [
        {TRACKS[row].split()[1] for row in np.flatnonzero(timeline.tracks[:, event.apex])}
        for timeline in timelines(ONLY_MICRO, 160)
        for event in timeline.truth
        if event.action_units == (14,)
    ]
    assert found and all(len(sides) == 1 for sides in found)
    assert set().union(*found) == {"left", "right"}


def test_durations_are_those_of_micro_expressions():
    seconds = [(e.offset - e.onset) / 30 for t in timelines(ONLY_MICRO, 120) for e in t.truth]
    assert min(seconds) >= MICRO_SECONDS[0] - 1e-9 and max(seconds) <= MICRO_SECONDS[1] + 1e-9
    # Most lie where the decoder's interval can overlap them by half.
    assert np.mean([0.17 <= s <= 0.5 for s in seconds]) > 0.9
    assert min(seconds) < 0.2 and max(seconds) > 0.45
    # SAMM Long Videos at 200/7 frames per second: k_p, half the mean duration, is 5 (arXiv 2409.09707).
    assert round(np.mean(seconds) / 2 * 200 / 7) == 5


def test_all_emotions_come_up_alike():
    names = [e.emotion for t in timelines(ONLY_MICRO, 120) for e in t.truth]
    shares = {name: names.count(name) / len(names) for name in set(names)}
    assert set(shares) == {"negative", "positive", "surprise", "others"}
    assert min(shares.values()) > 0.15


def test_micro_expressions_never_touch():
    for timeline in timelines(Rates(micro=60)):
        events = timeline.truth
        assert all(later.onset - earlier.offset > 0.25 * 30 for earlier, later in itertools.pairwise(events))


def test_other_movement_is_never_called_a_micro_expression():
    seen = set()
    for timeline in timelines(NO_MICRO):
        assert timeline.truth == ()
        seen |= {other.kind for other in timeline.distractors}
        for other in timeline.distractors:
            seconds = (other.offset - other.onset) / timeline.fps
            if other.kind == "macro":
                assert 0.69 < seconds < 4.02
            if other.kind == "blink":
                assert 0.09 < seconds <= 0.41
    assert seen == {"blink", "speech", "macro", "head"}


def test_of_what_runs_past_an_end_only_what_is_in_the_clip_is_told(tmp_path):
    over = 0
    for timeline in timelines(NO_MICRO):
        over += sum(other.onset < 0 or other.offset >= timeline.frames for other in timeline.distractors)
        path = write_truth(tmp_path / "clip.mp4", timeline.fps, timeline.frames, (), timeline.distractors, {})
        told = json.loads(path.read_text())["distractors"]
        assert len(told) == len(timeline.distractors)
        for each, other in zip(told, timeline.distractors, strict=True):
            assert 0 <= each["onset"] <= each["offset"] < timeline.frames
            inside = range(max(other.onset, 0), min(other.offset + 1, timeline.frames))
            assert range(each["onset"], each["offset"] + 1) == inside
    assert over > 3


def test_a_resting_face_rests():
    assert not timelines(NOTHING, 1)[0].tracks.any()


def test_the_head_drifts_slowly():
    """No faster than half a pixel a frame without a deliberate move, and not all the time the same."""
    for timeline in timelines(Rates(micro=0, blinks=0, speech=0, macros=0, head_moves=0), 10):
        shift = timeline.tracks[[TRACK["tx"], TRACK["ty"]]]
        assert np.abs(np.diff(shift)).max() < 0.5
        assert shift.std() > 0.2
        still = [row for row, name in enumerate(TRACKS) if name not in (*HEAD, *LIGHT)]
        assert not timeline.tracks[still].any()


def test_the_seed_decides_everything():
    one, same, other = (draw_timeline(np.random.default_rng(seed), 600) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.tracks, same.tracks)
    assert one.truth == same.truth and one.distractors == same.distractors
    assert not np.array_equal(one.tracks, other.tracks)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_clip_too_short_for_a_micro_expression_has_none(frames):
    timeline = draw_timeline(np.random.default_rng(0), frames, rates=Rates(micro=10_000))
    assert timeline.tracks.shape == (len(TRACKS), frames)
    assert all(event.offset < frames for event in timeline.truth)


def test_impossible_lengths_and_rates_are_refused():
    with pytest.raises(ValueError, match="at least one frame, got 0"):
        draw_timeline(np.random.default_rng(0), 0)
    with pytest.raises(ValueError, match="15 to 240 frames per second, got 5"):
        draw_timeline(np.random.default_rng(0), 100, fps=5)


def test_a_pulse_rises_holds_and_falls():
    course = pulse(20, 5, hold=6)
    assert course[0] == 0 and course[-1] == 0
    assert np.all(course[5:12] == 1)
    assert np.all(np.diff(course[:6]) > 0) and np.all(np.diff(course[11:]) < 0)
