"""The torch scan and its hand-written gradient, against a plain loop that autograd differentiates."""

import pytest
import torch
from torch.nn import functional

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
