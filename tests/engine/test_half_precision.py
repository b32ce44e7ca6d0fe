"""The native engine with its matrices in half precision, and ME-TST+ by its published vectors in both precisions."""

import shutil

import numpy as np
import pytest
import torch

from export.networks import EXPORTERS
from metst_edge.analyzer import Analyzer
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.engine import load_engine, networks
from metst_edge.engine.lanes import Lanes, stitch
from metst_edge.engine.networks.cpu import CpuNetwork
from metst_edge.errors import EngineError
from tests.engine.test_bundle import rehash
from tests.engine.test_lanes import by_stream, cut, random_windows
from training.models import load_published

SPOT, LOGITS = 1e-4, 1e-3  # of fp32 against the published vectors
HALF_SPOT, HALF_LOGITS = 0.02, 0.1  # of fp16: three times what was measured


def plus_windows(k, frames):
    """Random features of every window of a clip, each of its own."""
    rng = np.random.default_rng(k)
    return [rng.standard_normal((36, k)).astype(np.float32) for _ in range(-(-frames // (k // 2)))]


@pytest.mark.parametrize("k", [30, 40, 50, 60])
def test_streaming_equals_stitching_in_half_precision_too(k, tiny_plus_folder):
    engine = load_engine(tiny_plus_folder, "native", "fp16")
    lanes = Lanes(engine.open_stream(lanes=2), k)
    windows = plus_windows(k, 5 * k)
    half = k // 2
    for frames in sorted({*range(1, half + 6), k - 1, k, k + 1, 2 * k + 3, 3 * k, 5 * k}):
        scores = []
        for frame in range(frames):
            newest = frame // half
            pair = {w % 2: windows[w][:, frame - w * half] for w in (newest - 1, newest) if w >= 0}
            scores += lanes.push(np.stack([pair[0], pair.get(1, pair[0])]))
        scores += lanes.flush()
        ends = [windows[w][:, : min(k, frames - w * half)] for w in range(-(-frames // half))]
        spot, emotion = stitch(engine, ends, k)
        np.testing.assert_allclose([s.spot for s in scores], spot, rtol=0, atol=1e-4, err_msg=f"{frames} frames")
        np.testing.assert_allclose([s.emotion for s in scores], emotion, rtol=0, atol=1e-4, err_msg=f"{frames} frames")


def test_me_tst_has_it_too_and_scores_differ_by_the_rounding_of_its_weights(tiny_folder):
    k, frames = 30, 75
    whole = random_windows(k, frames)
    full, half = (load_engine(tiny_folder, "native", precision) for precision in ("fp32", "fp16"))
    assert (full.precision, half.precision) == ("fp32", "fp16")
    spot, emotion = by_stream(Lanes(half.open_stream(lanes=2), k), whole, k, frames)
    expected = stitch(half, cut(whole, k, frames), k)
    np.testing.assert_allclose(spot, expected[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(emotion, expected[1], rtol=0, atol=1e-4)
    exact_spot, exact_emotion = stitch(full, cut(whole, k, frames), k)
    assert 1e-6 < np.abs(spot - exact_spot).max() < HALF_SPOT
    assert 1e-6 < np.abs(emotion - exact_emotion).max() < HALF_LOGITS


def test_events_of_the_packaged_clip_are_the_same():
    full, half = (Analyzer("demo", engine="native", precision=p).analyze(demo_clip()).events for p in ("fp32", "fp16"))
    assert len(full) == len(half) > 0
    for a, b in zip(full, half, strict=True):
        assert (a.onset_frame, a.apex_frame, a.offset_frame) == (b.onset_frame, b.apex_frame, b.offset_frame)
        assert a.emotion == b.emotion and a.score == pytest.approx(b.score, abs=1e-3)


def test_weights_beyond_half_precision_are_refused(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "copy")
    bundle = Bundle.find(folder)
    tensor = next(t for t in bundle.tensors if t.name == "blocks.1.out_proj")
    with open(folder / "weights.bin", "r+b") as file:
        file.seek(tensor.offset)
        file.write(np.float32(7e4).tobytes())
    rehash(folder, "weights.bin")
    bundle = Bundle.find(folder)
    with pytest.raises(EngineError, match=r"blocks\.1\.out_proj of 65504 at most .*fp16.*, got 7e\+04; use pre"):
        networks.load(bundle, half=True)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_windows_and_steps_of_the_published_network_give_its_vectors(half, golden, published_weights, tmp_path):
    """Random published weights make both heads swing from end to end: what rounding does to them is at its worst."""
    drawn = {name: torch.from_numpy(array) for name, array in published_weights("metst_plus").items()}
    torch.save(drawn, tmp_path / "weights.pkl")
    network = load_published(tmp_path / "weights.pkl")
    exporter = EXPORTERS[network.name]
    sizes = exporter.sizes(network)
    shape = networks.describe(network.name, sizes, "published")
    weights = exporter.weights(network)
    if half:
        weights = networks.halved(shape, weights, "published")
    engine = CpuNetwork(shape, sizes, weights, half)
    vectors = np.load(golden / "metst_plus.npz")
    for frames in (30, 50):
        windows = vectors[f"x_{frames}"].astype(np.float32)
        stream, zero = engine.open_stream(3), np.zeros((3, 36), np.float32)
        fed = [(np.ascontiguousarray(windows[:, :, t]), np.full(3, t == 0)) for t in range(frames)]
        steps = [stream.step(*frame) for frame in [*fed, *[(zero, np.ones(3, bool))] * 3]][3:]
        given = engine.infer(windows)
        for spot, emotion in (
            (given.spot, given.emotion),
            (np.stack([s for s, _ in steps], 1), np.stack([e for _, e in steps], 1)),
        ):
            assert np.abs(spot - vectors[f"spot_{frames}"]).max() <= (HALF_SPOT if half else SPOT)
            assert np.abs(emotion - vectors[f"recog_{frames}"]).max() <= (HALF_LOGITS if half else LOGITS)
