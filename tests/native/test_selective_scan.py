"""metst_edge._native.selective_scan against a float64 NumPy reference, on every vector path of this machine.

Errors are judged twice. `relative_error` is the largest difference over the largest magnitude of an output:
the 1e-5 that the project promises. Element by element, differences may reach 1e-5 of the sum of magnitudes
that make an element up (the same recurrence with absolute values), so that neither a large neighbour hides
an error nor cancellation in a sum counts as one.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csrc.testing.selective_scan_reference import reference, relative_error
from metst_edge import _native

TOLERANCE = 1e-5
Arrays = dict[str, np.ndarray]

every_path = pytest.mark.parametrize("path", _native.simd_paths())


def assert_matches(arrays: Arrays, path: str, **options: Any) -> None:
    y, h = _native.selective_scan(**arrays, **options, path=path)
    expected_y, expected_h, size_y, size_h = reference(**arrays, **options)
    assert y.dtype == h.dtype == np.float32
    assert (y.shape, h.shape) == (expected_y.shape, expected_h.shape)
    for actual, expected in ((y, expected_y), (h, expected_h)):
        # In an array of few elements all of them may be what cancellation left of sums a thousand times their size.
        if expected.size >= 256:
            assert relative_error(actual, expected) <= TOLERANCE
    smallest = float(np.finfo(np.float32).tiny)  # what is below may be flushed to zero
    assert np.all(np.abs(y - expected_y) <= TOLERANCE * size_y + smallest)
    assert np.all(np.abs(h - expected_h) <= TOLERANCE * size_h + smallest)


def random_arrays(
    batch: int,
    length: int,
    channels: int,
    states: int,
    seed: int = 0,
    delta: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] | None = None,
) -> Arrays:
    """All inputs, h0 included; -A is spread evenly over the decades 1e-4 .. 1e3."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def ordinary(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.normal(-3.0, 1.5, shape)

    return {
        "u": normal(batch, length, channels),
        "delta": (delta or ordinary)(rng, (batch, length, channels)).astype(np.float32),
        "A": -(10.0 ** rng.uniform(-4, 3, (channels, states))).astype(np.float32),
        "B": normal(batch, length, states),
        "C": normal(batch, length, states),
        "D": normal(channels),
        "z": 4 * normal(batch, length, channels),
        "delta_bias": normal(channels),
        "h0": normal(batch, channels, states),
    }


DELTAS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "uniform -30..30": lambda rng, shape: rng.uniform(-30, 30, shape),
    "either -30 or 30": lambda rng, shape: rng.choice([-30.0, 30.0], shape),
    "always -30": lambda rng, shape: np.full(shape, -30.0),
    "always -5": lambda rng, shape: np.full(shape, -5.0),
    "always 0.5": lambda rng, shape: np.full(shape, 0.5),
    "always 30": lambda rng, shape: np.full(shape, 30.0),
}


@every_path
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 30, 50, 257, 1024, 2048])
def test_the_models_layer_matches_the_reference_at_any_length(path: str, length: int) -> None:
    assert_matches(random_arrays(1, length, 24, 64, seed=length), path)


@every_path
@pytest.mark.parametrize("batch, channels", [(2, 128), (1, 256)])
def test_the_models_sizes_match_the_reference(path: str, batch: int, channels: int) -> None:
    assert_matches(random_arrays(batch, 50, channels, 64), path)


@every_path
@pytest.mark.parametrize("delta", DELTAS.values(), ids=DELTAS.keys())
def test_extreme_time_steps_and_decay_rates_match_the_reference_over_2048_steps(path: str, delta: Any) -> None:
    assert_matches(random_arrays(1, 2048, 16, 64, seed=3, delta=delta), path)


@every_path
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 2048),
    channels=st.integers(1, 40),
    states=st.integers(1, 100),
    delta=st.sampled_from([None, *DELTAS.values()]),
    absent=st.sets(st.sampled_from(["D", "z", "delta_bias", "h0"])),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_with_any_optional_inputs_matches_the_reference(
    path: str, batch: int, length: int, channels: int, states: int, delta: Any, absent: set[str], seed: int
) -> None:
    length = max(1, min(length, 400_000 // (batch * channels * states)))  # keeps the reference quick
    arrays = random_arrays(batch, length, channels, states, seed, delta)
    assert_matches({name: array for name, array in arrays.items() if name not in absent}, path)


@every_path
@pytest.mark.parametrize("absent", ["D", "z", "delta_bias", "h0"])
def test_an_absent_optional_input_counts_as_its_neutral_value(path: str, absent: str) -> None:
    arrays = random_arrays(2, 9, 17, 64)
    given_none = _native.selective_scan(**{**arrays, absent: None}, path=path)
    del arrays[absent]
    left_out = _native.selective_scan(**arrays, path=path)
    for one, other in zip(given_none, left_out, strict=True):
        np.testing.assert_array_equal(one, other)
    assert_matches(arrays, path)


@every_path
def test_time_steps_are_taken_as_they_are_without_softplus(path: str) -> None:
    arrays = random_arrays(2, 33, 17, 64, delta=lambda rng, shape: rng.uniform(0.0, 3.0, shape))
    arrays["delta_bias"] = np.abs(arrays["delta_bias"])
    assert_matches(arrays, path, delta_softplus=False)


@every_path
@pytest.mark.parametrize("split", [1, 8, 13, 49])
def test_two_runs_chained_by_their_state_equal_one(path: str, split: int) -> None:
    arrays = random_arrays(2, 50, 20, 64)
    along_time = ("u", "delta", "B", "C", "z")
    first = {name: x[:, :split] if name in along_time else x for name, x in arrays.items()}
    second = {name: x[:, split:] if name in along_time else x for name, x in arrays.items()}
    y, h = _native.selective_scan(**arrays, path=path)
    y_first, second["h0"] = _native.selective_scan(**first, path=path)
    y_second, h_second = _native.selective_scan(**second, path=path)
    np.testing.assert_array_equal(np.concatenate([y_first, y_second], axis=1), y)
    np.testing.assert_array_equal(h_second, h)


@every_path
def test_no_time_steps_hand_the_state_through(path: str) -> None:
    arrays = random_arrays(2, 0, 5, 7)
    y, h = _native.selective_scan(**arrays, path=path)
    assert y.shape == (2, 0, 5)
    np.testing.assert_array_equal(h, arrays["h0"])
    assert h is not arrays["h0"]


@every_path
def test_a_state_fades_to_exactly_zero_and_never_to_nan(path: str) -> None:
    arrays = random_arrays(1, 200, 16, 64, delta=lambda rng, shape: np.full(shape, 30.0))
    arrays["u"][:] = 0.0
    arrays["A"] = np.minimum(arrays["A"], -0.1)
    _, h = _native.selective_scan(**arrays, path=path)
    np.testing.assert_array_equal(h, 0.0)


@every_path
@pytest.mark.parametrize("delta", [1e38, 2.4e38, 3.4e38, -2.4e38, -3.4e38])
def test_a_time_step_up_to_the_largest_float_forgets_all_or_nothing(path: str, delta: float) -> None:
    """Its softplus is the step itself, or zero, and no multiple of it on the way there is a NaN."""
    arrays = random_arrays(1, 9, 17, 64, delta=lambda rng, shape: np.full(shape, delta))
    arrays["u"][:] = 0.0
    y, h = _native.selective_scan(**arrays, path=path)
    np.testing.assert_array_equal(h, np.zeros_like(h) if delta > 0 else arrays["h0"])
    assert np.isfinite(y).all()


@every_path
def test_inputs_are_left_alone(path: str) -> None:
    arrays = random_arrays(2, 9, 17, 64)
    before = {name: x.copy() for name, x in arrays.items()}
    _native.selective_scan(**arrays, path=path)
    for name, x in arrays.items():
        np.testing.assert_array_equal(x, before[name])


def test_strided_and_float64_inputs_give_what_their_float32_copies_give() -> None:
    arrays = random_arrays(2, 9, 17, 64)
    expected = _native.selective_scan(**arrays)
    strided = {name: np.repeat(x, 2, axis=-1)[..., ::2] for name, x in arrays.items()}
    fortran = {name: np.asfortranarray(x) for name, x in arrays.items()}
    double = {name: x.astype(np.float64) for name, x in arrays.items()}
    swapped = {name: x.astype(">f4") for name, x in arrays.items()}
    for variant in (strided, fortran, double, swapped):
        for actual, wanted in zip(_native.selective_scan(**variant), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("u", np.zeros((9, 17)), r"u: expected 3 axes \(B, L, D\), got shape \(9, 17\)"),
        (
            "delta",
            np.zeros((2, 9, 16)),
            r"delta: expected shape \(B, L, D\) = \(2, 9, 17\), got \(2, 9, 16\)",
        ),
        ("A", np.zeros((16, 5)), r"A: expected shape \(D, N\) = \(17, 5\), got \(16, 5\)"),
        ("A", np.zeros(17), r"A: expected 2 axes \(D, N\), got shape \(17,\)"),
        ("B", np.zeros((2, 8, 5)), r"B: expected shape \(B, L, N\) = \(2, 9, 5\), got \(2, 8, 5\)"),
        ("C", np.zeros((2, 9, 6)), r"C: expected shape \(B, L, N\) = \(2, 9, 5\), got \(2, 9, 6\)"),
        ("D", np.zeros((17, 1)), r"D: expected shape \(D,\) = \(17,\), got \(17, 1\)"),
        ("z", np.zeros((2, 9)), r"z: expected shape \(B, L, D\) = \(2, 9, 17\), got \(2, 9\)"),
        ("delta_bias", np.zeros(1), r"delta_bias: expected shape \(D,\) = \(17,\), got \(1,\)"),
        ("h0", np.zeros((1, 17, 5)), r"h0: expected shape \(B, D, N\) = \(2, 17, 5\), got \(1, 17, 5\)"),
        ("u", np.zeros((2, 9, 17), complex), "u: expected an array of real numbers.*complex128"),
        ("z", "gate", "z: expected an array of real numbers"),
        ("B", [[1.0], [1.0, 2.0]], "B: expected an array of real numbers"),
        ("h0", object(), "h0: expected an array of real numbers"),
        ("path", "sse", "path: expected one of auto, .*scalar on this machine, got 'sse'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name: str, value: Any, message: str) -> None:
    arguments: dict[str, Any] = {**random_arrays(2, 9, 17, 5), name: value}
    with pytest.raises(ValueError, match=message):
        _native.selective_scan(**arguments)


def test_scalar_is_always_there_and_auto_takes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METST_EDGE_SIMD", raising=False)
    paths = _native.simd_paths()
    assert paths[-1] == "scalar"
    assert set(paths) <= {"avx512", "avx2", "neon", "scalar"}
    assert _native.simd_path() == paths[0]


def test_the_environment_chooses_what_auto_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = random_arrays(1, 50, 16, 64)
    for path in _native.simd_paths():
        monkeypatch.setenv("METST_EDGE_SIMD", path)
        assert _native.simd_path() == path
        for actual, wanted in zip(
            _native.selective_scan(**arrays), _native.selective_scan(**arrays, path=path), strict=True
        ):
            np.testing.assert_array_equal(actual, wanted)


def test_an_unknown_path_in_the_environment_is_refused_by_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("METST_EDGE_SIMD", "mmx")
    with pytest.raises(ValueError, match="environment variable METST_EDGE_SIMD: expected one of auto, .*got 'mmx'"):
        _native.simd_path()


def test_other_threads_run_during_a_scan() -> None:
    arrays = random_arrays(1, 4096, 128, 64)  # about 0.2 s
    started, finished = threading.Event(), threading.Event()

    def scan() -> None:
        started.set()
        _native.selective_scan(**arrays, path="scalar")
        finished.set()

    thread = threading.Thread(target=scan)
    thread.start()
    started.wait()
    ticks = 0
    while not finished.is_set():
        time.sleep(0.001)
        ticks += 1
    thread.join()
    assert ticks >= 5  # with the lock held this thread would wake up once, after the scan


def test_concurrent_scans_give_what_single_ones_give() -> None:
    problems = [random_arrays(2, 50, 128, 64, seed=seed) for seed in range(4)]
    alone = [_native.selective_scan(**p) for p in problems]
    together: list[Any] = [None] * len(problems)

    def scan(i: int) -> None:
        for _ in range(20):
            together[i] = _native.selective_scan(**problems[i])

    threads = [threading.Thread(target=scan, args=(i,)) for i in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
