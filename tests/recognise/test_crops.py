"""The square that a recogniser is shown."""

import cv2
import numpy as np
import pytest

from metst_edge.face import Box
from metst_edge.recognise import View, cut, face_square, view_of
from metst_edge.recognise.crops import WANTED, reduced


def landmarks(x, y, side):
    """68 points of a face whose square has a side, around a nose."""
    points = np.zeros((68, 2), np.float32)
    points[30] = x, y
    points[19], points[8], points[57] = (x, y - side / 2), (x, y + side / 2), (x, y + side / 2)
    return points


def test_the_square_lies_on_the_nose_and_reaches_twice_from_the_chin():
    points = landmarks(200, 150, 100)
    points[8, 1], points[19, 1], points[57, 1] = 200, 110, 180
    assert face_square(points, 400, 400) == Box(95, 205, 145, 255)


@pytest.mark.parametrize(
    "x, y, side", [(5, 5, 100), (395, 290, 100), (200, 150, 900), (-50, 500, 200), (200, 150, -80)]
)
def test_the_square_lies_in_the_picture_always(x, y, side):
    square = face_square(landmarks(x, y, side), 300, 400)
    assert 0 <= square.top < square.bottom <= 300 and 0 <= square.left < square.right <= 400
    assert square.width == square.height == min(max(side, 32), 300)


def test_a_face_of_any_size_is_kept_at_about_one_size():
    kept = []
    for side in range(40, 2000, 7):
        view = view_of(landmarks(1000, 1000, side), 2000, 2000)
        assert view.factor == 1 or 0.74 * WANTED < view.square.width / view.factor < 1.51 * WANTED
        assert not any(edge % view.factor for edge in view.square)
        kept.append(view.square.width / view.factor)
    assert max(kept) <= 384


def test_a_side_about_a_bound_does_not_change_the_reduction_to_and_fro():
    bound = 1.5 * WANTED
    view = view_of(landmarks(500, 500, bound - 4), 1000, 1000)
    for side in (bound + 4, bound - 4, bound + 20, bound - 20):
        view = view_of(landmarks(500, 500, side), 1000, 1000, view)
        assert view.factor == 1
    assert view_of(landmarks(500, 500, 2 * WANTED), 1000, 1000, view).factor == 2


def test_a_reduced_crop_is_the_mean_of_blocks_wherever_its_surroundings_begin():
    gray = np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)
    view = View(Box(30, 60, 36, 66), 3)
    crop = cut(gray, view)
    blocks = gray[30:60, 36:66].reshape(10, 3, 10, 3).astype(float).mean((1, 3))
    assert crop.shape == (10, 10) and np.abs(crop - blocks).max() <= 0.5 + 1e-6
    around = reduced(gray, Box(9, 81, 12, 111), 3)
    np.testing.assert_array_equal(around[7:17, 8:18], crop)
    np.testing.assert_array_equal(cut(gray, View(Box(1, 21, 2, 22), 1)), gray[1:21, 2:22])
    assert cv2.resize(gray[30:60, 36:66], (10, 10), interpolation=cv2.INTER_AREA).tolist() == crop.tolist()
