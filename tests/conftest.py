"""Folders that tests read but the repository does not hold; a test that needs one skips where it is not given. And the
CUDA kernels, for the CPU."""

import os
import shutil
from pathlib import Path

import pytest

from csrc.cuda import shared_library


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    path = Path(value)
    assert path.is_dir(), f"{variable} names {value}, which is not a folder"
    return path


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real face video (METST_EDGE_TEST_DATA)."""
    return _folder("METST_EDGE_TEST_DATA")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Vectors computed with the published code (METST_EDGE_GOLDEN)."""
    return _folder("METST_EDGE_GOLDEN")


@pytest.fixture(scope="session")
def emulated_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of csrc/cuda for the emulation of csrc/testing/cuda_on_cpu.h: device memory is the host's."""
    compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    path = tmp_path_factory.mktemp("kernels") / "kernels.so"
    # With the benchmark's own, for tests of it: one library, compiled once.
    wrappers = shared_library.ROOT / "benchmarks/gpu/kernels.cu"
    shared_library.build(shared_library.cpu_command(compiler, path, [wrappers]))
    return path
