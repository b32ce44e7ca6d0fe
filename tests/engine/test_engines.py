"""All engines give the published scores, on windows and step by step, and refuse arrays that do not fit."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch

from metst_edge.engine import Engine, Stream, load_engine, why_missing
from metst_edge.errors import EngineError


def streamed(engine: Engine, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Score windows (B, C, T) in B lanes, one frame a step."""
    lanes, channels, frames = windows.shape
    stream = engine.open_stream(lanes=lanes)
    scores = []
    for t in range(frames + stream.look_ahead):
        features = windows[:, :, t] if t < frames else np.zeros((lanes, channels), np.float32)
        step = stream.step(features, np.full(lanes, t == 0 or t >= frames))
        assert (step is None) == (t < stream.look_ahead)
        scores += [] if step is None else [step]
    return np.stack([s.spot for s in scores], 1), np.stack([s.emotion for s in scores], 1)


@pytest.mark.parametrize("frames", [30, 50])
@pytest.mark.parametrize(
    ("model", "engine"),
    [*product(("metst64", "metst128"), ("native", "onnxruntime")), ("metst_plus", "onnxruntime")],
)
def test_published_weights_give_the_published_scores(model, engine, frames, golden, published_bundle):
    loaded = load_engine(published_bundle(model), engine)
    vectors = np.load(golden / f"{model}.npz")
    windows = vectors[f"x_{frames}"]
    scores = loaded.infer(windows)
    for spot, emotion in ((scores.spot, scores.emotion), streamed(loaded, windows)):
        assert spot.dtype == emotion.dtype == np.float32
        np.testing.assert_allclose(spot, vectors[f"spot_{frames}"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(emotion, vectors[f"recog_{frames}"], rtol=0, atol=1e-3)


def test_lanes_are_independent_whatever_the_lengths_of_their_windows(tiny, tiny_network):
    """Windows of 1 to 12 frames back to back in three lanes, each with its own ends, against torch."""
    rng = np.random.default_rng(5)
    lanes, steps = 3, 150
    features = rng.standard_normal((steps, lanes, 10)).astype(np.float32)
    starts = np.zeros((steps, lanes), bool)
    starts[0] = True
    expected_spot, expected_emotion = np.empty((steps, lanes)), np.empty((steps, lanes, 5))
    exact = tiny_network.double()
    for lane in range(lanes):
        at = 0
        while at < steps:
            end = min(at + int(rng.integers(1, 13)), steps)
            starts[at, lane] = True
            with torch.no_grad():
                spot, emotion = exact(torch.from_numpy(features[at:end, lane].T[None]).double())
            expected_spot[at:end, lane], expected_emotion[at:end, lane] = spot[0], emotion[0]
            at = end
    tiny_network.float()

    stream = tiny.open_stream(lanes=lanes)
    nothing, all_lanes = np.zeros((lanes, 10), np.float32), np.ones(lanes, bool)
    found = [stream.step(f, s) for f, s in zip(features, starts, strict=True)]
    found += [stream.step(nothing, all_lanes) for _ in range(stream.look_ahead)]
    assert found[: stream.look_ahead] == [None] * stream.look_ahead
    np.testing.assert_allclose([s.spot for s in found[stream.look_ahead :]], expected_spot, rtol=0, atol=1e-5)
    np.testing.assert_allclose([s.emotion for s in found[stream.look_ahead :]], expected_emotion, rtol=0, atol=1e-4)


def test_a_reset_stream_is_a_new_one(tiny):
    rng = np.random.default_rng(6)
    used, fresh = tiny.open_stream(), tiny.open_stream()
    for _ in range(7):
        used.step(rng.standard_normal((2, 10)).astype(np.float32), np.array([True, False]))
    used.reset()
    for _ in range(6):  # no window is begun: whatever state were left would show
        features = rng.standard_normal((2, 10)).astype(np.float32)
        a, b = used.step(features), fresh.step(features)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a.spot, b.spot)
            np.testing.assert_array_equal(a.emotion, b.emotion)


def test_streams_of_one_engine_do_not_share_state(tiny):
    rng = np.random.default_rng(7)
    features = rng.standard_normal((12, 2, 10)).astype(np.float32)
    alone, disturbed, other = (tiny.open_stream() for _ in range(3))
    for frame in features:
        expected = alone.step(frame)
        other.step(100 * frame)
        found = disturbed.step(frame)
    np.testing.assert_array_equal(found.spot, expected.spot)


def test_scores_given_out_are_not_overwritten_by_later_steps(tiny):
    stream = tiny.open_stream()
    rng = np.random.default_rng(8)
    given = [stream.step(rng.standard_normal((2, 10)).astype(np.float32)) for _ in range(6)]
    kept = [(s.spot.copy(), s.emotion.copy()) for s in given[2:]]
    for _ in range(4):
        stream.step(rng.standard_normal((2, 10)).astype(np.float32))
    for scores, (spot, emotion) in zip(given[2:], kept, strict=True):
        np.testing.assert_array_equal(scores.spot, spot)
        np.testing.assert_array_equal(scores.emotion, emotion)


def test_inputs_are_left_as_they_are_and_may_have_any_strides(tiny):
    windows = np.random.default_rng(9).standard_normal((2, 30, 10)).astype(np.float32)
    before = windows.copy()
    strided = tiny.infer(windows.transpose(0, 2, 1))
    contiguous = tiny.infer(np.ascontiguousarray(windows.transpose(0, 2, 1)))
    np.testing.assert_array_equal(windows, before)
    np.testing.assert_array_equal(strided.spot, contiguous.spot)


def test_engines_keep_to_the_protocol(tiny):
    assert isinstance(tiny, Engine)
    assert isinstance(tiny.open_stream(), Stream)


def test_extreme_features_give_finite_scores_without_warnings(tiny, recwarn):
    windows = np.full((1, 10, 30), 1e4, np.float32)
    windows[:, :, ::2] *= -1
    scores = tiny.infer(windows)
    assert np.isfinite(scores.spot).all() and np.isfinite(scores.emotion).all()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 10, 30)), "float32.*got dtype float64"),
        ([[0.0] * 30] * 10, "got list"),
        (np.zeros((10, 30), np.float32), r"10 channels.*got shape \(10, 30\)"),
        (np.zeros((1, 36, 30), np.float32), r"10 channels.*got shape \(1, 36, 30\)"),
        (np.zeros((1, 10, 0), np.float32), r"got shape \(1, 10, 0\)"),
        (np.zeros((0, 10, 30), np.float32), r"got shape \(0, 10, 30\)"),
        (np.full((1, 10, 30), np.nan, np.float32), "finite.*got nan"),
    ],
)
def test_windows_that_do_not_fit_are_refused(tiny, features, message):
    with pytest.raises(EngineError, match=message):
        tiny.infer(features)


@pytest.mark.parametrize(
    ("features", "reset", "message"),
    [
        (np.zeros((2, 10)), None, "float32.*got dtype float64"),
        (np.zeros((1, 10), np.float32), None, r"10 channels and 2 lanes, got shape \(1, 10\)"),
        (np.zeros((2, 9), np.float32), None, r"got shape \(2, 9\)"),
        (np.full((2, 10), np.inf, np.float32), None, "finite.*infinity"),
        (np.zeros((2, 10), np.float32), [True], r"bool \(2,\).*got bool \(1,\)"),
        (np.zeros((2, 10), np.float32), [1, 0], r"bool \(2,\).*got int64"),
    ],
)
def test_a_refused_step_says_why_and_changes_nothing(tiny, features, reset, message):
    stream, fresh = tiny.open_stream(), tiny.open_stream()
    with pytest.raises(EngineError, match=message):
        stream.step(features, reset)
    rng = np.random.default_rng(10)
    for _ in range(4):
        frame = rng.standard_normal((2, 10)).astype(np.float32)
        found, expected = stream.step(frame), fresh.step(frame)
    np.testing.assert_array_equal(found.spot, expected.spot)


@pytest.mark.parametrize("lanes", [0, -1, 2.0, True])
def test_a_wrong_number_of_lanes_is_refused(tiny, lanes):
    with pytest.raises(EngineError, match="lanes to be an integer of at least 1"):
        tiny.open_stream(lanes=lanes)


def test_auto_is_native_where_tensorrt_cannot_run(tiny_folder, monkeypatch):
    monkeypatch.setattr("metst_edge.engine.why_missing", lambda engine: "not here")
    assert load_engine(tiny_folder).name == load_engine(tiny_folder, "auto").name == "native"


def test_auto_looks_for_no_words_where_nobody_hears_them(tiny_folder, monkeypatch):
    monkeypatch.setattr("metst_edge.engine.find_spec", lambda name: None)
    monkeypatch.setattr("metst_edge.engine.why_missing", lambda engine: pytest.fail("asked for the reason"))
    assert load_engine(tiny_folder).name == "native"


def test_an_unknown_engine_is_refused_with_the_known_ones(tiny_folder):
    with pytest.raises(EngineError, match="'auto', 'native', 'onnxruntime', 'tensorrt', 'cuda', got 'tensorflow'"):
        load_engine(tiny_folder, "tensorflow")


@pytest.mark.parametrize(
    ("engine", "module", "remedy"),
    [
        ("onnxruntime", "onnxruntime", r"pip install 'onnxruntime<2,>=1.18'"),
        ("native", "metst_edge._native", r"pip install -e \."),
    ],
)
def test_an_engine_that_is_not_installed_says_how_to_get_it(engine, module, remedy, tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=remedy):
        load_engine(tiny_folder, engine)


def test_a_missing_compiled_part_is_explained(monkeypatch):
    assert why_missing("native") is None
    monkeypatch.setitem(sys.modules, "metst_edge._native", None)
    assert "pip install" in why_missing("native")


def test_the_native_engine_needs_neither_torch_nor_onnx(tiny_folder):
    code = (
        "import sys, numpy\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'cv2', 'mediapipe'): sys.modules[name] = None\n"
        "import metst_edge\n"
        "engine = metst_edge.load_engine(sys.argv[1])\n"
        "assert engine.infer(numpy.zeros((1, 10, 30), numpy.float32)).spot.shape == (1, 30)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_folder)], check=True)
