"""Bundles to run: the published networks, and a tiny one with every part of the architecture."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from export.__main__ import main
from export.bundle import write
from export.description import Description
from metst_edge.bundle import Bundle
from metst_edge.engine import ENGINES, Engine, load_engine
from metst_edge.engine.tensorrt.device import open_device
from tests.engine.fake_gpu import FakeGpu
from training.models import SpottingNetwork, build


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Small tensors only: threads that wait for each other on a busy machine cost more than they save."""
    torch.set_num_threads(1)


def randomise(network: SpottingNetwork, seed: int) -> SpottingNetwork:
    """Draw weights that keep the variance and move every norm, so that every part has an effect."""
    torch.manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("A_log", "num_batches_tracked")):
            pass
        elif name.endswith("dt_proj.bias"):
            tensor.uniform_(-4.0, -1.0)
        elif tensor.dim() == 1:
            tensor.add_(0.1 * torch.randn_like(tensor))
        else:
            tensor.copy_(torch.randn_like(tensor) / tensor[0].numel() ** 0.5)
    return network.eval()


@pytest.fixture(scope="session")
def tiny_network() -> SpottingNetwork:
    """Two blocks, 16 channels, 8 states."""
    return randomise(build("metst64", dim=16, depth=2, d_state=8), seed=3)


@pytest.fixture(scope="session")
def tiny_folder(tiny_network: SpottingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny network; not to be changed."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write(tiny_network, Description("tiny", fps=30, k=30, k_p=5), out, force=False, console=Console(quiet=True))
    return out


@pytest.fixture(scope="session", params=["metst_plus", "metst_plus_shared"])
def tiny_plus_network(request: pytest.FixtureRequest) -> SpottingNetwork:
    """Two rates: three stages of one block each way, 16 and 32 channels, 4 states."""
    return randomise(build(request.param, dim=16, slow_dim=32, depth=1, d_state=4), seed=3)


@pytest.fixture(scope="session")
def tiny_plus_folder(tiny_plus_network: SpottingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of it; not to be changed."""
    out = tmp_path_factory.mktemp("bundles") / "tiny_plus"
    description = Description("tiny_plus", fps=30, k=30, k_p=5, roi_set="metst_plus")
    write(tiny_plus_network, description, out, force=False, console=Console(quiet=True))
    return out


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGpu]:
    """A GPU with TensorRT and pycuda, whatever this machine has. All that is taken of it must be given back."""
    fake = FakeGpu(monkeypatch, tmp_path / "cache")
    yield fake
    gc.collect()
    open_device.cache_clear()
    assert not fake.left and not fake.named("destroyed with work under way")
    assert fake.pushes == fake.pops and not fake.stack
    assert fake.detached <= 1


ON_A_GPU = ("tensorrt", "cuda")


@pytest.fixture(scope="session")
def tiny_on_cpu(tiny_folder: Path) -> dict[str, Engine]:
    """The tiny bundle in each engine that needs no GPU."""
    return {name: load_engine(tiny_folder, name) for name in ENGINES if name not in ON_A_GPU}


@pytest.fixture(params=ENGINES)
def tiny(request: pytest.FixtureRequest, tiny_folder: Path, tiny_on_cpu: dict[str, Engine]) -> Iterator[Engine]:
    """The tiny bundle in each engine: "tensorrt" on a GPU that runs its graphs in ONNX Runtime, "cuda" on one that is
    emulated.
    """
    if request.param not in ON_A_GPU:
        yield tiny_on_cpu[request.param]
        return
    gpu = request.getfixturevalue("gpu")
    if request.param == "cuda":
        gpu.give_step(request.getfixturevalue("emulated_kernels"))
    with load_engine(tiny_folder, request.param) as engine:
        yield engine


@pytest.fixture(scope="session")
def published_bundle(
    published_weights: Callable[[str], dict[str, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Bundle]:
    """Return a function: model name -> bundle, exported from the published layout by the command line."""
    made: dict[str, Bundle] = {}

    def bundle(name: str) -> Bundle:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            drawn = published_weights(name)
            torch.save({f"module.{key}": torch.from_numpy(a) for key, a in drawn.items()}, folder / "weights.pkl")
            arguments = ["--model", name, "--trained-on", "casme3", "--out", str(folder / name)]
            with pytest.MonkeyPatch.context() as patch:
                if name == "metst_plus":  # its scores are compared with published ones here; once is enough
                    patch.setattr("export.parity.CHECKED", ("onnxruntime",))
                    patch.setattr("export.windows.WINDOWS", 1)
                assert main(["upstream", str(folder / "weights.pkl"), *arguments]) == 0
            made[name] = Bundle.load(folder / name)
        return made[name]

    return bundle
