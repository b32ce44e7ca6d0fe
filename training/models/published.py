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
from training.models.recognisers import published_recogniser
from training.models.registry import MODELS, SpottingNetwork, build
from training.models.slstt import RECOGNISERS, UNUSED, Slstt, sizes_of

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A published network.

    Attributes:
        misfits: returns what in a state dict's names and shapes is not that network's, one entry a name.
        load: makes the network of a state dict, in evaluation mode; the second argument is what to call it in an error.
    """

    misfits: Callable[[State], list[str]]
    load: Callable[[State, object], SpottingNetwork | Slstt]


def _misfits(name: str, state: State) -> list[str]:
    with torch.device("meta"):  # shapes only
        expected = build(name).state_dict()
    return misfits(used(state, expected, MODELS[name].unused), expected)


def _load(name: str, state: State, source: object) -> SpottingNetwork:
    network = build(name)
    fill(network, state, source)
    network.eval()
    return network


def _recogniser_misfits(name: str, state: State) -> list[str]:
    published = RECOGNISERS[name]
    sizes = sizes_of(state, published.aggregation) or published
    with torch.device("meta"):
        expected = Slstt(name, sizes).state_dict()
    found = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    unused = UNUSED[sizes.aggregation]
    return misfits({key: tensor for key, tensor in found.items() if not key.startswith(unused)}, expected)


def _load_recogniser(name: str, state: State, source: object) -> Slstt:
    return published_recogniser(state, name, source)


PUBLISHED = {
    name: Published(partial(_misfits, name), partial(_load, name))
    for name in ("metst64", "metst128", "metst_plus", "metst_plus_shared")
} | {
    name: Published(partial(_recogniser_misfits, name), partial(_load_recogniser, name))
    for name in ("slstt_lstm", "slstt_mean")
}
"""By the network's name."""


def load_published(path: str | os.PathLike[str], model: str | None = None) -> SpottingNetwork | Slstt:
    """Read a state dict of the published code into the network that it is of.

    Args:
        path: a pickled state dict; `module.` before names, and weights the published code never reads, are accepted.
        model: a key of PUBLISHED that it must be; None for any.

    Raises:
        CheckpointError: not a state dict, or names or shapes do not fit the model, or any. What they do fit is named,
            or else the first that do not are listed.
    """
    state = read(path)
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    check_state(state, path)
    if model is None:
        model = identify(state, path)
    else:
        expect_fit(state, model, path)
    return PUBLISHED[model].load(state, path)


def expect_fit(state: State, model: str, source: object) -> None:
    """Check that a state dict is not of another published network than is asked for.

    Args:
        state: names and tensors.
        model: a key of PUBLISHED.
        source: what to call it in an error.

    Raises:
        CheckpointError: it is of another one, which is named.
    """
    fitting = [name for name, published in PUBLISHED.items() if not published.misfits(state)]
    if fitting and model not in fitting:
        raise CheckpointError(
            f"{source}: expected the names and shapes of {model}, got those of {' or '.join(fitting)}; "
            f"give --model {fitting[0]}"
        )


def identify(state: State, source: object) -> str:
    """Return which published network a state dict is of, a key of PUBLISHED.

    Args:
        state: names and tensors.
        source: what to call it in an error.

    Raises:
        CheckpointError: names or shapes fit none of them, and the first that do not fit the nearest are listed; or they
            fit several.
    """
    problems = {name: published.misfits(state) for name, published in PUBLISHED.items()}
    fitting = [name for name, found in problems.items() if not found]
    if len(fitting) > 1:
        raise CheckpointError(f"{source} fits {' and '.join(fitting)} alike; say which it is with --model")
    nearest = min(problems, key=lambda name: len(problems[name]))
    if problems[nearest]:
        raise CheckpointError(
            f"{source}: expected the names and shapes of a published network ({', '.join(PUBLISHED)}), got none of "
            f"them; nearest is {nearest}, but for: {listed(problems[nearest])}"
        )
    return nearest
