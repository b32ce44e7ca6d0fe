"""Published-layout state dicts, filled as the golden vectors' README says."""

from collections.abc import Callable

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def published(
    published_weights: Callable[[str], dict[str, np.ndarray]],
) -> Callable[[str], dict[str, torch.Tensor]]:
    """Return a function: model name -> the state dict its golden vectors were computed with."""
    return lambda name: {key: torch.from_numpy(array) for key, array in published_weights(name).items()}
