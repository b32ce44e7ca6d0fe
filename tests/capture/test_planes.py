"""A decoded picture is shown as its file says: turned, mirrored, with square pixels."""

from types import SimpleNamespace

import numpy as np
import pytest

from metst_edge.capture.planes import Shown

ONE = 1 << 16
TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)]
MIRRORED = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]


class UnknownKinds:
    """PyAV's side data where one entry is of a kind that it has no name for."""

    def get(self, name):
        raise ValueError("39 is not a valid Type")


def picture(matrix=None, rotation=0):
    side_data = {}
    if matrix is not None:
        a, b, c, d = (value * ONE for value in matrix)
        side_data["DISPLAYMATRIX"] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()
    return decoded_with(side_data, rotation)


def decoded_with(side_data, rotation):
    """A picture whose copies of another size have its side data."""
    return SimpleNamespace(rotation=rotation, reformat=lambda **size: SimpleNamespace(side_data=side_data))


def stream(aspect=None):
    return SimpleNamespace(sample_aspect_ratio=aspect)


@pytest.mark.parametrize("matrix", TURNS + MIRRORED)
def test_a_display_matrix_takes_every_pixel_where_it_says(matrix):
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)
    shown = Shown.of(stream(), picture(matrix))._upright(image)
    a, b, c, d = matrix
    y, x = np.mgrid[:4, :6]
    to_x, to_y = a * x + c * y, b * x + d * y
    np.testing.assert_array_equal(shown[to_y - to_y.min(), to_x - to_x.min()], image)
    assert shown.shape == ((4, 6) if b == 0 else (6, 4))


@pytest.mark.parametrize(("rotation", "matrix"), [*zip((0, -90, 180, 90), TURNS, strict=True)])
def test_the_turn_is_known_where_pyav_gives_no_side_data(rotation, matrix):
    fallback = decoded_with(UnknownKinds(), rotation)
    assert Shown.of(stream(), fallback) == Shown.of(stream(), picture(matrix))


@pytest.mark.parametrize(("aspect", "taken"), [(None, 1), (0, 1), (1.004, 1), (64 / 45, 64 / 45), (0.5, 0.5), (500, 1)])
def test_pixel_aspects_that_no_camera_has_are_left_alone(aspect, taken):
    assert Shown.of(stream(aspect), picture()).aspect == taken


@pytest.mark.parametrize(("color_range", "name"), [(0, "yuv420p"), (1, "nv12"), (2, "yuv420p"), (0, "yuvj420p")])
def test_luma_of_16_to_235_is_stretched_and_no_other(color_range, name):
    """The rows of a decoder's plane are longer than the picture's."""
    levels = np.arange(256)
    plane = np.zeros((34, 320), np.uint8)
    plane[:, :256] = levels
    decoded = picture()
    decoded.planes = [Plane(plane.tobytes())]
    decoded.format, decoded.color_range = SimpleNamespace(name=name), color_range
    decoded.width, decoded.height = 255, 33
    gray, _ = Shown.of(stream(), decoded).take(decoded)
    full = color_range == 2 or name == "yuvj420p"
    expected = levels if full else np.clip(np.rint((levels - 16) * (255 / 219)), 0, 255)
    np.testing.assert_array_equal(gray, np.tile(expected[:255], (33, 1)))


class Plane(bytearray):
    """What PyAV's planes are: memory, and how long a row of it is."""

    line_size = 320
