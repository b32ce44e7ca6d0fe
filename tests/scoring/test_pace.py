"""Too slow a source, by the median of its steps; and times that are no seconds."""

from itertools import accumulate

import pytest

from metst_edge.errors import TimestampError
from metst_edge.scoring import SecondsCheck
from metst_edge.scoring.pace import Pace


def slow(steps, fps=30.0):
    """Whether the source is too slow, frame by frame."""
    pace = Pace(fps)
    return [pace.push(time) for time in accumulate([0.0, *steps])]


def test_a_source_at_half_the_models_rate_keeps_pace_and_one_at_a_third_does_not():
    for fps in 14.25, 15, 24, 25, 29.97, 30, 60, 120:
        assert not any(slow([1 / fps] * 100)), fps
    for fps in 1, 5, 10, 12, 13:
        assert slow([1 / fps] * 50) == [False] * 3 + [True] * 48, fps


def test_pauses_do_not_make_a_source_slow_and_its_average_does_not_make_it_fast():
    assert not any(slow(([1 / 30] * 20 + [30.0]) * 5))
    assert not any(slow([30.0] + [1 / 30] * 20)), "a pause after the first frame"
    bursts = [*[0.001] * 2, *[0.3] * 3] * 10  # on average 5.5 frames a second
    assert all(slow(bursts)[10:])


def test_a_source_that_becomes_slow_and_fast_again_is_noticed_after_three_steps():
    told = slow([1 / 30] * 20 + [0.1] * 20 + [1 / 30] * 20)
    assert [told.index(True), len(told) - told[::-1].index(True)] == [23, 43]
    assert all(told[23:43])


def test_a_source_between_the_two_bounds_does_not_flicker():
    steps = [(2.12 + 0.03 * (-1) ** i) / 30 for i in range(100)]
    assert not any(slow(steps))
    assert all(slow([0.1] * 9 + steps)[3:])


@pytest.mark.parametrize(
    ("times", "likely"),
    [
        ([i * 1000 / 30 for i in range(9)], r"milliseconds\? divide them by 1000"),
        ([5000 + 17.0 * i for i in range(9)], "milliseconds"),
        ([4.17 * i for i in range(9)], "milliseconds"),
        ([i * 1e6 / 30 for i in range(9)], r"microseconds\? divide them by 1e6"),
        ([1.7e18 + i * 1e9 / 30 for i in range(9)], r"nanoseconds\? divide them by 1e9"),
        ([float(i) for i in range(9)], r"frame numbers\? divide them by the frame rate"),
        ([2.0 * i for i in range(9)], "frame numbers"),
    ],
)
def test_times_that_are_no_seconds_are_refused_with_their_likely_unit(times, likely):
    check = SecondsCheck()
    with pytest.raises(TimestampError, match=f"expected timestamps in seconds, got .* apart: are they {likely}"):
        for time in times:
            check.check(time)
            check.took(time)


@pytest.mark.parametrize("step", [1 / 240, 1 / 30, 0.1, 0.5, 0.99])
def test_seconds_are_taken_pauses_and_all(step):
    check = SecondsCheck()
    for time in accumulate([0.0, 90.0, *[step] * 9, 45.0, 45.0, *[step] * 9]):
        check.check(time)
        check.took(time)
