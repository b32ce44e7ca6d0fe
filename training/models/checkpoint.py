"""Checkpoints on disk: the format `training fit` writes, and the bare state dicts of the published code.

Both load with `weights_only=True`: a file that wants to run code is refused, not run.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metst_edge.errors import MetstError
from training.models.registry import MODELS, SpottingNetwork, build
from training.models.slstt import Slstt

FORMAT = 1

GENERATED = "rendered micro-expressions on public-domain portraits, synthetic"
"""What a checkpoint says that it was trained on where that is the generator's windows, which are ours."""
LICENCE = "Apache-2.0"
"""Of weights that were trained on nothing else."""

MOST_LISTED = 12
"""Names that do not fit which an error lists."""

# In published checkpoints of every network but read by no forward pass.
UNUSED_LEAVES = (".norm2.weight", ".norm2.bias")


class CheckpointError(MetstError):
    """A checkpoint cannot be read, or does not fit the network it is for."""


@dataclass(frozen=True)
class Checkpoint:
    """A network as `training fit` left it.

    Attributes:
        network: in evaluation mode, with the checkpoint's weights.
        meta: what the exporter writes into the bundle, plain JSON values: name, fps, k, k_p, roi_set, compat, decode,
            labels, training, metrics; and licence, where what it was trained on is ours.
    """

    network: SpottingNetwork
    meta: dict[str, Any]


def save_checkpoint(path: str | os.PathLike[str], network: SpottingNetwork | Slstt, meta: Mapping[str, Any]) -> None:
    """Write the network and its meta data so that a crash leaves either the old file or the whole new one.

    Args:
        path: the file to write; its folder must exist.
        network: weights are copied to the CPU.
        meta: JSON-like values only (str, numbers, bool, None, lists, dicts), so that `weights_only` can read it back.
    """
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    content = {
        "format": FORMAT,
        "model": network.name,
        "sizes": network.sizes.to_dict(),
        "state_dict": state,
        "meta": dict(meta),
    }
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    torch.save(content, partial)
    os.replace(partial, path)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what `save_checkpoint` wrote of a network that spots.

    Raises:
        CheckpointError: not such a file, or names or shapes do not fit; the first of them are listed.
    """
    content = contents(path)
    try:
        network = build(content["model"], **content.get("sizes", {}))
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    fill(network, content["state_dict"], path)
    return Checkpoint(network.eval(), dict(content["meta"]))


def contents(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read what `save_checkpoint` wrote, of any network: its model's name, sizes, state dict and meta data.

    Raises:
        CheckpointError: not such a file.
    """
    content = read(path)
    parts = {"format", "model", "state_dict", "meta"}
    if not isinstance(content, Mapping) or not parts <= content.keys() or not isinstance(content["meta"], Mapping):
        raise CheckpointError(
            f"{path}: expected a checkpoint of `python -m training fit` (model, state_dict, meta); "
            "for a published state dict use `python -m export upstream`"
        )
    if content["format"] != FORMAT:
        raise CheckpointError(f"{path}: expected checkpoint format {FORMAT}, got {content['format']!r}; train again")
    return content


def fill(network: SpottingNetwork, state: Mapping[str, Tensor], source: object) -> None:
    """Load a state dict, after saying everything about it that does not fit.

    Args:
        network: filled in place.
        state: published names, with or without `module.` in front and the unused weights.
        source: what to call the state dict in an error.

    Raises:
        CheckpointError: names are missing or unknown, shapes differ, or values are not finite.
    """
    check_state(state, source)
    expected = network.state_dict()
    found = used(state, expected, MODELS[network.name].unused)
    others = [name for name in MODELS if name != network.name]
    hint = f"Is it another model ({', '.join(others)}), or trained with other sizes?"
    load_fitting(network, found, f"{source} does not fit {network.name}", hint)


def load_fitting(network: nn.Module, found: Mapping[str, Tensor], claim: str, hint: str = "") -> None:
    """Load a state dict that has the network's names, or say what does not fit.

    Args:
        network: filled in place.
        found: names and tensors.
        claim: what the message begins with.
        hint: a sentence that it ends with.

    Raises:
        CheckpointError: names are missing or unknown, shapes differ, or values are not finite.
    """
    expected = network.state_dict()
    problems = misfits(found, expected)
    problems += [
        f"{name}: expected finite values, got nan or inf"
        for name, tensor in found.items()
        if name in expected and not torch.isfinite(tensor).all()
    ]
    if problems:
        raise CheckpointError(f"{claim}: {listed(problems)}" + (f". {hint}" if hint else ""))
    network.load_state_dict(found)


def listed(problems: Sequence[str]) -> str:
    """Return problems as one text: the first of them, and how many more there are."""
    more = len(problems) - MOST_LISTED
    return "; ".join(problems[:MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")


def check_state(state: object, source: object) -> None:
    """Raise CheckpointError where something, called `source` in the message, is no state dict."""
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{source}: expected a state dict (names and tensors), got {type(state).__name__}")


def used(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], unused: tuple[str, ...]) -> dict[str, Tensor]:
    """Return a state dict without `module.`, and without what a network does not read.

    Args:
        state: published names.
        expected: the network's own state dict.
        unused: what names begin with that it does not read.
    """
    found = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    found = {
        name: tensor
        for name, tensor in found.items()
        if name in expected or not (name.startswith(unused) or name.endswith(UNUSED_LEAVES))
    }
    # A counter that inference never reads; old checkpoints lack it.
    for name in expected.keys() - found.keys():
        if name.endswith("num_batches_tracked"):
            found[name] = expected[name]
    return found


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return what in a state dict's names and shapes is not as expected, one entry a name."""
    problems = [f"missing {name} {tuple(expected[name].shape)}" for name in expected if name not in found]
    problems += [f"unknown {name} {tuple(found[name].shape)}" for name in found if name not in expected]
    problems += [
        f"{name}: expected shape {tuple(expected[name].shape)}, got {tuple(found[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    return problems


def read(path: str | os.PathLike[str]) -> Any:
    """Return what a file of `torch.save` holds: tensors and plain values.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds code.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: expected a checkpoint file, found none")
    if not Path(path).stat().st_size:
        raise CheckpointError(f"{path}: not a readable checkpoint (it is empty)")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected tensors and plain values only, but the file is damaged or holds code, "
            f"which is never run ({reason_of(error)}); save the state dict alone"
        ) from error
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason_of(error)})") from error


def reason_of(error: Exception) -> str:
    """Return in one line what torch says is wrong with a file, not its advice to run what is in it."""
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    return said.splitlines()[0]
