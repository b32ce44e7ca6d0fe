"""Flow from the onset as colours, against OpenCV's flow and a float64 painter."""

import colorsys

import cv2
import numpy as np
import pytest

from metst_edge.errors import FrameError
from metst_edge.face import Box
from metst_edge.flow import Farneback
from metst_edge.recognise import ImageSettings, View, flow_images, frame_indices, interval_images
from metst_edge.recognise.images import drawn

PLAIN = ImageSettings(input_size=96, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def crops():
    """A textured square that stretches by a pixel or two, in 13 frames: uint8 (13, 160, 160)."""
    noise = np.random.default_rng(3).random((40, 40), np.float32)
    texture = cv2.resize(noise, (160, 160), interpolation=cv2.INTER_CUBIC) * 255
    y, x = np.mgrid[:160, :160].astype(np.float32)
    bump = np.exp(-((x - 60) ** 2 + (y - 90) ** 2) / 1500)
    moved = [cv2.remap(texture, x - 0.3 * i * bump, y + 0.2 * i * bump, cv2.INTER_CUBIC) for i in range(13)]
    return np.stack(moved).clip(0, 255).astype(np.uint8)


def painted(flow):
    """The same picture, pixel by pixel in float64: hue is the angle, value the length."""
    dx, dy = flow[..., 0].astype(float), flow[..., 1].astype(float)
    length, angle = np.hypot(dx, dy), np.arctan2(dy, dx) % (2 * np.pi)
    value = (length - length.min()) / np.ptp(length)
    hue = np.rint(np.degrees(angle) / 2) % 180 / 180
    return 255 * np.array([colorsys.hsv_to_rgb(h, 1.0, v) for h, v in zip(hue.flat, value.flat, strict=True)]).reshape(
        *flow.shape[:2], 3
    )


def test_our_flow_is_opencvs_with_the_recognisers_parameters(crops):
    own = Farneback(crops[0], pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2)
    for frame in crops[1], crops[6], crops[12]:
        theirs = cv2.calcOpticalFlowFarneback(crops[0], frame, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        np.testing.assert_allclose(own.to(frame), theirs, atol=2e-3)
        assert np.abs(own.to(frame) - theirs).mean() < 1e-5 < np.abs(theirs).max()


def test_flow_is_drawn_as_hue_and_brightness(crops):
    flow = Farneback(crops[0], iterations=3, poly_n=5, poly_sigma=1.2).to(crops[9])
    picture, expected = drawn(flow), painted(flow)
    # OpenCV's angle is good to 0.3 degrees: a few hues are the next one, 2 degrees off, which is 255 / 30 in a colour.
    assert np.abs(picture - expected).max() <= 255 / 30 + 2
    assert (np.abs(picture - expected) > 1.5).mean() < 0.15


@pytest.mark.parametrize("dx, dy, colour", [(1, 0, (255, 0, 0)), (0, 1, (127, 255, 0)), (-1, 0, (0, 255, 255))])
def test_directions_have_their_colours(dx, dy, colour):
    """The right is red, and the angle turns with the hands of a clock, for y points down."""
    flow = np.zeros((8, 8, 2), np.float32)
    flow[4, 4] = dx, dy
    picture = drawn(flow)
    assert np.abs(picture[4, 4].astype(int) - colour).max() <= 1
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_where_nothing_moves_the_image_is_black(crops):
    images = flow_images(crops[0], [crops[0]] * 2, PLAIN)
    assert images.shape == (2, 3, 96, 96) and not images.any()
    assert not drawn(np.full((4, 4, 2), 3.0, np.float32)).any()


def test_images_are_scaled_as_the_network_was_trained(crops):
    settings = ImageSettings(input_size=64)
    images = flow_images(crops[0], crops[1:3], settings)
    plain = flow_images(crops[0], crops[1:3], ImageSettings(64, (0.0,) * 3, (1.0,) * 3))
    assert images.dtype == np.float32 and images.shape == (2, 3, 64, 64)
    mean, std = (np.array(part).reshape(1, 3, 1, 1) for part in (settings.mean, settings.std))
    np.testing.assert_allclose(images, (plain.astype(float) - mean) / std, atol=1e-5)
    assert plain.min() >= 0 and 0.9 < plain.max() <= 1


def test_a_whole_image_is_that_of_opencv_throughout(crops):
    """The published way, with OpenCV alone; flow differs by rounding, so hues may be the next one."""
    flow = cv2.calcOpticalFlowFarneback(crops[0], crops[8], None, 0.5, 3, 15, 3, 5, 1.2, 0)
    length, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1])
    hsv = np.full((160, 160, 3), 255, np.uint8)
    hsv[..., 0] = angle * 180 / np.pi / 2
    hsv[..., 2] = cv2.normalize(length, None, 0, 255, cv2.NORM_MINMAX)
    rgb = cv2.resize(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), (96, 96), interpolation=cv2.INTER_AREA)
    (image,) = flow_images(crops[0], [crops[8]], PLAIN)
    difference = np.abs(image * 255 - rgb.transpose(2, 0, 1))
    assert difference.max() <= 8 and difference.mean() < 0.1


def test_every_colour_is_that_of_the_published_order_of_work():
    """All hues by all brightnesses: fractions are cut off, and what remains is turned into colours by OpenCV."""
    hue, value = np.meshgrid(np.arange(180) + 0.7, np.arange(256) + np.linspace(0.1, 0.9, 256), indexing="ij")
    value[:, 0], value[1:, -1], value[0, -1] = 0, 254.5, 255  # one is the longest: of several, rounding says which
    angle = np.deg2rad(2 * hue)
    flow = np.stack([value * np.cos(angle), value * np.sin(angle)], -1).astype(np.float32)
    hsv = np.full((*hue.shape, 3), 255, np.uint8)
    hsv[..., 0], hsv[..., 2] = hue, value
    pixels = drawn(flow)
    np.testing.assert_array_equal(pixels[:, 1:], cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[:, 1:])
    assert not pixels[:, 0].any(), "of no length, whatever the angle"


def test_between_frames_flow_is_interpolated(crops):
    at = flow_images(crops[0], crops[4:6], PLAIN, [0, 0.25, 1])
    flows = [Farneback(crops[0], iterations=3, poly_n=5, poly_sigma=1.2).to(crop) for crop in crops[4:6]]
    between = drawn(0.75 * flows[0] + 0.25 * flows[1])
    expected = cv2.resize(between, (96, 96), interpolation=cv2.INTER_AREA) / 255
    np.testing.assert_allclose(at[1], expected.transpose(2, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(at[[0, 2]], flow_images(crops[0], crops[4:6], PLAIN))


@pytest.mark.parametrize("frames, apex", [(13, 6), (6, 3), (2, 1), (2, 0), (1, 0)])
def test_an_interval_is_shown_as_its_clip_of_eleven(crops, frames, apex):
    pictures = [np.pad(crop, 20, mode="edge") for crop in crops[:frames]]
    images = interval_images(pictures, apex, View(Box(20, 180, 20, 180), 1), PLAIN)
    assert images.shape == (11, 3, 96, 96)
    whole = [(i, int(p)) for i, p in enumerate(frame_indices(0, apex, frames - 1)) if p == int(p)]
    expected = flow_images(crops[0], [crops[p] for _, p in whole], PLAIN)
    np.testing.assert_array_equal(images[[i for i, _ in whole]], expected)


def test_a_small_face_grows_to_the_networks_size(crops):
    assert flow_images(crops[0][:40, :40], [crops[5][:40, :40]], PLAIN).shape == (1, 3, 96, 96)


def test_settings_are_read_from_a_manifest_as_they_were_written():
    settings = ImageSettings(input_size=96, poly_n=7)
    assert ImageSettings.from_dict({**settings.to_dict(), "new": 1}) == settings
    assert isinstance(settings.to_dict()["mean"], list)


@pytest.mark.parametrize("positions", [[-0.5], [0, 1.5]])
def test_a_position_without_a_crop_is_refused(crops, positions):
    with pytest.raises(FrameError, match="expected positions 0 to 1, those of the crops"):
        flow_images(crops[0], crops[1:3], PLAIN, positions)


def test_crops_of_another_shape_are_refused(crops):
    with pytest.raises(FrameError, match="expected a gray picture"):
        flow_images(crops[0], [crops[1][:-1]], PLAIN)
