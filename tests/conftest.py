"""Folders that tests read but the repository does not hold; a test that needs one skips where it is not given. And the
CUDA kernels, for the CPU."""

import gc
import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from csrc.cuda import shared_library
from metst_edge.bundle import Bundle
from metst_edge.face import FaceFinder

# An example's time is the machine's, not the code's: emulated or busy, it passes any bound.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """Hear SIGINT. A job that a script starts in the background ignores it, and so does all that the job starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def garbage_is_of_this_module() -> None:
    """Leave what is there before a module's tests out of every later collection of garbage: it stays, and it is most of
    the heap. Tests that collect, so as to see that all they took was given back, look through their own objects only.
    """
    gc.collect()
    gc.freeze()


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    path = Path(value)
    assert path.is_dir(), f"{variable} names {value}, which is not a folder"
    return path


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    """What finds faces, opened once for a module's tests."""
    found = FaceFinder()
    yield found
    found.close()


@pytest.fixture(scope="session")
def edge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose features are measured on a face held steady; its network was trained for others."""
    out = tmp_path_factory.mktemp("bundles") / "edge"
    shutil.copytree(Bundle.find("demo_plus").folder, out)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "roi_set": "edge"}))
    return out


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real face video (METST_EDGE_TEST_DATA)."""
    return _folder("METST_EDGE_TEST_DATA")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Vectors computed with the published code (METST_EDGE_GOLDEN)."""
    return _folder("METST_EDGE_GOLDEN")


@pytest.fixture(scope="session")
def field() -> Path:
    """Video as people have it (METST_EDGE_FIELD)."""
    return _folder("METST_EDGE_FIELD")


@pytest.fixture(scope="session")
def published_weights(golden: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """Return a function: model name -> the weights its golden vectors were computed with, in the published layout."""
    spec = importlib.util.spec_from_file_location("golden_weights", golden / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def weights(name: str) -> dict[str, np.ndarray]:
        description = json.loads((golden / f"{name}.json").read_text())
        return module.draw(description["shapes"], description["seed"])

    return weights


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
