"""What Python can do to the compiled classes: no call ends the process, whatever is given, on whatever thread."""

import threading

import numpy as np
import pytest

from metst_edge import _native
from metst_edge.engine import load_engine
from metst_edge.errors import StateError
from metst_edge.face import Box
from metst_edge.flow import Farneback, RoiFlow, measure, thumbnail

LANDMARKS = np.random.default_rng(0).uniform(40, 280, (68, 2)).astype(np.float32)


def picture(seed=0, shape=(240, 320)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def flow(seed=0):
    return RoiFlow(picture(seed), Box(0, 240, 0, 320), LANDMARKS)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _native.Farneback.__new__(_native.Farneback).to(picture()),
        lambda: _native.RoiFlow.__new__(_native.RoiFlow).box,
        lambda: _native.RoiFlow.__new__(_native.RoiFlow).motion,
        lambda: _native.RoiFlow.__new__(_native.RoiFlow).likeness,
        lambda: setattr(_native.RoiFlow.__new__(_native.RoiFlow), "box", (0, 9, 0, 9)),
        lambda: _native.measure([_native.RoiFlow.__new__(_native.RoiFlow)], picture(), 1),
        lambda: _native.step([_native.RoiFlow.__new__(_native.RoiFlow)], [None], [picture()], 1),
        lambda: _native.Registration.__new__(_native.Registration).parameters,
        lambda: setattr(_native.Registration.__new__(_native.Registration), "parameters", [0.0] * 8),
        lambda: _native.follow([_native.Registration.__new__(_native.Registration)], picture(), 1),
        lambda: _native.NetworkStream.__new__(_native.NetworkStream).reset(),
        lambda: _native.NetworkStream.__new__(_native.NetworkStream).step(
            np.zeros((2, 10), np.float32), np.zeros(2, bool)
        ),
        lambda: _native.CudaGraph.__new__(_native.CudaGraph).close(),
        lambda: _native.CudaGraph.__new__(_native.CudaGraph).begin(0),
        lambda: _native.CudaGraph.__new__(_native.CudaGraph).end(),
        lambda: _native.CudaGraph.__new__(_native.CudaGraph).launch(0),
    ],
)
def test_an_object_whose_init_never_ran_is_refused(call):
    with pytest.raises(TypeError, match="expected an object that was made by calling its class"):
        call()


def test_a_network_whose_init_never_ran_is_refused():
    with pytest.raises((TypeError, RuntimeError)):
        _native.NetworkStream(_native.MetstNetwork.__new__(_native.MetstNetwork), 2)


GOOD = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 5, "poly_n": 7, "poly_sigma": 1.5}


@pytest.mark.parametrize(
    "bad",
    [
        *[{"poly_n": n} for n in (0, -1, 33, 1000, 2**31 - 1)],
        *[{"winsize": n} for n in (0, -5, 2**31 - 1)],
        *[{"iterations": n} for n in (0, 2**31 - 1)],
        *[{"pyr_scale": x} for x in (0.0, 1.0, -1.0, float("nan"), float("inf"))],
        *[{"poly_sigma": x} for x in (0.0, -1.0, float("nan"), float("inf"), 1e-300, 1e-3)],
        {"levels": -1},
    ],
)
def test_parameters_out_of_their_range_are_refused_by_both_classes(bad):
    parameters = GOOD | bad
    with pytest.raises(ValueError, match="expected"):
        _native.Farneback(picture(), *parameters.values())
    with pytest.raises(ValueError, match="expected"):
        Farneback(picture(), **parameters)


def test_parameters_at_the_ends_of_their_ranges_work():
    for changed in (
        {"poly_n": 32},
        {"poly_n": 1},
        {"winsize": 300},
        {"winsize": 1},
        {"levels": 2**31 - 1},
        {"pyr_scale": 0.999},
    ):
        assert np.isfinite(Farneback(picture(0, (40, 40)), **(GOOD | changed)).to(picture(1, (40, 40)))).all(), changed


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_share_that_is_none_is_refused(share):
    places = ([(0, 100, 0, 100)], [(0, (0, 50, 0, 50), 0.5)], (100, 150, 100, 150), (0, 40, 0, 40))
    make = lambda *shares: _native.RoiFlow(picture(), (0, 240, 0, 320), *places, *shares)  # noqa: E731
    make(0.5, False)
    with pytest.raises(ValueError, match="expected shares of the vectors from 0 to 1"):
        make(share, False)
    places = (places[0], [(0, (0, 50, 0, 50), share)], *places[2:])
    with pytest.raises(ValueError, match="expected shares of the vectors from 0 to 1"):
        make(0.5, False)


@pytest.mark.parametrize("shape", [(1, 70_000_000), (70_000_000, 1)])
def test_a_thumbnail_of_a_side_of_seventy_million_pixels_is_right(shape):
    long = np.zeros(shape, np.uint8).reshape(-1)
    for i in range(32):
        long[i * len(long) // 32 : (i + 1) * len(long) // 32] = 8 * i
    small = thumbnail(long.reshape(shape)).reshape(32, 32)
    expected = np.broadcast_to(8.0 * np.arange(32), (32, 32))
    expected = (expected if shape[0] == 1 else expected.T) - expected.mean()
    np.testing.assert_allclose(small, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_side_too_long_for_flow_is_refused():
    with pytest.raises(ValueError, match="at most 1048576 pixels a side"):
        Farneback(np.zeros((1, 2**20 + 1), np.uint8))


def test_a_lane_given_twice_is_refused_and_works_afterwards():
    lane = flow()
    with pytest.raises(StateError, match="expected one call of a RoiFlow at a time") as busy:
        measure([lane, lane], picture(1))
    assert busy.value.state == "busy"
    np.testing.assert_array_equal(lane.measure(picture(1)), flow().measure(picture(1)))


def head(box=(0, 240, 0, 320), middle=150.0, half_width=100.0, nose_row=180.0, weights=None, spots=((99, 90, 20),)):
    weights = np.ones((80, 80), np.float32) if weights is None else weights
    return _native.Registration(picture(), box, middle, half_width, nose_row, weights, spots)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *[({"box": box}, "a crop box on the picture") for box in ((-1, 9, 0, 9), (0, 241, 0, 9), (5, 5, 0, 9))],
        *[({"half_width": width}, "a head of some width") for width in (0.0, -1.0, float("nan"), float("inf"))],
        *[({name: float("nan")}, "finite places") for name in ("middle", "nose_row")],
        *[({"weights": np.ones(shape, np.float32)}, "weights") for shape in ((80, 79), (6400,), (1, 80, 80))],
        *[({"spots": [(99, 90, reach)]}, "some reach") for reach in (0.0, -1.0, NAN, INF, 1e-60)],
        *[({"spots": [(99, 90, 20), spot]}, "finite places") for spot in ((NAN, 9, 1), (9, INF, 1), (9, -1e60, 1))],
        ({"spots": [(3e38, 3e38, 1)]}, "finite places"),
        ({"spots": [(99, 90, 20)] * 33}, "at most 32 spots"),
    ],
)
def test_a_head_that_is_none_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        head(**bad)


@pytest.mark.parametrize("spots", [None, [None], [(1, 2)], [(1, 2, 3, 4)], [("a", 2, 3)], 7, [1, 2, 3]])
def test_what_is_no_list_of_spots_is_refused(spots):
    with pytest.raises(TypeError):
        head(spots=spots)


@pytest.mark.parametrize(
    "spots", [(), [(99, 90, 20)] * 32, [(-1e30, 1e30, 1e-30)], [(160, 160, 1e38)], np.full((3, 3), 50.0)]
)
def test_spots_may_be_none_or_many_and_lie_anywhere(spots):
    one = head(spots=spots)
    (drawn,) = _native.follow([one], picture(1), 1)
    assert drawn.shape == (320, 320) and np.isfinite(one.parameters).all()


def test_what_is_no_frame_of_a_head_or_no_motion_is_refused_and_changes_nothing():
    one = head()
    for frame in picture(0, (240, 319)), picture().astype(np.float32), picture()[None]:
        with pytest.raises(ValueError, match="expected a"):
            _native.follow([one], frame, 1)
    for heads in [one, None], [None]:
        with pytest.raises(ValueError, match="got None among them"):
            _native.follow(heads, picture(), 1)
    with pytest.raises(ValueError, match="expected finite parameters"):
        one.parameters = [0.0] * 7 + [float("nan")]
    with pytest.raises(TypeError):
        one.parameters = [0.0] * 7
    assert list(one.parameters) == [0.0] * 8


def lane(seed=0, nose=(0, 0, 0, 0), patch=(40, 140, 30, 190), path="auto"):
    """As a face held steady has it: without a nose."""
    inside = (0, nose[1] - nose[0], 0, nose[3] - nose[2])
    regions = [(0, (5, 60, 10, 90), 0.3)]
    return _native.RoiFlow(picture(seed), (0, 240, 0, 320), [patch], regions, nose, inside, 0.5, False, path)


def test_lanes_are_measured_in_one_frame_of_their_size():
    for frame in (
        [picture()],
        [picture()] * 2,
        picture(0, (240, 319)),
        picture()[None],
        picture().astype(np.int16),
        None,
    ):
        with pytest.raises((ValueError, TypeError), match="expected a|incompatible function arguments"):
            _native.measure([lane(), lane()], frame, 1)
    with pytest.raises(ValueError, match="expected lanes, got None among them"):
        _native.measure([lane(), None], picture(), 1)
    assert _native.measure([], picture(), 1) == []


def step_of_two():
    """What a step of two lanes takes: they, those before them, and their frames."""
    return [lane(1), lane(2)], [lane(3), None], [picture(4), picture(5)]


@pytest.mark.parametrize(
    ("place", "given", "message"),
    [
        *[(place, short, "for each lane") for place in (1, 2) for short in (lambda x: x[:1], lambda x: [*x, x[0]])],
        (0, lambda x: x[:1], "for each lane"),
        (0, lambda x: [], "for each lane"),
        (0, lambda x: [x[0], None], "got None among them"),
        (0, lambda x: [x[0], lane(2, nose=(100, 150, 100, 150))], "without a nose"),
        (1, lambda x: [lane(3, patch=(40, 140, 30, 191)), None], "of the same layout"),
        *[
            (2, lambda x, bad=bad: [x[0], bad], "expected a")
            for bad in (picture(0, (240, 319)), picture()[None], picture().astype(np.float32), picture()[:0])
        ],
    ],
)
def test_a_step_of_lists_that_do_not_fit_is_refused_and_changes_nothing(place, given, message):
    lists = list(step_of_two())
    good, lists[place] = list(lists), given(lists[place])
    with pytest.raises(ValueError, match=message):
        _native.step(*lists, 1)
    lanes, before, frames = good
    np.testing.assert_array_equal(
        _native.measure(lanes, frames[0], 1), _native.measure([lane(1), lane(2)], frames[0], 1)
    )
    np.testing.assert_array_equal(_native.step(lanes, before, frames, 1), _native.step(*step_of_two(), 2))


def test_a_lane_twice_in_a_step_is_refused_and_works_afterwards():
    one, other = lane(1), lane(2)
    frames = [picture(4), picture(5)]
    for lanes, before in (
        ([one, one], [None] * 2),
        ([one, other], [other, None]),
        ([one], [one]),
        ([one] * 2, [other] * 2),
    ):
        with pytest.raises(StateError, match="expected one call of a RoiFlow at a time"):
            _native.step(lanes, before, frames[: len(lanes)], 1)
    with pytest.raises(StateError, match="expected one call of a RoiFlow at a time"):
        _native.step([one, lane(3)], [other, other], frames, 1)
    np.testing.assert_array_equal(
        _native.step([one], [other], frames[:1], -3), _native.step([lane(1)], [lane(2)], frames[:1], 1)
    )


def test_a_step_of_lanes_gives_what_a_lane_opened_on_the_frame_before_measures():
    lanes, before, frames = step_of_two()
    moved, still = _native.step(lanes, before, frames, 2)
    np.testing.assert_array_equal(moved, _native.measure([lane(3)], frames[0], 1)[0])
    assert moved.any() and not still.any() and moved.dtype == np.float32 and moved.shape == (2,)
    np.testing.assert_array_equal(
        _native.measure(lanes, picture(6), 1), _native.measure([lane(4), lane(5)], picture(6), 1)
    )
    assert _native.step([], [], [], 1) == []


def test_lanes_of_different_paths_are_measured_together_but_no_step_leads_from_one_to_another():
    """Each path lays what it expands out as it reads it best."""
    frame = picture(4)
    lanes = [lane(seed, path=path) for seed, path in enumerate(_native.simd_paths())]
    usual = [_native.measure([lane(seed)], frame, 1)[0] for seed in range(len(lanes))]
    for order in 1, -1:
        found = _native.measure(lanes[::order], frame, 1)
        np.testing.assert_allclose(found[::order], usual, atol=0.01)
    for own in lanes:
        for other in lanes:
            if own is not other:
                with pytest.raises(ValueError, match="and of the same layout and path as the one before"):
                    _native.step([own], [other], [frame], 1)


def test_a_head_given_twice_is_refused_and_works_afterwards():
    one = head()
    with pytest.raises(StateError, match="expected one call of a Registration at a time"):
        _native.follow([one, one], picture(1), 1)
    np.testing.assert_array_equal(_native.follow([one], picture(1), -3), _native.follow([head()], picture(1), 1))


@pytest.mark.parametrize("far", [1e3, 1e9, 1e300])
def test_a_head_put_anywhere_is_drawn_and_rows_may_lie_apart(far):
    one, frame = head(), np.asfortranarray(picture(1))
    one.parameters = [far, -far, far, far, -far, far, -far, far]
    for each in frame, picture(1, (480, 640))[::2, ::2], picture(1, (480, 320))[::2], picture(1)[::-1]:
        (drawn,) = _native.follow([one], each, 1)
        assert drawn.shape == (320, 320) and np.isfinite(one.parameters).all()


def together(calls):
    """Call from several threads at once, many times; return what was raised."""
    raised = []

    def run(call):
        for _ in range(60):
            try:
                call()
            except Exception as error:
                raised.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_one_lane_in_several_threads_is_busy_and_nothing_else():
    lane = flow()
    raised = together([lambda: measure([lane], picture(1), 2), lambda: lane.box, lambda: lane.measure(picture(2))])
    assert all(isinstance(error, StateError) and error.state == "busy" for error in raised)
    np.testing.assert_array_equal(lane.measure(picture(1)), lane.measure(picture(1)))


def test_one_stream_in_several_threads_is_busy_and_nothing_else():
    stream = load_engine("demo", "native").open_stream(lanes=2)
    features = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float32)
    raised = together([lambda: stream._stream.step(features, np.zeros(2, bool)), stream._stream.reset] * 2)
    assert all(isinstance(error, StateError) and error.state == "busy" for error in raised)


def test_one_farneback_serves_several_threads():
    whole = Farneback(picture(0, (90, 120)))
    expected = whole.to(picture(1, (90, 120)))
    raised = together([lambda: np.testing.assert_array_equal(whole.to(picture(1, (90, 120))), expected)] * 3)
    assert not raised
