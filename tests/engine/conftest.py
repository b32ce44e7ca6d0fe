"""Bundles to run: the published networks, and a tiny one with every part of the architecture."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from export.__main__ import main
from export.bundle import write
from export.description import Description
from metst_edge.bundle import Bundle
from metst_edge.engine import Engine, load_engine
from training.models import MeTst, build

ENGINES = ("native", "onnxruntime")


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Small tensors only: threads that wait for each other on a busy machine cost more than they save."""
    torch.set_num_threads(1)


def randomise(network: MeTst, seed: int) -> MeTst:
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
def tiny_network() -> MeTst:
    """Two blocks, 16 channels, 8 states."""
    return randomise(build("metst64", dim=16, depth=2, d_state=8), seed=3)


@pytest.fixture(scope="session")
def tiny_folder(tiny_network: MeTst, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny network; not to be changed."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write(tiny_network, Description("tiny", fps=30, k=30, k_p=5), out, force=False, console=Console(quiet=True))
    return out


@pytest.fixture(scope="session", params=ENGINES)
def tiny(request: pytest.FixtureRequest, tiny_folder: Path) -> Engine:
    """The tiny bundle in each engine."""
    return load_engine(tiny_folder, request.param)


@pytest.fixture(scope="session")
def published_bundle(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """Return a function: model name -> bundle, exported from the published layout by the command line."""
    spec = importlib.util.spec_from_file_location("golden_weights", golden / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: dict[str, Bundle] = {}

    def bundle(name: str) -> Bundle:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            description = json.loads((golden / f"{name}.json").read_text())
            drawn = module.draw(description["shapes"], description["seed"])
            torch.save({f"module.{key}": torch.from_numpy(a) for key, a in drawn.items()}, folder / "weights.pkl")
            arguments = ["--model", name, "--trained-on", "casme3", "--out", str(folder / name)]
            assert main(["upstream", str(folder / "weights.pkl"), *arguments]) == 0
            made[name] = Bundle.load(folder / name)
        return made[name]

    return bundle
