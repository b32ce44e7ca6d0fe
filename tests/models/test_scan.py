"""The scans in torch and compiled, with their hand-written gradients, against a plain loop under autograd."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from metst_edge import _native
from training.models import scan
from training.models.scan import selective_scan

NAMES = ("u", "delta", "a", "b", "c", "d", "z", "delta_bias", "h0")


def inputs(batch=2, steps=5, inner=3, states=4, seed=0, dtype=torch.float64):
    """Random inputs in the order of NAMES."""
    draw = torch.Generator().manual_seed(seed)
    sizes = {
        "u": (batch, steps, inner),
        "delta": (batch, steps, inner),
        "a": (inner, states),
        "b": (batch, steps, states),
        "c": (batch, steps, states),
        "d": (inner,),
        "z": (batch, steps, inner),
        "delta_bias": (inner,),
        "h0": (batch, inner, states),
    }
    values = {name: torch.randn(sizes[name], generator=draw, dtype=dtype) for name in NAMES}
    values["a"] = -values["a"].exp()
    return [values[name].requires_grad_() for name in NAMES]


def naive(u, delta, a, b, c, d, z, delta_bias, h0):
    """selective_scan.h's definition, one formula a line."""
    dt = functional.softplus(delta + delta_bias)
    h, ys = h0, []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * a) * h + dt[:, t, :, None] * b[:, t, None, :] * u[:, t, :, None]
        ys.append((h * c[:, t, None, :]).sum(-1) + d * u[:, t])
    return torch.stack(ys, 1) * functional.silu(z), h


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_values_are_those_of_the_definition(steps):
    values = inputs(steps=steps)
    for found, expected in zip(selective_scan(*values), naive(*values), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_without_a_state_it_starts_from_zero():
    values = inputs()
    expected = naive(*values[:-1], torch.zeros_like(values[-1]))
    for found, wanted in zip(selective_scan(*values[:-1]), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_sequence_in_two_halves_is_the_sequence_in_one():
    u, delta, a, b, c, d, z, bias, h0 = inputs(steps=9)
    whole, last = selective_scan(u, delta, a, b, c, d, z, bias, h0)
    first, h = selective_scan(u[:, :4], delta[:, :4], a, b[:, :4], c[:, :4], d, z[:, :4], bias, h0)
    second, h = selective_scan(u[:, 4:], delta[:, 4:], a, b[:, 4:], c[:, 4:], d, z[:, 4:], bias, h)
    torch.testing.assert_close(torch.cat((first, second), 1), whole)
    torch.testing.assert_close(h, last)


def test_the_gradient_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(selective_scan, inputs(batch=2, steps=3, inner=2, states=3))


@pytest.mark.parametrize("steps", [1, 30])
def test_the_gradient_is_that_of_autograd_through_the_loop(steps):
    values = inputs(batch=3, steps=steps, inner=5, states=8, seed=1)
    weigh_y, weigh_h = torch.randn(3, steps, 5).double(), torch.randn(3, 5, 8).double()

    def gradients(function):
        y, h = function(*values)
        return torch.autograd.grad((y * weigh_y).sum() + (h * weigh_h).sum(), values)

    for name, found, expected in zip(NAMES, gradients(selective_scan), gradients(naive), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_float32_is_close_to_float64():
    values = inputs(batch=4, steps=50, inner=16, states=64, dtype=torch.float32)
    y, h = selective_scan(*values)
    expected_y, expected_h = naive(*(v.double() for v in values))
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected_y, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(h.double(), expected_h, rtol=1e-5, atol=1e-4)


def test_without_gradients_no_states_are_kept():
    values = [v.detach() for v in inputs()]
    y, _ = selective_scan(*values)
    assert not y.requires_grad


def test_the_gpu_kernel_is_called_in_its_own_layout_and_its_result_turned_back():
    u, delta, a, b, c, d, z, bias, _ = inputs(batch=2, steps=5, inner=3, states=4)

    def kernel(u, delta, a, b, c, d=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):
        # mamba_ssm's selective_scan_fn: u, delta, z (B, D, L), b and c (B, N, L).
        assert delta_softplus and return_last_state
        assert u.shape == delta.shape == z.shape == (2, 3, 5)
        assert b.shape == c.shape == (2, 4, 5)
        turned = [t.transpose(1, 2) for t in (u, delta, b, c, z)]
        y, h = naive(turned[0], turned[1], a, turned[2], turned[3], d, turned[4], delta_bias, torch.zeros(2, 3, 4))
        return y.transpose(1, 2), h

    found = scan._by_kernel(kernel, u, delta, a, b, c, d, z, bias)
    for value, expected in zip(found, selective_scan(u, delta, a, b, c, d, z, bias), strict=True):
        torch.testing.assert_close(value, expected)


every_path = pytest.mark.parametrize("path", _native.simd_paths())


def float32(values):
    """Return the tensors rounded to float32, as new leaves."""
    return [v.detach().float().requires_grad_() for v in values]


def weights(batch, steps, inner, states):
    """Return what y and the last state are weighed with in a loss, float32."""
    draw = torch.Generator().manual_seed(9)
    return torch.randn(batch, steps, inner, generator=draw), torch.randn(batch, inner, states, generator=draw)


def gradients_of_the_definition(values, weigh_y, weigh_h):
    """Return in float64 what autograd makes of `naive`."""
    exact = [v.detach().double().requires_grad_() for v in values]
    y, h = naive(*exact)
    return torch.autograd.grad((y * weigh_y).sum() + (h * weigh_h).sum(), exact)


def assert_near(found, expected, name):
    """To 5e-6 of the largest element: sums over time, states, channels and batch in float32."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * float(expected.abs().max()), err_msg=name)


@every_path
@pytest.mark.parametrize(
    "batch, steps, inner, states",
    [(1, 1, 1, 1), (2, 5, 3, 4), (2, 7, 17, 65), (3, 30, 33, 64), (1, 33, 5, 100), (2, 16, 16, 16), (4, 15, 128, 64)],
)
def test_the_compiled_gradient_is_that_of_autograd_through_the_loop(path, batch, steps, inner, states):
    values = float32(inputs(batch, steps, inner, states, seed=2))
    weigh_y, weigh_h = weights(batch, steps, inner, states)
    arrays = [v.detach().numpy() for v in values]
    found = _native.selective_scan_gradient(*arrays, weigh_y.numpy(), weigh_h.numpy(), path=path)
    for name, value, gradient in zip(NAMES, found, gradients_of_the_definition(values, weigh_y, weigh_h), strict=True):
        assert_near(value, gradient, name)


@every_path
def test_an_absent_state_and_an_absent_gradient_of_the_last_one_count_as_zero(path):
    *arrays, h0 = [v.detach().numpy() for v in float32(inputs(2, 9, 17, 33))]
    grad_y = np.ones((2, 9, 17), np.float32)
    whole = _native.selective_scan_gradient(*arrays, 0 * h0, grad_y, 0 * h0, path=path)
    short = _native.selective_scan_gradient(*arrays, None, grad_y, path=path)
    assert short[-1] is None
    for one, other in zip(whole[:-1], short[:-1], strict=True):
        np.testing.assert_array_equal(one, other)


@every_path
def test_the_compiled_gradient_repeats_bit_for_bit_on_any_number_of_threads(path):
    arrays = [v.detach().numpy() for v in float32(inputs(5, 30, 33, 64))]
    grad_y = np.ones((5, 30, 33), np.float32)
    first = _native.selective_scan_gradient(*arrays, grad_y, path=path)
    for threads in (1, 2, 4):
        again = _native.selective_scan_gradient(*arrays, grad_y, path=path, threads=threads)
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)


@every_path
def test_inputs_of_any_size_leave_finite_gradients(path):
    """Steps that forget all or nothing, and gates that are shut or wide open."""
    u, delta, a, b, c, d, z, bias, h0 = [v.detach().numpy() for v in float32(inputs(2, 12, 17, 20))]
    delta[:, ::2], delta[:, 1::2], z[0], z[1] = 1e4, -1e4, 1e4, -1e4
    found = _native.selective_scan_gradient(u, delta, a, b, c, d, z, bias, h0, np.ones_like(u), h0, path=path)
    assert all(np.isfinite(gradient).all() for gradient in found)


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("of", ["y", "h", "both"])
def test_training_in_float32_on_a_cpu_goes_through_the_compiled_scan(with_state, of):
    values = float32(inputs(3, 15, 8, 16, seed=3))
    if not with_state:
        values[-1] = torch.zeros_like(values[-1])
    weigh_y, weigh_h = weights(3, 15, 8, 16)
    weigh_y, weigh_h = weigh_y * (of != "h"), weigh_h * (of != "y")
    given = values if with_state else values[:-1]
    y, h = selective_scan(*given)
    assert type(y.grad_fn).__name__ == type(h.grad_fn).__name__ == "_CompiledBackward"
    for value, expected in zip((y, h), naive(*(v.double() for v in values)), strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    loss = {"y": (y * weigh_y).sum(), "h": (h * weigh_h).sum(), "both": (y * weigh_y).sum() + (h * weigh_h).sum()}[of]
    found = torch.autograd.grad(loss, given, allow_unused=True)
    expected = gradients_of_the_definition(values, weigh_y, weigh_h)[: len(given)]
    for name, gradient, wanted in zip(NAMES[: len(given)], found, expected, strict=True):
        assert_near(gradient, wanted, name)


def test_what_is_not_training_in_float32_runs_in_torch():
    double, single = inputs(), float32(inputs())
    with torch.no_grad():
        assert selective_scan(*single)[0].grad_fn is None
        expected = naive(*single)[0]
    assert "_CompiledBackward" not in _functions(selective_scan(*double)[0].grad_fn)
    mixed = [*single[:-1], double[-1]]
    assert "_CompiledBackward" not in _functions(selective_scan(*mixed)[0].grad_fn)
    torch.testing.assert_close(selective_scan(*(v.detach() for v in single))[0], expected)


@pytest.mark.parametrize("module", [None, object()], ids=["not compiled", "an older one"])
def test_where_the_compiled_scan_is_missing_training_runs_in_torch(module, monkeypatch):
    def found(name):
        if module is None:
            raise ModuleNotFoundError(name)
        return module

    monkeypatch.setattr(scan, "import_module", found)
    scan._native_scan.cache_clear()
    try:
        values = float32(inputs())
        y, h = selective_scan(*values)
    finally:
        scan._native_scan.cache_clear()
    gradients = torch.autograd.grad(y.sum() + h.sum(), values)
    for name, gradient, expected in zip(
        NAMES, gradients, gradients_of_the_definition(values, torch.ones_like(y), torch.ones_like(h)), strict=True
    ):
        assert_near(gradient, expected, name)
    assert "_CompiledBackward" not in _functions(y.grad_fn)


def _functions(function):
    """Return the names of a graph's functions."""
    return (
        set()
        if function is None
        else {type(function).__name__}.union(*(_functions(f) for f, _ in function.next_functions))
    )


def test_tensors_that_are_not_contiguous_get_the_gradient_of_their_copies():
    values = float32(inputs(2, 9, 4, 8))
    turned = [v.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for v in values]
    assert not turned[0].is_contiguous()
    results = []
    for given in (values, turned):
        y, h = selective_scan(*given)
        results.append(torch.autograd.grad(y.square().sum() + h.sum(), given))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("u", np.zeros((9, 17)), r"u: expected 3 axes \(B, L, D\), got shape \(9, 17\)"),
        ("A", np.zeros((16, 5)), r"A: expected shape \(D, N\) = \(17, 5\), got \(16, 5\)"),
        ("delta", np.zeros((2, 9, 16)), r"delta: expected shape \(B, L, D\) = \(2, 9, 17\), got \(2, 9, 16\)"),
        ("B", np.zeros((2, 8, 5)), r"B: expected shape \(B, L, N\) = \(2, 9, 5\), got \(2, 8, 5\)"),
        ("C", np.zeros((2, 9, 6)), r"C: expected shape \(B, L, N\) = \(2, 9, 5\), got \(2, 9, 6\)"),
        ("D", None, "D: expected an array of real numbers"),
        ("z", np.zeros((2, 9)), r"z: expected shape \(B, L, D\) = \(2, 9, 17\), got \(2, 9\)"),
        ("delta_bias", np.zeros(1), r"delta_bias: expected shape \(D,\) = \(17,\), got \(1,\)"),
        ("h0", np.zeros((1, 17, 5)), r"h0: expected shape \(B, D, N\) = \(2, 17, 5\), got \(1, 17, 5\)"),
        ("grad_y", np.zeros((2, 9, 5)), r"grad_y: expected shape \(B, L, D\) = \(2, 9, 17\), got \(2, 9, 5\)"),
        ("grad_h", np.zeros((2, 17)), r"grad_h: expected shape \(B, D, N\) = \(2, 17, 5\), got \(2, 17\)"),
        ("path", "sse", "path: expected one of auto, .*scalar on this machine, got 'sse'"),
    ],
)
def test_what_does_not_fit_the_compiled_gradient_is_refused_by_name(name, value, message):
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "h0")
    arguments = dict(zip(names, (v.detach().numpy() for v in float32(inputs(2, 9, 17, 5))), strict=True))
    arguments |= {"grad_y": np.zeros((2, 9, 17)), "grad_h": np.zeros((2, 17, 5))}
    with pytest.raises(ValueError, match=message):
        _native.selective_scan_gradient(**{**arguments, name: value})
