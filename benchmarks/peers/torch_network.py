"""A bundle's network in torch, as training has it: what exported weights are put back into."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metst_edge.bundle import Bundle
from metst_edge.engine import Scores
from training.models import MODELS, build

Array = npt.NDArray[np.float32]


class TorchEngine:
    """A bundle's network in torch, scoring whole windows: it has no step.

    Attributes:
        name: "torch".
        bundle: whose weights it has.
        network: the module itself.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.name, self.bundle = "torch", bundle
        self.network = network_of(bundle)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        with torch.inference_mode():
            spot, emotion = self.network(torch.from_numpy(features))
        return Scores(spot.numpy(), emotion.numpy())


def network_of(bundle: Bundle) -> Any:
    """Put a bundle's weights back into the torch network they come from; its batch norms were folded away."""
    sizes: dict[str, Any] = {name: bundle.sizes[name] for name in MODELS[bundle.model].sizes.to_dict()}
    network = build(bundle.model, **sizes).eval()
    weights = {name: torch.from_numpy(np.array(array)) for name, array in bundle.weights().items()}
    with torch.no_grad():
        for name, layers in _convolutions(network).items():
            _copy(layers[0], weights, name)
            layers[1].weight.fill_((1 + layers[1].eps) ** 0.5)  # with mean 0 and variance 1: the identity
        for name, head in (("spot", network.fc_spot), ("emotion", network.fc_recog)):
            linear = next(module for module in head.modules() if isinstance(module, torch.nn.Linear))
            linear.weight.copy_(weights[f"{name}.weight"].T)
            linear.bias.copy_(weights[f"{name}.bias"])
        for i, block in enumerate(_blocks(network)):
            mamba = block.attn.mamba
            for layer, name in ((block.attn.norm, "norm"), (mamba.conv1d, "conv"), (block.norm1, "post_norm")):
                _copy(layer, weights, f"blocks.{i}.{name}")
            for name in ("in_proj", "x_proj", "dt_proj", "out_proj"):
                getattr(mamba, name).weight.copy_(weights[f"blocks.{i}.{name}"].T)
            mamba.dt_proj.bias.copy_(weights[f"blocks.{i}.dt_bias"])
            mamba.A_log.copy_((-weights[f"blocks.{i}.A"]).log())
            mamba.D.copy_(weights[f"blocks.{i}.D"])
    return network


def _convolutions(network: Any) -> dict[str, Any]:
    """Convolution and batch norm by the name of their weights."""
    found = {"stem.0": network.Stem[0:2], "stem.1": network.Stem[3:5]}
    for p, pathway in enumerate(getattr(network, "pathways", ())):
        found[f"pathway_{p}.entry"] = pathway.Stem_slow[:2]
        found |= {f"pathway_{p}.laterals.{i}": lateral.conv[:2] for i, lateral in enumerate(pathway.laterals)}
    return found


def _blocks(network: Any) -> list[Any]:
    """In the order of weights.bin."""
    if not hasattr(network, "pathways"):
        return list(network.blocks)
    stages = [stage for pathway in network.pathways for stage in (*pathway.fast_stages, *pathway.slow_stages)]
    return [block for stage in stages for block in stage]


def _copy(layer: Any, weights: dict[str, torch.Tensor], name: str) -> None:
    """Fill a layer's weight and bias with those that are stored under its name."""
    layer.weight.copy_(weights[f"{name}.weight"])
    layer.bias.copy_(weights[f"{name}.bias"])
