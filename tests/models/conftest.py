"""Published-layout state dicts, filled as the golden vectors' README says."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def published(golden: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """Return a function: model name -> the state dict its golden vectors were computed with."""
    spec = importlib.util.spec_from_file_location("golden_weights", golden / "weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def state_dict(name: str) -> dict[str, torch.Tensor]:
        description = json.loads((golden / f"{name}.json").read_text())
        drawn = module.draw(description["shapes"], description["seed"])
        return {name: torch.from_numpy(array) for name, array in drawn.items()}

    return state_dict
