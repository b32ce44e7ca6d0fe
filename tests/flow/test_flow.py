"""Flow features against the published code's figures and against motions of known size."""

import json

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from metst_edge.errors import FrameError
from metst_edge.face import Box, FaceFinder
from metst_edge.flow import Farneback, RoiFlow, channels, window_features
from metst_edge.flow.regions import largest_mean

METST_ROWS = [0, 1, 8, 9, 16, 17, 28, 29, 30, 31]


def gray_frames(path):
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = video.read()
        if not ok:
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))


@pytest.fixture(scope="module")
def portrait():
    """A face, its box and its landmarks, in a picture with room to move."""
    image = cv2.copyMakeBorder(astronaut(), 40, 40, 40, 40, cv2.BORDER_REFLECT)
    image = cv2.cvtColor(cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2BGR)
    face = FaceFinder().find(image)
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), face


def shifted(gray, dx, dy):
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    size = gray.shape[::-1]
    return cv2.warpAffine(gray, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("clip, video", [("single_face", "single_face.mp4"), ("wolfgang", "WolfgangLanger_Pexels.mp4")])
def test_compat_features_are_the_published_ones(clip, video, test_data, golden):
    frames = gray_frames(test_data / video)
    for window in json.loads((golden / f"features_{clip}.json").read_text()):
        start, k = window["start"], window["k"]
        box = Box(*window["box_top_bottom_left_right"])
        landmarks = np.array(window["landmarks"], np.float32)
        expected = np.array(window["features"])
        got = window_features(frames[start : start + k], landmarks, box, "metst_plus", compat=True)
        assert got.shape == (36, k) and got.dtype == np.float32
        if clip == "single_face":
            assert np.abs(got - expected).max() <= 0.05
        correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(got[:, 1:], expected[:, 1:], strict=True)]
        assert min(correlation) >= 0.95
        five = window_features(frames[start : start + k], landmarks, box, "metst", compat=True)
        np.testing.assert_array_equal(five, got[METST_ROWS])


def test_a_still_face_gives_zero(portrait):
    """To OpenCV's rounding at a patch's border, where its flow of two identical pictures is not quite zero."""
    gray, face = portrait
    features = window_features([gray] * 3, face.crop_landmarks, face.box, "metst_plus")
    np.testing.assert_array_equal(features[:, 0], 0)
    assert np.abs(features).max() < 0.02


@pytest.mark.parametrize("dx, dy", [(0.3, -0.2), (5.0, 3.0), (-11.0, 6.5)])
def test_head_motion_is_taken_out(portrait, dx, dy):
    gray, face = portrait
    flow = RoiFlow(gray, face.box, face.crop_landmarks)
    assert np.abs(flow.measure(shifted(gray, dx, dy))).max() < 0.3
    left = flow.motion * face.box.width / 320
    followed = np.array([flow.box.left - face.box.left, flow.box.top - face.box.top])
    assert np.abs(followed + left - (dx, dy)).max() < 0.3, "box and remainder together are the head's motion"


def test_a_raised_brow_is_measured_in_crop_pixels(portrait):
    """The brows move up by a known amount, the rest of the face stays."""
    gray, face = portrait
    x, y = np.meshgrid(np.arange(gray.shape[1], dtype=np.float32), np.arange(gray.shape[0], dtype=np.float32))
    centres = face.landmarks[17:27]
    scale = face.box.width / 320
    nearest = np.min([np.hypot(x - cx, (y - cy)) for cx, cy in centres], axis=0)
    lift = 2.0 * scale * np.exp(-((nearest / (25 * scale)) ** 2))  # two crop pixels
    moved = cv2.remap(gray, x, (y + lift).astype(np.float32), cv2.INTER_CUBIC)
    left, right = RoiFlow(gray, face.box, face.crop_landmarks).measure(moved).reshape(5, 2)[:2]
    for brow in left, right:
        assert brow[1] == pytest.approx(-2.0, abs=0.5)
        assert abs(brow[0]) < 0.5


@pytest.mark.parametrize("compat", [False, True])
def test_a_box_pushed_out_of_the_picture_does_not_fail(portrait, compat):
    gray, face = portrait
    flow = RoiFlow(gray, face.box, face.crop_landmarks, "metst_plus", compat)
    for step in range(1, 60):
        features = flow.measure(shifted(gray, -9 * step, -9 * step))
        assert np.isfinite(features).all()


def test_regions_that_do_not_exist_give_zero(portrait):
    gray, face = portrait
    nowhere = np.full((68, 2), -500, np.float32)
    features = window_features([gray, shifted(gray, 2, 2)], nowhere, face.box, "metst_plus")
    np.testing.assert_array_equal(features, 0)


def test_the_largest_vectors_are_averaged():
    rng = np.random.default_rng(0)
    flow = rng.standard_normal((17, 23, 2)).astype(np.float32)
    vectors = flow.reshape(-1, 2).astype(np.float64)
    order = np.argsort(np.hypot(*vectors.T))
    for share in 0.2, 0.3, 0.7, 1.0:
        expected = vectors[order[int(len(order) * (1 - share)) :]].mean(axis=0)
        np.testing.assert_allclose(largest_mean(flow, share), expected, atol=1e-6)
    np.testing.assert_array_equal(largest_mean(np.zeros((0, 5, 2), np.float32), 0.3), [0, 0])


def test_farneback_recovers_a_shift(portrait):
    gray, face = portrait
    box = face.box
    a = gray[box.top : box.bottom, box.left : box.right]
    b = shifted(gray, 0.4, -0.3)[box.top : box.bottom, box.left : box.right]
    inner = Farneback(a).to(b)[30:-30, 30:-30]
    assert np.median(inner[..., 0]) == pytest.approx(0.4, abs=0.05)
    assert np.median(inner[..., 1]) == pytest.approx(-0.3, abs=0.05)


def test_windows_of_one_frame_are_zero(portrait):
    gray, face = portrait
    features = window_features([gray], face.crop_landmarks, face.box, "metst")
    assert features.shape == (channels("metst"), 1) and not features.any()


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
    farneback = Farneback(np.zeros((10, 10), np.uint8))
    with pytest.raises(FrameError, match=rf"expected a gray picture, uint8 \(10, 10\), got .*{words}"):
        farneback.to(frame)
