"""Bundles in runtimes that are not ours: `onnx.reference`, and OpenVINO, which knows no local functions."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from export import half
from export.__main__ import main
from export.bundle import write
from export.description import Description
from export.networks import EXPORTERS
from metst_edge.bundle import HALF_FILES, Bundle
from metst_edge.engine.onnxruntime import OnnxRuntimeEngine
from tests.engine.conftest import randomise
from training.models import build


@pytest.fixture(scope="module")
def inlined(tmp_path_factory):
    """The shipped model and a small one of two rates, each inlined; not to be changed."""
    folder = tmp_path_factory.mktemp("inlined")
    plain = Path(shutil.copytree(Bundle.find("demo").path, folder / "plain"))
    manifest = json.loads((plain / "manifest.json").read_text())
    for name in HALF_FILES:  # which would be measured again, for seconds
        del manifest["files"][name]
    (plain / "manifest.json").write_text(json.dumps(manifest))
    assert main(["again", str(plain), "--out", str(folder / "demo"), "--inline"]) == 0
    network = randomise(build("metst_plus", dim=16, slow_dim=32, depth=1, d_state=4), seed=3)
    description = Description("two rates", fps=30, k=30, k_p=5, roi_set="metst_plus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.parity.CHECKED", ("onnxruntime",))
        write(network, description, folder / "plus", force=False, console=Console(quiet=True), inline=True)
    return {name: Bundle.load(folder / name) for name in ("demo", "plus")}


def in_reference(path):
    return half.reference(path)


def in_openvino(path):
    openvino = pytest.importorskip("openvino")
    # By default it rounds to bfloat16 on processors that have it.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda feeds: [value.copy() for value in compiled(feeds).values()]


@pytest.mark.parametrize("runtime", [in_reference, in_openvino])
@pytest.mark.parametrize("graph", ["window", "step"])
@pytest.mark.parametrize("model", ["demo", "plus"])
def test_inlined_graphs_give_the_scores_of_the_engines(model, graph, runtime, inlined):
    bundle = inlined[model]
    windows = np.random.default_rng(4).standard_normal((3, bundle.channels, 30)).astype(np.float32)
    spot, emotion = half.scored(bundle, graph, runtime(bundle.graph(graph)), windows)
    expected = OnnxRuntimeEngine(bundle).infer(windows)
    np.testing.assert_allclose(spot, expected.spot, rtol=0, atol=1e-4)
    np.testing.assert_allclose(emotion, expected.emotion, rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["demo", "plus"])
def test_inlined_graphs_have_standard_operators_only_and_read_the_same_weights(model, inlined):
    bundle = inlined[model]
    graph = onnx.load(bundle.graph("window"), load_external_data=False)
    assert not graph.functions
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert {node.domain for node in graph.graph.node} == {""}
    external = [tensor for tensor in graph.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert len(external) == len(bundle.tensors) and bundle.graph("window").stat().st_size < 200_000


def test_graphs_written_again_are_those_of_the_first_export(checkpoint, tmp_path):
    """With the scan's function and without, in both precisions, from the bundle's own weights."""
    first = tmp_path / "first"
    assert main(["bundle", str(checkpoint), "--out", str(first), "--precision", "fp16"]) == 0
    assert main(["again", str(first), "--out", str(tmp_path / "inlined"), "--inline"]) == 0
    assert main(["again", str(tmp_path / "inlined"), "--out", str(tmp_path / "back")]) == 0
    for path in first.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes(), path.name
    for name in ("window.onnx", "window.fp16.onnx"):
        assert (tmp_path / "inlined" / name).read_bytes() != (first / name).read_bytes()
    assert json.loads((tmp_path / "inlined" / "manifest.json").read_text())["name"] == "small"


def test_graphs_that_score_otherwise_than_before_are_refused(checkpoint, tmp_path, monkeypatch, capsys):
    assert main(["bundle", str(checkpoint), "--out", str(tmp_path / "first")]) == 0
    exporter = EXPORTERS["metst64"]

    def other(network, offsets, half):
        return exporter.window(network, {**offsets, "blocks.0.D": offsets["blocks.1.D"] - 4}, half)

    monkeypatch.setitem(EXPORTERS, "metst64", dataclasses.replace(exporter, window=other))
    assert main(["again", str(tmp_path / "first"), "--out", str(tmp_path / "again")]) == 1
    error = capsys.readouterr().err
    assert "expected differences to the graphs before of at most 0.0001 (spot)" in error and "window (spot" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "model.pt"]


@pytest.mark.parametrize("field", ["parity", "training", "licence", "metrics"])
def test_a_bundle_whose_card_cannot_be_written_is_refused_in_one_line(field, checkpoint, tmp_path, capsys):
    shutil.copytree(Bundle.find("demo").path, tmp_path / "demo")
    manifest = json.loads((tmp_path / "demo" / "manifest.json").read_text())
    del manifest[field]
    (tmp_path / "demo" / "manifest.json").write_text(json.dumps(manifest))
    for verb in ("again", "fp16"):
        assert main([verb, str(tmp_path / "demo"), "--out", str(tmp_path / "made")]) == 1
        assert f"for the model card, got others (KeyError('{field}'))" in capsys.readouterr().err
