"""Builds an ONNX graph node by node: names, nodes, constants, and weights that lie in a file beside it.

Knows the layers that any network has, and no network. In graphs in half precision the weights that have half precision
offsets are fp16; a network casts what goes into them and what comes out (`low`, `full`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from metst_edge.bundle import HALF_WEIGHTS
from metst_edge.engine.networks.shape import LAYER_NORM_EPS, Shape

# Opset 17 is the first with LayerNormalization; TensorRT 10.3 reads up to 20.
OPSET = 17
IR_VERSION = 8
WEIGHTS_FILE = "weights.bin"


class OnnxBuilder:
    """Collects nodes, constants and weights.

    Args:
        weights: shape of every weight, by name.
        offsets: where each lies in weights.bin, bytes.
        half: where those in half precision lie in weights.fp16.bin, which go before; None for an fp32 graph.
    """

    def __init__(
        self, weights: Mapping[str, Shape], offsets: Mapping[str, int], half: Mapping[str, int] | None = None
    ) -> None:
        self._weights, self._offsets, self._half_offsets = weights, offsets, half or {}
        self.half = half is not None
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
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
        name = f"{self._scope}/{op}_{len(self._nodes)}"
        names = to or tuple(f"{name}:{i}" for i in range(outputs))
        self._nodes.append(helper.make_node(op, inputs, names, name=name, domain=domain, **attributes))
        return names

    def low(self, x: str) -> str:
        """Return x in fp16 in an fp16 graph, and as it is in an fp32 one."""
        return self._cast(x, TensorProto.FLOAT16) if self.half else x

    def full(self, x: str) -> str:
        """Return x in fp32, which in an fp32 graph it is."""
        return self._cast(x, TensorProto.FLOAT) if self.half else x

    def _cast(self, x: str, kind: int) -> str:
        # Not by `add`: the attribute has the name of one of its parameters.
        name = f"{self._scope}/Cast_{len(self._nodes)}"
        self._nodes.append(helper.make_node("Cast", [x], [f"{name}:0"], name=name, to=kind))
        return f"{name}:0"

    def weight(self, name: str, shape: Shape | None = None) -> str:
        """Return the name of a weight's initializer, which lies in a file, seen in another shape if given."""
        stored = self._weights[name]
        half = name in self._half_offsets
        tensor = TensorProto(
            name=name, data_type=TensorProto.FLOAT16 if half else TensorProto.FLOAT, dims=shape or stored
        )
        tensor.data_location = TensorProto.EXTERNAL
        where = {
            "location": HALF_WEIGHTS if half else WEIGHTS_FILE,
            "offset": (self._half_offsets if half else self._offsets)[name],
            "length": prod(stored) * (2 if half else 4),
        }
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
        return name

    def integers(self, *values: int) -> str:
        """Return the name of a constant int64 (n,)."""
        return self._constant("i_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        """Return the name of a constant float32 scalar."""
        return self._constant(f"f_{value:g}", np.array(value, np.float32))

    def low_number(self, value: float) -> str:
        """Return the name of a constant fp16 scalar, for a graph in half precision."""
        return self._constant(f"h_{value:g}", np.array(value, np.float16))

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self._initializers[name] = numpy_helper.from_array(value, name)
        return name

    def layer_norm(self, x: str, name: str, epsilon: float = LAYER_NORM_EPS) -> str:
        """Normalise over the last axis, by the weights name.weight and name.bias."""
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def linear(self, x: str, name: str, to: str | None = None) -> str:
        """Map the last axis, by the weights name.weight (in, out) and name.bias."""
        product = self.add("MatMul", x, self.weight(f"{name}.weight"))
        return self.add("Add", product, self.weight(f"{name}.bias"), to=to)

    def silu(self, x: str) -> str:
        """Multiply x by its sigmoid."""
        return self.add("Mul", x, self.add("Sigmoid", x))

    def in_two(self, x: str, size: int) -> tuple[str, ...]:
        """Split (..., 2 * size) into halves."""
        return self.add_many("Split", x, self.integers(size, size), outputs=2, axis=-1)

    def model(
        self,
        name: str,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        functions: Sequence[onnx.FunctionProto] = (),
    ) -> onnx.ModelProto:
        """Return the model of all that was added.

        Args:
            name: of the graph.
            inputs: of the graph.
            outputs: of the graph.
            functions: local ones that its nodes call, each in its own domain.
        """
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(f.domain, 1) for f in functions]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            functions=list(functions),
            ir_version=IR_VERSION,
            producer_name="metst_edge.export",
        )


def float_value(name: str, *shape: str | int | None) -> onnx.ValueInfoProto:
    """Describe an fp32 input or output of a graph; axes are sizes, names of such that vary, or None for any."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
