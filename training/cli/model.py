"""The model that a verb looks at: a bundle, or a checkpoint, which is exported to one first."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from metst_edge import Bundle
from metst_edge.bundle import RecognizerBundle, shipped_models
from training.kept_apart import Apart


def is_bundle(model: Path) -> bool:
    """Tell whether a model is a bundle already, else it is a checkpoint."""
    return str(model) in shipped_models() or model.is_dir() or model.suffix == ".zip"


def as_bundle(model: Path, out: Path) -> Bundle:
    """Load ``model`` if it is a bundle; export it to one in ``out`` if it is a checkpoint.

    Args:
        model: name of a shipped model, a bundle, folder or zip, or a checkpoint of `training fit`.
        out: a checkpoint's bundle goes to ``out / "bundle"`` and replaces what was there before.

    Raises:
        MetstError: the model cannot be read, or the bundle not written.
    """
    if is_bundle(model):
        return Bundle.find(model)
    from export.bundle import write
    from export.description import Description
    from training.models import load_checkpoint

    checkpoint = load_checkpoint(model)
    description = Description.from_meta(checkpoint.meta, name=model.parent.name)
    return write(checkpoint.network, description, out / "bundle", force=True, console=Console(quiet=True))


def apart_of(model: Path) -> Apart:
    """Return what a model that spots says of people, before it is exported.

    Raises:
        MetstError: the model cannot be read.
    """
    if is_bundle(model):
        return Apart.of(Bundle.find(model).manifest)
    from training.models.checkpoint import contents

    return Apart.of(contents(model)["meta"])


def as_recogniser(model: Path, out: Path) -> RecognizerBundle:
    """Load a recogniser's bundle, or export its checkpoint to one; see `as_bundle`."""
    if is_bundle(model):
        return RecognizerBundle.find(model)
    from export.recogniser import RecogniserDescription, write_recogniser
    from training.models.recognisers import load_recogniser

    checkpoint = load_recogniser(model)
    about = RecogniserDescription.from_meta(checkpoint.meta, name=model.parent.name)
    return write_recogniser(checkpoint.network, about, out / "bundle", force=True, console=Console(quiet=True))


def results_folder(model: Path, data: str, verb: str = "evaluate") -> Path:
    """Return where results go when nobody says: by the name of the run or bundle, and of the data."""
    name = model.parent.name if model.suffix == ".pt" else model.stem
    return Path("runs") / f"{verb}-{name}-{data}"
