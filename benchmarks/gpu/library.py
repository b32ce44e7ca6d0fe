"""The kernels, called through ctypes with torch's tensors and torch's current stream.

They are those of csrc/cuda and of kernels.cu, in one library that csrc/cuda/shared_library.py compiles.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch

from csrc.cuda.shared_library import ROOT
from metst_edge.engine.tensorrt.roi_flow import load

SOURCE = ROOT / "benchmarks/gpu/kernels.cu"
"""What the library has beside the kernels of csrc/cuda."""
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""metst::cuda::Type"""
STATUS = ("ok", "bad size", "null pointer", "unsupported", "workspace too small", "CUDA error")
"""metst::cuda::Status"""

Tensors = dict[str, torch.Tensor]


class ScanArgs(ctypes.Structure):
    """metst::cuda::SelectiveScanArgs, field by field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "channels", "states")),
        *((name, ctypes.c_int32) for name in ("type", "delta_type")),
        *((name, ctypes.c_void_p) for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "h0")),
        ("delta_softplus", ctypes.c_bool),
        *((name, ctypes.c_void_p) for name in ("y", "h", "workspace")),
        ("workspace_bytes", ctypes.c_size_t),
    )


class Library:
    """The functions of kernels.cu, and those that metst_edge's engines load.

    Args:
        path: of the compiled library.
        device: torch's name of where its kernels run: "cuda", or "cpu" for one compiled for the emulation.

    Attributes:
        c: the library itself, for what has no method here.

    Raises:
        RuntimeError: the library was compiled from a header whose struct is not ``ScanArgs``.
    """

    def __init__(self, path: Path, device: str = "cuda") -> None:
        self.device = device
        self.c = load(path)
        self.c.metst_network_step_text.restype = ctypes.c_char_p
        self.c.metst_scan_args_bytes.restype = ctypes.c_size_t
        self.c.metst_scan_workspace.restype = ctypes.c_size_t
        self.c.metst_scan_workspace.argtypes = [ctypes.c_int64] * 4
        self.c.metst_scan.argtypes = [ctypes.POINTER(ScanArgs), ctypes.c_void_p]
        theirs = self.c.metst_scan_args_bytes()
        if theirs != ctypes.sizeof(ScanArgs):
            raise RuntimeError(
                f"metst::cuda::SelectiveScanArgs has {theirs} bytes, ScanArgs {ctypes.sizeof(ScanArgs)}: "
                "bring benchmarks/gpu/library.py in line with selective_scan_cuda.h"
            )

    def scan_workspace(self, batch: int, length: int, channels: int, states: int) -> int:
        """Return the bytes of workspace that a scan needs."""
        return int(self.c.metst_scan_workspace(batch, length, channels, states))

    def scan(self, args: ScanArgs) -> None:
        """Enqueue a scan; raises RuntimeError where it is refused."""
        status = self.c.metst_scan(ctypes.byref(args), self.stream())
        if status:
            raise RuntimeError(f"selective_scan: {STATUS[status]}")

    def stream(self) -> int | None:
        """Return the stream that work goes to now, torch's current one, as a pointer; None where there is no GPU."""
        return torch.cuda.current_stream().cuda_stream if self.device == "cuda" else None

    def call(self, name: str, *values: int | float | torch.Tensor | None) -> None:
        """Enqueue metst_``name`` with these arguments and the stream; raises RuntimeError where it fails."""
        error = getattr(self.c, f"metst_{name}")(*map(_c, values), ctypes.c_void_p(self.stream()))
        if error:
            raise RuntimeError(f"metst_{name}: CUDA error {error}")


def _c(value: int | float | torch.Tensor | None) -> Any:
    if isinstance(value, torch.Tensor):
        assert value.is_contiguous()
        return ctypes.c_void_p(value.data_ptr())
    if value is None:
        return ctypes.c_void_p(None)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int(value)


class Scan:
    """Our kernel on one set of inputs, its outputs allocated once.

    Args:
        library: has the kernel.
        x: u, delta, z (B, L, D), B, C (B, L, N) of one of TYPES; A (D, N), D, delta_bias (D), h0 (B, D, N) float32.
        in_place: the state after the last step replaces h0.

    Attributes:
        y: (B, L, D) of the type of u, NaN until the first call.
        h: float32 (B, D, N), likewise.
    """

    def __init__(self, library: Library, x: Tensors, in_place: bool = False) -> None:
        batch, length, channels = x["u"].shape
        states = x["A"].shape[1]
        self._library = library
        self.y = torch.full_like(x["u"], float("nan"))
        self.h = x["h0"] if in_place else torch.full_like(x["h0"], float("nan"))
        size = library.scan_workspace(batch, length, channels, states)
        workspace = torch.full((size,), 255, dtype=torch.uint8, device=x["u"].device)  # NaN as float32
        self._kept = [*x.values(), self.y, self.h, workspace]
        assert all(tensor.is_contiguous() for tensor in self._kept)
        pointers = {name: tensor.data_ptr() for name, tensor in x.items()}
        self._args = ScanArgs(
            batch,
            length,
            channels,
            states,
            TYPES[x["u"].dtype],
            TYPES[x["delta"].dtype],
            delta_softplus=True,
            y=self.y.data_ptr(),
            h=self.h.data_ptr(),
            workspace=workspace.data_ptr() if size else None,
            workspace_bytes=size,
            **pointers,
        )

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Enqueue the scan on torch's current stream."""
        self._library.scan(self._args)
        return self.y, self.h
