"""ME-TST as two ONNX graphs, and its weights and sizes out of the trained network.

`window` scores whole windows from a zero state; its scan is the node metst::SelectiveScan with the local function of
that name. `step` takes one frame in every lane, with all state as inputs and outputs, in standard operators only.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from export.networks import from_torch, parts
from export.networks.from_torch import Arrays
from export.networks.mamba import step_block, window_block
from export.onnx_builder import OnnxBuilder
from metst_edge.engine.networks.shape import Network
from training.models import MeTst


def sizes(network: MeTst) -> dict[str, int]:
    """Return the sizes that the manifest holds."""
    return {**network.sizes.to_dict(), "dt_rank": network.blocks[0].attn.mamba.dt_rank}


def weights(network: MeTst) -> Arrays:
    """Return the weights of a network in evaluation mode, in the order of weights.bin."""
    found = from_torch.stem(network.Stem)
    for i, block in enumerate(network.blocks):
        found |= from_torch.mamba_block(f"blocks.{i}", block)
    return found | from_torch.head("spot", network.fc_spot) | from_torch.head("emotion", network.fc_recog)


def window(network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build window.onnx.

    Args:
        network: its shape.
        offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.
    """
    graph = OnnxBuilder(network.weights, offsets, half)
    x = parts.window_stem(graph, network)
    x = graph.add("Transpose", x, perm=[0, 2, 1])
    h0 = parts.zero_state(graph, network.blocks[0])
    for block in network.blocks:
        x = window_block(graph, x, block, h0)
    parts.heads(graph, x, x, network)
    return parts.window_model(graph, network)


def step(network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build step.onnx: where frame s is fed, the stem gives frame s-2, and all that follows is of that frame.

    Args:
        network: its shape, which also says what the state is.
        offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.
    """
    graph = OnnxBuilder(network.weights, offsets, half)
    windows = parts.ends(graph, network)
    x = parts.step_stem(graph, network, windows)
    keep = windows.state(graph, age=network.look_ahead)
    for block in network.blocks:
        x = step_block(graph, x, block, keep)
    parts.heads(graph, x, x, network)
    return parts.step_model(graph, network)
