"""fp16 graphs: what is half precision in them and what is not, what they score, and when they are refused."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from rich.console import Console

from export import half, scan_function
from export.__main__ import main
from export.bundle import write
from export.description import Description
from export.windows import clip_windows
from metst_edge.analyzer import Analyzer
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import HALF_FILES, Bundle
from metst_edge.engine import load_engine
from metst_edge.engine.onnxruntime import OnnxRuntimeEngine
from metst_edge.errors import BundleFileError, EngineError
from tests.engine.conftest import randomise
from tests.export.conftest import META
from training.models import build, save_checkpoint


@pytest.fixture
def out(tmp_path):
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / "bundle"


@pytest.fixture
def both(folder_of_both, out) -> Bundle:
    """A bundle with graphs in both precisions; a test may change its files."""
    return Bundle.load(shutil.copytree(folder_of_both, out))


def typed(path: Path) -> tuple[list[onnx.NodeProto], dict[str, int]]:
    """The nodes of a graph with its functions inlined, and the element type of every value."""
    model = inline_local_functions(onnx.load(path))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    return list(inferred.node), kinds


def test_without_asking_there_is_no_fp16(checkpoint, out):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    bundle = Bundle.load(out)
    assert bundle.precisions == ("fp32",)
    assert not {path.name for path in out.iterdir()} & set(HALF_FILES)
    assert "fp16" not in bundle.manifest["parity"]
    with pytest.raises(EngineError, match="expected precision fp32.*got 'fp16'; add it with `python -m export fp16`"):
        OnnxRuntimeEngine(bundle, precision="fp16")


def test_fp16_stands_beside_fp32_and_changes_nothing_of_it(checkpoint, both, tmp_path):
    assert main(["bundle", str(checkpoint), "--out", str(tmp_path / "plain")]) == 0
    assert both.precisions == ("fp32", "fp16")
    for name in ("window.onnx", "step.onnx", "weights.bin"):
        assert both.file(name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert set(HALF_FILES) < both.manifest["files"].keys()


def test_a_bundle_gets_from_itself_the_fp16_it_would_get_from_its_checkpoint(checkpoint, both, tmp_path):
    assert main(["bundle", str(checkpoint), "--out", str(tmp_path / "plain")]) == 0
    for source in (tmp_path / "plain", both.path):
        assert main(["fp16", str(source), "--out", str(tmp_path / "again"), "--force"]) == 0
        for path in both.path.iterdir():
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_shipped_model_has_the_graphs_that_this_code_writes(tmp_path):
    shipped = Bundle.find("demo")
    assert main(["again", "demo", "--out", str(tmp_path / "again")]) == 0
    for name in ("window.onnx", "step.onnx", *HALF_FILES):
        assert (tmp_path / "again" / name).read_bytes() == shipped.file(name).read_bytes(), name


@pytest.mark.parametrize("graph", ["window", "step"])
def test_matrix_products_are_half_precision_and_what_needs_range_is_not(graph, both):
    nodes, kinds = typed(both.graph(graph, "fp16"))
    matrices = {f"blocks.{i}.{name}" for i in range(2) for name in ("in_proj", "conv.weight", "x_proj", "out_proj")}
    for matrix in matrices:
        (node,) = [node for node in nodes if matrix in node.input]
        assert {kinds[name] for name in node.input} == {TensorProto.FLOAT16}, node.name
    exact = [node for node in nodes if node.op_type in ("Softplus", "Exp", "LayerNormalization", "Scan", "Gemm")]
    assert {node.op_type for node in exact} >= {"Softplus", "LayerNormalization", "Exp" if graph == "step" else "Scan"}
    for node in exact:
        assert {kinds[name] for name in node.input} == {TensorProto.FLOAT}, node.name


@pytest.fixture(scope="module")
def two_rates(tmp_path_factory) -> Bundle:
    """A small network of two rates with graphs in both precisions; not to be changed."""
    network = randomise(build("metst_plus", dim=16, slow_dim=32, depth=1, d_state=4), seed=3)
    description = Description("two rates", fps=30, k=30, k_p=5, roi_set="metst_plus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.parity.CHECKED", ("onnxruntime",))
        out, console = tmp_path_factory.mktemp("rates") / "bundle", Console(quiet=True)
        return write(network, description, out, force=False, console=console, precision="fp16")


@pytest.mark.parametrize("graph", ["window", "step"])
def test_of_two_rates_the_blocks_are_half_precision_and_nothing_else(graph, two_rates):
    nodes, kinds = typed(two_rates.graph(graph, "fp16"))
    halved = {name for name in two_rates.weights() if kinds.get(name) == TensorProto.FLOAT16}
    leaves = ("in_proj", "conv.weight", "conv.bias", "x_proj", "out_proj")
    assert halved == {f"blocks.{i}.{leaf}" for i in range(12) for leaf in leaves}
    exact = [node for node in nodes if node.op_type in ("LayerNormalization", "Gemm", "Where", "Exp", "Softplus")]
    for node in exact:
        assert TensorProto.FLOAT16 not in {kinds[name] for name in node.input}, node.name


def test_two_rates_differ_by_no_more_in_half_precision_than_is_said(two_rates):
    parity = two_rates.manifest["parity"]["fp16"]
    assert parity["tolerance"] == {"spot": 2e-2, "emotion": 0.3}
    assert all(0 < r["spot"] <= 2e-2 and 0 < r["emotion"] <= 0.3 for r in parity["results"])
    assert [r["graph"] for r in parity["results"]] == ["window", "step"]


@pytest.mark.parametrize("graph", ["window", "step"])
def test_inputs_outputs_and_state_are_the_same_in_both_precisions(graph, both):
    def ends(precision):
        model = onnx.load(both.graph(graph, precision), load_external_data=False).graph
        return [value.SerializeToString() for value in (*model.input, *model.output)]

    assert ends("fp16") == ends("fp32")


def test_the_scan_node_has_half_inputs_and_an_fp32_time_step_and_state(both):
    model = onnx.load(both.graph("window", "fp16"), load_external_data=False)
    made_by = {name: node for node in model.graph.node for name in node.output}
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    (scan, *_) = [node for node in model.graph.node if node.op_type == scan_function.SCAN]
    inputs = dict(zip(scan_function.SCAN_INPUTS, scan.input, strict=True))
    assert all(weights[inputs[name]] == TensorProto.FLOAT for name in ("A", "delta_bias"))
    assert {weights[name] for name in made_by[inputs["D"]].input} == {TensorProto.FLOAT}  # D and what scales it
    delta = made_by[inputs["delta"]]
    assert delta.op_type == "MatMul" and weights[delta.input[1]] == TensorProto.FLOAT
    assert made_by[made_by[inputs["B"]].input[0]].op_type == "MatMul"  # B, C: as the half product gives them
    scaled = made_by[inputs["C"]]
    assert scaled.op_type == "Mul" and weights[scaled.input[1]] == TensorProto.FLOAT16
    assert made_by[made_by[scaled.input[0]].input[0]].op_type == "MatMul"


def test_weights_of_both_precisions_are_those_of_the_network(both):
    model = onnx.load(both.graph("window", "fp16"))
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, array in both.weights().items():
        np.testing.assert_array_equal(arrays[name], array.astype(arrays[name].dtype))


def test_manifest_and_card_state_by_how_much_fp16_differs(both):
    parity = json.loads(both.file("manifest.json").read_text())["parity"]["fp16"]
    assert [result["graph"] for result in parity["results"]] == ["window", "step"]
    for result in parity["results"]:
        assert 0 < result["spot_mean"] < result["spot"] <= parity["tolerance"]["spot"] == 5e-3
        assert 0 < result["emotion_mean"] < result["emotion"] <= parity["tolerance"]["emotion"] == 0.2
    assert "graphs in fp16 against those in fp32" in both.file("MODEL_CARD.md").read_text()


def test_manifest_and_card_state_the_largest_value_and_where_it_was_measured(both, test_data, tmp_path):
    figures = json.loads(both.file("manifest.json").read_text())["parity"]["fp16"]
    assert figures["clips"] == ["clip.mp4"] and figures["limit"] == 30_000
    assert all(0 < result["largest"] < 100 and result["value"] for result in figures["results"])
    clip = test_data / "single_face.mp4"
    assert main(["fp16", str(both.path), "--out", str(tmp_path / "more"), "--clips", str(clip)]) == 0
    more = json.loads((tmp_path / "more" / "manifest.json").read_text())["parity"]["fp16"]
    assert more["clips"] == ["clip.mp4", "single_face.mp4"]
    for result, before in zip(more["results"], figures["results"], strict=True):
        assert result["largest"] >= before["largest"] and result["spot"] == before["spot"]
    assert "on clip.mp4, single_face.mp4:" in (tmp_path / "more" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("graph", ["window", "step"])
def test_ranges_are_those_of_the_values_themselves(graph, both):
    """The window graph's in `onnx.reference`, with everything it holds in half precision as an output."""
    windows = np.random.default_rng(3).standard_normal((2, 10, 30)).astype(np.float32)
    ranges = half.value_ranges(both, graph, [windows])
    nodes, kinds = typed(both.graph(graph, "fp16"))
    made = {name for node in nodes for name in node.output if kinds[name] == TensorProto.FLOAT16}
    assert ranges.keys() == made and len(made) > 20
    if graph == "step":
        return
    model = inline_local_functions(onnx.load(both.graph(graph, "fp16")))
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT16, None) for name in ranges)
    values = ReferenceEvaluator(model).run(list(ranges), {"features": windows})
    for name, value in zip(ranges, values, strict=True):
        assert ranges[name] == pytest.approx(float(np.abs(value).max()), rel=5e-3), name


def gated_by(network, factor):
    """The network with the gated output of its last block multiplied; the norm behind takes the factor out again."""
    mamba = network.blocks[-1].attn.mamba
    with torch.no_grad():
        mamba.D.mul_(factor)
        mamba.x_proj.weight[-mamba.d_state :].mul_(factor**0.5)
    return network


def test_gated_output_far_above_half_precision_is_held_and_gives_the_same_scores(network, out, tmp_path):
    """In a trained network it reached 536,302 on real faces."""
    save_checkpoint(tmp_path / "gated.pt", gated_by(network, 2e5), META)
    assert main(["bundle", str(tmp_path / "gated.pt"), "--out", str(out), "--precision", "fp16"]) == 0
    results = json.loads((out / "manifest.json").read_text())["parity"]["fp16"]["results"]
    assert all(65504 / 256 < result["largest"] < 30_000 for result in results)


def test_gated_output_that_half_precision_cannot_hold_is_refused_with_its_size_and_name(network, out, tmp_path, capsys):
    save_checkpoint(tmp_path / "gated.pt", gated_by(network, 5e6), META)
    assert main(["bundle", str(tmp_path / "gated.pt"), "--out", str(out), "--precision", "fp16"]) == 1
    error = capsys.readouterr().err
    assert "and to hold values of at most 30000 in half precision, which ends at 65504, got window (" in error
    assert "of blocks.1/SelectiveScan" in error and "step (" in error and error.count("\n") == 1
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("graph", ["window", "step"])
def test_the_shipped_model_gives_finite_scores_where_halves_are_halves(graph):
    shipped = Bundle.find("demo")
    windows = clip_windows(demo_clip(), shipped)[::8]
    spot, emotion = half.scored(shipped, graph, half.reference(shipped.graph(graph, "fp16")), windows)
    expected = OnnxRuntimeEngine(shipped).infer(windows)
    np.testing.assert_allclose(spot, expected.spot, rtol=0, atol=5e-3)
    np.testing.assert_allclose(emotion, expected.emotion, rtol=0, atol=5e-2)


@pytest.mark.slow
def test_half_precision_holds_what_the_shipped_model_computes_on_every_real_clip(test_data):
    shipped = Bundle.find("demo")
    clips = sorted(path for path in test_data.rglob("*") if path.suffix in (".mp4", ".mov", ".mpg"))
    windows = np.concatenate([clip_windows(clip, shipped) for clip in clips])
    assert len(windows) > 400
    for graph in ("window", "step"):
        assert max(half.value_ranges(shipped, graph, [windows]).values()) < 30_000
    spot, emotion = half.scored(shipped, "step", half.reference(shipped.graph("step", "fp16")), windows)
    assert np.isfinite(spot).all() and np.isfinite(emotion).all()
    # Of 15,000 frames the worst; the mean is a hundredth of it.
    assert np.abs(spot - OnnxRuntimeEngine(shipped).infer(windows).spot).max() < 2e-2


def test_native_scores_are_fp32_whatever_else_the_bundle_holds(checkpoint, both, tmp_path):
    assert main(["bundle", str(checkpoint), "--out", str(tmp_path / "plain")]) == 0
    windows = np.random.default_rng(0).standard_normal((2, 10, 30)).astype(np.float32)
    expected, found = (load_engine(path, "native").infer(windows) for path in (tmp_path / "plain", both.path))
    np.testing.assert_array_equal(found.spot, expected.spot)


def test_features_far_outside_fp16_still_give_finite_scores(both):
    scores = OnnxRuntimeEngine(both, precision="fp16").infer(np.full((1, 10, 30), 1e6, np.float32))
    assert np.isfinite(scores.spot).all() and np.isfinite(scores.emotion).all()


def test_a_network_that_fp16_cannot_hold_is_refused_in_one_line_with_figures(network, out, tmp_path, capsys):
    with torch.no_grad():  # in fp32 the norm behind it undoes this
        network.blocks[0].attn.mamba.out_proj.weight.mul_(1e6)
    save_checkpoint(tmp_path / "large.pt", network, {"fps": 30.0, "k": 30, "k_p": 5, "licence": "CC0-1.0"})
    assert main(["bundle", str(tmp_path / "large.pt"), "--out", str(out), "--precision", "fp16"]) == 1
    streams = capsys.readouterr()
    assert "above 0.005 / 0.2" in streams.out
    assert "differ from fp32 by at most 0.005 (spot)" in streams.err and "window (spot inf" in streams.err
    assert streams.err.count("\n") == 1
    assert not list(out.parent.iterdir())
    assert main(["bundle", str(tmp_path / "large.pt"), "--out", str(out)]) == 0


def test_without_onnxruntime_fp16_is_refused(both, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["fp16", str(both.path), "--out", str(tmp_path / "again")]) == 1
    assert "expected onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", HALF_FILES)
def test_an_fp16_that_is_not_whole_is_refused(name, both):
    manifest = json.loads(both.file("manifest.json").read_text())
    del manifest["files"][name]
    both.file("manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleFileError, match=f"or none, got no {name}"):
        Bundle.load(both.path)


def test_the_packaged_clip_has_the_same_events_in_fp16():
    def report(precision):
        with Analyzer(engine="onnxruntime", precision=precision) as analyzer:
            return analyzer.analyze(demo_clip())

    full, half = report("fp32"), report("fp16")
    frames = [[(e.onset_frame, e.apex_frame, e.offset_frame, e.emotion) for e in r.events] for r in (full, half)]
    assert frames[0] == frames[1] and len(frames[0]) == 8
    difference = np.abs(np.subtract(half.scores.spot, full.scores.spot))
    assert 0 < difference.max() <= 5e-3
