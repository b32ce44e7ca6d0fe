"""ME-TST+ in a stream: scores are those of whole windows, whatever the windows' lengths and the lanes' phases."""

import copy

import numpy as np
import pytest
import torch

from metst_edge.engine import load_engine
from metst_edge.engine.lanes import Lanes

CHANNELS, CLASSES = 36, 5


@pytest.fixture(params=["onnxruntime"])
def engine(request, tiny_plus_folder):
    return load_engine(tiny_plus_folder, request.param)


@pytest.fixture(scope="module")
def exact(tiny_plus_network):
    """The network in float64, remembering what it scored: clips of every length share most of their windows."""
    network, seen = copy.deepcopy(tiny_plus_network).double(), {}

    def score(x):
        key = (x.shape, x.tobytes())
        if key not in seen:
            with torch.no_grad():
                spot, emotion = network(torch.from_numpy(x[None]).double())
            seen[key] = spot[0].numpy(), emotion[0].numpy()
        return seen[key]

    return score


def windows_of(k, frames):
    """Whole windows (36, k) of random features, that start at 0, k/2, k ... inside `frames` frames."""
    rng = np.random.default_rng(k)
    made = rng.standard_normal((-(-frames // (k // 2)), CHANNELS, k)).astype(np.float32)
    made[:, :, 0] = 0.0
    return made


def expected_of(exact, windows, k, frames):
    """Score windows one by one, cut off at the clip's end: of the first all is kept, of later ones the second half."""
    half, spot, emotion = k // 2, np.full(frames, np.nan), np.full((frames, CLASSES), np.nan)
    for w, window in enumerate(windows):
        kept, end = (0 if w == 0 else half), min(k, frames - w * half)
        if end > kept:
            s, e = exact(window[:, :end])
            spot[w * half + kept : w * half + end], emotion[w * half + kept : w * half + end] = s[kept:], e[kept:]
    assert not np.isnan(spot).any()
    return spot, emotion


def streamed(lanes, windows, k, frames):
    """Feed a clip frame by frame."""
    half, scores = k // 2, []
    for frame in range(frames):
        newest = frame // half
        row = np.full((2, CHANNELS), 77.0, np.float32)  # lane 1 before its first window: anything
        for w in (newest - 1, newest):
            if w >= 0:
                row[w % 2] = windows[w][:, frame - w * half]
        scores += lanes.push(row)
    scores += lanes.flush()
    assert [score.frame for score in scores] == list(range(frames))
    return np.array([score.spot for score in scores]), np.stack([score.emotion for score in scores])


@pytest.mark.parametrize("k", [30, 50, 40])
def test_streaming_equals_scoring_windows_for_clips_of_every_length(k, engine, exact):
    """From 1 frame to 5 windows' worth of frames; k/2 is odd for the published k, and even for one.

    Five windows in each lane take 3 k frames; all that follows repeats. One stream serves all clips.
    """
    windows = windows_of(k, 5 * k)
    lanes = Lanes(engine.open_stream(lanes=2), k)
    for frames in sorted({*range(1, 3 * k + 1), *range(3 * k, 5 * k, 7), 5 * k}):
        spot, emotion = streamed(lanes, windows, k, frames)
        expected_spot, expected_emotion = expected_of(exact, windows[: -(-frames // (k // 2))], k, frames)
        np.testing.assert_allclose(spot, expected_spot, rtol=0, atol=1e-4, err_msg=f"{frames} frames")
        np.testing.assert_allclose(emotion, expected_emotion, rtol=0, atol=1e-4, err_msg=f"{frames} frames")


def test_lanes_are_independent_in_every_phase(engine, exact):
    """Windows of 1 to 9 frames back to back in three lanes, each with its own ends, odd and even."""
    rng = np.random.default_rng(5)
    lanes, steps = 3, 200
    features = rng.standard_normal((steps, lanes, CHANNELS)).astype(np.float32)
    starts = np.zeros((steps, lanes), bool)
    expected_spot, expected_emotion = np.empty((steps, lanes)), np.empty((steps, lanes, CLASSES))
    for lane in range(lanes):
        at = 0
        while at < steps:
            end = min(at + int(rng.integers(1, 10)), steps)
            starts[at, lane] = True
            window = np.ascontiguousarray(features[at:end, lane].T)
            expected_spot[at:end, lane], expected_emotion[at:end, lane] = exact(window)
            at = end

    stream = engine.open_stream(lanes=lanes)
    nothing, all_lanes = np.zeros((lanes, CHANNELS), np.float32), np.ones(lanes, bool)
    found = [stream.step(frame, reset) for frame, reset in zip(features, starts, strict=True)]
    found += [stream.step(nothing, all_lanes) for _ in range(stream.look_ahead)]
    assert found[:3] == [None] * 3 and None not in found[3:]
    np.testing.assert_allclose([score.spot for score in found[3:]], expected_spot, rtol=0, atol=1e-4)
    np.testing.assert_allclose([score.emotion for score in found[3:]], expected_emotion, rtol=0, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3, 29, 30])
def test_windows_are_those_of_torch(frames, engine, exact):
    window = windows_of(30, 15)[0][:, :frames]
    scores = engine.infer(np.stack([window, 2 * window]))
    for row, each in enumerate((window, 2 * window)):
        spot, emotion = exact(each)
        np.testing.assert_allclose(scores.spot[row], spot, rtol=0, atol=1e-4)
        np.testing.assert_allclose(scores.emotion[row], emotion, rtol=0, atol=1e-4)
