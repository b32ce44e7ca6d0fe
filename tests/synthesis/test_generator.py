"""Generated windows look like measured ones, and carry the labels of the micro-expressions in them."""

import time
from dataclasses import replace

import numpy as np
import pytest

from metst_edge.capture import to_gray
from metst_edge.flow import RoiFlow
from metst_edge.labels import EMOTIONS, LABELS
from training.samples import frame_labels
from training.synthesis.calibration import (
    ALL_POINTS,
    BASIS,
    CALIBRATION_FILE,
    Calibration,
    channel_values,
    expand,
    window_starts,
)
from training.synthesis.camera import Camera
from training.synthesis.emotions import combinations
from training.synthesis.generator import FeatureGenerator, as_annotations
from training.synthesis.measuring import measure_clip, measure_responses
from training.synthesis.render import Renderer, render_clip
from training.synthesis.timeline import (
    LIGHT,
    NOTHING,
    SIDES,
    TRACK,
    TRACKS,
    Rates,
    TruthEvent,
    draw_timeline,
)


@pytest.fixture(scope="module")
def calibration():
    return Calibration.load()


@pytest.fixture(scope="module")
def windows(calibration):
    return FeatureGenerator(0, calibration=calibration).windows(600)


@pytest.mark.parametrize(("roi_set", "channels"), [("metst", 10), ("metst_plus", 36), ("edge", 36)])
@pytest.mark.parametrize("k", [30, 50])
def test_shapes_and_types(calibration, roi_set, channels, k):
    x, y, label = FeatureGenerator(1, roi_set, k=k, calibration=calibration).windows(70)
    assert (x.shape, y.shape, label.shape) == ((70, channels, k), (70, k), (70, k))
    assert (x.dtype, y.dtype, label.dtype) == (np.float32, np.float32, np.int64)
    assert np.isfinite(x).all()
    assert not x[:, :, 0].any()


def test_a_face_held_steady_shows_little_of_its_head_and_nothing_in_the_first_slots(calibration):
    """Of windows in which only the head moves, and of the same seed."""
    rates = replace(NOTHING, head_moves=60.0, drift=1.0)
    spread = {}
    for roi_set in "metst_plus", "edge":
        windows = FeatureGenerator(11, roi_set, calibration=calibration).clip(10.0, rates).windows
        spread[roi_set] = np.mean([window.std(axis=1).mean() for window in windows])
        assert all(np.isfinite(window).all() for window in windows)
    assert not any(window[:, :4].any() for window in windows) and all(window[:, 4:].any() for window in windows[:-1])
    assert 0 < spread["edge"] < 0.5 * spread["metst_plus"]


def test_labels_and_spotting_targets_agree(windows):
    _, y, label = windows
    assert set(np.unique(y)) == {0, 1}
    np.testing.assert_array_equal(y == 1, label != LABELS.index("neutral"))
    assert set(np.unique(label)) == set(range(5))


def test_labels_begin_after_the_onset_and_end_before_the_offset():
    y, label = frame_labels(as_annotations((TruthEvent(3, 5, 8, "surprise", (1, 2), 1.0),)), 12)
    np.testing.assert_array_equal(y, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(label, [4, 4, 4, 4, 2, 2, 2, 2, 4, 4, 4, 4])


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_the_share_of_positive_windows_is_as_asked(calibration, fraction):
    _, y, _ = FeatureGenerator(2, calibration=calibration).windows(100, positive_fraction=fraction)
    assert (y.max(axis=1) > 0).mean() == pytest.approx(fraction)


def test_windows_begin_in_the_midst_of_micro_expressions_too(windows):
    _, y, _ = windows
    assert 0.02 < (y[:, 0] == 1).mean() < 0.5


def test_a_seed_gives_the_same_windows_again(calibration):
    first, again, other = (FeatureGenerator(seed, calibration=calibration).windows(50) for seed in (5, 5, 6))
    for one, two in zip(first, again, strict=False):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0], other[0])


def test_both_roi_sets_measure_the_same_regions(calibration):
    """The 10 channels of ME-TST are rows 0-1, 8-9, 16-17, 28-29, 30-31 of the 36, by definition of both."""
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(ALL_POINTS, 2, 4)).astype(np.float32)
    rows = [0, 1, 8, 9, 16, 17, 28, 29, 30, 31]
    np.testing.assert_array_equal(channel_values(flow, "metst"), channel_values(flow, "metst_plus")[rows])


def test_channels_are_the_largest_vectors_mean_less_the_heads_motion():
    flow = np.zeros((ALL_POINTS, 2, 1), np.float32)
    flow[:5, 1] = -2.0  # 5 of the 18 points of the left brow: fewer than 30 % of them are averaged with zeros
    flow[-1, :, 0] = (0.5, 0.25)
    share = 18 - int(18 * 0.7)
    values = channel_values(flow, "metst")
    # Ties at the threshold are all taken, so where fewer move than are averaged everything counts.
    assert share == 6
    np.testing.assert_allclose(values[:2, 0], (-0.5, -2.0 * 5 / 18 - 0.25), atol=1e-6)
    flow[5, 1] = -2.0
    np.testing.assert_allclose(channel_values(flow, "metst")[:2, 0], (-0.5, -2.25), atol=1e-6)


def test_generating_is_fast_enough(calibration):
    """20 000 windows a minute on one core, with a wide margin for a busy machine."""
    generator = FeatureGenerator(3, calibration=calibration)
    generator.windows(100)
    began = time.process_time()
    generator.windows(2000)
    assert 2000 / (time.process_time() - began) > 20_000 / 60


@pytest.mark.parametrize("k", [30, 50])
@pytest.mark.parametrize("frames", [1, 29, 30, 31, 75, 160])
def test_a_clips_windows_cover_it_as_streaming_does(calibration, k, frames):
    clip = FeatureGenerator(4, k=k, calibration=calibration).clip(frames / 30)
    assert clip.frames == frames
    kept = [w.shape[1] if i == 0 else w.shape[1] - k // 2 for i, w in enumerate(clip.windows)]
    assert sum(kept) == frames and all(n > 0 for n in kept)
    assert [w.shape[1] for w in clip.windows] == [min(k, frames - s) for s in window_starts(frames, k)]
    assert all(event.offset < frames for event in clip.truth)


def test_bad_requests_are_refused(calibration):
    generator = FeatureGenerator(0, calibration=calibration)
    with pytest.raises(ValueError, match="n >= 1 and a fraction of 0 to 1, got 0 and 0.5"):
        generator.windows(0)
    with pytest.raises(ValueError, match=r"got 5 and 1.5"):
        generator.windows(5, positive_fraction=1.5)


def test_levels_in_between_are_interpolated():
    column = np.zeros((len(TRACKS), 4), np.float32)
    column[TRACK["AU12 left"]] = (1, 2, 6, 20)  # known at 2 and 10
    column[TRACK["yaw"]] = (-2, 0, 1, 2)  # known at 2, odd
    weights = expand(column)
    rows = [BASIS.index(("AU12 left", 2.0)), BASIS.index(("AU12 left", 10.0)), BASIS.index(("yaw", 2.0))]
    np.testing.assert_allclose(weights[rows], [(0.5, 1, 0.5, 0), (0, 0, 0.5, 2), (-1, 0, 0.5, 1)], atol=1e-6)
    assert not np.delete(weights, rows, axis=0).any()


def test_a_calibration_survives_its_file(calibration, tmp_path):
    calibration.save(tmp_path / "again.npz")
    again = Calibration.load(tmp_path / "again.npz")
    scale = np.abs(calibration.responses).max((2, 3), keepdims=True) / 127
    assert np.all(np.abs(again.responses - calibration.responses) <= scale * 0.51 + 1e-6)
    np.testing.assert_array_equal(again.noise, calibration.noise)


def test_the_packaged_calibration_is_small_and_knows_only_training_identities(calibration):
    assert CALIBRATION_FILE.stat().st_size < 300_000
    assert calibration.persons >= 10


def test_a_missing_or_foreign_calibration_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m training calibrate --portraits"):
        Calibration.load(tmp_path / "none.npz")
    np.savez(tmp_path / "old.npz", format=np.int64(0), responses=np.zeros((1, 2, 3, 2)))
    with pytest.raises(ValueError, match="got format 0"):
        Calibration.load(tmp_path / "old.npz")


# From here on: calibrated on two persons, checked on a third one, through the real front end.


@pytest.fixture(scope="module")
def seen(portrait, finder):
    """Renderer of the test identity, and its front end anchored on the resting face."""
    renderer = Renderer(portrait)
    rest = renderer.draw(np.zeros(len(TRACKS), np.float32))
    face = finder.find(rest)
    return renderer, RoiFlow(to_gray(rest), face.box, face.crop_landmarks, "metst")


def apexes():
    """Every known combination at 2 px, both sides alike: (emotion, column of a timeline)."""
    out = []
    for emotion in EMOTIONS:
        for units in combinations(emotion):
            column = np.zeros(len(TRACKS), np.float32)
            for unit in units:
                for side in SIDES[: 1 if unit == 14 else 2]:
                    column[TRACK[f"AU{unit} {side}"]] = 2.0
            out.append((emotion, column))
    return out


def test_responses_add_up_to_what_the_front_end_measures_on_a_third_person(calibration, seen):
    renderer, flow = seen
    columns = np.stack([column for _, column in apexes()], axis=1)
    measured = np.stack([flow.measure(to_gray(renderer.draw(column))) for column in columns.T], axis=1)
    mean = np.tensordot(calibration.responses.mean(0), expand(columns), ((0,), (0,)))
    generated = channel_values(mean, "metst")
    assert np.corrcoef(measured.ravel(), generated.ravel())[0, 1] > 0.9
    assert 0.75 < generated.std() / measured.std() < 1.3


def test_a_linear_probe_of_generated_features_tells_emotions_of_rendered_faces(calibration, seen):
    """Trained on generated windows of the training identities, tried on rendered faces of the test identity."""
    x, y, label = FeatureGenerator(8, calibration=calibration).windows(3000, positive_fraction=1.0)
    clean = y[:, 0] == 0
    # One sample per window: its strongest labelled frame.
    strongest = (np.abs(x).sum(1) * y).argmax(1)
    rows = np.arange(len(x))
    features, classes = x[rows, :, strongest][clean], label[rows, strongest][clean]
    sane = np.abs(features).max(1) < 4
    weights = _probe(features[sane], classes[sane])
    renderer, flow = seen
    faces = [(EMOTIONS.index(emotion), flow.measure(to_gray(renderer.draw(c)))) for emotion, c in apexes()]
    right = np.zeros((4, 2))
    for emotion, measured in faces:
        right[emotion, int((_design(measured[None]) @ weights).argmax() == emotion)] += 1
    # Chance is a quarter. A linear rule cannot tell raised brows from raised and drawn together ones.
    assert np.mean(right[:, 1] / right.sum(axis=1)) > 0.7


def _design(features):
    return np.concatenate((features, np.ones((len(features), 1), np.float32)), axis=1)


def _probe(features, classes):
    """Ridge regression onto one-hot classes, every class weighing the same."""
    design, targets = _design(features), np.eye(4)[classes]
    weight = (1 / np.bincount(classes, minlength=4))[classes][:, None]
    gram = design.T @ (weight * design) + 1e-3 * np.eye(design.shape[1])
    return np.linalg.solve(gram, design.T @ (weight * targets))


def test_a_still_third_person_is_no_noisier_than_generated_ones(calibration, portrait, finder):
    clip = render_clip(portrait, 3, 2.0, rates=NOTHING, camera=Camera(noise=1.5, crf=23))
    measured = np.stack([w for w in measure_clip(clip, 30, finder, "metst") if w.shape[1] == 30])
    generator = FeatureGenerator(9, calibration=calibration)
    still = []
    for _ in range(30):
        windows = generator.clip(1.0, NOTHING).windows
        still.append(np.concatenate([w.std(axis=1) for w in windows]))
    spread = measured.std(axis=2).mean()
    # The test identity is quieter than the training ones (its nose bridge tracks better), but of their order.
    assert 0.1 * np.median(still) < spread < np.quantile(still, 0.98)


def test_calibrating_measures_what_moves(portrait, finder):
    """A person's own table gives back what its rendered face shows, moving in several ways at once."""
    table = measure_responses(portrait, finder)
    assert table.shape == (len(BASIS), ALL_POINTS, 2)
    rates = Rates(micro=30, blinks=0, speech=0, macros=0, head_moves=0, drift=0, flicker=0, micro_pixels=(1.5, 3))
    timeline = draw_timeline(np.random.default_rng(1), 60, rates=rates)
    timeline.tracks[[TRACK[name] for name in LIGHT]] = 0
    renderer = Renderer(portrait)
    frames = [to_gray(renderer.draw(column)) for column in timeline.tracks.T]
    face = finder.find(renderer.draw(np.zeros(len(TRACKS), np.float32)))
    flow = RoiFlow(frames[0], face.box, face.crop_landmarks, "metst")
    measured = np.stack([flow.measure(frame) for frame in frames], axis=1)
    tracks = timeline.tracks - timeline.tracks[:, :1]
    predicted = channel_values(np.tensordot(table, expand(tracks), ((0,), (0,))), "metst")
    assert timeline.truth
    assert np.corrcoef(measured.ravel(), predicted.ravel())[0, 1] > 0.97
    assert np.abs(measured - predicted).max() < 0.4
