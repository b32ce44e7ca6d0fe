"""Checkpoints of the published code: which network one is, by its names and shapes, and the network filled with it.

A published network is a line in the table below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from training.models.checkpoint import CheckpointError, check_state, fill, listed, misfits, read, used
from training.models.registry import MODELS, SpottingNetwork, build
from training.models.slstt import sizes_of

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A published network.

    Attributes:
        misfits: returns what in a state dict's names and shapes is not that network's, one entry a name.
        load: makes the network of a state dict, in evaluation mode; the second argument is what to call it in an error.
    """

    misfits: Callable[[State], list[str]]
    load: Callable[[State, object], SpottingNetwork]


def _misfits(name: str, state: State) -> list[str]:
    with torch.device("meta"):  # shapes only
        expected = build(name).state_dict()
    return misfits(used(state, expected, MODELS[name].unused), expected)


def _load(name: str, state: State, source: object) -> SpottingNetwork:
    network = build(name)
    fill(network, state, source)
    network.eval()
    return network


PUBLISHED = {
    name: Published(partial(_misfits, name), partial(_load, name))
    for name in ("metst64", "metst128", "metst_plus", "metst_plus_shared")
}
"""By the network's name."""

PUBLISHED_RECOGNISERS = ("slstt_lstm", "slstt_mean")
"""Recognisers whose names and shapes are the same."""


def load_published(path: str | os.PathLike[str], model: str | None = None) -> SpottingNetwork:
    """Read a state dict of the published code into the network that it is of.

    Args:
        path: a pickled state dict; `module.` before names, and weights the published code never reads, are accepted.
        model: a key of PUBLISHED that it must be; None for any.

    Raises:
        CheckpointError: not a state dict, or names or shapes do not fit the model, or any. What they do fit is named,
            or else the first that do not are listed.
    """
    state = published_state(path)
    if model is None:
        model = identify(state, path)
    else:
        expect_fit(state, model, path)
    return PUBLISHED[model].load(state, path)


def expect_fit(state: State, model: str, source: object) -> None:
    """Check that a state dict is not of another published network than is asked for.

    Args:
        state: names and tensors.
        model: a key of PUBLISHED, or one of PUBLISHED_RECOGNISERS.
        source: what to call it in an error.

    Raises:
        CheckpointError: it is of another one, which is named.
    """
    if sizes_of(state) is not None:
        fitting = list(PUBLISHED_RECOGNISERS)
    else:
        fitting = [name for name, published in PUBLISHED.items() if not published.misfits(state)]
    if fitting and model not in fitting:
        raise CheckpointError(
            f"{source}: expected the names and shapes of {model}, got those of {' or '.join(fitting)}; "
            f"give --model {fitting[0]}"
        )


def published_state(path: str | os.PathLike[str]) -> State:
    """Read a state dict of the published code, which may lie in a checkpoint's "state_dict".

    Raises:
        CheckpointError: it is none.
    """
    content = read(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    check_state(content, path)
    state: State = content
    return state


def identify(state: State, source: object) -> str:
    """Return which published network a state dict is of, a key of PUBLISHED.

    Args:
        state: names and tensors.
        source: what to call it in an error.

    Raises:
        CheckpointError: names or shapes fit none of them; the first that do not fit the nearest are listed.
    """
    problems = {name: published.misfits(state) for name, published in PUBLISHED.items()}
    nearest = min(problems, key=lambda name: len(problems[name]))
    if problems[nearest]:
        raise CheckpointError(
            f"{source}: expected the names and shapes of a published network ({', '.join(PUBLISHED)}), got none of "
            f"them; nearest is {nearest}, but for: {listed(problems[nearest])}"
        )
    return nearest
