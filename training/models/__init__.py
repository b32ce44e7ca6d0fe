"""The networks, with the published parameter names: `build("metst64")`."""

from training.models.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from training.models.metst import MeTst, Sizes
from training.models.metst_plus import MetstPlus, MetstPlusShared, PlusSizes
from training.models.published import PUBLISHED, identify, load_published
from training.models.registry import MODELS, SpottingNetwork, build

__all__ = [
    "MODELS",
    "PUBLISHED",
    "Checkpoint",
    "CheckpointError",
    "MeTst",
    "MetstPlus",
    "MetstPlusShared",
    "PlusSizes",
    "Sizes",
    "SpottingNetwork",
    "build",
    "identify",
    "load_checkpoint",
    "load_published",
    "save_checkpoint",
]
