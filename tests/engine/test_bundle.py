"""A bundle is taken only when it is whole, and what is wrong with it is said."""

import gc
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metst_edge import bundle as module
from metst_edge.bundle import Bundle
from metst_edge.counting import some
from metst_edge.decode import DecodeSettings
from metst_edge.engine import load_engine
from metst_edge.errors import (
    BundleError,
    BundleFileError,
    BundleHashError,
    BundleVersionError,
    EngineError,
    ModelNotFoundError,
)
from metst_edge.face import ROI_SETS
from metst_edge.flow import channels
from metst_edge.manifest import CHANNELS_OF_ROI_SET

DECODE = {"ratio": 0.55, "floor": 0.0, "synergy": "spotting_mainly", "window_seconds": 60}
"""As the first manifests have it."""
FILES = ("window.onnx", "step.onnx", "weights.bin", "MODEL_CARD.md")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rehash(folder: Path, name: str) -> None:
    """State a file as it is now."""
    content = (folder / name).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(folder, lambda m: m["files"].update({name: entry}))


def zipped(folder: Path, path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, top + file.name)
    return path


def test_a_bundle_says_what_it_is(tiny_folder):
    bundle = Bundle.load(tiny_folder)
    assert bundle.path == bundle.folder == tiny_folder
    assert (bundle.name, bundle.model, bundle.channels) == ("tiny", "metst64", 10)
    assert bundle.labels == ("negative", "positive", "surprise", "others", "neutral")
    assert (bundle.fps, bundle.k, bundle.k_p, bundle.look_ahead, bundle.delay) == (30.0, 30, 5, 2, 0)
    assert (bundle.roi_set, bundle.compat) == ("metst", False)
    assert bundle.decode == {
        "ratio": 0.55,
        "floor": 0.0,
        "synergy": "spotting_mainly",
        "window_seconds": 60,
        "decoder": "fixed",
        "class_priors": {},
    }


def test_weights_are_those_of_the_network_and_cannot_be_written(tiny_folder, tiny_network):
    weights = Bundle.load(tiny_folder).weights()
    mamba = tiny_network.blocks[1].attn.mamba
    np.testing.assert_array_equal(weights["blocks.1.in_proj"], mamba.in_proj.weight.detach().numpy().T)
    np.testing.assert_allclose(weights["blocks.1.A"], -np.exp(mamba.A_log.detach().numpy()), rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        weights["spot.bias"][0] = 1.0


@pytest.mark.parametrize("top", ["", "tiny/"])
def test_a_zip_gives_the_same_scores_as_the_directory(top, tiny_folder, tmp_path):
    windows = np.random.default_rng(0).standard_normal((2, 10, 30)).astype(np.float32)
    path = zipped(tiny_folder, tmp_path / "tiny.zip", top)
    for engine in ("native", "onnxruntime"):
        expected, found = (
            load_engine(tiny_folder, engine).infer(windows),
            load_engine(path, engine).infer(windows),
        )
        np.testing.assert_array_equal(found.spot, expected.spot)
        np.testing.assert_array_equal(found.emotion, expected.emotion)


def test_an_unpacked_zip_is_removed_with_the_bundle(tiny_folder, tmp_path):
    bundle = Bundle.load(zipped(tiny_folder, tmp_path / "tiny.zip"))
    folder = bundle.folder
    assert folder.is_dir() and bundle.path == tmp_path / "tiny.zip"
    del bundle
    gc.collect()
    assert not folder.exists()


def test_a_shipped_model_is_found_by_name(tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "models" / "demo")
    zipped(tiny_folder, tmp_path / "models" / "small.zip")
    monkeypatch.setattr(module, "SHIPPED_MODELS", tmp_path / "models")
    assert Bundle.find("demo").path == tmp_path / "models" / "demo"
    assert Bundle.find("small").path == tmp_path / "models" / "small.zip"
    assert Bundle.find(tiny_folder).path == tiny_folder


def test_an_unknown_name_is_answered_with_the_known_ones(tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "models" / "demo")
    monkeypatch.setattr(module, "SHIPPED_MODELS", tmp_path / "models")
    with pytest.raises(ModelNotFoundError, match=r"shipped model \(demo\).*got 'dmeo'"):
        Bundle.find("dmeo")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(BundleFileError, match=f"{name} is missing"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named_with_both_hashes(name, folder):
    good = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    bad = hashlib.sha256(content).hexdigest()
    with pytest.raises(BundleHashError, match=f"expected sha256 {good} of {name}, got {bad}"):
        Bundle.load(folder)


def test_a_newer_format_says_both_versions_and_what_to_do(folder):
    edit(folder, lambda m: m.update(format_version=7, k="a format of the future"))
    with pytest.raises(BundleVersionError, match="format 1 or older, got 7; update metst_edge"):
        Bundle.load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'["a", "list"]', b"{}"])
def test_a_manifest_that_cannot_be_read_is_refused(content, folder):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(BundleFileError, match=r"manifest\.json"):
        Bundle.load(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleFileError, match=r"expected manifest\.json"):
        Bundle.load(tmp_path)


def test_a_path_with_nothing_there_is_refused(tmp_path):
    with pytest.raises(BundleFileError, match="found nothing"):
        Bundle.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format_version", None),
        ("format_version", 0),
        ("format_version", True),
        ("name", ""),
        ("model", 64),
        ("channels", 0),
        ("channels", 11),
        ("labels", ["positive", "positive", "neutral"]),
        ("labels", ["neutral", "positive"]),
        ("fps", "30"),
        ("fps", 0),
        ("fps", float("inf")),
        ("fps", float("nan")),
        ("k", 31),
        ("k", 30.0),
        ("k_p", 0),
        ("roi_set", "metst_minus"),
        ("roi_set", ["metst"]),
        ("compat", 1),
        ("decode", {}),
        ("decode", {"ratio": 0.55, "floor": 0.0, "synergy": "both", "window_seconds": 60}),
        ("decode", {**DECODE, "decoder": "best"}),
        ("decode", {**DECODE, "class_priors": {"positive": "much"}}),
        ("look_ahead", -1),
        ("delay", -1),
        ("delay", 0.5),
        ("delay", 16),
        ("sizes", {"dim": -1}),
        ("sizes", {}),
        ("state", [{"name": "x"}]),
        ("tensors", [{"name": "x", "dtype": "float16", "shape": [1], "offset": 0}]),
        ("files", {}),
    ],
)
def test_a_field_with_a_wrong_value_is_named(field, value, folder):
    edit(folder, lambda m: m.update({field: value}))
    with pytest.raises(BundleFileError, match=r"manifest\.json: expected .*(?i:" + field.rstrip("s") + ")"):
        Bundle.load(folder)


def test_a_manifest_of_before_decoder_and_class_priors_still_loads(folder):
    edit(folder, lambda m: m.update(decode=DECODE))
    assert Bundle.load(folder).decode_settings == DecodeSettings()


def test_what_a_manifest_says_of_decoder_and_class_priors_is_read(folder):
    edit(folder, lambda m: m["decode"].update(decoder="adaptive", class_priors={"positive": 0.5}))
    settings = Bundle.load(folder).decode_settings
    assert (settings.decoder, settings.class_priors) == ("adaptive", {"positive": 0.5})


def test_priors_of_labels_that_the_model_lacks_are_refused(folder):
    edit(folder, lambda m: m["decode"].update(class_priors={"glee": 0.5}))
    with pytest.raises(BundleFileError, match=r"decode: expected class_priors of the labels negative, .*; got glee"):
        Bundle.load(folder)


def test_channels_that_do_not_fit_the_regions_are_refused(folder):
    edit(folder, lambda m: m.update(roi_set="metst_plus"))
    with pytest.raises(BundleFileError, match="expected channels to be 36, got 10"):
        Bundle.load(folder)


@pytest.mark.parametrize("field", ["k", "labels", "files", "decode", "sizes"])
def test_a_field_that_is_missing_is_named(field, folder):
    edit(folder, lambda m: m.pop(field))
    with pytest.raises(BundleFileError, match=f"expected '{field}' to be .*, got nothing"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/passwd", "a/b", "a\\b", ".hidden", "manifest.json"])
def test_files_outside_the_bundle_are_refused(name, folder, tmp_path):
    edit(folder, lambda m: m["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    for path in (folder, zipped(folder, tmp_path / "b.zip")):
        with pytest.raises(BundleFileError, match="plain names"):
            Bundle.load(path)


def test_weights_that_end_too_early_are_refused(folder):
    def forge(manifest):
        cut = (folder / "weights.bin").read_bytes()[:-64]
        (folder / "weights.bin").write_bytes(cut)
        manifest["files"]["weights.bin"] = {"sha256": hashlib.sha256(cut).hexdigest(), "bytes": len(cut)}

    edit(folder, forge)
    with pytest.raises(BundleFileError, match=r"bytes in weights\.bin"):
        Bundle.load(folder)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_zip_is_refused(content, tmp_path):
    (tmp_path / "b.zip").write_bytes(content)
    with pytest.raises(BundleFileError, match="expected a bundle directory or a zip of one"):
        Bundle.load(tmp_path / "b.zip")


def test_a_zip_cut_off_is_refused(tiny_folder, tmp_path):
    path = zipped(tiny_folder, tmp_path / "b.zip")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BundleFileError, match="expected a bundle directory or a zip of one"):
        Bundle.load(path)


@pytest.mark.parametrize("part", range(1, 20))
def test_a_damaged_zip_is_refused(part, tiny_folder, tmp_path):
    path = zipped(tiny_folder, tmp_path / "b.zip")
    content = bytearray(path.read_bytes())
    at = part * len(content) // 20
    content[at : at + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"b\.zip"):
        Bundle.load(path)


def test_a_file_that_may_not_be_read_is_refused(folder, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BundleFileError, match=r"cannot be read .*Permission denied"):
        Bundle.load(folder)


def test_a_zip_without_a_manifest_is_refused(folder, tmp_path):
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleFileError, match=r"one manifest\.json in the zip, found 0"):
        Bundle.load(zipped(folder, tmp_path / "b.zip"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_missing_in_a_zip_is_named(name, folder, tmp_path):
    (folder / name).unlink()
    with pytest.raises(BundleFileError, match=f"{name} is missing"):
        Bundle.load(zipped(folder, tmp_path / "b.zip"))


def test_a_file_in_a_zip_that_unpacks_to_more_than_it_should_is_not_unpacked(folder, tmp_path):
    (folder / "weights.bin").write_bytes(bytes(50_000_000))
    with pytest.raises(BundleHashError, match=r"of weights\.bin, got 50000000"):
        Bundle.load(zipped(folder, tmp_path / "b.zip"))


def test_a_changed_file_in_a_zip_is_refused(folder, tmp_path):
    content = bytearray((folder / "weights.bin").read_bytes())
    content[100] ^= 1
    (folder / "weights.bin").write_bytes(content)
    with pytest.raises(BundleHashError, match=r"sha256 .* of weights\.bin"):
        Bundle.load(zipped(folder, tmp_path / "b.zip"))


def test_the_native_engine_refuses_a_network_it_does_not_know(folder):
    edit(folder, lambda m: m.update(model="metst_next"))
    with pytest.raises(EngineError, match=r"metst64 or metst128.*got 'metst_next'"):
        load_engine(folder, "native")


def test_the_native_engine_names_weights_that_do_not_fit(folder):
    def forge(manifest):
        for tensor in manifest["tensors"]:
            if tensor["name"] == "blocks.0.D":
                tensor["shape"] = [4, 8]
            if tensor["name"] == "spot.bias":
                tensor["name"] = "spot.bais"

    edit(folder, forge)
    with pytest.raises(EngineError, match=r"spot\.bias \(1,\), got none.*blocks\.0\.D \(32,\), got \(4, 8\)"):
        load_engine(folder, "native")


def test_onnxruntime_refuses_a_graph_it_cannot_read_in_one_line(folder):
    def forge(manifest):
        (folder / "step.onnx").write_bytes(b"not a graph")
        digest = hashlib.sha256(b"not a graph").hexdigest()
        manifest["files"]["step.onnx"] = {"sha256": digest, "bytes": 11}

    edit(folder, forge)
    with pytest.raises(EngineError, match=r"onnxruntime refuses step\.onnx") as caught:
        load_engine(folder, "onnxruntime")
    assert "\n" not in str(caught.value)


def test_a_set_of_regions_has_the_channels_that_its_manifest_must_state():
    assert {name: channels(name) for name in ROI_SETS} == CHANNELS_OF_ROI_SET


def test_what_is_wrong_a_hundred_times_is_told_a_few_times():
    assert some(["a", "b"]) == "a; b"
    assert some([f"n{i}" for i in range(8)], ", ") == "n0, n1, n2, n3, n4, n5, n6, n7"
    assert some([f"n{i}" for i in range(108)]) == "n0; n1; n2; n3; n4; n5; n6; n7; and 100 more"
