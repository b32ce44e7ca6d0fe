"""Flow features against the published code's figures and against motions of known size."""

import json
import platform

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from metst_edge.errors import FrameError
from metst_edge.face import Box, FaceFinder
from metst_edge.flow import RoiFlow, channels, default_threads, measure, thumbnail, window_features
from tests.flow import published, reference

ON_X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="what OpenCV computes on x86 is asked of it there")
METST_ROWS = [0, 1, 8, 9, 16, 17, 28, 29, 30, 31]


def gray_frames(path):
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = video.read()
        if not ok:
            return frames
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))


@ON_X86
def test_the_published_pictures_are_what_opencv_reads(test_data):
    for video in "single_face.mp4", "WolfgangLanger_Pexels.mp4":
        frames = gray_frames(test_data / video)[20:40]
        np.testing.assert_array_equal(published.gray_frames(test_data / video, 20, 20), frames)


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
    for window in json.loads((golden / f"features_{clip}.json").read_text()):
        frames = published.gray_frames(test_data / video, window["start"], window["k"])
        box = Box(*window["box_top_bottom_left_right"])
        landmarks = np.array(window["landmarks"], np.float32)
        expected = np.array(window["features"])
        got = window_features(frames, landmarks, box, "metst_plus", compat=True)
        assert got.shape == (36, window["k"]) and got.dtype == np.float32
        if clip == "single_face":
            assert np.abs(got - expected).max() <= 0.05
        correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(got[:, 1:], expected[:, 1:], strict=True)]
        assert min(correlation) >= 0.95
        five = window_features(frames, landmarks, box, "metst", compat=True)
        # Not to the last bit: a patch is finished only where its regions are, so its sums start at another row.
        np.testing.assert_allclose(five, got[METST_ROWS], rtol=0, atol=1e-5)


def test_a_still_face_gives_zero(portrait):
    gray, face = portrait
    features = window_features([gray] * 3, face.crop_landmarks, face.box, "metst_plus")
    np.testing.assert_array_equal(features, 0)


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


@pytest.mark.parametrize("compat", [False, True])
def test_regions_that_are_empty_have_no_flow_and_with_compat_less_the_heads_motion(portrait, compat):
    gray, face = portrait
    landmarks = face.crop_landmarks.copy()
    landmarks[36:42] += (0, 500)  # an eyelid's patch, and a mouth's corner out of its own
    landmarks[54] += (500, 0)
    fast, slow = (kind(gray, face.box, landmarks, "metst_plus", compat) for kind in (RoiFlow, reference.ReferenceFlow))
    frame = shifted(gray, 0.4, -0.3)
    features = fast.measure(frame)
    empty = [i for i, (_, rect) in enumerate(slow._regions) if rect.empty]
    assert 16 in empty and np.abs(fast.motion).max() > 0.1
    expected = -fast.motion.astype(np.float32) if compat else np.zeros(2)
    for region in empty:
        np.testing.assert_array_equal(features[2 * region : 2 * region + 2], expected)
    np.testing.assert_allclose(features, slow.measure(frame), atol=5e-3)


def test_windows_of_one_frame_are_zero(portrait):
    gray, face = portrait
    features = window_features([gray], face.crop_landmarks, face.box, "metst")
    assert features.shape == (channels("metst"), 1) and not features.any()


def frames_of(clip, test_data, count=None):
    frames = gray_frames(test_data / clip)
    return frames if count is None else frames[:count]


@pytest.mark.parametrize("roi_set", ["metst", "metst_plus"])
@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("dx, dy, bend", [(0.3, -0.2, 0.0), (5.0, 3.0, 1.0), (-11.0, 6.5, 0.5)])
def test_a_frame_is_what_the_python_path_makes_of_it(portrait, roi_set, compat, dx, dy, bend):
    gray, face = portrait
    fast, slow = (
        kind(gray, face.box, face.crop_landmarks, roi_set, compat) for kind in (RoiFlow, reference.ReferenceFlow)
    )
    y, x = np.mgrid[: gray.shape[0], : gray.shape[1]].astype(np.float32)
    for part in 0.3, 0.6, 1.0:
        frame = cv2.remap(gray, x + part * bend * np.sin(y / 40), y + part * bend * np.cos(x / 50), cv2.INTER_CUBIC)
        frame = shifted(frame, part * dx, part * dy)
        np.testing.assert_allclose(fast.measure(frame), slow.measure(frame), atol=5e-3)
        assert fast.box == slow.box
        np.testing.assert_allclose(fast.motion, slow.motion, atol=5e-3)
        assert fast.likeness == pytest.approx(slow.likeness, abs=1e-4)


def test_real_video_is_what_the_python_path_makes_of_it(test_data):
    frames = frames_of("WolfgangLanger_Pexels.mp4", test_data, 40)
    face = FaceFinder().find(cv2.cvtColor(frames[0], cv2.COLOR_GRAY2BGR))
    fast, slow = (
        kind(frames[0], face.box, face.crop_landmarks, "metst_plus") for kind in (RoiFlow, reference.ReferenceFlow)
    )
    for frame in frames[1:30]:
        np.testing.assert_allclose(fast.measure(frame), slow.measure(frame), atol=5e-3)
        assert fast.box == slow.box


SIZES = [(60, 60), (200, 170), (320, 320), (640, 640), (333, 401), (700, 900), (1, 1), (2, 1000), (319, 321)]


@ON_X86
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("to", [(320, 320), (97, 61)])
def test_the_resize_that_is_written_out_is_opencvs(size, to):
    picture = np.random.default_rng(sum(size)).integers(0, 256, size, np.uint8)
    np.testing.assert_array_equal(reference.resized(picture, *to), cv2.resize(picture, to[::-1]))


@pytest.mark.parametrize("size", SIZES[:6])
def test_the_crop_is_the_reference_s_to_the_last_bit(size):
    """Identical crops are the only ones with a flow of exactly zero, wherever the box lies."""
    rng = np.random.default_rng(sum(size))
    picture = rng.integers(0, 256, (1000, 1000), np.uint8)
    height, width = size
    box = Box(7, 7 + height, 11, 11 + width)
    points = np.array([[40 + 4 * i, 40 + 3 * i] for i in range(68)], np.float32)
    # The same pixels as a picture of the crop's size, where the crop is the picture itself.
    whole = RoiFlow(reference.crop(picture, box), Box(0, 320, 0, 320), points, "metst_plus")
    frame = cv2.GaussianBlur(picture, (0, 0), 2)
    same = RoiFlow(picture, box, points, "metst_plus")
    one, other = same.measure(frame), whole.measure(reference.crop(frame, box))
    if same.box == box and whole.box == Box(0, 320, 0, 320):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(same.motion == whole.motion, True)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_lanes_together_are_lanes_alone(portrait, threads):
    gray, face = portrait
    frames = [shifted(gray, 0.4 * i, -0.7 * i) for i in range(5)]

    def lanes():
        # The first two share everything but their anchors, the third looks elsewhere.
        elsewhere = Box(face.box.top + 4, face.box.bottom - 3, face.box.left + 2, face.box.right)
        return [
            RoiFlow(frames[0], face.box, face.crop_landmarks, "metst_plus"),
            RoiFlow(frames[0], face.box, face.crop_landmarks, "metst"),
            RoiFlow(frames[1], face.box, face.crop_landmarks + 1, "metst_plus"),
            RoiFlow(frames[0], elsewhere, face.crop_landmarks, "metst"),
        ]

    together, alone = lanes(), lanes()
    for frame in frames[2:]:
        got = measure(together, frame, threads)
        for lane, features in zip(alone, got, strict=True):
            np.testing.assert_array_equal(features, lane.measure(frame))
    assert [lane.box for lane in together] == [lane.box for lane in alone]
    assert measure([], frames[0]) == []
    assert 1 <= default_threads() <= 4


def test_frames_of_another_size_are_refused(portrait):
    gray, face = portrait
    flow = RoiFlow(gray, face.box, face.crop_landmarks)
    with pytest.raises(FrameError, match="expected a gray picture"):
        flow.measure(gray[:-1])
    with pytest.raises(FrameError, match="expected a gray picture"):
        measure([flow], gray.astype(np.float32))


@pytest.mark.parametrize("box", [Box(-1, 300, 0, 300), Box(0, 100000, 0, 300), Box(10, 10, 0, 300), Box(0, 300, 5, 4)])
def test_boxes_off_the_picture_are_refused(portrait, box):
    gray, face = portrait
    with pytest.raises(FrameError, match="expected a crop box inside"):
        RoiFlow(gray, box, face.crop_landmarks)


@pytest.mark.parametrize("height, width", [(1, 1), (20, 500), (32, 32), (360, 640), (1080, 1920)])
def test_thumbnails_are_means(height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    np.testing.assert_allclose(thumbnail(picture), reference.thumbnail(picture), atol=1e-6)
    np.testing.assert_allclose(thumbnail(np.full((height, width), 7, np.uint8)), 0, atol=1e-6)
