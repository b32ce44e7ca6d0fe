"""What belongs to a frame: what it is made of, and the moments of the grid that it decides."""

import numpy as np
import pytest

from metst_edge.capture import Frame
from metst_edge.capture.retime import Hole
from metst_edge.errors import FrameError, TimestampError
from metst_edge.scoring import Timeline


def picture(value=0, shape=(48, 64)):
    return np.random.default_rng(value).integers(0, 256, shape, np.uint8)


def indices(moments):
    return [(m.before.index, m.after.index, round(m.weight, 2), m.anchor.index) for m in moments]


def test_moments_name_the_two_pictures_that_they_lie_between():
    """20 frames a second into 30: of three moments one is a frame, two lie between frames."""
    timeline, found = Timeline(30.0), []
    for index in range(5):
        timeline.take(Frame(index, index / 20, picture()))
        found += timeline.advance()
    expected = [(0, 0, 0.0, 0), (0, 1, 0.67, 1), (1, 2, 0.33, 1), (2, 2, 0.0, 2), (2, 3, 0.67, 3), (3, 4, 0.33, 3)]
    assert indices(found)[:6] == expected


def test_a_moment_that_waited_for_a_nearer_picture_comes_at_the_end():
    """The next picture of this fast source would have been nearer, by the pace of those before."""
    timeline, early = Timeline(30.0), []
    for index, periods in enumerate((0.0, 0.25, 0.5, 0.8)):
        timeline.take(Frame(index, periods / 30, picture()))
        early += timeline.advance()
    assert indices(early) == [(0, 0, 0.0, 0)]
    assert indices(timeline.flush()) == [(3, 3, 0.0, 3)]
    assert timeline.flush() == []


def test_of_two_pictures_with_one_number_the_later_one_is_meant():
    """A push that was broken off, as by Ctrl-C, does not count: the next picture is given its number again."""
    timeline = Timeline(30.0)
    for index, number in enumerate((0, 1, 1)):
        last = timeline.take(Frame(number, index / 30, picture()))
        moments = timeline.advance() if index != 1 else []
    assert len(moments) == 2 and moments[-1].anchor is moments[-1].before is last


def test_the_grid_begins_anew_after_a_stop_and_after_a_hole():
    timeline = Timeline(30.0)
    timeline.take(Frame(0, 0.0, picture()))
    timeline.advance()
    timeline.stop()
    timeline.take(Frame(1, 0.02, picture()))
    assert indices(timeline.advance()) == [(1, 1, 0.0, 1)]
    timeline.take(Frame(2, 3.0, picture()))
    hole, first = timeline.advance()
    assert hole == Hole(0.02, 3.0) and indices([first]) == [(2, 2, 0.0, 2)]


def test_the_scene_is_cut_between_pictures_that_have_nothing_in_common():
    timeline = Timeline(30.0)
    cuts = []
    for index, value in enumerate((1, 1, 2, 2)):
        timeline.take(Frame(index, index / 30, np.kron(picture(value, (8, 8)), np.ones((8, 8), np.uint8))))
        if index:
            cuts.append(timeline.cut())
    assert cuts == [False, True, False]


@pytest.mark.parametrize(
    ("frame", "time", "error"),
    [
        (picture(shape=(48, 65)), 0.1, FrameError),
        (picture().astype(float), 0.1, FrameError),
        (picture(), 0.0, TimestampError),
    ],
)
def test_what_is_refused_changes_nothing(frame, time, error):
    timeline = Timeline(30.0)
    first = timeline.take(Frame(0, 0.0, picture()))
    with pytest.raises(error):
        timeline.take(Frame(1, time, frame))
    assert timeline.last is first and timeline.before is None
    timeline.reset()
    assert timeline.take(Frame(0, 0.0, picture(shape=(64, 48)))).gray.shape == (64, 48)
