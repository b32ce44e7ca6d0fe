"""Frames have their own times, whatever a container says of one or two of them."""

import math

import numpy as np
import pytest

from metst_edge.capture.clock import LATER, Clock

FPS = 30.0


def read(times, fps=FPS):
    """Give a clock all times of a file, in turn."""
    clock = Clock(fps)
    return np.array(
        [clock.take(times[i : i + 1 + LATER], ended=i + 1 + LATER >= len(times)) for i in range(len(times))], float
    )


def even(count=60):
    return np.arange(count) / FPS


def uneven(count=60, seed=0):
    """A variable rate, now and then twice the nominal one."""
    return np.concatenate(([0.0], np.random.default_rng(seed).uniform(0.4, 1.3, count - 1).cumsum() / FPS))


@pytest.mark.parametrize("right", [even(), uneven(), np.where(even() < 1, even(), even() + 30), even() + 8])
def test_right_times_are_left_alone(right):
    np.testing.assert_array_equal(read(right), right)


WRONG = (100.0, -100.0, 1e7, 0.4, -0.4, 0.0, math.nan)


@pytest.mark.parametrize("right", [even(), uneven()])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("error", WRONG)
def test_a_wrong_time_anywhere_costs_no_other_frame_its_time(right, count, error):
    for place in range(len(right) - count + 1):
        told = right.copy()
        told[place : place + count] += error
        times = read(told)
        assert (np.diff(times) > 0).all()
        others = np.delete(np.arange(len(right)), range(place, place + count))
        # What is before a start that is wrong cannot be known: all are moved by the same.
        moved = times[others] - right[others]
        assert np.ptp(moved) < 1e-9 and abs(moved[0]) < (1.5 / FPS if place == 0 or error < 0 else 1e-9), (place, moved)
        assert abs(times - right).max() < 0.5
        assert np.diff(times).max() <= 2.5 / FPS or abs(error) < 1


@pytest.mark.parametrize("pause", [1.5, 9.0])
def test_a_camera_may_pause_when_it_has_just_begun_and_before_it_ends(pause):
    """As in faces/fx_missing1.mov: two frames that follow each other, and nothing for a second and a half."""
    for place in 2, 58:
        right = even() + np.where(np.arange(60) < place, 0, pause)
        np.testing.assert_array_equal(read(right), right)


def test_two_wrong_times_apart_are_mended_each():
    rng = np.random.default_rng(0)
    for _ in range(500):
        right = uneven(seed=rng.integers(1000))
        places = rng.choice(np.arange(3, len(right) - 3), 2, replace=False)
        told = right.copy()
        told[places] = rng.choice([rng.uniform(-1e3, 1e3, 2), rng.uniform(-1, 3, 2), [math.nan, 1e9]])
        times = read(told)
        others = np.delete(np.arange(len(right)), places)
        assert (np.diff(times) > 0).all()
        wrong = others[abs(times[others] - right[others]) > 1e-9]
        # A frame between the two may be taken for the wrong one of three; none after them is.
        assert set(wrong) <= set(range(min(places) - 1, max(places) + LATER)), (places, told[places], wrong)
        assert abs(times - right).max() < 0.2


def test_without_a_rate_wrong_times_are_set_between_their_neighbours():
    told = even()
    told[[7, 8, 30]] = 500, 600, -1
    np.testing.assert_allclose(read(told, None), even(), atol=1e-9)


def test_without_rate_and_times_there_is_no_telling():
    assert Clock(None).take([math.nan] * 4) == 0.0
    clock = Clock(None)
    clock.take([0.0])
    assert clock.take([math.nan] * 4) is None


def test_times_that_are_missing_altogether_come_from_the_rate():
    np.testing.assert_allclose(read(np.full(60, math.nan)), even(), atol=1e-9)


def test_times_that_begin_anew_go_on():
    """Two recordings joined, the second of another rate than the container says."""
    told = np.concatenate((even(), np.arange(40) / 50))
    times = read(told)
    np.testing.assert_array_equal(times[:60], even())
    np.testing.assert_allclose(times[60:], times[59] + 1 / FPS + np.arange(40) / 50, atol=1e-9)


def test_equal_times_are_spread_until_the_next_one():
    told = even()
    told[20:24] = told[20]
    assert read(told)[19:26] == pytest.approx(even()[19:26])
