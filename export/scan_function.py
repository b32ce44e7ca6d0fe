"""metst::SelectiveScan as an ONNX local function in standard operators, for runtimes without a kernel of their own.

csrc/include/metst/selective_scan.h defines what it computes, csrc/tensorrt/selective_scan.json the node that calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions

from export.onnx_builder import OPSET, float_value

DOMAIN = "metst"
SCAN = "SelectiveScan"
SCAN_INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "h0")
SCAN_OUTPUTS = ("y", "h")
# TensorRT before 10.10 finds a plugin by these attributes of the node, later by the node's domain.
SCAN_ATTRIBUTES: dict[str, Any] = {"plugin_namespace": DOMAIN, "plugin_version": "1"}


def selective_scan(half: bool = False) -> onnx.FunctionProto:
    """Build the function.

    It declares the plugin attributes so that a checker accepts them on the node; the body reads none.

    Args:
        half: u, B, C, z and y are fp16, and computed with in fp32; all else is fp32 always.
    """
    node = helper.make_node
    u, b, c, z, y = (f"{name}_fp32" if half else name for name in ("u", "B", "C", "z", "y"))
    nodes = [node("Cast", [x], [f"{x}_fp32"], to=TensorProto.FLOAT) for x in ("u", "B", "C", "z") if half]
    nodes += [
        _constant("last", [-1]),
        _constant("middle", [1]),
        node("Add", ["delta", "delta_bias"], ["delta_biased"]),
        node("Softplus", ["delta_biased"], ["dt_all"]),
        node("Mul", ["dt_all", u], ["x_all"]),
        # Frames first: onnx.reference scans along no other axis.
        *(node("Transpose", [x], [f"{x}_frames"], perm=[1, 0, 2]) for x in ("dt_all", "x_all", b, c)),
        node(
            "Scan",
            ["h0", *(f"{x}_frames" for x in ("dt_all", "x_all", b, c))],
            ["h", "y_frames"],
            body=_one_step(),
            num_scan_inputs=4,
        ),
        node("Transpose", ["y_frames"], ["y_scan"], perm=[1, 0, 2]),
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


def without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with local functions written out where they are called, in standard operators alone.

    OpenVINO and others know no local functions. TensorRT has no node left then that its plugin could stand for.
    """
    inlined = inline_local_functions(model)
    standard = [opset for opset in inlined.opset_import if opset.domain == ""]
    del inlined.opset_import[:]
    inlined.opset_import.extend(standard)
    return inlined


def _one_step() -> onnx.GraphProto:
    """The body of the loop: h_before, then dt, x = dt u, b, c of one frame -> h_after, y_step."""
    node = helper.make_node
    return helper.make_graph(
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
        [float_value("h_before", None, None, None)] + [float_value(name, None, None) for name in ("dt", "x", "b", "c")],
        [float_value("h_after", None, None, None), float_value("y_step", None, None)],
    )


def _constant(name: str, values: Sequence[int]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(values, np.int64)))
