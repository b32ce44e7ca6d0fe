"""A recogniser's bundle computes what its network does, with published weights what the published code does."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.__main__ import main
from export.bundle import write_weights
from export.networks import slstt
from metst_edge.bundle import RecognizerBundle
from metst_edge.recognise.engine import load_recognizer
from tests.recognisers import LABELS, draw_recogniser, recogniser_bundle
from training.models import build, save_checkpoint
from training.models.recognisers import published_recogniser
from training.models.slstt import UNUSED

META = {
    "name": "tiny",
    "labels": list(LABELS),
    "weight": 0.25,
    "training": {"data": "rendered faces"},
    "licence": "CC0-1.0",
}


@pytest.fixture
def out(tmp_path):
    """Where to export to: a folder of its own, so that anything left behind shows."""
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / "bundle"


@pytest.fixture
def checkpoint(tmp_path):
    """A recogniser as `training recognise fit` would leave it."""
    save_checkpoint(tmp_path / "model.pt", draw_recogniser(), META)
    return tmp_path / "model.pt"


def left_behind(out):
    return sorted(path.name for path in out.parent.iterdir())


def test_a_checkpoint_becomes_a_bundle_with_its_own_meta_data(checkpoint, out, capsys):
    (out.parent.parent / "scores.json").write_text('{"uf1": 0.5}')
    scores = f"held out={out.parent.parent / 'scores.json'}"
    assert main(["bundle", str(checkpoint), "--metrics", scores, "--out", str(out)]) == 0
    bundle = RecognizerBundle.load(out)
    assert (bundle.name, bundle.model, bundle.labels, bundle.weight) == ("tiny", "slstt_small", LABELS, 0.25)
    assert (bundle.frames, bundle.input_size, bundle.images["input_size"]) == (11, 32, 32)
    assert bundle.images["poly_sigma"] == 1.2 and bundle.images["mean"] == [0.485, 0.456, 0.406]
    assert bundle.manifest["metrics"] == {"held out": {"uf1": 0.5}}
    assert left_behind(out) == ["bundle"]
    assert sorted(p.name for p in out.iterdir()) == ["MODEL_CARD.md", "clip.onnx", "manifest.json", "weights.bin"]
    for name, entry in bundle.manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == entry["sha256"]
    printed = capsys.readouterr().out
    for word in ("onnxruntime", "ok", "11 pictures of 32x32"):
        assert word in printed


def test_the_card_says_what_it_is_and_the_parity_that_was_measured(checkpoint, out):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    results = json.loads((out / "manifest.json").read_text())["parity"]["results"]
    assert [r["engine"] for r in results] == ["torch float32", "onnxruntime"]
    assert all(r["logits"] < 1e-5 for r in results)
    card = (out / "MODEL_CARD.md").read_text()
    for words in ("rendered faces", "negative, positive, surprise, others", f"{results[1]['logits']:.1e}", "0.25"):
        assert words in card


@pytest.mark.parametrize("aggregation", ["lstm", "mean"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 11), (3, 4)])
def test_the_graph_takes_any_number_of_intervals_and_of_frames(aggregation, shape, tmp_path):
    network = draw_recogniser(aggregation)
    engine = load_recognizer(recogniser_bundle(tmp_path / "bundle", network), "onnxruntime")
    images = np.random.default_rng(1).standard_normal((*shape, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(images.astype(np.float64))).numpy()
    np.testing.assert_allclose(engine.infer(images), expected, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["lstm", "mean"])
def test_openvino_computes_the_same(aggregation, tmp_path):
    openvino = pytest.importorskip("openvino")
    bundle = recogniser_bundle(tmp_path / "bundle", draw_recogniser(aggregation))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(bundle.graph("clip")), "CPU", settings)
    engine = load_recognizer(bundle, "onnxruntime")
    for shape in ((1, 11), (3, 2)):
        images = np.random.default_rng(1).standard_normal((*shape, 3, 32, 32)).astype(np.float32)
        (logits,) = compiled(images).values()
        np.testing.assert_allclose(logits, engine.infer(images), atol=1e-4)


def test_the_graph_is_standard_operators_and_weights_lie_beside_it(tmp_path):
    bundle = recogniser_bundle(tmp_path / "bundle")
    graph = onnx.load(bundle.graph("clip"), load_external_data=False)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert not graph.functions
    assert bundle.graph("clip").stat().st_size < bundle.file("weights.bin").stat().st_size


@pytest.fixture(scope="module")
def published_state(published_weights):
    """The weights of both golden vectors, which are the same: 86 million, drawn once."""
    return {key: torch.from_numpy(array) for key, array in published_weights("slstt_lstm").items()}


@pytest.mark.parametrize("name", ["slstt_lstm", "slstt_mean"])
def test_published_weights_give_the_published_logits(name, published_state, golden, tmp_path):
    network = published_recogniser(published_state, name, "golden")
    arrays = slstt.weights(network)
    offsets = {entry["name"]: entry["offset"] for entry in write_weights(arrays, tmp_path / "weights.bin")}
    onnx.save(slstt.clip(network.sizes, arrays, offsets), tmp_path / "clip.onnx")
    vectors = np.load(golden / f"{name}.npz")
    images = np.random.default_rng(int(vectors["x_seed"])).standard_normal((2, 11, 3, 64, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "clip.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"images": images})[0], vectors["logits"], atol=1e-5)


@pytest.mark.slow
def test_a_full_published_checkpoint_goes_all_the_way(published_state, golden, out, tmp_path):
    torch.save({"state_dict": {f"module.{k}": v for k, v in published_state.items()}}, tmp_path / "sub03.pth")
    arguments = ["--model", "slstt_lstm", "--trained-on", "composite", "--out", str(out)]
    assert main(["upstream", str(tmp_path / "sub03.pth"), *arguments]) == 0
    vectors = np.load(golden / "slstt_lstm.npz")
    images = np.random.default_rng(int(vectors["x_seed"])).standard_normal((2, 11, 3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(load_recognizer(out, "onnxruntime").infer(images), vectors["logits"], atol=1e-5)


@pytest.mark.parametrize("aggregation", ["lstm", "mean"])
def test_a_published_state_dict_becomes_a_bundle(aggregation, out, tmp_path):
    network = draw_recogniser(aggregation, dim=128, heads=2, classes=5)
    state = dict(network.state_dict())
    for prefix in UNUSED[aggregation]:  # which the published file has besides
        state[f"{prefix}more"] = torch.zeros(3)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "sub03.pth")
    arguments = ["--model", f"slstt_{aggregation}", "--trained-on", "samm", "--licence", "research only"]
    assert main(["upstream", str(tmp_path / "sub03.pth"), *arguments, "--out", str(out)]) == 0
    bundle = RecognizerBundle.load(out)
    assert (bundle.model, bundle.sizes["aggregation"]) == (f"slstt_{aggregation}", aggregation)
    assert bundle.labels == ("others", "anger", "contempt", "happiness", "surprise")
    card = (out / "MODEL_CARD.md").read_text()
    assert "SAMM" in card and "sub03.pth" in card and "research only" in card


def test_a_published_state_dict_needs_to_be_told_what_its_classes_are(out, tmp_path, capsys):
    torch.save(draw_recogniser(dim=64, heads=1).state_dict(), tmp_path / "weights.pth")
    arguments = ["upstream", str(tmp_path / "weights.pth"), "--model", "slstt_lstm", "--out", str(out)]
    assert main(arguments) == 1
    assert "expected --trained-on smic-hs, composite, casme2, samm" in capsys.readouterr().err
    assert main([*arguments, "--trained-on", "casme2"]) == 1
    assert "expected 4 labels, one a logit, got 5: disgust, happiness" in capsys.readouterr().err
    torch.save(build("metst64").state_dict(), tmp_path / "weights.pth")
    assert main([*arguments, "--trained-on", "samm"]) == 1
    assert "expected the names and shapes of slstt_lstm, got those of metst64" in capsys.readouterr().err
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "weights.pth")
    assert main([*arguments, "--trained-on", "samm"]) == 1
    assert "does not fit slstt_lstm: missing vit.class_token (1, 1, 768)" in capsys.readouterr().err
    torch.save(build("metst64").state_dict(), tmp_path / "weights.pth")
    assert main(
        ["upstream", str(tmp_path / "weights.pth"), "--model", "metst64", *arguments[4:], "--trained-on", "samm"]
    )
    assert "expected --trained-on samm-lv or casme3 for metst64, got samm" in capsys.readouterr().err
    assert left_behind(out) == []


def test_a_recogniser_trained_on_data_of_ones_own_needs_its_terms(out, tmp_path, capsys):
    save_checkpoint(tmp_path / "model.pt", draw_recogniser(), {"labels": list(LABELS), "licence": "Apache-2.0"})
    assert main(["bundle", str(tmp_path / "model.pt"), "--out", str(out)]) == 1
    assert "expected --licence TERMS" in capsys.readouterr().err
    assert main(["bundle", str(tmp_path / "model.pt"), "--out", str(out), "--licence", "for research"]) == 0
    assert "for research" in (out / "MODEL_CARD.md").read_text()


def test_a_bundle_that_computes_something_else_is_not_written(checkpoint, out, monkeypatch, capsys):
    weights = slstt.weights
    wrong = {"emotion.bias": np.array([0, 0, 0.001, 0], np.float32)}
    monkeypatch.setattr(slstt, "weights", lambda network: {**weights(network), **wrong})
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 1
    assert "expected logits to differ from torch by at most 0.0001, got" in capsys.readouterr().err
    wrong["emotion.bias"][0] = np.nan
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 1
    assert left_behind(out) == []


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "expected a list 'labels' in the checkpoint's meta data, got None"),
        ({"labels": ["a", "b"]}, "expected 4 labels, one a logit, got 2: a, b"),
        ({"labels": ["a", "b", "c", "a"]}, "expected 'labels' to be a list of at least two different names"),
        ({"labels": list(LABELS), "weight": 1.5}, "expected 'weight' to be a number from 0 to 1, got 1.5"),
        ({"labels": list(LABELS), "metrics": {"uf1": float("nan")}}, "plain finite values"),
    ],
)
def test_meta_data_that_make_no_bundle_are_refused(meta, message, out, tmp_path, capsys):
    save_checkpoint(tmp_path / "model.pt", draw_recogniser(), {"licence": "CC0-1.0", **meta})
    assert main(["bundle", str(tmp_path / "model.pt"), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error and f".{out.name}-" not in error
    assert left_behind(out) == []


@pytest.mark.parametrize("option", [["--precision", "fp16"], ["--inline"], ["--clips", "clip.mp4"]])
def test_what_is_for_networks_that_spot_is_refused(option, checkpoint, out, capsys):
    assert main(["bundle", str(checkpoint), *option, "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {option[0]}") and "is for networks that spot" in error


@pytest.mark.parametrize("verb", ["fp16", "again"])
def test_what_is_for_models_that_spot_says_so_of_a_recogniser(out, tmp_path, capsys, verb):
    path = recogniser_bundle(tmp_path / "small").path
    assert main([verb, str(path), "--out", str(out)]) == 1
    assert capsys.readouterr().err == (
        f"error: {path}: expected a model that spots for {verb}, got a recogniser, whose one graph is in fp32; to "
        "write it anew, export its checkpoint: python -m export bundle CHECKPOINT --out DIR\n"
    )
    assert left_behind(out) == []
