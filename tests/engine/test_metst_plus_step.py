"""ME-TST+'s compiled step against windows scored in float64, on every vector path, in fp32 and in fp16."""

import functools
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest

from metst_edge import _native
from metst_edge.engine import networks
from metst_edge.engine.networks.cpu import CpuNetwork
from tests.engine.exact_network import ExactPlus, draw

TOLERANCE = 1e-5  # of the largest score
LOOK_AHEAD = 3

TINY = {
    "channels": 6, "dim": 8, "slow_dim": 12, "stages": 3, "depth": 1, "pathways": 2, "d_state": 5, "d_conv": 3,
    "expand": 2, "dt_rank": 2, "slow_dt_rank": 3, "classes": 4,
}  # fmt: skip
SIZES = {
    "tiny": TINY,
    "shared": {**TINY, "pathways": 1, "depth": 2, "stages": 2, "d_conv": 4, "dim": 23, "slow_dim": 33},
    "one stage, no lateral": {**TINY, "stages": 1, "depth": 2, "d_state": 16},
    "widths of vectors": {
        **TINY, "channels": 36, "dim": 32, "slow_dim": 64, "d_state": 64, "d_conv": 4, "dt_rank": 2, "slow_dt_rank": 4,
    },
    "smallest": dict.fromkeys(TINY, 1),
}  # fmt: skip

every_path = pytest.mark.parametrize("path", _native.simd_paths())


def weights_of(sizes: dict[str, int], half: bool = False, seed: int = 1) -> dict[str, np.ndarray]:
    """Random ones, those that may be in half precision rounded to it where `half`."""
    network = networks.describe("metst_plus", sizes, "test")
    weights = draw(dict(network.weights), seed)
    if half:
        weights |= {name: weights[name].astype(np.float16).astype(np.float32) for name in network.matrices}
    return weights


def open_stream(sizes: dict[str, int], weights: Any, lanes: int, path: str = "auto", half: bool = False) -> Any:
    return _native.NetworkStream(_native.MetstPlusNetwork(sizes, weights, half=half, path=path), lanes)


class Case(NamedTuple):
    """Inputs (frames, lanes, C) and (frames, lanes), and the scores (frames, lanes) and (frames, lanes, E) of it."""

    features: np.ndarray
    resets: np.ndarray
    spot: np.ndarray
    emotion: np.ndarray


@functools.cache
def case_of(name: str, lanes: int, half: bool, frames: int = 60, share: float = 0.15) -> Case:
    """Random features, windows of random lengths: often of one and two frames, in each lane others."""
    sizes, rng = SIZES[name], np.random.default_rng(lanes)
    exact = ExactPlus(sizes, weights_of(sizes, half))
    features = rng.standard_normal((frames, lanes, sizes["channels"])).astype(np.float32)
    resets = rng.random((frames, lanes)) < share
    resets[0] = True
    spot, emotion = np.empty((frames, lanes)), np.empty((frames, lanes, sizes["classes"]))
    for lane in range(lanes):
        edges = [*np.flatnonzero(resets[:, lane]), frames]
        for start, end in pairwise(edges):
            spot[start:end, lane], emotion[start:end, lane] = exact.score(features[start:end, lane])
    return Case(features, resets, spot, emotion)


def feed(stream: Any, features: np.ndarray, resets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step through a segment and its end: scores of all its frames."""
    nothing, ends = np.zeros_like(features[0]), np.ones_like(resets[0])
    steps = [*zip(features, resets, strict=True), *[(nothing, ends)] * LOOK_AHEAD]
    scores = [stream.step(f, r) for f, r in steps][LOOK_AHEAD:]
    return np.stack([s[0] for s in scores]), np.stack([s[1] for s in scores])


def largest_error(stream: Any, case: Case) -> float:
    """The largest difference over the largest score."""
    found = feed(stream, case.features, case.resets)
    assert all(a.dtype == np.float32 and np.isfinite(a).all() for a in found)
    pairs = zip(found, (case.spot, case.emotion), strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


@every_path
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SIZES)
def test_steps_with_resets_at_any_time_in_any_lane_equal_windows_from_scratch(name, lanes, half, path):
    case = case_of(name, lanes, half)
    stream = open_stream(SIZES[name], weights_of(SIZES[name], half), lanes, path, half)
    assert largest_error(stream, case) <= TOLERANCE


@every_path
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_windows_of_every_length_in_every_phase_of_the_other_lane(path, half):
    """Lane 1's windows begin one frame later from window to window, lane 0's last 7 frames: odd and even ends meet."""
    sizes, frames = SIZES["tiny"], 160
    weights = weights_of(sizes, half)
    exact = ExactPlus(sizes, weights)
    features = np.random.default_rng(3).standard_normal((frames, 2, sizes["channels"])).astype(np.float32)
    resets = np.zeros((frames, 2), bool)
    resets[::7, 0] = True
    resets[np.cumsum(np.arange(17)), 1] = True
    found = feed(open_stream(sizes, weights, 2, path, half), features, resets)
    for lane in range(2):
        edges = [*np.flatnonzero(resets[:, lane]), frames]
        for start, end in pairwise(edges):
            for a, b in zip(found, exact.score(features[start:end, lane]), strict=True):
                np.testing.assert_allclose(a[start:end, lane], b, rtol=0, atol=1e-5, err_msg=f"{lane} {start}:{end}")


@pytest.mark.parametrize("name", SIZES)
def test_windows_in_numpy_are_the_exact_ones(name):
    sizes = SIZES[name]
    weights = weights_of(sizes)
    network = CpuNetwork(networks.describe("metst_plus", sizes, "test"), sizes, weights)
    features = np.random.default_rng(2).standard_normal((2, sizes["channels"], 17)).astype(np.float32)
    found = network.infer(features)
    for row in range(2):
        spot, emotion = ExactPlus(sizes, weights).score(features[row].T)
        np.testing.assert_allclose(found.spot[row], spot, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.emotion[row], emotion, rtol=0, atol=1e-5)


@every_path
def test_a_reset_stream_is_a_new_one_and_lanes_do_not_mix(path):
    sizes, rng = SIZES["tiny"], np.random.default_rng(2)
    packed = _native.MetstPlusNetwork(sizes, weights_of(sizes), path=path)
    used, pair, alone = (_native.NetworkStream(packed, lanes) for lanes in (2, 2, 1))
    for _ in range(5):
        used.step(rng.standard_normal((2, 6)).astype(np.float32), np.array([True, False]))
    used.reset()
    for t in range(15):
        features, reset = rng.standard_normal((2, 6)).astype(np.float32), (rng.random(2) < 0.3) | (t == 0)
        expected = pair.step(features, reset)
        for found in (used.step(features, reset), alone.step(features[1:], reset[1:])):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a[-1], b[-1], rtol=1e-5, atol=1e-6)


@every_path
@pytest.mark.parametrize("first", [1, 2])
def test_an_overflow_ends_with_the_window_it_happened_in(path, first):
    """Wherever the slow steps fall; and the other lane never notices."""
    sizes = SIZES["tiny"]
    packed = _native.MetstPlusNetwork(sizes, weights_of(sizes), path=path)
    hurt, sound = (_native.NetworkStream(packed, 2) for _ in range(2))
    rng = np.random.default_rng(3)
    for t in range(24):
        features, reset = rng.standard_normal((2, 6)).astype(np.float32), np.array([t in (0, 8 + first), t == 0])
        expected = sound.step(features, reset)
        if t == 5:
            features = features.copy()
            features[0] = np.nan
        found = hurt.step(features, reset)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a[1], b[1])
            if t == 8 + first:  # scores of frame 5 + first: what is not a number is in the state
                assert np.isnan(a[0]).all()
            if t >= 8 + first + LOOK_AHEAD:
                np.testing.assert_array_equal(a[0], b[0])


def test_one_pathway_that_overflows_leaves_the_other_heads_scores():
    sizes = SIZES["tiny"]
    weights = weights_of(sizes)
    weights["pathway_1.entry.bias"] = np.full_like(weights["pathway_1.entry.bias"], np.nan)
    spot, emotion = feed(open_stream(sizes, weights, 1), *case_of("tiny", 1, False)[:2])
    assert np.isnan(emotion).all() and np.isfinite(spot).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": 0}, "stages: expected 1 to"),
        ({"depth": 0}, "depth: expected 1 to"),
        ({"stages": 1 << 19, "depth": 1 << 19}, r"stages \* depth: expected 1 to"),
        ({"pathways": 1 << 20, "depth": 2}, r"pathways \* stages \* depth: expected 1 to"),
        ({"slow_dim": 13}, r"pathway_0\.entry\.weight: expected shape .* \(13, 8, 3\), got \(12, 8, 3\)"),
        ({"pathways": 3}, r"expected pathway_2\.entry\.weight, which is missing"),
        ({"stages": 4}, r"expected pathway_0\.laterals\.2\.weight, which is missing"),
        ({"classes": 5}, r"emotion\.weight: expected shape .* \(20, 5\), got \(20, 4\)"),
    ],
)
def test_sizes_and_weights_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        _native.MetstPlusNetwork({**TINY, **change}, weights_of(TINY))


@pytest.mark.parametrize("missing", TINY)
def test_a_missing_size_is_named(missing):
    sizes = {name: value for name, value in TINY.items() if name != missing}
    with pytest.raises(ValueError, match=f"expected {missing}, which is missing"):
        _native.MetstPlusNetwork(sizes, weights_of(TINY))
