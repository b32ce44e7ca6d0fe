"""What the graphs of every network have in common: convolutions over time, where windows end, heads, inputs, outputs.

`window` graphs see whole windows, which end where the tensor ends. In `step` graphs windows begin where flags say so;
a tap that would look across an end is multiplied by 0, which is the zero padding of that convolution's own input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from export.onnx_builder import OnnxBuilder, float_value
from export.scan_function import selective_scan
from metst_edge.engine.networks.shape import Convolution, MambaBlock, Network


@dataclass(frozen=True)
class Ends:
    """Where windows begin, as a step's graph has it: 0 where a frame is the first of its lane's window, else 1.

    Attributes:
        inside: float32 (lanes, 1) each, of the frame that is fed, s, of s-1, s-2 ...
        always: float32 (lanes, 1) of ones.
    """

    inside: tuple[str, ...]
    always: str

    def taps(self, graph: OnnxBuilder, age: int) -> str:
        """Return what a convolution of three taps around frame s-age sees: float32 (lanes, 1, 3), 0 or 1.

        The frame before is hidden from a first frame, the frame after from a last one.
        """
        mask = graph.add("Concat", self.inside[age], self.always, self.inside[age - 1], axis=1)
        return graph.add("Unsqueeze", mask, graph.integers(1))

    def state(self, graph: OnnxBuilder, age: int) -> str:
        """Return what multiplies the state before frame s-age: float32 (lanes, 1, 1)."""
        return graph.add("Unsqueeze", self.inside[age], graph.integers(2))


def ends(graph: OnnxBuilder, network: Network) -> Ends:
    """Append what follows from the input `reset` and the state `resets`, which it hands on."""
    graph.scope("resets")
    now = graph.add("Unsqueeze", "reset", graph.integers(1))
    waiting = network.look_ahead
    earlier = graph.add_many("Split", "resets", graph.integers(*[1] * waiting), outputs=waiting, axis=1)
    graph.add("Concat", now, *earlier[:-1], axis=1, to="resets_next")
    one = graph.number(1.0)
    inside = tuple(graph.add("Sub", one, flag) for flag in (now, *earlier))
    return Ends(inside, graph.add("Add", graph.add("Mul", now, graph.number(0.0)), one))


def window_convolution(graph: OnnxBuilder, x: str, layer: Convolution, stride: int = 1) -> str:
    """Append a convolution and its ReLU on (B, in, T); return (B, out, T / stride rounded up)."""
    graph.scope(layer.name)
    weight, bias = graph.weight(f"{layer.name}.weight"), graph.weight(f"{layer.name}.bias")
    pads = [layer.look_ahead, layer.look_ahead]
    shape: dict[str, Any] = {"kernel_shape": [layer.taps], "pads": pads}
    if stride != 1:
        shape["strides"] = [stride]
    return graph.add("Relu", graph.add("Conv", x, weight, bias, **shape))


def window_stem(graph: OnnxBuilder, network: Network) -> str:
    """Append the stem on whole windows: (B, C, T) to (B, dim, T)."""
    x = "features"
    for layer in network.stem:
        x = window_convolution(graph, x, layer)
    return x


def step_convolution(graph: OnnxBuilder, x: str, layer: Convolution, taps: str) -> str:
    """Append a convolution and its ReLU on one frame, (lanes, in) to (lanes, out), from and to its state.

    Args:
        graph: where to.
        x: the frame that its last tap is for.
        layer: its shape.
        taps: float32 (lanes, 1, taps), 0 where a tap looks across a window's end.
    """
    graph.scope(layer.name)
    seen = graph.add("Concat", layer.buffer, graph.add("Unsqueeze", x, graph.integers(2)), axis=2)
    start, end, axis = graph.integers(1), graph.integers(layer.taps), graph.integers(2)
    graph.add("Slice", seen, start, end, axis, to=f"{layer.buffer}_next")
    flat = graph.add("Flatten", graph.add("Mul", seen, taps), axis=1)
    weight = graph.weight(f"{layer.name}.weight", (layer.outputs, layer.taps * layer.inputs))
    return graph.add("Relu", graph.add("Gemm", flat, weight, graph.weight(f"{layer.name}.bias"), transB=1))


def step_stem(graph: OnnxBuilder, network: Network, windows: Ends) -> str:
    """Append the stem on the frame s that is fed; return its output of the frame that it is then known for.

    Its first convolution gives frame s-1 and its second frame s-2.
    """
    x = "features"
    for i, layer in enumerate(network.stem):
        graph.scope(layer.name)
        x = step_convolution(graph, x, layer, windows.taps(graph, age=i + 1))
    return x


def zero_state(graph: OnnxBuilder, block: MambaBlock) -> str:
    """Append the state that a window's scan starts from, float32 (B, D, N)."""
    graph.scope("zero_state")
    batch = graph.add("Shape", "features", start=0, end=1)
    state = graph.integers(block.inner, block.states)
    return graph.add("Expand", graph.number(0.0), graph.add("Concat", batch, state, axis=0))


def heads(graph: OnnxBuilder, spot: str, emotion: str, network: Network) -> None:
    """Append both heads, each on its x (..., inputs), as the graph outputs spot (...) and emotion (..., E)."""
    graph.scope("heads")
    logit = graph.linear(spot, network.spot.name)
    graph.add("Squeeze", graph.add("Sigmoid", logit), graph.integers(-1), to="spot")
    graph.linear(emotion, network.emotion.name, to="emotion")


def window_model(graph: OnnxBuilder, network: Network) -> onnx.ModelProto:
    """Return window.onnx: features (B, C, T) -> spot (B, T), emotion (B, T, E), batch and time dynamic."""
    inputs = [float_value("features", "batch", network.channels, "time")]
    outputs = [float_value("spot", "batch", "time"), float_value("emotion", "batch", "time", network.classes)]
    return graph.model("window", inputs, outputs, [selective_scan(graph.half)])


def step_model(graph: OnnxBuilder, network: Network) -> onnx.ModelProto:
    """Return step.onnx: features (lanes, C), reset (lanes), state -> spot (lanes), emotion (lanes, E), state.

    `reset` is 1 where the frame is the first of its lane's window.
    """
    inputs = [float_value("features", "lanes", network.channels), float_value("reset", "lanes")]
    inputs += [float_value(name, "lanes", *shape) for name, shape in network.state.items()]
    outputs = [float_value("spot", "lanes"), float_value("emotion", "lanes", network.classes)]
    outputs += [float_value(f"{name}_next", "lanes", *shape) for name, shape in network.state.items()]
    return graph.model("step", inputs, outputs)
