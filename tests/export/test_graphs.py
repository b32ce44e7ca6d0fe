"""The two graphs: what they are made of, and that the local function is the scan selective_scan.h defines."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from csrc.testing.selective_scan_reference import reference
from export import onnx_builder, scan_function
from export.networks import EXPORTERS, metst
from metst_edge._native import selective_scan as native_scan
from metst_edge.engine import networks
from training.models import build
from training.models.scan import selective_scan as torch_scan

SIZES = {
    "metst64": dict(dim=16, depth=2, d_state=8),
    "metst_plus": dict(dim=8, slow_dim=16, depth=1, d_state=8),
    "metst_plus_shared": dict(dim=8, slow_dim=16, depth=1, d_state=8),
}


@pytest.fixture(scope="module", params=list(SIZES))
def built(request):
    """Both models and the shape of the network they are of."""
    network, exporter = build(request.param, **SIZES[request.param]).eval(), EXPORTERS[request.param]
    net = networks.describe(network.name, exporter.sizes(network), "small")
    offsets, at = {}, 0
    for name, array in exporter.weights(network).items():
        offsets[name], at = at, at + array.nbytes
    assert {name: array.shape for name, array in exporter.weights(network).items()} == dict(net.weights)
    assert list(exporter.weights(network)) == list(net.weights)
    return net, exporter.window(net, offsets), exporter.step(net, offsets)


def by_local_function(values):
    """Run the function alone in ONNX Runtime; in half precision where u is."""
    function = scan_function.selective_scan(half=values[0].dtype == np.float16)
    node = helper.make_node(
        scan_function.SCAN,
        scan_function.SCAN_INPUTS,
        scan_function.SCAN_OUTPUTS,
        domain=scan_function.DOMAIN,
        **scan_function.SCAN_ATTRIBUTES,
    )
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(scan_function.SCAN_INPUTS, values, strict=True)
    ]
    kinds = (inputs[0].type.tensor_type.elem_type, TensorProto.FLOAT)
    outputs = [
        helper.make_tensor_value_info(name, kind, [None] * 3)
        for name, kind in zip(scan_function.SCAN_OUTPUTS, kinds, strict=True)
    ]
    model = helper.make_model(
        helper.make_graph([node], "scan", inputs, outputs),
        functions=[function],
        opset_imports=[helper.make_opsetid("", onnx_builder.OPSET), helper.make_opsetid(scan_function.DOMAIN, 1)],
        ir_version=onnx_builder.IR_VERSION,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(list(scan_function.SCAN_OUTPUTS), dict(zip(scan_function.SCAN_INPUTS, values, strict=True)))


def scan_values(shape):
    batch, steps, inner, states = shape
    rng = np.random.default_rng(sum(shape))
    u, delta, z = (rng.standard_normal((batch, steps, inner)).astype(np.float32) for _ in range(3))
    b, c = (rng.standard_normal((batch, steps, states)).astype(np.float32) for _ in range(2))
    a = -np.exp(rng.standard_normal((inner, states))).astype(np.float32)
    d, bias = (rng.standard_normal(inner).astype(np.float32) for _ in range(2))
    h0 = rng.standard_normal((batch, inner, states)).astype(np.float32)
    return u, delta, a, b, c, d, z, bias, h0


SHAPES = [(1, 1, 1, 1), (2, 7, 5, 3), (3, 50, 32, 64)]


@pytest.mark.parametrize("runtime", ["onnx function", "native", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_scan_is_the_one_of_the_design(shape, runtime):
    values = scan_values(shape)
    if runtime == "onnx function":
        y, h = by_local_function(values)
    elif runtime == "native":
        y, h = native_scan(*values)
    else:
        y, h = (t.numpy() for t in torch_scan(*(torch.from_numpy(v) for v in values)))
    expected_y, expected_h, *_ = reference(*values)
    np.testing.assert_allclose(y, expected_y, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(h, expected_h, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_half_precision_scan_rounds_what_comes_and_goes_and_nothing_between(shape):
    names = ("u", "B", "C", "z")
    values = [
        value.astype(np.float16) if name in names else value
        for name, value in zip(scan_function.SCAN_INPUTS, scan_values(shape), strict=True)
    ]
    y, h = by_local_function(values)
    expected_y, expected_h, *_ = reference(*values)
    assert (y.dtype, h.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(y, expected_y, rtol=2**-11 + 1e-5, atol=2e-5)  # half a unit in the last of 11 bits
    np.testing.assert_allclose(h, expected_h, rtol=1e-5, atol=2e-5)


def test_the_custom_node_is_the_one_of_the_tensorrt_plugins_contract():
    contract = json.loads((Path(__file__).parents[2] / "csrc/tensorrt/selective_scan.json").read_text())
    assert [tensor["name"] for tensor in contract["inputs"]] == list(scan_function.SCAN_INPUTS)
    assert [tensor["name"] for tensor in contract["outputs"]] == list(scan_function.SCAN_OUTPUTS)
    assert (contract["name"], contract["namespace"]) == (scan_function.SCAN, scan_function.DOMAIN)
    attributes = dict(scan_function.SCAN_ATTRIBUTES)
    assert attributes.pop("plugin_namespace") == contract["namespace"]
    assert attributes.pop("plugin_version") == contract["version"]
    # All nine inputs are given and dt goes through the softplus: what the plugin does when it is told nothing else.
    defaults = {attribute["name"]: attribute["default"] for attribute in contract["attributes"]}
    assert defaults == {"delta_softplus": 1, "optional_inputs": sum(i["optional"] for i in contract["inputs"])}
    assert attributes.items() <= defaults.items()


def test_the_window_graph_scans_with_the_custom_node_and_carries_its_body(built):
    net, window, _ = built
    scans = [node for node in window.graph.node if node.domain == "metst"]
    assert [node.op_type for node in scans] == ["SelectiveScan"] * len(net.blocks)
    assert all(len(node.input) == 9 and len(node.output) == 2 for node in scans)
    for node in scans:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes["plugin_namespace"] == b"metst"
    (function,) = window.functions
    assert (function.domain, function.name) == ("metst", "SelectiveScan")
    assert list(function.input) == ["u", "delta", "A", "B", "C", "D", "z", "delta_bias", "h0"]
    assert {node.domain for node in function.node} == {""}
    assert "Scan" in {node.op_type for node in function.node}


def test_the_step_graph_has_standard_operators_only_and_no_loop(built):
    _, _, step = built
    assert not step.functions
    assert {node.domain for node in step.graph.node} == {""}
    assert not {"Scan", "Loop", "If"} & {node.op_type for node in step.graph.node}
    assert [(o.domain, o.version) for o in step.opset_import] == [("", onnx_builder.OPSET)]


def test_the_step_graph_takes_and_gives_every_state(built):
    net, _, step = built
    names = list(net.state)
    assert [i.name for i in step.graph.input] == ["features", "reset", *names]
    assert [o.name for o in step.graph.output] == ["spot", "emotion", *(f"{name}_next" for name in names)]
    assert {f"{kind}_{i:02d}" for kind in ("conv", "ssm") for i in range(len(net.blocks))} < set(names)
    used = {name for node in step.graph.node for name in node.input}
    assert {"features", "reset", *names} <= used
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in step.graph.input}
    for name, shape in net.state.items():
        assert shapes[name] == ["lanes", *shape]


def test_both_graphs_read_the_same_bytes(built):
    net, window, step = built

    def external(model):
        return {
            t.name: {e.key: e.value for e in t.external_data}
            for t in model.graph.initializer
            if t.data_location == TensorProto.EXTERNAL
        }

    assert external(window) == external(step)
    assert external(window).keys() == net.weights.keys()
    assert {entry["location"] for entry in external(window).values()} == {"weights.bin"}
    for model in (window, step):  # and nothing of size is kept anywhere else
        inline = [t for t in model.graph.initializer if t.data_location != TensorProto.EXTERNAL]
        assert sum(t.ByteSize() for t in inline) < 2000


def test_names_of_values_are_unique(built):
    for model in built[1:3]:
        names = [name for node in model.graph.node for name in node.output]
        assert len(names) == len(set(names))


def test_batch_norm_is_folded_into_the_convolution(network):
    x = torch.randn(2, 10, 9).double()
    with torch.no_grad():
        expected = network.double().Stem[:2](x)
    arrays = metst.weights(network)
    weight, bias = (torch.from_numpy(arrays[f"stem.0.{leaf}"]).double() for leaf in ("weight", "bias"))
    found = torch.nn.functional.conv1d(x, weight, bias, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
