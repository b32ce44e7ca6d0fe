"""The selective scan in torch: the definition of selective_scan.h, with a backward pass made for a CPU.

Plain autograd over the time loop would keep six (B, D, N) tensors a step alive and rebuild the loop as a graph; here
only the states are kept and the decays are computed again on the way back, which is faster than reading them back from
memory. Training in float32 on a CPU goes through the compiled kernels (csrc/cpu/selective_scan), where they are: they
are six times as fast. Without a gradient the torch code runs, which they and the engines are held against. Where
`mamba_ssm` is installed and the tensors are on a GPU, its kernel is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


class _Recurrence(torch.autograd.Function):
    """h_t = exp(dt_t A) h_{t-1} + x_t B_t, y_t = h_t . C_t, and its gradient.

    Time comes first here, so that every step works on contiguous memory. `exp2` with log2(e) folded into A is about
    four times as fast as `exp` in torch's CPU build.
    """

    @staticmethod
    def forward(ctx: Any, dt: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        """dt, x (L,B,D); a (D,N); b, c (L,B,N); h0 (B,D,N) -> y (L,B,D), last h (B,D,N)."""
        steps = dt.shape[0]
        keep = any(ctx.needs_input_grad)
        log2_a = a * math.log2(math.e)
        states = h0.new_empty((steps if keep else 1, *h0.shape))
        y = torch.empty_like(x)
        decay, h = torch.empty_like(h0), h0
        for t in range(steps):
            torch.mul(dt[t, :, :, None], log2_a, out=decay).exp2_()
            h = torch.mul(decay, h, out=states[t if keep else 0])
            h.addcmul_(x[t, :, :, None], b[t, :, None, :])
            torch.sum(torch.mul(h, c[t, :, None, :], out=decay), -1, out=y[t])
        if keep:
            ctx.save_for_backward(dt, x, a, b, c, h0, states)
        return y, h.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_h: Tensor) -> tuple[Tensor, ...]:
        """Gradients for dt, x, a, b, c and h0, walking back from the last step."""
        dt, x, a, b, c, h0, states = ctx.saved_tensors
        log2_a = a * math.log2(math.e)
        grad_y = grad_y.contiguous()
        g = grad_h.clone()  # gradient of the loss by h_t
        decay, scratch = torch.empty_like(h0), torch.empty_like(h0)
        grad_dt, grad_x = torch.empty_like(dt), torch.empty_like(x)
        grad_b, grad_c = torch.empty_like(b), torch.empty_like(c)
        grad_a = torch.zeros_like(h0)
        for t in range(dt.shape[0] - 1, -1, -1):
            before = states[t - 1] if t else h0
            g.addcmul_(grad_y[t, :, :, None], c[t, :, None, :])
            torch.bmm(grad_y[t, :, None, :], states[t], out=grad_c[t, :, None, :])
            torch.bmm(x[t, :, None, :], g, out=grad_b[t, :, None, :])
            torch.sum(torch.mul(g, b[t, :, None, :], out=scratch), -1, out=grad_x[t])
            torch.mul(dt[t, :, :, None], log2_a, out=decay).exp2_()
            g.mul_(decay)  # now by h_{t-1}
            torch.mul(g, before, out=scratch)  # by dt_t A
            grad_a.addcmul_(scratch, dt[t, :, :, None])
            torch.sum(scratch.mul_(a), -1, out=grad_dt[t])
        return grad_dt, grad_x, grad_a.sum(0), grad_b, grad_c, g


class _Compiled(torch.autograd.Function):
    """The whole of selective_scan in csrc's kernels, for contiguous float32 tensors on the CPU; only they are kept."""

    @staticmethod
    def forward(ctx: Any, native: Any, *inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take metst_edge._native and selective_scan's arguments, return what that returns."""
        ctx.native = native
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        y, h = native.selective_scan(*map(_array, inputs))
        return torch.from_numpy(y), torch.from_numpy(h)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor | None, grad_h: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return a gradient for each input; None for the module and for an initial state that is None."""
        inputs = ctx.saved_tensors
        if grad_y is None:
            grad_y = torch.zeros_like(inputs[0])
        arrays = map(_array, (*inputs, grad_y, grad_h))
        found = ctx.native.selective_scan_gradient(*arrays, threads=torch.get_num_threads())
        return None, *(None if grad is None else torch.from_numpy(grad) for grad in found)


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().numpy()


@lru_cache(maxsize=1)
def _native_scan() -> Any:
    """Return metst_edge._native, or None where it is not compiled or from before it knew the gradient."""
    try:
        native = import_module("metst_edge._native")
    except ImportError:
        return None
    return native if hasattr(native, "selective_scan_gradient") else None


@lru_cache(maxsize=1)
def _gpu_scan() -> Callable[..., Any] | None:
    """Return mamba_ssm's kernel, or None where it is not installed."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn  # type: ignore[no-any-return]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    h0: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the selective scan of a Mamba-1 layer (arXiv 2312.00752), gate and skip included.

        dt = softplus(delta + delta_bias)
        h_t = exp(dt_t * a) * h_{t-1} + dt_t * b_t * u_t
        y_t = (h_t . c_t + d * u_t) * silu(z_t)

    Args:
        u: (B, L, D), L at least 1.
        delta: (B, L, D), before its bias and the softplus.
        a: (D, N), negative.
        b: (B, L, N).
        c: (B, L, N).
        d: (D).
        z: (B, L, D), the gate.
        delta_bias: (D).
        h0: (B, D, N) state before the first step; None is zero.

    Returns:
        y (B, L, D) and the state after the last step (B, D, N), in the inputs' dtype.
    """
    kernel = _gpu_scan() if u.is_cuda and h0 is None else None
    if kernel is not None:
        return _by_kernel(kernel, u, delta, a, b, c, d, z, delta_bias)
    given = [t for t in (u, delta, a, b, c, d, z, delta_bias, h0) if t is not None]
    trained = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    native = _native_scan() if trained and all(map(_float32_on_cpu, given)) else None
    if native is not None:
        inputs = (t.contiguous() for t in (u, delta, a, b, c, d, z, delta_bias))
        found: tuple[Tensor, Tensor] = _Compiled.apply(native, *inputs, None if h0 is None else h0.contiguous())
        return found
    dt = functional.softplus(delta + delta_bias)
    if h0 is None:
        h0 = u.new_zeros((u.shape[0], *a.shape))
    dt_, x_, b_, c_ = (t.transpose(0, 1).contiguous() for t in (dt, dt * u, b, c))
    y, h = _Recurrence.apply(dt_, x_, a, b_, c_, h0)
    return (y.transpose(0, 1) + d * u) * functional.silu(z), h


def _float32_on_cpu(tensor: Tensor) -> bool:
    return bool(tensor.dtype == torch.float32 and tensor.device.type == "cpu")


def _by_kernel(
    kernel: Callable[..., Any],
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    z: Tensor,
    delta_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """Call mamba_ssm's selective_scan_fn, which has channels before time and starts from zero."""
    u, delta, b, c, z = (t.transpose(1, 2) for t in (u, delta, b, c, z))
    y, h = kernel(u, delta, a, b, c, d, z, delta_bias, delta_softplus=True, return_last_state=True)
    return y.transpose(1, 2), h
