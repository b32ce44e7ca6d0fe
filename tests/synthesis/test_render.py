"""Rendered frames show the movement that was asked for, and nothing else."""

import json

import cv2
import numpy as np
import pytest

from training.synthesis.camera import Camera, Sensor
from training.synthesis.face_actions import action_fields
from training.synthesis.h264 import decode, encode, recompress
from training.synthesis.portrait import MARGIN, Variation, astronaut, read_portrait, standardise
from training.synthesis.render import (
    Clip,
    Renderer,
    render_clip,
    render_timeline,
    write_clip,
)
from training.synthesis.testclips import test_clip as draw_test_clip
from training.synthesis.timeline import MODERATE, TRACK, TRACKS, Rates, TruthEvent, draw_timeline

CLEAN = Camera(noise=0)
ONLY_MICRO = Rates(micro=30, blinks=0, speech=0, macros=0, head_moves=0, drift=0, flicker=0, micro_pixels=(1.5, 3))


def tracks(**amounts):
    """One column of a timeline; ``AU12`` stands for both sides."""
    column = np.zeros(len(TRACKS), np.float32)
    for name, amount in amounts.items():
        rows = [TRACK[name]] if name in TRACK else [TRACK[f"{name} left"], TRACK[f"{name} right"]]
        column[rows] = amount
    return column


@pytest.fixture(scope="module")
def renderer(portrait):
    return Renderer(portrait)


@pytest.fixture(scope="module")
def rest(renderer):
    return renderer.draw(tracks())


@pytest.fixture(scope="module")
def fields(portrait):
    """What was asked for: every action's field on every fourth pixel of the portrait."""
    height, width = portrait.image.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(0, width, 4), np.arange(0, height, 4)), -1).astype(np.float32)
    return action_fields(portrait.landmarks, grid)


def flow(before, after):
    """Dense flow by OpenCV's DIS, another method than the front end's."""
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grays = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (before, after)]
    return method.calc(*grays, None)


def around(field, point, reach=7):
    x, y = (round(float(v)) for v in point)
    return np.median(field[y - reach : y + reach + 1, x - reach : x + reach + 1].reshape(-1, 2), axis=0)


# Landmarks with texture around them, and the displacement in crop pixels of each unit of action.
@pytest.mark.parametrize("amount", [1.0, 3.0])
@pytest.mark.parametrize(("action", "landmark"), [("AU1", 21), ("AU2", 18), ("AU12", 48), ("AU15", 54), ("AU17", 57)])
def test_a_rendered_action_moves_by_what_was_asked(portrait, renderer, rest, fields, action, landmark, amount):
    place = portrait.landmarks[landmark] - MARGIN
    moved = flow(rest, renderer.draw(tracks(**{action: amount})))
    wanted = amount * renderer.pixel * around(fields[action].sum(0), portrait.landmarks[landmark] / 4, reach=2)
    assert np.hypot(*wanted) > 0.5
    np.testing.assert_allclose(around(moved, place), wanted, atol=0.25 * np.hypot(*wanted))


@pytest.mark.parametrize(("move", "pixels"), [({"tx": 5.0}, (5, 0)), ({"ty": -4.0}, (0, -4))])
def test_the_head_moves_as_a_whole(renderer, rest, move, pixels):
    moved = renderer.draw(tracks(**move))
    shift = np.median(flow(rest, moved)[60:340, 60:340].reshape(-1, 2), axis=0)
    np.testing.assert_allclose(shift, np.array(pixels) * renderer.pixel, atol=0.15)


def test_turning_moves_the_nose_more_than_the_ears(portrait, renderer, rest):
    moved = flow(rest, renderer.draw(tracks(yaw=3.0)))
    nose = around(moved, portrait.landmarks[30] - MARGIN)[0]
    cheeks = [around(moved, portrait.landmarks[i] - MARGIN)[0] for i in (2, 14)]
    assert nose > 1.2 * max(cheeks) > 0


def test_rolling_and_growing_go_the_way_they_say(portrait, renderer, rest):
    brow, mouth = portrait.landmarks[[21, 57]] - MARGIN
    clockwise = flow(rest, renderer.draw(tracks(roll=2.0)))
    assert around(clockwise, brow)[0] > 0.5 > -0.5 > around(clockwise, mouth)[0]
    growing = flow(rest, renderer.draw(tracks(scale=3.0)))
    assert around(growing, brow)[1] < -0.5 < 0.5 < around(growing, mouth)[1]


def test_a_blink_covers_the_eye_and_nothing_else(portrait, renderer, rest):
    closed = renderer.draw(tracks(blink=1.0))
    points = portrait.landmarks - MARGIN
    pupil = points[36:42].mean(0)
    x, y = (round(float(v)) for v in pupil)
    changed = np.abs(closed.astype(int) - rest).max(-1) > 8
    assert changed[y - 4 : y + 5, x - 4 : x + 5].mean() > 0.7
    eyes = np.zeros_like(changed)
    for eye in (slice(36, 42), slice(42, 48)):
        (left, top), (right, bottom) = points[eye].min(0), points[eye].max(0)
        eyes[int(top) - 22 : int(bottom) + 5, int(left) - 3 : int(right) + 4] = True
    assert not changed[~eyes].any()
    # The eyeball stays where it is while the lid comes down over it.
    half = renderer.draw(tracks(blink=0.4))
    low = points[40:42].mean(0)
    assert not changed_at(half, rest, low)


def changed_at(image, other, point):
    x, y = (round(float(v)) for v in point)
    return (np.abs(image[y - 1 : y + 2, x - 1 : x + 2].astype(int) - other[y - 1 : y + 2, x - 1 : x + 2]) > 8).any()


def test_light_changes_brightness_and_not_shape(renderer, rest):
    darker = renderer.draw(tracks(gain=np.log(0.8)))
    ratio = darker[100:300, 100:300].astype(float).mean() / rest[100:300, 100:300].mean()
    assert ratio == pytest.approx(0.8, abs=0.01)


def test_frames_at_onset_and_offset_are_still_ones_and_the_apex_moves_most(portrait, rest):
    timeline = draw_timeline(np.random.default_rng(2), 90, rates=ONLY_MICRO)
    clip = render_timeline(portrait, timeline, CLEAN)
    assert clip.truth
    for event in clip.truth:
        away = [np.abs(clip.frames[i].astype(int) - rest).mean() for i in range(event.onset, event.offset + 1)]
        assert away[0] == 0 and away[-1] == 0
        assert int(np.argmax(away)) == event.apex - event.onset


def test_noise_hides_nothing_of_the_truth_and_is_new_on_every_frame(portrait, rest):
    sensor = Sensor(Camera(noise=2.0), portrait.size, np.random.default_rng(0))
    one, other = (sensor(rest).astype(float) - rest for _ in range(2))
    middle = (rest.min(-1) > 20) & (rest.max(-1) < 235)
    assert one[middle].std() == pytest.approx(2.0, rel=0.1)
    assert abs(np.corrcoef(one[middle].ravel(), other[middle].ravel())[0, 1]) < 0.05


def test_a_seed_renders_the_same_frames_again(portrait):
    first, again, other = (render_clip(portrait, seed, 0.5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert first.truth == again.truth
    assert not np.array_equal(first.frames, other.frames)


def test_jpeg_and_h264_change_little_and_keep_the_frames(portrait):
    clean = render_clip(portrait, 1, 0.5, camera=CLEAN)
    for camera in (Camera(noise=0, jpeg=85), Camera(noise=0, crf=23)):
        coded = render_clip(portrait, 1, 0.5, camera=camera)
        assert coded.frames.shape == clean.frames.shape
        error = np.abs(coded.frames.astype(int) - clean.frames).mean()
        assert 0.1 < error < 4


def test_a_written_clip_reads_back_with_its_truth(portrait, tmp_path):
    clip = render_clip(portrait, 5, 1.0, rates=ONLY_MICRO)
    truth_path = write_clip(clip, tmp_path / "clip.mp4", extra={"licence": "public domain"})
    frames = decode(tmp_path / "clip.mp4")
    assert frames.shape == clip.frames.shape
    # OpenCV's own reader, as the SDK uses it, agrees about rate and length.
    capture = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(30)
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 30
    truth = json.loads(truth_path.read_text())
    assert truth["fps"] == 30 and truth["frames"] == 30 and truth["licence"] == "public domain"
    assert [TruthEvent(**{**e, "action_units": tuple(e["action_units"])}) for e in truth["events"]] == list(clip.truth)


def test_the_same_frames_make_the_same_file(portrait, tmp_path):
    clip = render_clip(portrait, 5, 0.4)
    write_clip(clip, tmp_path / "one.mp4")
    write_clip(clip, tmp_path / "two.mp4")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_h264_needs_even_sizes(tmp_path):
    clip = Clip(np.zeros((2, 33, 32, 3), np.uint8), 30.0, ())
    with pytest.raises(ValueError, match="even height and width for H.264, got 33x32"):
        write_clip(clip, tmp_path / "clip.mp4")


def test_an_encoder_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="ffmpeg said"):
        encode([np.zeros((32, 32, 3), np.uint8)], (32, 32), tmp_path / "missing" / "clip.mp4", 30.0, 23)


def test_a_long_clip_comes_back_whole():
    frames = np.random.default_rng(0).integers(0, 255, (70, 64, 64, 3), dtype=np.uint8)
    assert recompress(frames, (64, 64), 30.0, 18).shape == frames.shape


def test_a_portrait_comes_upright_and_in_size(finder, portrait):
    found = finder.find(Renderer(portrait).draw(tracks()))
    assert found.box.width == pytest.approx(288, rel=0.06)
    across = found.landmarks[42] - found.landmarks[39]
    assert abs(np.degrees(np.arctan2(across[1], across[0]))) < 2


def test_landmarks_of_a_changed_person_lie_on_the_face(finder):
    """What the variation computes for the landmarks is what the face finder sees in the picture."""
    change = Variation(
        face=250, roll=6, stretch=(0.94, 1.05), bumps=0.08, flip=True, gamma=1.2, shift=(0.2, -0.2), seed=3
    )
    person = astronaut(finder, change=change)
    found = finder.find(person.image)
    inner = slice(17, 68)
    away = np.hypot(*(found.landmarks[inner] - person.landmarks[inner]).T) / person.frame.g
    assert np.median(away) < 0.15


def test_a_picture_without_a_face_is_refused(finder, tmp_path):
    with pytest.raises(ValueError, match="expected a picture with one face, got none in wall"):
        standardise(np.full((200, 200, 3), 90, np.uint8), "wall", finder)
    with pytest.raises(FileNotFoundError, match="expected a portrait"):
        read_portrait(tmp_path / "nobody.jpg", finder)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match="OpenCV cannot read"):
        read_portrait(tmp_path / "text.jpg", finder)


def test_test_clips_differ_and_repeat(finder):
    one, same, other = (draw_test_clip(7, index, 0.3, rates=MODERATE, finder=finder) for index in (0, 0, 1))
    np.testing.assert_array_equal(one.frames, same.frames)
    assert one.frames.shape == other.frames.shape and not np.array_equal(one.frames, other.frames)
    assert one.source == "astronaut"
