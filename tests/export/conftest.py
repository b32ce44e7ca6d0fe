"""A small network with weights that matter, and its checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch

from export.__main__ import main
from training.models import MeTst, build, save_checkpoint

META: dict[str, Any] = {
    "name": "small",
    "fps": 30.0,
    "k": 30,
    "k_p": 5,
    "training": {"data": "rendered faces", "identities": ["astronaut", "another"]},
    "licence": "CC0-1.0",
    "metrics": {"spotting": {"f1": 0.71234}, "confusion": [[3, 1], [0, 2]]},
}


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Small tensors only: threads that wait for each other on a busy machine cost more than they save."""
    torch.set_num_threads(1)


def draw_network() -> MeTst:
    """Two blocks; every convolution and matrix drawn so that signals keep their size."""
    torch.manual_seed(11)
    made = build("metst64", dim=16, depth=2, d_state=8)
    for name, tensor in made.state_dict().items():
        if tensor.dim() >= 2 and not name.endswith("A_log"):
            tensor.copy_(torch.randn_like(tensor) / tensor[0].numel() ** 0.5)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return made.eval()


@pytest.fixture
def network() -> MeTst:
    """The network as drawn; a test may change it."""
    return draw_network()


@pytest.fixture
def checkpoint(network: MeTst, tmp_path: Path) -> Path:
    """The network as `training fit` would leave it."""
    save_checkpoint(tmp_path / "model.pt", network, META)
    return tmp_path / "model.pt"


@pytest.fixture(scope="session")
def folder_of_both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the checkpoint with graphs in both precisions; not to be changed."""
    folder = tmp_path_factory.mktemp("both")
    save_checkpoint(folder / "model.pt", draw_network(), META)
    assert main(["bundle", str(folder / "model.pt"), "--out", str(folder / "bundle"), "--precision", "fp16"]) == 0
    return folder / "bundle"
