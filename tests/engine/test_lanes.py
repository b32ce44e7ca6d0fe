"""Streaming equals scoring every window from scratch, for clips of every length."""

import copy

import numpy as np
import pytest
import torch

from metst_edge.engine import load_engine
from metst_edge.engine.lanes import Lanes, stitch
from metst_edge.errors import EngineError

WINDOWS = 5


def random_windows(k: int, frames: int) -> list[np.ndarray]:
    """Whole windows (10, k) with random features that start at 0, h, 2h ... inside `frames` frames."""
    rng = np.random.default_rng(k)
    windows = [rng.standard_normal((10, k)).astype(np.float32) for _ in range(-(-frames // (k // 2)))]
    for window in windows:
        window[:, 0] = 0.0
    return windows


def cut(windows: list[np.ndarray], k: int, frames: int) -> list[np.ndarray]:
    """The same windows in a clip of `frames` frames."""
    h = k // 2
    return [window[:, : frames - w * h] for w, window in enumerate(windows) if w * h < frames]


def by_torch(network, windows, k, frames):
    """Score windows one by one in float64 and keep what is to be kept; the windows are already cut."""
    h = k // 2
    spot, emotion = np.full(frames, np.nan), np.full((frames, 5), np.nan)
    for w, window in enumerate(windows):
        keep = 0 if w == 0 else h
        if window.shape[1] <= keep:
            continue
        with torch.no_grad():
            s, e = network(torch.from_numpy(window[None]).double())
        spot[w * h + keep : w * h + window.shape[1]] = s[0, keep:]
        emotion[w * h + keep : w * h + window.shape[1]] = e[0, keep:]
    assert not np.isnan(spot).any()
    return spot, emotion


def by_stream(lanes: Lanes, windows: list[np.ndarray], k: int, frames: int):
    """Feed a clip frame by frame; also check that scores come in order and `starting` tells the truth."""
    h, scores = k // 2, []
    for frame in range(frames):
        newest = frame // h
        row = np.full((2, 10), 77.0, np.float32)  # lane 1 before its first window: anything
        for w in (newest - 1, newest):
            if w >= 0:
                row[w % 2] = windows[w][:, frame - w * h]
        assert lanes.starting == (newest % 2 if frame % h == 0 else None)
        scores += lanes.push(row)
    scores += lanes.flush()
    assert [s.frame for s in scores] == list(range(frames))
    return np.array([s.spot for s in scores]), np.stack([s.emotion for s in scores])


@pytest.fixture(scope="module")
def exact(tiny_network):
    """The tiny network in float64, remembering what it scored: most windows of two clips are the same."""
    network, seen = copy.deepcopy(tiny_network).double(), {}

    def score(x):
        key = x.numpy().tobytes()
        if key not in seen:
            seen[key] = network(x)
        return seen[key]

    return score


def lengths_of_clips(engine, k):
    """All of them; a few for the engine whose kernel is emulated, at 10 ms a step."""
    return (1, k // 2 + 1, 2 * k + 7) if engine.name == "cuda" else range(1, WINDOWS * k + 1)


@pytest.mark.parametrize("k", [30, 50])
def test_streaming_equals_scoring_windows_for_clips_of_every_length(k, tiny, exact):
    """From 1 frame to 5 windows' worth of frames; one stream serves all clips, so each also restarts it."""
    whole = random_windows(k, WINDOWS * k)
    lanes = Lanes(tiny.open_stream(lanes=2), k)
    for frames in lengths_of_clips(tiny, k):
        windows = cut(whole, k, frames)
        spot, emotion = by_stream(lanes, whole, k, frames)
        expected_spot, expected_emotion = by_torch(exact, windows, k, frames)
        np.testing.assert_allclose(spot, expected_spot, rtol=0, atol=1e-5, err_msg=f"{frames} frames")
        np.testing.assert_allclose(emotion, expected_emotion, rtol=0, atol=1e-4, err_msg=f"{frames} frames")


@pytest.mark.parametrize("k", [30, 50])
def test_stitching_equals_scoring_windows_for_clips_of_every_length(k, tiny, exact):
    if tiny.name == "tensorrt" and k > tiny.bundle.k:
        pytest.skip("its engine is built for windows of the model's k at most, and says so")
    whole = random_windows(k, WINDOWS * k)
    for frames in lengths_of_clips(tiny, k):
        windows = cut(whole, k, frames)
        spot, emotion = stitch(tiny, windows, k)
        expected_spot, expected_emotion = by_torch(exact, windows, k, frames)
        assert spot.dtype == emotion.dtype == np.float32
        np.testing.assert_allclose(spot, expected_spot, rtol=0, atol=1e-5, err_msg=f"{frames} frames")
        np.testing.assert_allclose(emotion, expected_emotion, rtol=0, atol=1e-4, err_msg=f"{frames} frames")


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
@pytest.mark.parametrize("model", ["metst64", "metst128"])
@pytest.mark.parametrize("k", [30, 50])
def test_streaming_equals_stitching_on_the_published_networks(k, model, engine, published_bundle):
    loaded = load_engine(published_bundle(model), engine)
    lanes = Lanes(loaded.open_stream(lanes=2), k)
    for frames in (1, 2, 3, k // 2 + 1, k, k + 1, 3 * k + 7):
        whole = random_windows(k, frames)
        spot, emotion = by_stream(lanes, whole, k, frames)
        expected_spot, expected_emotion = stitch(loaded, cut(whole, k, frames), k)
        np.testing.assert_allclose(spot, expected_spot, rtol=0, atol=1e-4)
        np.testing.assert_allclose(emotion, expected_emotion, rtol=0, atol=1e-3)


def test_a_segment_broken_off_leaves_nothing_for_the_next(tiny):
    k, frames = 30, 40
    whole = random_windows(k, frames)
    lanes = Lanes(tiny.open_stream(lanes=2), k)
    expected = by_stream(lanes, whole, k, frames)
    for _ in range(17):
        lanes.push(np.full((2, 10), -3.0, np.float32))
    lanes.reset()
    found = by_stream(lanes, whole, k, frames)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize("delay", [1, 7, 15])
def test_a_late_network_says_the_same_of_earlier_frames(delay, anchored, tiny):
    """Its score of frame n is that of frame n - delay, and after the last frame it sees frames that do not move."""
    k = 30
    late = Lanes(tiny.open_stream(lanes=2), k, delay, anchored)
    for frames in (1, 8, k // 2, k, 2 * k + 7):
        whole = random_windows(k, frames + delay)
        for w, window in enumerate(whole):
            known = max(0, frames - w * (k // 2))
            window[:, known:] = window[:, known - 1 : known] if anchored and known else 0
        spot, emotion = by_stream(late, whole, k, frames)
        expected_spot, expected_emotion = stitch(tiny, cut(whole, k, frames + delay), k)
        np.testing.assert_allclose(spot, expected_spot[delay:], rtol=0, atol=1e-5)
        np.testing.assert_allclose(emotion, expected_emotion[delay:], rtol=0, atol=1e-4)
        stitched = stitch(tiny, cut(whole, k, frames), k, delay, anchored)
        np.testing.assert_array_equal(stitched[0], expected_spot[delay:])
        np.testing.assert_array_equal(stitched[1], expected_emotion[delay:])


def test_a_late_score_comes_with_the_features_of_its_own_frame(tiny):
    lanes = Lanes(tiny.open_stream(lanes=2), 30, delay=5)
    given = [score for i in range(40) for score in lanes.push(np.full((2, 10), i, np.float32))] + lanes.flush()
    assert [score.features.min() for score in given] == [score.frame for score in given] == list(range(40))


def test_scores_come_as_soon_as_the_network_can_know_them(tiny):
    lanes = Lanes(tiny.open_stream(lanes=2), 30)
    features = np.zeros((2, 10), np.float32)
    assert [[s.frame for s in lanes.push(features)] for _ in range(5)] == [[], [], [0], [1], [2]]


def test_an_empty_segment_has_no_scores(tiny):
    assert Lanes(tiny.open_stream(lanes=2), 30).flush() == []


@pytest.mark.parametrize("k", [0, 31, -2, 30.0])
def test_a_window_of_an_odd_number_of_frames_is_refused(k, tiny):
    with pytest.raises(EngineError, match="even number of frames"):
        Lanes(tiny.open_stream(lanes=2), k)


def test_a_stream_with_another_number_of_lanes_is_refused(tiny):
    with pytest.raises(EngineError, match="2 lanes, got 3"):
        Lanes(tiny.open_stream(lanes=3), 30)


@pytest.mark.parametrize("lengths", [[], [30, 30, 14], [29, 30], [31]])
def test_windows_that_do_not_make_one_segment_are_refused(lengths, tiny):
    with pytest.raises(EngineError, match="expected"):
        stitch(tiny, [np.zeros((10, n), np.float32) for n in lengths], 30)
