"""The compiled side: built with nvcc, called through ctypes with torch's tensors and torch's current stream."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from metst_edge.flow.cuda import load

ROOT = Path(__file__).resolve().parents[2]
WRAPPERS = (ROOT / "benchmarks/gpu/kernels.cu", ROOT / "csrc/cuda/roi_flow_c.cpp")
KERNELS = tuple(ROOT / "csrc/cuda" / name for name in ("selective_scan.cu", "roi_flow/batch.cu", "roi_flow/setup.cpp"))
INCLUDES = (ROOT / "csrc/include", ROOT / "csrc/cuda", ROOT / "csrc/cpu")
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


def find_nvcc() -> str | None:
    """Return nvcc where it can be found as the CMake build finds it, else None."""
    folders = [f"{os.environ[name]}/bin" for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    folders += [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    folders += [str(path) for path in sorted(Path("/usr/local").glob("cuda-*/bin"), reverse=True)]
    return os.environ.get("CUDACXX") or shutil.which("nvcc", path=os.pathsep.join(folders))


def nvcc_command(nvcc: str, architecture: str, library: Path) -> list[str]:
    """Return the command that compiles and links everything; flags as in csrc/cuda/CMakeLists.txt.

    Args:
        architecture: such as "90" or "87".
    """
    flags = ["-O3", "-std=c++17", "-ftz=true", "-shared", "-cudart", "static", "--threads", "0"]
    warnings = ["-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wshadow"]
    return [nvcc, *flags, f"-arch=sm_{architecture}", *warnings, *_sources(), "-o", str(library)]


def cpu_command(compiler: str, library: Path) -> list[str]:
    """Return the command that compiles the same for the emulation of csrc/testing/cuda_on_cpu.h."""
    flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-xc++"]
    flags += ["-DMETST_CUDA_ON_CPU", "-DMETST_EMULATED_MULTIPROCESSORS=2"]  # few blocks find nothing to do then
    return [compiler, *flags, "-I", str(ROOT / "csrc/testing"), *_sources(), "-o", str(library)]


def _sources() -> list[str]:
    return [*(word for path in INCLUDES for word in ("-I", str(path))), *map(str, (*WRAPPERS, *KERNELS))]


def build(command: Sequence[str]) -> None:
    """Run a compiler; raises RuntimeError with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}".strip())


def build_once(command: Sequence[str], library: Path) -> None:
    """Build a library of ``_sources`` unless the same command has built it from the same sources and headers.

    What they hold is compared, not how old they are: a copy of the checkout has files of any age.

    Raises:
        RuntimeError: with what the compiler printed.
    """
    built_of = hashlib.sha256("\n".join(command).encode())
    headers = sorted(path for folder in INCLUDES for kind in ("*.h", "*.cuh") for path in folder.rglob(kind))
    for path in (*WRAPPERS, *KERNELS, *headers):
        built_of.update(hashlib.sha256(path.read_bytes()).digest())
    beside = library.with_suffix(".sha256")
    if library.exists() and beside.exists() and beside.read_text() == built_of.hexdigest():
        return
    beside.unlink(missing_ok=True)  # stopped half-way, what is left must not pass for a library
    build(command)
    beside.write_text(built_of.hexdigest())


class Library:
    """The functions of kernels.cu, and those that metst_edge.flow.cuda loads.

    Args:
        device: torch's name of where its kernels run: "cuda", or "cpu" for one compiled by ``cpu_command``.

    Attributes:
        c: the library itself, for what has no method here.

    Raises:
        RuntimeError: the library was compiled from a header whose struct is not ``ScanArgs``.
    """

    def __init__(self, path: Path, device: str = "cuda") -> None:
        self.device = device
        self.c = load(path)
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
        x: u, delta, z (B, L, D), B, C (B, L, N) of one of TYPES; A (D, N), D, delta_bias (D), h0 (B, D, N) float32.
        in_place: the state after the last step replaces h0.

    Attributes:
        y: (B, L, D) of the type of u. h: float32 (B, D, N). NaN until the first call.
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
