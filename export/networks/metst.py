"""ME-TST as two ONNX graphs, and its weights and sizes out of the trained network.

`window` scores whole windows from a zero state; its scan is the node metst::SelectiveScan with the local function of
that name. `step` takes one frame in every lane, with all state as inputs and outputs, in standard operators only.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from torch import nn

from export.networks import from_torch
from export.networks.from_torch import Arrays
from export.networks.mamba import step_block, window_block
from export.onnx_builder import OnnxBuilder, float_value
from export.scan_function import selective_scan
from metst_edge.engine.networks.shape import Network
from training.models import MeTst


def sizes(network: MeTst) -> dict[str, int]:
    """Return the sizes that the manifest holds."""
    return {**network.sizes.to_dict(), "dt_rank": network.blocks[0].attn.mamba.dt_rank}


def weights(network: MeTst) -> Arrays:
    """Return the weights of a network in evaluation mode, in the order of weights.bin."""
    convolutions = [m for m in network.Stem if isinstance(m, nn.Conv1d)]
    norms = [m for m in network.Stem if isinstance(m, nn.BatchNorm1d)]
    spot, emotion = (
        next(m for m in head.modules() if isinstance(m, nn.Linear)) for head in (network.fc_spot, network.fc_recog)
    )
    found: Arrays = {}
    for i, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        found |= from_torch.folded(f"stem.{i}", convolution, norm)
    for i, block in enumerate(network.blocks):
        found |= from_torch.mamba_block(f"blocks.{i}", block)
    return found | from_torch.linear("spot", spot) | from_torch.linear("emotion", emotion)


def window(network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build window.onnx: features (B, C, T) -> spot (B, T), emotion (B, T, E), batch and time dynamic.

    Args:
        network: its shape.
        offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.
    """
    graph = OnnxBuilder(network.weights, offsets, half)
    x = "features"
    for layer in network.stem:
        graph.scope(layer.name)
        weight, bias = graph.weight(f"{layer.name}.weight"), graph.weight(f"{layer.name}.bias")
        pads = [layer.look_ahead, layer.look_ahead]
        x = graph.add("Relu", graph.add("Conv", x, weight, bias, kernel_shape=[layer.taps], pads=pads))
    x = graph.add("Transpose", x, perm=[0, 2, 1])
    graph.scope("zero_state")
    batch = graph.add("Shape", "features", start=0, end=1)
    state = graph.integers(network.blocks[0].inner, network.blocks[0].states)
    h0 = graph.add("Expand", graph.number(0.0), graph.add("Concat", batch, state, axis=0))
    for block in network.blocks:
        x = window_block(graph, x, block, h0)
    _heads(graph, x, network)
    inputs = [float_value("features", "batch", network.channels, "time")]
    outputs = [float_value("spot", "batch", "time"), float_value("emotion", "batch", "time", network.classes)]
    return graph.model("window", inputs, outputs, [selective_scan(graph.half)])


def step(network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build step.onnx: features (lanes, C), reset (lanes), state -> spot (lanes), emotion (lanes, E), state.

    `reset` is 1 where this frame, s, is the first of its lane's window. The stem's first convolution then gives frame
    s-1 and its second, with all that follows, frame s-2. What a window's ends hide from its neighbours follows from the
    last two flags: a tap that would look across an end is multiplied by 0, which is the zero padding of that
    convolution's own input, and the blocks' state is zeroed before the first frame.

    Args:
        network: its shape, which also says what the state is.
        offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.
    """
    graph = OnnxBuilder(network.weights, offsets, half)
    graph.scope("resets")
    now = graph.add("Unsqueeze", "reset", graph.integers(1))
    waiting = network.look_ahead
    earlier = graph.add_many("Split", "resets", graph.integers(*[1] * waiting), outputs=waiting, axis=1)
    graph.add("Concat", now, *earlier[:-1], axis=1, to="resets_next")
    one = graph.number(1.0)
    inside = [graph.add("Sub", one, flag) for flag in (now, *earlier)]  # (lanes, 1) each, of frames s, s-1, s-2
    always = graph.add("Add", graph.add("Mul", now, graph.number(0.0)), one)

    x = "features"
    for i, layer in enumerate(network.stem):
        graph.scope(layer.name)
        seen = graph.add("Concat", layer.buffer, graph.add("Unsqueeze", x, graph.integers(2)), axis=2)
        start, end, axis = graph.integers(1), graph.integers(layer.taps), graph.integers(2)
        graph.add("Slice", seen, start, end, axis, to=f"{layer.buffer}_next")
        # The frame before is hidden from a first frame, the frame after from a last one.
        mask = graph.add("Concat", inside[i + 1], always, inside[i], axis=1)
        taps = graph.add("Mul", seen, graph.add("Unsqueeze", mask, graph.integers(1)))
        flat = graph.add("Flatten", taps, axis=1)
        weight = graph.weight(f"{layer.name}.weight", (layer.outputs, layer.taps * layer.inputs))
        x = graph.add("Relu", graph.add("Gemm", flat, weight, graph.weight(f"{layer.name}.bias"), transB=1))

    keep = graph.add("Unsqueeze", inside[-1], graph.integers(2))  # (lanes, 1, 1)
    for block in network.blocks:
        x = step_block(graph, x, block, keep)
    _heads(graph, x, network)
    inputs = [float_value("features", "lanes", network.channels), float_value("reset", "lanes")]
    inputs += [float_value(name, "lanes", *shape) for name, shape in network.state.items()]
    outputs = [float_value("spot", "lanes"), float_value("emotion", "lanes", network.classes)]
    outputs += [float_value(f"{name}_next", "lanes", *shape) for name, shape in network.state.items()]
    return graph.model("step", inputs, outputs)


def _heads(graph: OnnxBuilder, x: str, network: Network) -> None:
    """Append both heads on x (..., dim) as the graph outputs spot (...) and emotion (..., E)."""
    graph.scope("heads")
    logit = graph.linear(x, network.spot.name)
    graph.add("Squeeze", graph.add("Sigmoid", logit), graph.integers(-1), to="spot")
    graph.linear(x, network.emotion.name, to="emotion")
