"""The CUDA kernels as one shared library with C functions, compiled by nvcc or for the emulation. Loads nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = tuple(
    ROOT / "csrc/cuda" / name
    for name in (
        *("roi_flow_c.cpp", "selective_scan.cu", "roi_flow/batch.cu", "roi_flow/setup.cpp"),
        *("network_step_c.cpp", "network_step/step.cu", "network_step/plan.cpp", "network_step/pack.cpp"),
    )
)
INCLUDES = (ROOT / "csrc/include", ROOT / "csrc/cuda", ROOT / "csrc/shared")


def find_nvcc() -> str | None:
    """Return nvcc where it can be found as the CMake build finds it, else None."""
    folders = [f"{os.environ[name]}/bin" for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    folders += [os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    folders += [str(path) for path in sorted(Path("/usr/local").glob("cuda-*/bin"), reverse=True)]
    return os.environ.get("CUDACXX") or shutil.which("nvcc", path=os.pathsep.join(folders))


def nvcc_command(nvcc: str, architecture: str, library: Path, more: Sequence[Path] = ()) -> list[str]:
    """Return the command that compiles and links everything; flags as in csrc/cuda/CMakeLists.txt.

    Args:
        nvcc: the compiler, as of `find_nvcc`.
        architecture: such as "90" or "87".
        library: what is made.
        more: sources besides SOURCES, which may include what these do.
    """
    flags = ["-O3", "-std=c++17", "-ftz=true", "-shared", "-cudart", "static", "--threads", "0"]
    warnings = ["-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Wshadow"]
    return [nvcc, *flags, f"-arch=sm_{architecture}", *warnings, *_sources(more), "-o", str(library)]


def cpu_command(compiler: str, library: Path, more: Sequence[Path] = ()) -> list[str]:
    """Return the command that compiles the same for the emulation of csrc/testing/cuda_on_cpu.h."""
    flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-Wno-unknown-pragmas", "-xc++"]
    flags += ["-DMETST_CUDA_ON_CPU", "-DMETST_EMULATED_MULTIPROCESSORS=2"]  # few blocks find nothing to do then
    return [compiler, *flags, "-I", str(ROOT / "csrc/testing"), *_sources(more), "-o", str(library)]


def _sources(more: Sequence[Path]) -> list[str]:
    return [*(word for path in INCLUDES for word in ("-I", str(path))), *map(str, (*SOURCES, *more))]


def build(command: Sequence[str]) -> None:
    """Run a compiler; raises RuntimeError with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}".strip())


def build_once(command: Sequence[str], library: Path, more: Sequence[Path] = ()) -> None:
    """Build a library unless the same command has built it from the same sources and headers.

    What they hold is compared, not how old they are: a copy of the checkout has files of any age.

    Args:
        command: of `nvcc_command` or `cpu_command`.
        library: what it makes.
        more: sources besides SOURCES, as they were given to it.

    Raises:
        RuntimeError: with what the compiler printed.
    """
    built_of = hashlib.sha256("\n".join(command).encode())
    headers = sorted(path for folder in INCLUDES for kind in ("*.h", "*.cuh") for path in folder.rglob(kind))
    for path in (*SOURCES, *more, *headers):
        built_of.update(hashlib.sha256(path.read_bytes()).digest())
    beside = library.with_suffix(".sha256")
    if library.exists() and beside.exists() and beside.read_text() == built_of.hexdigest():
        return
    beside.unlink(missing_ok=True)  # stopped half-way, what is left must not pass for a library
    build(command)
    beside.write_text(built_of.hexdigest())
