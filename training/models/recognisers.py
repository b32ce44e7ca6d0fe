"""Recognisers' checkpoints on disk: what `training recognise fit` writes, and the published state dicts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.models.checkpoint import CheckpointError, check_state, contents, load_fitting
from training.models.slstt import RECOGNISERS, UNUSED, Slstt, build_recogniser, sizes_of


@dataclass(frozen=True)
class RecogniserCheckpoint:
    """A recogniser as `training recognise fit` left it.

    Attributes:
        network: in evaluation mode, with the checkpoint's weights.
        meta: what the exporter writes into the bundle, plain JSON values: name, labels, weight, training, metrics.
    """

    network: Slstt
    meta: dict[str, Any]


def load_recogniser(path: str | os.PathLike[str]) -> RecogniserCheckpoint:
    """Read what `save_checkpoint` wrote of a recogniser.

    Raises:
        CheckpointError: not such a file, or names or shapes do not fit; the first of them are listed.
    """
    return recogniser_of(contents(path), path)


def recogniser_of(content: Mapping[str, Any], source: object) -> RecogniserCheckpoint:
    """Return the recogniser in what `contents` read. Raises CheckpointError as `load_recogniser`."""
    try:
        network = build_recogniser(content["model"], **content.get("sizes", {}))
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{source}: {error}") from error
    _fill(network, content["state_dict"], source)
    return RecogniserCheckpoint(network.eval(), dict(content["meta"]))


def published_recogniser(state: Mapping[str, Tensor], model: str, source: object) -> Slstt:
    """Return the network that a state dict of the published code is of.

    Args:
        state: published names, with or without `module.` in front.
        model: "slstt_lstm" or "slstt_mean", which have the same names and shapes.
        source: what to call the state dict in an error.

    Returns:
        The network, in evaluation mode.

    Raises:
        CheckpointError: not a state dict, or names or shapes do not fit; the first of them are listed.
    """
    check_state(state, source)
    published = RECOGNISERS[model]
    network = Slstt(model, sizes_of(state, published.aggregation) or published)
    _fill(network, state, source)
    network.eval()
    return network


def _fill(network: Slstt, state: Mapping[str, Tensor], source: object) -> None:
    """Load a state dict, after saying everything about it that does not fit."""
    check_state(state, source)
    unused = UNUSED[network.sizes.aggregation]
    found = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    found = {name: tensor for name, tensor in found.items() if not name.startswith(unused)}
    load_fitting(network, found, f"{source} does not fit {network.name}")
