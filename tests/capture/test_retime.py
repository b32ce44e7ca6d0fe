"""Every slot of the grid is decided once, in order, from the frames around it, and nothing is made up."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metst_edge.capture.retime import HOLE, TOLERANCE, Hole, Retimer
from metst_edge.errors import TimestampError

FPS = 30.0
PERIOD = 1 / FPS


def run(times, fps=FPS):
    """Return what was decided as (number of the frame it came with, item); flush counts as frame n."""
    retimer = Retimer(fps)
    decided = [(frame, item) for frame, time in enumerate(times) for item in retimer.push(time)]
    return decided + [(len(times), item) for item in retimer.flush()]


def slots(times, fps=FPS):
    items = [item for _, item in run(times, fps)]
    assert not any(isinstance(item, Hole) for item in items)
    return items


def frames_at(rate, n, start=0.0):
    return [start + i / rate for i in range(n)]


def times_of(steps, start=0.0):
    return (start + np.concatenate(([0.0], np.cumsum(steps)))).tolist()


steps = st.lists(st.floats(0.05, 4.0), max_size=60).map(lambda periods: [p * PERIOD for p in periods])


@settings(deadline=None)
@given(steps, st.floats(-1e4, 1e6))
def test_every_slot_is_decided_once_in_order_from_the_frames_around_it(steps, start):
    times = times_of(steps, start)
    due, grid_start, first = 0, start, 0
    for arrival, item in run(times):
        if isinstance(item, Hole):
            assert (item.start, item.end) == (times[arrival - 1], times[arrival])
            assert (item.end - item.start) * FPS > 2
            due, grid_start, first = 0, item.end, arrival
            continue
        assert item.index == due
        assert item.time == pytest.approx(grid_start + due / FPS, abs=1e-9)
        due += 1
        # Frames of this grid only, none that has not come, and none but the newest two.
        assert first <= item.before <= item.after <= min(arrival, len(times) - 1)
        assert item.before >= arrival - 1 and item.after - item.before <= 1
        if item.interpolated:
            assert 0 < item.weight < 1
            assert times[item.before] < item.time < times[item.after]
            between = (1 - item.weight) * times[item.before] + item.weight * times[item.after]
            assert between == pytest.approx(item.time, abs=1e-6 * PERIOD + 1e-9)
            distances = item.time - times[item.before], times[item.after] - item.time
            assert min(distances) * FPS >= TOLERANCE - 1e-4
        else:
            assert item.weight == 0.0 and item.anchor == item.before
            assert abs(times[item.before] - item.time) * FPS <= TOLERANCE + 1e-4
        assert item.anchor in (item.before, item.after)
        assert item.anchor_time == times[item.anchor]
        other = item.before if item.anchor == item.after else item.after
        assert abs(item.anchor_time - item.time) <= abs(times[other] - item.time) + 1e-6


@settings(deadline=None)
@given(steps)
def test_holes_are_exactly_the_intervals_longer_than_two_periods(steps):
    times = times_of(steps)
    holes = [(item.start, item.end) for _, item in run(times) if isinstance(item, Hole)]
    assert holes == [(a, b) for a, b in itertools.pairwise(times) if (b - a) * FPS > HOLE]


@settings(deadline=None)
@given(steps)
def test_all_the_time_between_frames_is_covered(steps):
    """The grid has a slot for every period up to the last frame of each unbroken run, and not one beyond."""
    times = times_of(steps)
    grid_start, count, runs = times[0], 0, []
    for arrival, item in run(times):
        if isinstance(item, Hole):
            runs.append((times[arrival - 1] - grid_start, count))
            grid_start, count = item.end, 0
        else:
            count += 1
    runs.append((times[-1] - grid_start, count))
    for duration, count in runs:
        assert duration * FPS - 1e-3 < count <= duration * FPS + 1 + TOLERANCE


@settings(deadline=None)
@given(st.lists(st.floats(0.3, 2.0), min_size=2, max_size=50), st.floats(-5, 5), st.floats(-5, 5))
def test_a_linear_function_of_time_is_reproduced(periods, offset, slope):
    times = times_of([p * PERIOD for p in periods])
    values = [offset + slope * time for time in times]
    for slot in slots(times):
        value = (1 - slot.weight) * values[slot.before] + slot.weight * values[slot.after]
        allowed = 0.0 if slot.interpolated else TOLERANCE * PERIOD * abs(slope)
        assert abs(value - (offset + slope * slot.time)) <= allowed + 1e-9


@pytest.mark.parametrize("fps", [28.57, 30.0, 25.0])
def test_a_source_at_the_grids_rate_passes_frame_by_frame_without_delay(fps):
    decided = run(frames_at(fps, 500, start=17.3), fps)
    assert [(arrival, slot.index, slot.before, slot.after) for arrival, slot in decided] == [
        (i, i, i, i) for i in range(500)
    ]


@settings(deadline=None)
@given(st.lists(st.floats(-0.12, 0.12), min_size=1, max_size=80))
def test_jitter_below_a_quarter_period_changes_nothing(jitter):
    """The first frame's own jitter shifts the grid, so each frame may have half of the tolerance."""
    decided = run([(i + j) * PERIOD for i, j in enumerate(jitter)])
    assert [(arrival, slot.index, slot.before, slot.after) for arrival, slot in decided] == [
        (i, i, i, i) for i in range(len(jitter))
    ]


def test_milliseconds_are_fine_enough():
    decided = run([round(time, 3) for time in frames_at(30, 300)])
    assert [(arrival, slot.before) for arrival, slot in decided] == [(i, i) for i in range(300)]


@pytest.mark.parametrize(("rate", "every"), [(60, 2), (90, 3), (120, 4), (240, 8)])
def test_a_faster_source_gives_every_nth_frame_and_names_no_other(rate, every):
    decided = run(frames_at(rate, 361))
    assert all(not slot.interpolated for _, slot in decided)
    assert [slot.before for _, slot in decided] == list(range(0, 361, every))
    assert all(arrival == slot.before for arrival, slot in decided)


@settings(deadline=None)
@given(st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=80))
def test_of_a_jittering_60_fps_source_every_second_frame_is_taken(jitter):
    times = [(i + j) * PERIOD / 2 for i, j in enumerate(jitter)]
    assert [slot.before for slot in slots(times)] == list(range(0, len(times), 2))


def test_a_24_fps_source_is_interpolated_where_no_frame_is_near():
    decided = slots(frames_at(24, 240))
    assert len(decided) == pytest.approx(300, abs=1)
    # Over four frames lie five slots: on the first, then 0.8, 1.6, 2.4 and 3.2 frames on.
    pattern = [(slot.before, slot.after, pytest.approx(slot.weight)) for slot in decided[:6]]
    assert pattern == [(0, 0, 0), (0, 1, 0.8), (1, 2, 0.6), (2, 3, 0.4), (3, 4, 0.2), (4, 4, 0)]
    assert [slot.anchor for slot in decided[:6]] == [0, 1, 2, 2, 3, 4]


def test_a_15_fps_source_passes_and_every_second_slot_is_halfway():
    decided = slots(frames_at(15, 100))
    assert [slot.interpolated for slot in decided] == [i % 2 == 1 for i in range(199)]
    assert all(slot.weight == pytest.approx(0.5) for slot in decided if slot.interpolated)
    assert all(slot.anchor == slot.before for slot in decided)  # of two equally near, the earlier


def test_a_2997_fps_source_drifts_through_the_grid():
    rate = 30 / 1.001
    times = frames_at(rate, 4000)
    decided = run(times)
    whole = [slot.index for _, slot in decided if not slot.interpolated]
    assert whole[:250] == list(range(250))
    assert len(whole) == pytest.approx(len(decided) / 2, rel=0.02)
    indices = [slot.index for _, slot in decided]
    assert indices == list(range(len(indices)))
    assert len(indices) == pytest.approx(4004, abs=1)
    # Never later than the frame that follows the slot.
    assert all(times[arrival] - slot.time < 1 / rate + 1e-9 for arrival, slot in decided)


def test_one_frame_dropped_is_interpolated_and_two_are_a_hole():
    times = frames_at(30, 20)
    one = [time for i, time in enumerate(times) if i != 7]
    (slot,) = [slot for slot in slots(one) if slot.interpolated]
    assert (slot.index, slot.before, slot.after, slot.weight) == (7, 6, 7, pytest.approx(0.5))
    two = [time for i, time in enumerate(times) if i not in (7, 8)]
    items = [item for _, item in run(two)]
    (hole,) = [item for item in items if isinstance(item, Hole)]
    assert (hole.start, hole.end) == (times[6], times[9])
    after = items[items.index(hole) + 1 :]
    assert [(slot.index, slot.before, slot.after) for slot in after] == [(i, i + 7, i + 7) for i in range(11)]
    assert after[0].time == times[9]


def test_after_hours_slots_are_still_on_time():
    retimer, n = Retimer(30.0), 400_000
    last = None
    for i in range(n):
        for slot in retimer.push(i / 30.0):
            last = slot
    assert last is not None and last.index == last.before == n - 1
    assert abs(last.time - (n - 1) / 30.0) < 1e-9


def test_frames_keep_the_numbers_the_caller_gives_them():
    retimer = Retimer(FPS)
    found = [slot for number, time in ((100, 0.0), (103, 0.05)) for slot in retimer.push(time, number)]
    assert [(slot.before, slot.after, slot.anchor) for slot in found] == [(100, 100, 100), (100, 103, 103)]


def test_flush_gives_the_slot_that_waited_and_starts_anew():
    """The frame before slot 1 lets it wait, since the next is due on the slot itself; then none comes."""
    retimer = Retimer(FPS)
    times = [0.0, 0.2 * PERIOD, 0.4 * PERIOD, 0.6 * PERIOD, 0.8 * PERIOD]
    assert [slot.index for time in times for slot in retimer.push(time)] == [0]
    (slot,) = retimer.flush()
    assert (slot.index, slot.before, slot.after) == (1, 4, 4)
    assert retimer.flush() == []
    (slot,) = retimer.push(0.0)
    assert (slot.index, slot.before) == (0, 0)


def test_a_slot_that_waited_at_a_hole_belongs_to_the_old_grid():
    retimer = Retimer(FPS)
    for time in (0.0, 0.2 * PERIOD, 0.4 * PERIOD, 0.6 * PERIOD, 0.8 * PERIOD):
        retimer.push(time)
    old, hole, new = retimer.push(1.0)
    assert (old.index, old.before, hole, new.index, new.before) == (1, 4, Hole(0.8 * PERIOD, 1.0), 0, 5)


@pytest.mark.parametrize("bad", [float("nan"), 1.0, 0.9])
def test_a_timestamp_that_does_not_rise_is_refused_and_not_taken(bad):
    retimer = Retimer(FPS)
    retimer.push(1.0)
    with pytest.raises(TimestampError):
        retimer.push(bad)
    (slot,) = retimer.push(1.0 + PERIOD)
    assert (slot.index, slot.before) == (1, 1)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_makes_no_sense_is_refused(fps):
    with pytest.raises(ValueError, match="expected the grid's rate"):
        Retimer(fps)
