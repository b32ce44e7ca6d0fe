"""The two ONNX graphs of a bundle, built by hand from the same layers.

`window` scores whole windows from a zero state; its scan is the node metst::SelectiveScan, with a local
function of that name in standard operators for runtimes without a kernel of their own. `step` takes one frame
in every lane, with all state as inputs and outputs, in standard operators only. Weights are external data, in
weights.bin.

In fp16 graphs the matrix products and the convolution of every block are half precision (`layers.Weight.half`); the
residual stream, norms, time step, state, stem and heads stay fp32, and so do all inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.layers import Affine, MambaBlock, Network, Weight
from metst_edge.bundle import HALF_WEIGHTS

# Opset 17 is the first with LayerNormalization; TensorRT 10.3 reads up to 20.
OPSET = 17
IR_VERSION = 8
DOMAIN = "metst"
SCAN = "SelectiveScan"
SCAN_INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "h0")
SCAN_OUTPUTS = ("y", "h")
# TensorRT before 10.10 finds a plugin by these attributes of the node, later by the node's domain.
SCAN_ATTRIBUTES: dict[str, Any] = {"plugin_namespace": DOMAIN, "plugin_version": "1"}
WEIGHTS_FILE = "weights.bin"
LAYER_NORM_EPS = 1e-5
LOOK_AHEAD = 2  # one frame for each convolution of the stem


@dataclass(frozen=True)
class State:
    """A state tensor of the step graph: float32 (lanes, *shape), input `name`, output `name` + "_next"."""

    name: str
    shape: tuple[int, ...]


class _Graph:
    """Collects nodes, initializers and the offsets of external weights.

    Args:
        offsets: of weights in weights.bin. half: of those in weights.fp16.bin, which go before; None for fp32.
    """

    def __init__(self, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> None:
        self._offsets, self._half_offsets = offsets, half or {}
        self.half = half is not None
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self._scope = ""

    def scope(self, name: str) -> None:
        """Put `name` in front of the names of nodes added from now on."""
        self._scope = name

    def add(self, op: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Append a node with one output; return its name, which is `to` where given (a graph output)."""
        return self.add_many(op, *inputs, to=None if to is None else (to,), outputs=1, **attributes)[0]

    def add_many(
        self,
        op: str,
        *inputs: str,
        outputs: int,
        to: tuple[str, ...] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> tuple[str, ...]:
        """Append a node; return the names of its outputs."""
        name = f"{self._scope}/{op}_{len(self.nodes)}"
        names = to or tuple(f"{name}:{i}" for i in range(outputs))
        self.nodes.append(helper.make_node(op, inputs, names, name=name, domain=domain, **attributes))
        return names

    def low(self, x: str) -> str:
        """Return x in fp16 in an fp16 graph, and as it is in an fp32 one."""
        return self._cast(x, TensorProto.FLOAT16) if self.half else x

    def full(self, x: str) -> str:
        """Return x in fp32, which in an fp32 graph it is."""
        return self._cast(x, TensorProto.FLOAT) if self.half else x

    def _cast(self, x: str, kind: int) -> str:
        # Not by `add`: the attribute has the name of one of its parameters.
        name = f"{self._scope}/Cast_{len(self.nodes)}"
        self.nodes.append(helper.make_node("Cast", [x], [f"{name}:0"], name=name, to=kind))
        return f"{name}:0"

    def weight(self, weight: Weight, shape: tuple[int, ...] | None = None) -> str:
        """Return the name of an initializer that lies in a file of weights, seen in another shape if given."""
        dims = weight.array.shape if shape is None else shape
        half = weight.name in self._half_offsets
        tensor = TensorProto(name=weight.name, data_type=TensorProto.FLOAT16 if half else TensorProto.FLOAT, dims=dims)
        tensor.data_location = TensorProto.EXTERNAL
        where = {
            "location": HALF_WEIGHTS if half else WEIGHTS_FILE,
            "offset": (self._half_offsets if half else self._offsets)[weight.name],
            "length": weight.array.size * (2 if half else 4),
        }
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[weight.name] = tensor
        return weight.name

    def integers(self, *values: int) -> str:
        """Return the name of a constant int64 (n,)."""
        return self._constant("i_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        """Return the name of a constant float32 scalar."""
        return self._constant(f"f_{value:g}", np.array(value, np.float32))

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(value, name)
        return name

    def layer_norm(self, x: str, layer: Affine) -> str:
        weight, bias = self.weight(layer.weight), self.weight(layer.bias)
        return self.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=LAYER_NORM_EPS)

    def linear(self, x: str, layer: Affine, to: str | None = None) -> str:
        return self.add("Add", self.add("MatMul", x, self.weight(layer.weight)), self.weight(layer.bias), to=to)

    def silu(self, x: str) -> str:
        return self.add("Mul", x, self.add("Sigmoid", x))

    def in_two(self, x: str, size: int) -> tuple[str, ...]:
        """Split (..., 2 * size) into halves."""
        return self.add_many("Split", x, self.integers(size, size), outputs=2, axis=-1)

    def scan_inputs(self, u: str, block: MambaBlock) -> tuple[str, str, str]:
        """Project u (..., D) to the scan's delta (..., D), always fp32, B and C (..., N)."""
        projected = self.add("MatMul", u, self.weight(block.x_proj))
        sizes = self.integers(block.dt_rank, block.states, block.states)
        low, b, c = self.add_many("Split", projected, sizes, outputs=3, axis=-1)
        return self.add("MatMul", self.full(low), self.weight(block.dt_proj)), b, c

    def heads(self, x: str, network: Network) -> None:
        """Append both heads on x (..., dim) as the graph outputs spot (...) and emotion (..., E)."""
        self.scope("heads")
        self.add("Squeeze", self.add("Sigmoid", self.linear(x, network.spot)), self.integers(-1), to="spot")
        self.linear(x, network.emotion, to="emotion")

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        functions: Sequence[onnx.FunctionProto] = (),
    ) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, list(self.initializers.values()))
        opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid(DOMAIN, 1)] if functions else [])
        return helper.make_model(
            graph,
            opset_imports=opsets,
            functions=list(functions),
            ir_version=IR_VERSION,
            producer_name="metst_edge.export",
        )


def window(network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build window.onnx: features (B,C,T) -> spot (B,T), emotion (B,T,E), batch and time dynamic.

    Args:
        network: the layers. offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.
    """
    graph = _Graph(offsets, half)
    x = "features"
    for i, layer in enumerate(network.stem):
        graph.scope(f"stem.{i}")
        weight, bias = graph.weight(layer.weight), graph.weight(layer.bias)
        x = graph.add("Relu", graph.add("Conv", x, weight, bias, kernel_shape=[3], pads=[1, 1]))
    x = graph.add("Transpose", x, perm=[0, 2, 1])
    graph.scope("zero_state")
    batch = graph.add("Shape", "features", start=0, end=1)
    sizes = graph.integers(network.blocks[0].inner, network.blocks[0].states)
    h0 = graph.add("Expand", graph.number(0.0), graph.add("Concat", batch, sizes, axis=0))
    for i, block in enumerate(network.blocks):
        graph.scope(f"blocks.{i}")
        x = graph.add("Add", x, _window_block(graph, graph.low(graph.layer_norm(x, block.norm)), block, h0))
    graph.heads(x, network)
    channels, classes = network.stem[0].weight.array.shape[1], network.emotion.bias.array.shape[0]
    inputs = [_float("features", "batch", channels, "time")]
    outputs = [_float("spot", "batch", "time"), _float("emotion", "batch", "time", classes)]
    return graph.model("window", inputs, outputs, [selective_scan(graph.half)])


def step(
    network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None
) -> tuple[onnx.ModelProto, tuple[State, ...]]:
    """Build step.onnx: features (lanes,C), reset (lanes), state -> spot (lanes), emotion (lanes,E), state.

    `reset` is 1 where this frame, s, is the first of its lane's window. The stem's first convolution then
    gives frame s-1 and its second, with all that follows, frame s-2. What a window's ends hide from its
    neighbours follows from the last two flags: a tap that would look across an end is multiplied by 0, which
    is the zero padding of that convolution's own input, and the blocks' state is zeroed before the first
    frame.

    Args:
        network: the layers. offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.

    Returns:
        The model, and its state tensors in order.
    """
    graph = _Graph(offsets, half)
    states: list[State] = []

    def state(name: str, *shape: int) -> str:
        states.append(State(name, shape))
        return name

    graph.scope("resets")
    resets = state("resets", LOOK_AHEAD)  # of frames s-1, s-2
    now = graph.add("Unsqueeze", "reset", graph.integers(1))
    one_ago, two_ago = graph.add_many("Split", resets, graph.integers(1, 1), outputs=2, axis=1)
    graph.add("Concat", now, one_ago, axis=1, to="resets_next")
    one = graph.number(1.0)
    inside = [graph.add("Sub", one, flag) for flag in (now, one_ago, two_ago)]  # (lanes, 1) of s, s-1, s-2
    always = graph.add("Add", graph.add("Mul", now, graph.number(0.0)), one)

    x = "features"
    for i, layer in enumerate(network.stem):
        graph.scope(f"stem.{i}")
        channels = layer.weight.array.shape[1]
        buffer = state(f"stem_{i}", channels, 2)
        seen = graph.add("Concat", buffer, graph.add("Unsqueeze", x, graph.integers(2)), axis=2)
        start, end, axis = graph.integers(1), graph.integers(3), graph.integers(2)
        graph.add("Slice", seen, start, end, axis, to=f"{buffer}_next")
        # The frame before is hidden from a first frame, the frame after from a last one.
        mask = graph.add("Concat", inside[i + 1], always, inside[i], axis=1)
        taps = graph.add("Mul", seen, graph.add("Unsqueeze", mask, graph.integers(1)))
        flat = graph.add("Flatten", taps, axis=1)
        weight = graph.weight(layer.weight, (layer.weight.array.shape[0], 3 * channels))
        x = graph.add("Relu", graph.add("Gemm", flat, weight, graph.weight(layer.bias), transB=1))

    keep = graph.add("Unsqueeze", inside[2], graph.integers(2))  # (lanes, 1, 1)
    for i, block in enumerate(network.blocks):
        graph.scope(f"blocks.{i}")
        conv = state(f"conv_{i:02d}", block.inner, block.taps - 1)
        ssm = state(f"ssm_{i:02d}", block.inner, block.states)
        x = graph.add("Add", x, _step_block(graph, graph.low(graph.layer_norm(x, block.norm)), block, conv, ssm, keep))
    graph.heads(x, network)
    channels, classes = network.stem[0].weight.array.shape[1], network.emotion.bias.array.shape[0]
    inputs = [_float("features", "lanes", channels), _float("reset", "lanes")]
    inputs += [_float(s.name, "lanes", *s.shape) for s in states]
    outputs = [_float("spot", "lanes"), _float("emotion", "lanes", classes)]
    outputs += [_float(f"{s.name}_next", "lanes", *s.shape) for s in states]
    return graph.model("step", inputs, outputs), tuple(states)


def selective_scan(half: bool = False) -> onnx.FunctionProto:
    """Build the body of metst::SelectiveScan, as selective_scan.h defines it, in standard operators.

    Args:
        half: u, B, C, z and y are fp16, and computed with in fp32; all else is fp32 always.

    It declares the plugin attributes so that a checker accepts them on the node; the body reads none.
    """
    node = helper.make_node
    body = helper.make_graph(
        [
            node("Unsqueeze", ["dt", "last"], ["dt_column"]),
            node("Mul", ["dt_column", "A"], ["exponent"]),
            node("Exp", ["exponent"], ["decay"]),
            node("Mul", ["decay", "h_before"], ["decayed"]),
            node("Unsqueeze", ["x", "last"], ["x_column"]),
            node("Unsqueeze", ["b", "middle"], ["b_row"]),
            node("Mul", ["x_column", "b_row"], ["added"]),
            node("Add", ["decayed", "added"], ["h_after"]),
            node("Unsqueeze", ["c", "last"], ["c_column"]),
            node("MatMul", ["h_after", "c_column"], ["read"]),
            node("Squeeze", ["read", "last"], ["y_step"]),
        ],
        "one_step",
        [_float("h_before", None, None, None)] + [_float(name, None, None) for name in ("dt", "x", "b", "c")],
        [_float("h_after", None, None, None), _float("y_step", None, None)],
    )
    u, b, c, z, y = (f"{name}_fp32" if half else name for name in ("u", "B", "C", "z", "y"))
    nodes = [node("Cast", [x], [f"{x}_fp32"], to=TensorProto.FLOAT) for x in ("u", "B", "C", "z") if half]
    nodes += [
        _constant("last", [-1]),
        _constant("middle", [1]),
        node("Add", ["delta", "delta_bias"], ["delta_biased"]),
        node("Softplus", ["delta_biased"], ["dt_all"]),
        node("Mul", ["dt_all", u], ["x_all"]),
        node(
            "Scan",
            ["h0", "dt_all", "x_all", b, c],
            ["h", "y_scan"],
            body=body,
            num_scan_inputs=4,
            scan_input_axes=[1, 1, 1, 1],
            scan_output_axes=[1],
        ),
        node("Mul", [u, "D"], ["skip"]),
        node("Add", ["y_scan", "skip"], ["y_all"]),
        node("Sigmoid", [z], ["z_sigmoid"]),
        node("Mul", [z, "z_sigmoid"], ["gate"]),
        node("Mul", ["y_all", "gate"], [y]),
    ]
    nodes += [node("Cast", [y], ["y"], to=TensorProto.FLOAT16)] if half else []
    return helper.make_function(
        DOMAIN,
        SCAN,
        SCAN_INPUTS,
        SCAN_OUTPUTS,
        nodes,
        [helper.make_opsetid("", OPSET)],
        attributes=list(SCAN_ATTRIBUTES),
    )


def _window_block(graph: _Graph, x: str, block: MambaBlock, h0: str) -> str:
    """The residual branch on (B,T,dim)."""
    u, z = graph.in_two(graph.add("MatMul", x, graph.weight(block.in_proj)), block.inner)
    u = graph.add(
        "Conv",
        graph.add("Transpose", u, perm=[0, 2, 1]),
        graph.weight(block.conv.weight),
        graph.weight(block.conv.bias),
        kernel_shape=[block.taps],
        pads=[block.taps - 1, 0],
        group=block.inner,
    )
    u = graph.silu(graph.add("Transpose", u, perm=[0, 2, 1]))
    delta, b, c = graph.scan_inputs(u, block)
    y, _ = graph.add_many(
        SCAN,
        u,
        delta,
        graph.weight(block.a),
        b,
        c,
        graph.weight(block.d),
        z,
        graph.weight(block.dt_bias),
        h0,
        outputs=2,
        domain=DOMAIN,
        **SCAN_ATTRIBUTES,
    )
    return graph.layer_norm(graph.full(graph.add("MatMul", y, graph.weight(block.out_proj))), block.post_norm)


def _step_block(graph: _Graph, x: str, block: MambaBlock, conv: str, ssm: str, keep: str) -> str:
    """The residual branch on (lanes,dim); writes the block's two states."""
    u, z = graph.in_two(graph.add("MatMul", x, graph.weight(block.in_proj)), block.inner)
    before = graph.add("Mul", conv, keep)
    seen = graph.add("Concat", before, graph.add("Unsqueeze", graph.full(u), graph.integers(2)), axis=2)
    start, end, axis = graph.integers(1), graph.integers(block.taps), graph.integers(2)
    graph.add("Slice", seen, start, end, axis, to=f"{conv}_next")
    taps = graph.add("Mul", graph.low(seen), graph.weight(block.conv.weight, (block.inner, block.taps)))
    u = graph.add("ReduceSum", taps, graph.integers(2), keepdims=0)
    u = graph.silu(graph.add("Add", u, graph.weight(block.conv.bias)))
    delta, b, c = graph.scan_inputs(u, block)
    dt = graph.add("Softplus", graph.add("Add", delta, graph.weight(block.dt_bias)))
    column = graph.integers(2)
    decay = graph.add("Exp", graph.add("Mul", graph.add("Unsqueeze", dt, column), graph.weight(block.a)))
    u, b, c, z = (graph.full(x) for x in (u, b, c, z))
    added = graph.add(
        "Mul",
        graph.add("Unsqueeze", graph.add("Mul", dt, u), column),
        graph.add("Unsqueeze", b, graph.integers(1)),
    )
    h = graph.add("Add", graph.add("Mul", decay, graph.add("Mul", ssm, keep)), added, to=f"{ssm}_next")
    y = graph.add("Squeeze", graph.add("MatMul", h, graph.add("Unsqueeze", c, column)), column)
    y = graph.add("Add", y, graph.add("Mul", u, graph.weight(block.d)))
    y = graph.low(graph.add("Mul", y, graph.silu(z)))
    return graph.layer_norm(graph.full(graph.add("MatMul", y, graph.weight(block.out_proj))), block.post_norm)


def _float(name: str, *shape: str | int | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _constant(name: str, values: Sequence[int]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, np.int64)))
