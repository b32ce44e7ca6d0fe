"""The compiled Farneback against OpenCV's, on every vector path of this machine."""

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import astronaut

from metst_edge import _native
from metst_edge.errors import FrameError
from metst_edge.flow import Farneback
from tests.flow.reference import farneback, largest_mean

PATHS = _native.simd_paths()
DEFAULTS = (0.5, 3, 15, 5, 7, 1.5)


@pytest.fixture(scope="module")
def face():
    """A real face, gray, 320 pixels high and wide, with room around it."""
    picture = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY)[20:260, 120:360]
    return cv2.resize(picture, (360, 360), interpolation=cv2.INTER_CUBIC)


def moved(picture, dx, dy, noise=0.0, seed=0):
    """The picture's contents moved by (dx, dy) pixels, with noise of a camera."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    out = cv2.warpAffine(picture, matrix, picture.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.clip(out + np.random.default_rng(seed).normal(0, noise, out.shape), 0, 255).round().astype(np.uint8)


def bent(picture, amount):
    """The picture stretched here and pressed there, as a face does: up to ``amount`` pixels."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    dx, dy = amount * np.sin(y / 17 + x / 31), amount * np.cos(x / 23 - y / 29)
    return cv2.remap(picture, x + dx, y + dy, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def errors(got, expected):
    """Mean and 99.9th percentile of the length of the difference, pixels."""
    difference = np.hypot(*np.moveaxis(got - expected, -1, 0))
    return difference.mean(), np.quantile(difference, 0.999)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("height, width", [(33, 33), (40, 75), (64, 64), (67, 131), (90, 130), (128, 257), (320, 320)])
def test_flow_is_opencvs(face, path, height, width):
    anchor = face[5 : 5 + height, 9 : 9 + width]
    flow = _native.Farneback(anchor, *DEFAULTS, path)
    for frame in moved(face, 0.4, -0.3, 1.5), moved(face, 3.0, 2.0, 1.5), bent(face, 1.5), bent(face, 4.0):
        frame = frame[5 : 5 + height, 9 : 9 + width]
        mean, most = errors(flow.to(frame), farneback(anchor, frame))
        assert mean <= 1e-4 and most <= 1e-2


# Not at rest along an axis: at the picture's edge the sign of what rounding leaves of nothing then decides whether a
# pixel counts, in OpenCV as well, and its neighbourhood goes another way.
SHIFTS = st.one_of(st.floats(-4, -0.25), st.floats(0.25, 4))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(33, 200),
    st.integers(33, 200),
    SHIFTS,
    SHIFTS,
    st.floats(0, 3),
    st.integers(0, 2**16),
    st.sampled_from(PATHS),
)
def test_any_size_and_motion(height, width, dx, dy, bend, seed, path):
    face = cv2.resize(cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY)[20:260, 120:360], (260, 260))
    rng = np.random.default_rng(seed)
    top, left = rng.integers(0, 260 - height), rng.integers(0, 260 - width)
    frame = moved(bent(face, bend), dx, dy, 2.0, seed)
    # Neither picture is laid out densely: rows of a part lie apart.
    anchor, frame = (picture[top : top + height, left : left + width] for picture in (face, frame))
    mean, most = errors(_native.Farneback(anchor, *DEFAULTS, path).to(frame), farneback(anchor, frame))
    assert mean <= 1e-4 and most <= 1e-2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("height, width", [(2, 2), (5, 40), (20, 61), (31, 200), (63, 64)])
def test_pictures_below_the_smallest_level(face, path, height, width):
    anchor, frame = face[60 : 60 + height, 60 : 60 + width], bent(face, 1.0)[60 : 60 + height, 60 : 60 + width]
    got = _native.Farneback(anchor, *DEFAULTS, path).to(frame)
    assert got.shape == (height, width, 2) and got.dtype == np.float32
    mean, _ = errors(got, farneback(anchor, frame))
    assert mean <= 1e-3


@pytest.mark.parametrize("height, width", [(1, 1), (1, 50), (50, 1)])
def test_a_single_row_or_column_has_no_flow(height, width):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, height, width), np.uint8)
    np.testing.assert_array_equal(Farneback(a).to(b), 0)


@pytest.mark.parametrize(
    "parameters",
    [
        {"levels": 0},
        {"levels": 6, "pyr_scale": 0.8},
        {"winsize": 9},
        {"winsize": 16},
        {"winsize": 33},
        {"iterations": 1},
        {"poly_n": 5, "poly_sigma": 1.1},
        {"poly_n": 10, "poly_sigma": 2.5},
    ],
    ids=str,
)
def test_other_parameters(face, parameters):
    anchor, frame = face[:150, :170], bent(face, 1.5)[:150, :170]
    got = Farneback(anchor, **parameters).to(frame)
    mean, most = errors(got, farneback(anchor, frame, **parameters))
    assert mean <= 2e-4 and most <= 1e-2


@pytest.mark.parametrize("path", PATHS)
def test_identical_pictures_give_exactly_zero(face, path):
    for picture in face, face[10:60, 30:100], np.zeros((50, 60), np.uint8):
        flow = _native.Farneback(picture, *DEFAULTS, path).to(picture.copy())
        assert not flow.any()


@pytest.mark.parametrize("shift", [0.05, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("direction", [(1, 0), (0, 1), (-0.6, 0.8)])
def test_small_shifts_are_recovered_as_opencv_recovers_them(face, shift, direction):
    # Shifted by resampling a larger picture: eight bits of gray hardly show 0.05 pixels otherwise.
    large = cv2.resize(face, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    dx, dy = shift * direction[0], shift * direction[1]
    anchor, frame = (
        cv2.resize(picture, face.shape[::-1], interpolation=cv2.INTER_AREA)[40:130, 60:190]
        for picture in (large, moved(large, 4 * dx, 4 * dy))
    )
    got, expected = (
        np.median(f[15:-15, 15:-15], axis=(0, 1)) for f in (Farneback(anchor).to(frame), farneback(anchor, frame))
    )
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(got, (dx, dy), atol=0.1 * shift + 0.02)


def test_region_means_are_opencvs(face):
    anchor, frame = face[30:120, 40:170], bent(face, 2.0)[30:120, 40:170]
    got, expected = Farneback(anchor).to(frame), farneback(anchor, frame)
    for share in 0.2, 0.3, 0.7, 1.0:
        np.testing.assert_allclose(
            largest_mean(got[10:-10, 10:-10], share), largest_mean(expected[10:-10, 10:-10], share), atol=5e-3
        )


def test_flat_and_random_pictures_are_finite():
    rng = np.random.default_rng(0)
    flat, noise = np.full((60, 80), 128, np.uint8), rng.integers(0, 256, (60, 80), np.uint8)
    black_and_white = np.where(rng.random((60, 80)) < 0.5, 0, 255).astype(np.uint8)
    for a in flat, noise, black_and_white:
        for b in flat, noise, black_and_white:
            assert np.isfinite(Farneback(a).to(b)).all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("period", [5, 6, 8, 11, 16])
@pytest.mark.parametrize("angle", [45, -45, 30, 17])
def test_stripes_are_finite(path, period, angle):
    """They have no motion along themselves: what is divided by is all rounding, and was zero in some pictures."""
    y, x = np.mgrid[:100, :100]
    across = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    anchor, frame = (
        (127.5 + 127.5 * np.sin(2 * np.pi * (across - shift) / period)).astype(np.uint8) for shift in (0, 0.7)
    )
    assert np.isfinite(_native.Farneback(anchor, *DEFAULTS, path).to(frame)).all()


def test_strange_layouts_of_memory(face):
    anchor, frame = face[:80, :90], bent(face, 1.0)[:80, :90]
    expected = Farneback(np.ascontiguousarray(anchor)).to(np.ascontiguousarray(frame))
    for layout in (
        lambda p: np.asfortranarray(p),
        lambda p: np.repeat(p, 2, axis=1)[:, ::2],
        lambda p: p[::-1].copy()[::-1],
        lambda p: np.broadcast_to(p, (3, *p.shape))[1],
    ):
        np.testing.assert_array_equal(Farneback(layout(anchor)).to(layout(frame)), expected)


def test_the_anchor_may_change_afterwards(face):
    anchor, frame = face[:80, :90].copy(), bent(face, 1.0)[:80, :90]
    flow = Farneback(anchor)
    expected = flow.to(frame)
    anchor[:] = 0
    np.testing.assert_array_equal(flow.to(frame), expected)


def test_threads_do_not_disturb_each_other(face):
    """Working memory belongs to a thread, and is used for pictures of many sizes in turn."""
    rng = np.random.default_rng(0)
    jobs = []
    for _ in range(24):
        height, width = rng.integers(33, 140, 2)
        anchor, frame = face[:height, :width], bent(face, 1.0)[:height, :width]
        jobs.append((anchor, frame, Farneback(anchor).to(frame)))
    barrier = threading.Barrier(4)

    def work(number):
        barrier.wait()
        return all(
            np.array_equal(Farneback(anchor).to(frame), expected)
            for anchor, frame, expected in jobs[number:] + jobs[:number]
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, (0, 6, 12, 18)))


@pytest.mark.parametrize(
    "frame, words",
    [
        (np.zeros((10, 10), np.float32), "float32"),
        (np.zeros((10, 10, 3), np.uint8), r"\(10, 10, 3\)"),
        (np.zeros((11, 10), np.uint8), r"\(11, 10\)"),
        ("frame.png", "str"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frame, words):
    flow = Farneback(np.zeros((10, 10), np.uint8))
    with pytest.raises(FrameError, match=rf"expected a gray picture, uint8 \(10, 10\), got .*{words}"):
        flow.to(frame)


@pytest.mark.parametrize(
    "parameters",
    [{"pyr_scale": 1.0}, {"levels": -1}, {"winsize": 0}, {"iterations": 0}, {"poly_n": 33}, {"poly_sigma": 0.0}],
    ids=str,
)
def test_parameters_out_of_range_are_refused(parameters):
    ((name, value),) = parameters.items()
    with pytest.raises(ValueError, match=f"expected .*got .*{name}={value}"):
        Farneback(np.zeros((40, 40), np.uint8), **parameters)
