"""What our scan is compared with: the definition step by step in torch, and mamba_ssm's CUDA kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from benchmarks.gpu.library import Tensors

NO_BACKWARD = """
#include <ATen/ATen.h>
#include <cuda_runtime_api.h>

#include "selective_scan.h"

template <class Input, class Weight>
void selective_scan_bwd_cuda(SSMParamsBwd&, cudaStream_t) {
    TORCH_CHECK(false, "selective_scan_bwd_cuda: compiled for the forward pass only");
}
#define METST_STUB(Input)                                                           \\
    template void selective_scan_bwd_cuda<Input, float>(SSMParamsBwd&, cudaStream_t); \\
    template void selective_scan_bwd_cuda<Input, c10::complex<float>>(SSMParamsBwd&, cudaStream_t);
METST_STUB(float)
METST_STUB(at::Half)
METST_STUB(at::BFloat16)
"""
"""What mamba_ssm's binding refers to and is not called: its backward kernels take most of the time to compile."""


def one_step(
    h: torch.Tensor,
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    d: torch.Tensor,
    z: torch.Tensor,
    bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take one step in torch: h (B, D, N); u, delta, z (B, D); b, c (B, N) -> h, y (B, D); float32 inside."""
    dt = functional.softplus(delta.float() + bias)
    h = torch.exp(dt[:, :, None] * a) * h + (dt * u)[:, :, None] * b[:, None, :]
    y = (h * c[:, None, :]).sum(-1) + d * u
    return h, (y * functional.silu(z.float())).to(u.dtype)


def by_steps(step: Callable[..., Any], x: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan with a function for one step."""
    h, ys = x["h0"], []
    for t in range(x["u"].shape[1]):
        at_t = {name: x[name][:, t] for name in ("u", "delta", "B", "C", "z")}
        arguments = (at_t["u"], at_t["delta"], x["A"], at_t["B"], at_t["C"], x["D"], at_t["z"], x["delta_bias"])
        h, y = step(h, *arguments)
        ys.append(y)
    return torch.stack(ys, 1), h


class Mamba:
    """The forward kernel of mamba_ssm, its extension module called as its own interface calls it.

    It has channels before time, always starts from zero, and keeps what a backward pass would need.

    Args:
        folder: an unpacked source distribution of mamba_ssm to compile, where none is installed; takes minutes.
        build: where to compile it.

    Raises:
        ImportError: it is not installed and there is no source.
    """

    def __init__(self, folder: Path | None, build: Path) -> None:
        if folder is None:
            import selective_scan_cuda
        else:
            selective_scan_cuda = self._compile(folder, build)
        self._forward = selective_scan_cuda.fwd

    @staticmethod
    def _compile(folder: Path, build: Path) -> Any:
        from torch.utils import cpp_extension

        sources = folder / "csrc" / "selective_scan"
        files = sorted(map(str, (*sources.glob("selective_scan.cpp"), *sources.glob("selective_scan_fwd_*.cu"))))
        if not files:
            raise ImportError(f"{sources}: expected selective_scan.cpp and .cu files; unpack mamba_ssm's sdist there")
        build.mkdir(parents=True, exist_ok=True)
        stubs = build / "no_backward.cpp"
        if not stubs.exists():  # else it would be compiled again
            stubs.write_text(NO_BACKWARD)
        files.append(str(stubs))
        # What its own setup.py asks for: without these, 16-bit types do not compile, and its exponentials are slow.
        kinds = ("HALF", "BFLOAT16", "BFLOAT162")
        types = [f"-U__CUDA_NO_{kind}_{what}__" for kind in kinds for what in ("OPERATORS", "CONVERSIONS")]
        return cpp_extension.load(
            name="selective_scan_cuda",
            sources=files,
            extra_include_paths=[str(sources)],
            extra_cflags=["-O3", "-std=c++17"],
            extra_cuda_cflags=[
                "-O3", "-std=c++17", *types, "--expt-relaxed-constexpr", "--expt-extended-lambda", "--use_fast_math"
            ],
            build_directory=str(build),
        )  # fmt: skip

    def bind(self, x: Tensors) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        """Return a call that gives y (B, L, D) and the state, from a zero state whatever h0 is."""
        u, delta, z = (x[name].transpose(1, 2).contiguous() for name in ("u", "delta", "z"))
        b, c = (x[name].transpose(1, 2).contiguous()[:, None] for name in ("B", "C"))

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            _, states, y = self._forward(u, delta, x["A"], b, c, x["D"], z, x["delta_bias"], True)[:3]
            return y.transpose(1, 2), states[:, :, -1, 1::2]

        return call
