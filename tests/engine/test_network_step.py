"""The compiled network step against a slow, readable one in float64, on every vector path of this machine."""

import functools
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

from metst_edge import _native

TOLERANCE = 1e-5  # of the largest score
LOOK_AHEAD = 2
Weights = dict[str, np.ndarray]

PUBLISHED = {"channels": 10, "depth": 12, "d_state": 64, "d_conv": 4, "expand": 2, "classes": 5}
SIZES = {
    "metst64": {**PUBLISHED, "dim": 64, "dt_rank": 4},
    "metst128": {**PUBLISHED, "dim": 128, "dt_rank": 8},
    "odd": {
        "channels": 7, "dim": 23, "depth": 2, "d_state": 5, "d_conv": 3, "expand": 3, "dt_rank": 3, "classes": 4
    },
    "d_state of 16": {
        "channels": 36, "dim": 40, "depth": 3, "d_state": 16, "d_conv": 3, "expand": 1, "dt_rank": 17, "classes": 15
    },
    "smallest": {name: 1 for name in (*PUBLISHED, "dim", "dt_rank")},
    "many classes, no block": {**PUBLISHED, "dim": 48, "dt_rank": 1, "depth": 0, "classes": 40},
}  # fmt: skip

every_path = pytest.mark.parametrize("path", _native.simd_paths())


def draw(sizes: dict[str, int], seed: int) -> Weights:
    """Random weights under which every part has an effect, linear maps with the spread of torch's initialisation.

    Wider maps make twelve blocks amplify the rounding of any float32 implementation to 1e-5 of the scores.
    """
    rng = np.random.default_rng(seed)
    dim, states, rank = sizes["dim"], sizes["d_state"], sizes["dt_rank"]
    inner = sizes["expand"] * dim

    def linear(*shape: int, inputs: int) -> np.ndarray:
        return rng.uniform(-1.0, 1.0, shape) / np.sqrt(inputs)

    weights = {
        "stem.0.weight": linear(dim, sizes["channels"], 3, inputs=3 * sizes["channels"]),
        "stem.1.weight": linear(dim, dim, 3, inputs=3 * dim),
        "spot.weight": linear(dim, 1, inputs=dim),
        "emotion.weight": linear(dim, sizes["classes"], inputs=dim),
        "stem.0.bias": linear(dim, inputs=10),
        "stem.1.bias": linear(dim, inputs=10),
        "spot.bias": linear(1, inputs=10),
        "emotion.bias": linear(sizes["classes"], inputs=10),
    }
    for i in range(sizes["depth"]):
        block = {
            "in_proj": linear(dim, 2 * inner, inputs=dim),
            "conv.weight": linear(inner, 1, sizes["d_conv"], inputs=sizes["d_conv"]),
            "conv.bias": linear(inner, inputs=10),
            "x_proj": linear(inner, rank + 2 * states, inputs=inner),
            "dt_proj": linear(rank, inner, inputs=rank),
            "dt_bias": rng.uniform(-5.0, 0.0, inner),
            "A": -np.exp(rng.uniform(np.log(0.01), np.log(64.0), (inner, states))),
            "D": rng.uniform(-2.0, 2.0, inner),
            "out_proj": linear(inner, dim, inputs=inner),
        }
        for norm in ("norm", "post_norm"):
            block[f"{norm}.weight"] = 1.0 + linear(dim, inputs=10)
            block[f"{norm}.bias"] = linear(dim, inputs=10)
        weights |= {f"blocks.{i}.{name}": value for name, value in block.items()}
    return {name: value.astype(np.float32) for name, value in weights.items()}


class ReferenceStream:
    """The step as it is defined, in float64.

    With s the frame fed now, the stem's first convolution gives frame s-1, its second and the blocks frame s-2.
    """

    def __init__(self, sizes: dict[str, int], weights: Weights, lanes: int) -> None:
        inner, dim = sizes["expand"] * sizes["dim"], sizes["dim"]
        self.sizes, self.weights = sizes, {name: value.astype(np.float64) for name, value in weights.items()}
        self.resets = np.zeros((LOOK_AHEAD, lanes), bool)  # of frames s-1, s-2
        self.stem = [np.zeros((lanes, 3, size)) for size in (sizes["channels"], dim)]
        self.conv = [np.zeros((lanes, sizes["d_conv"], inner)) for _ in range(sizes["depth"])]
        self.ssm = [np.zeros((lanes, inner, sizes["d_state"])) for _ in range(sizes["depth"])]

    def step(self, features: np.ndarray, reset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        one_ago, two_ago = self.resets
        x = self._stem(0, features.astype(np.float64), first=one_ago, after_last=reset)
        x = self._stem(1, x, first=two_ago, after_last=one_ago)
        for i in range(self.sizes["depth"]):
            self.conv[i][two_ago] = 0.0
            self.ssm[i][two_ago] = 0.0
            x = x + self._block(i, x)
        self.resets = np.stack((reset, one_ago))
        spot = x @ self.weights["spot.weight"] + self.weights["spot.bias"]
        return 1.0 / (1.0 + np.exp(-spot[:, 0])), x @ self.weights["emotion.weight"] + self.weights["emotion.bias"]

    def _stem(self, i: int, newest: np.ndarray, first: np.ndarray, after_last: np.ndarray) -> np.ndarray:
        """Push a frame (lanes, in) into a convolution's buffer (lanes, 3, in); convolve around the one before.

        Where that frame is the `first` of its window, the one before belongs to another window, and where the pushed
        one comes `after_last`, so does that: both are the convolution's zero padding then.
        """
        buffer = self.stem[i]
        buffer[:] = np.concatenate((buffer[:, 1:], newest[:, None]), axis=1)
        seen = buffer.copy()
        seen[first, 0] = 0.0
        seen[after_last, 2] = 0.0
        y = np.einsum("lti,oit->lo", seen, self.weights[f"stem.{i}.weight"]) + self.weights[f"stem.{i}.bias"]
        return np.maximum(y, 0.0)

    def _block(self, i: int, x: np.ndarray) -> np.ndarray:
        w = {name.split(".", 2)[2]: v for name, v in self.weights.items() if name.startswith(f"blocks.{i}.")}
        u, z = np.split(layer_norm(x, w, "norm") @ w["in_proj"], 2, axis=-1)
        self.conv[i] = np.concatenate((self.conv[i][:, 1:], u[:, None]), axis=1)
        u = silu(np.einsum("ltd,dt->ld", self.conv[i], w["conv.weight"][:, 0]) + w["conv.bias"])
        rank, states = self.sizes["dt_rank"], self.sizes["d_state"]
        factors, b, c = np.split(u @ w["x_proj"], (rank, rank + states), axis=-1)
        dt = np.logaddexp(0.0, factors @ w["dt_proj"] + w["dt_bias"])
        self.ssm[i] = np.exp(dt[..., None] * w["A"]) * self.ssm[i] + (dt * u)[..., None] * b[:, None]
        y = ((self.ssm[i] * c[:, None]).sum(-1) + w["D"] * u) * silu(z)
        return layer_norm(y @ w["out_proj"], w, "post_norm")


def layer_norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


class Case(NamedTuple):
    """Inputs (steps, lanes, C) and (steps, lanes), and what the reference makes of them."""

    weights: Weights
    features: np.ndarray
    resets: np.ndarray
    expected: list[tuple[np.ndarray, np.ndarray]]


@functools.cache
def case_of(name: str, lanes: int, seed: int, steps: int, share: float) -> Case:
    """Random features, with a reset in this share of the steps: often, windows of one and two frames are among them.

    One for all paths: the reference is what takes the time.
    """
    sizes, rng = SIZES[name], np.random.default_rng(seed)
    weights = draw(sizes, seed)
    features = rng.standard_normal((steps, lanes, sizes["channels"])).astype(np.float32)
    resets = rng.random((steps, lanes)) < share
    reference = ReferenceStream(sizes, weights, lanes)
    return Case(weights, features, resets, [reference.step(f, r) for f, r in zip(features, resets, strict=True)])


def largest_error(stream: Any, case: Case) -> float:
    """Feed a case; the largest difference over the largest score."""
    scores = [stream.step(f, r) for f, r in zip(case.features, case.resets, strict=True)]
    errors = []
    for i in (0, 1):
        a, b = (np.stack([s[i] for s in given]) for given in (scores, case.expected))
        assert a.dtype == np.float32 and a.shape == b.shape and np.isfinite(a).all()
        errors.append(float(np.abs(a - b).max() / np.abs(b).max()))
    return max(errors)


@every_path
@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SIZES)
def test_steps_with_resets_at_any_time_in_any_lane_equal_the_reference(name, lanes, path):
    case = case_of(name, lanes, seed=lanes, steps=40 if SIZES[name]["depth"] == 12 else 150, share=0.15)
    stream = _native.NetworkStream(_native.MetstNetwork(SIZES[name], case.weights, path=path), lanes)
    assert largest_error(stream, case) <= TOLERANCE


@every_path
def test_a_long_window_drifts_no_further(path):
    case = case_of("metst64", 2, seed=1, steps=400, share=0.0)
    stream = _native.NetworkStream(_native.MetstNetwork(SIZES["metst64"], case.weights, path=path), 2)
    assert largest_error(stream, case) <= TOLERANCE


@every_path
def test_a_reset_stream_is_a_new_one_and_lanes_do_not_mix(path):
    sizes, rng = SIZES["odd"], np.random.default_rng(2)
    network = _native.MetstNetwork(sizes, draw(sizes, seed=2), path=path)
    used, pair, alone = (_native.NetworkStream(network, lanes) for lanes in (2, 2, 1))
    for _ in range(5):
        used.step(rng.standard_normal((2, 7)).astype(np.float32), np.array([True, False]))
    used.reset()
    for _ in range(9):
        features, reset = rng.standard_normal((2, 7)).astype(np.float32), rng.random(2) < 0.3
        expected = pair.step(features, reset)
        for found in (used.step(features, reset), alone.step(features[1:], reset[1:])):
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a[-1], b[-1], rtol=1e-5, atol=1e-6)


@every_path
def test_an_overflow_ends_with_the_window_it_happened_in(path):
    """A lane whose state is not a number any more is sound again after its reset, and the other lane never notices."""
    sizes, weights = SIZES["odd"], draw(SIZES["odd"], seed=3)
    weights["stem.1.weight"] *= 100.0
    network = _native.MetstNetwork(sizes, weights, path=path)
    hurt, sound = (_native.NetworkStream(network, 2) for _ in range(2))
    rng = np.random.default_rng(3)
    for t in range(20):
        features, reset = rng.standard_normal((2, 7)).astype(np.float32), np.array([t == 8, False])
        expected = sound.step(features, reset)
        if t == 5:
            features = features.copy()
            features[0] = 3e38
        found = hurt.step(features, reset)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a[1], b[1])
            if t == 8:  # scores of frame 6: the overflow is in the state
                assert np.isnan(a[0]).all()
            if t >= 10:
                np.testing.assert_array_equal(a[0], b[0])


def test_streams_run_side_by_side_in_threads():
    sizes = SIZES["metst64"]
    network = _native.MetstNetwork(sizes, draw(sizes, seed=4))
    features = np.random.default_rng(4).standard_normal((30, 2, 10)).astype(np.float32)
    resets = np.zeros((30, 2), bool)
    found: list[Any] = [None] * 4

    def run(i: int) -> None:
        stream = _native.NetworkStream(network, 2)
        found[i] = [stream.step(f, r) for f, r in zip(features, resets, strict=True)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim: expected 1 to"),
        ({"depth": -1}, "depth: expected 0 to"),
        ({"expand": 1 << 40}, "expand: expected 1 to"),
        ({"d_state": 6}, r"blocks\.0\.x_proj: expected shape .* \(69, 15\), got \(69, 13\)"),
        ({"classes": 5}, r"emotion\.weight: expected shape .* \(23, 5\), got \(23, 4\)"),
        ({"depth": 3}, r"expected blocks\.2\.norm\.weight, which is missing"),
    ],
)
def test_sizes_and_weights_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        _native.MetstNetwork({**SIZES["odd"], **change}, draw(SIZES["odd"], seed=0))


@pytest.mark.parametrize("missing", ["d_conv", "dt_rank"])
def test_a_missing_size_is_named(missing):
    sizes = {name: value for name, value in SIZES["odd"].items() if name != missing}
    with pytest.raises(ValueError, match=f"expected {missing}, which is missing"):
        _native.MetstNetwork(sizes, draw(SIZES["odd"], seed=0))


@pytest.mark.parametrize(
    ("features", "reset", "message"),
    [
        (np.zeros((2, 6), np.float32), np.zeros(2, bool), r"features: .* \(2, 7\), got \(2, 6\)"),
        (np.zeros(14, np.float32), np.zeros(2, bool), r"features: .* \(2, 7\), got \(14,\)"),
        (np.zeros((2, 7), np.float32), np.zeros(3, bool), r"reset: .* \(2,\), got \(3,\)"),
        (np.zeros((2, 7), np.float32), np.zeros((2, 1), bool), r"reset: .* \(2,\), got \(2, 1\)"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(features, reset, message):
    stream = _native.NetworkStream(_native.MetstNetwork(SIZES["odd"], draw(SIZES["odd"], seed=0)), 2)
    with pytest.raises(ValueError, match=message):
        stream.step(features, reset)


@pytest.mark.parametrize("lanes", [0, -1, 1 << 40])
def test_a_wrong_number_of_lanes_is_refused(lanes):
    network = _native.MetstNetwork(SIZES["odd"], draw(SIZES["odd"], seed=0))
    with pytest.raises(ValueError, match="lanes: expected 1 to"):
        _native.NetworkStream(network, lanes)


def test_the_environment_chooses_the_path(monkeypatch):
    monkeypatch.setenv("METST_EDGE_SIMD", "sse9")
    with pytest.raises(ValueError, match="METST_EDGE_SIMD: expected one of auto"):
        _native.MetstNetwork(SIZES["odd"], draw(SIZES["odd"], seed=0))
