"""The networks, with the published parameter names: `build("metst64")`."""

from training.models.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_published,
    save_checkpoint,
)
from training.models.metst import MeTst, Sizes
from training.models.registry import MODELS, build

__all__ = [
    "MODELS",
    "Checkpoint",
    "CheckpointError",
    "MeTst",
    "Sizes",
    "build",
    "load_checkpoint",
    "load_published",
    "save_checkpoint",
]
