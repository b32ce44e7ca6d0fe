"""Which frames make a clip."""

from itertools import pairwise

import pytest

from metst_edge.recognise import frame_indices


@pytest.mark.parametrize(
    "onset, apex, offset, first, last",
    [
        (0, 30, 60, 25, 35),  # long: five to each side of the apex
        (0, 10, 60, 5, 15),
        (0, 5, 60, 1, 11),  # never the onset itself
        (0, 3, 60, 1, 11),
        (7, 7, 60, 8, 18),  # apex at the onset
        (0, 60, 60, 55, 60),  # apex at the offset: six frames, spread over eleven
        (0, 6, 12, 1, 11),  # the demo model's intervals, 2 k_p + 1 = 13 frames
        (0, 6, 11, 1, 11),
        (0, 5, 10, 1, 10),
        (4, 5, 6, 5, 6),
        (4, 4, 5, 5, 5),  # one frame after the onset
        (9, 9, 9, 9, 9),  # the onset alone
    ],
)
def test_a_clip_lies_around_the_apex_after_the_onset(onset, apex, offset, first, last):
    indices = frame_indices(onset, apex, offset)
    assert len(indices) == 11 and (indices[0], indices[-1]) == (first, last)
    steps = [b - a for a, b in pairwise(indices)]
    assert steps == pytest.approx([(last - first) / 10] * 10)


def test_whole_frames_are_whole_numbers_and_fewer_lie_between_them():
    assert frame_indices(0, 30, 60) == list(range(25, 36))
    assert frame_indices(0, 60, 60) == [55 + i / 2 for i in range(11)]
    assert frame_indices(3, 4, 5) == [4 + i / 10 for i in range(11)]


def test_every_short_interval_gives_indices_inside_it_in_order():
    for offset in range(30):
        for apex in range(offset + 1):
            indices = frame_indices(0, apex, offset)
            assert len(indices) == 11 and indices == sorted(indices)
            assert min(1, offset) <= indices[0] and indices[-1] <= offset
            if apex > 0:
                assert indices[0] <= apex <= indices[-1]


def test_a_clip_may_have_another_length():
    assert frame_indices(0, 8, 20, frames=1) == [8]
    assert frame_indices(0, 8, 20, frames=4) == [6, 7, 8, 9]


def test_an_apex_outside_its_interval_is_refused():
    with pytest.raises(ValueError, match="expected onset <= apex <= offset, got 3, 9, 8"):
        frame_indices(3, 9, 8)
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        frame_indices(3, 3, 8, frames=0)
