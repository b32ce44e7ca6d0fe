"""What can be analysed passes, and what cannot is refused with what is wrong and what to do."""

import cv2
import numpy as np
import pytest

from metst_edge.capture import check_frame, check_timestamp, to_gray
from metst_edge.errors import FrameError, TimestampError


def picture(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("shape", [(480, 640, 3), (480, 640), (32, 32)])
def test_a_bgr_or_gray_picture_passes_as_it_is(shape):
    image = picture(*shape)
    assert check_frame(image) is image
    assert check_frame(image, shape) is image
    assert check_frame(image, list(shape)) is image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "expected a frame that is a numpy array.*got NoneType.*numpy.asarray"),
        ([[0] * 64] * 64, "got list"),
        (picture(64, 64, dtype=np.float32), r"uint8 \(H, W, 3\) BGR.*got dtype float32: scale it to 0..255"),
        (picture(64, 64, dtype=np.uint16), "got dtype uint16"),
        (picture(64), r"got shape \(64,\)"),
        (picture(64, 64, 4), r"got shape \(64, 64, 4\): .*without alpha"),
        (picture(64, 64, 1), r"got shape \(64, 64, 1\)"),
        (picture(2, 64, 64, 3), r"got shape \(2, 64, 64, 3\): pass one picture"),
        (picture(1, 1, 3), "expected a frame of at least 32x32 pixels; got 1x1"),
        (picture(480, 31), "got 31x480"),
        (picture(0, 0, 3), "got 0x0"),
        (picture(32, 32767), "expected a frame of at most 32766 pixels a side; got 32767x32"),
    ],
)
def test_any_other_is_refused(image, message):
    with pytest.raises(FrameError, match=message):
        check_frame(image)


def test_a_change_of_size_or_kind_is_refused_with_both():
    with pytest.raises(FrameError, match=r"expected a frame of shape \(480, 640, 3\).*got \(360, 640, 3\).*reset"):
        check_frame(picture(360, 640, 3), (480, 640, 3))
    with pytest.raises(FrameError, match=r"got \(480, 640\)"):
        check_frame(picture(480, 640), (480, 640, 3))


def test_gray_is_opencvs_and_a_gray_picture_stays():
    image = picture(40, 50, 3)
    np.testing.assert_array_equal(to_gray(image), cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    weighted = image @ np.array([0.114, 0.587, 0.299])  # BGR, ITU-R BT.601
    assert np.abs(to_gray(image) - weighted).max() <= 1
    gray = picture(40, 50)
    assert to_gray(gray) is gray


def test_a_view_of_a_larger_picture_converts():
    image = picture(80, 100, 3)
    np.testing.assert_array_equal(to_gray(image[::2, 10:60]), to_gray(image[::2, 10:60].copy()))


@pytest.mark.parametrize("timestamp", [float("nan"), float("inf"), -float("inf"), None, "soon", [1.0, 2.0]])
def test_a_timestamp_that_is_no_finite_number_is_refused(timestamp):
    with pytest.raises(TimestampError, match="expected a timestamp in seconds, a finite number; got"):
        check_timestamp(timestamp)


@pytest.mark.parametrize("timestamp", [1.0, 0.5, -2.0])
def test_a_timestamp_that_does_not_rise_is_refused(timestamp):
    with pytest.raises(TimestampError, match=rf"expected a timestamp above 1.0 s.*got {timestamp} s"):
        check_timestamp(timestamp, 1.0)


@pytest.mark.parametrize("timestamp", [2, 2.0, np.float32(2), np.int64(2)])
def test_a_rising_timestamp_becomes_a_float(timestamp):
    seconds = check_timestamp(timestamp, 1.5)
    assert seconds == 2.0 and type(seconds) is float
