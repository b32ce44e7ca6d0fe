"""A network is described once: what is derived from that is what bundles hold, and a bundle that differs is refused."""

import json
import shutil
from math import prod
from pathlib import Path

import pytest

from metst_edge.bundle import Bundle
from metst_edge.engine import load_engine, networks
from metst_edge.errors import EngineError


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit(folder, **fields):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **fields}))


def test_weights_state_and_look_ahead_are_those_of_the_shipped_model_in_its_order():
    bundle = Bundle.find("demo")
    network = networks.of_bundle(bundle)
    assert list(network.weights.items()) == [(tensor.name, tensor.shape) for tensor in bundle.tensors]
    assert list(network.state.items()) == [(entry.name, entry.shape) for entry in bundle.state]
    assert network.look_ahead == bundle.look_ahead == 2
    assert (network.channels, network.classes) == (bundle.channels, len(bundle.labels))


def test_two_rates_are_described_as_published():
    """arXiv 2508.08082: 16.67 M parameters, of which one pathway shared by both heads leaves 8.37 M; look-ahead 3."""
    sizes = dict(channels=36, dim=128, slow_dim=256, stages=3, depth=4, d_state=64, d_conv=4, expand=2, classes=5)
    sizes |= dict(dt_rank=8, slow_dt_rank=16, pathways=2)
    network = networks.describe("metst_plus", sizes, "bundle")
    assert sum(prod(shape) for shape in network.weights.values()) == pytest.approx(16.67e6, rel=3e-3)
    shared = networks.describe("metst_plus_shared", {**sizes, "pathways": 1}, "bundle")
    assert sum(prod(shape) for shape in shared.weights.values()) == pytest.approx(8.37e6, rel=3e-3)
    assert network.look_ahead == 3
    assert network.state["resets"] == (3,)
    assert network.state["odd"] == (1,)
    assert network.weights["pathway_1.entry.weight"] == (256, 128, 3)
    assert network.weights["pathway_0.laterals.1.bias"] == (256,)
    assert network.state["pathway_0_laterals_1"] == (128, 2)
    assert (network.state["pathway_1_fast"], network.state["pathway_1_slow"]) == ((128,), (256,))
    assert (network.state["ssm_11"], network.state["ssm_12"]) == ((256, 64), (512, 64))
    assert len(network.blocks) == 48


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
def test_the_native_engine_refuses_a_manifest_with_another_look_ahead_than_its_network_has(look_ahead, folder):
    edit(folder, look_ahead=look_ahead)
    with pytest.raises(EngineError, match=f"expected look_ahead 2 in the manifest, .*metst64, got {look_ahead}; exp"):
        load_engine(folder, "native")


def test_onnxruntime_goes_by_the_manifest(folder):
    edit(folder, look_ahead=3)
    assert load_engine(folder, "onnxruntime").open_stream().look_ahead == 3


def test_the_native_engine_names_state_that_does_not_fit(folder):
    state = json.loads((folder / "manifest.json").read_text())["state"]
    state[0]["shape"] = [4]
    state[-1]["name"] = "ssm_last"
    edit(folder, state=state)
    expected = r"expected state resets \(2,\), got \(4,\); ssm_01 \(32, 8\), got none; ssm_last none, got \(32, 8\);"
    with pytest.raises(EngineError, match=expected):
        load_engine(folder, "native")


@pytest.mark.parametrize("missing", ["depth", "dt_rank"])
def test_a_size_that_is_missing_is_named(missing, folder):
    sizes = json.loads((folder / "manifest.json").read_text())["sizes"]
    del sizes[missing]
    edit(folder, sizes=sizes)
    with pytest.raises(EngineError, match=f"expected sizes {missing} in the manifest; export the bundle again"):
        load_engine(folder, "native")


def test_an_unknown_network_is_named_with_the_known_ones():
    with pytest.raises(
        EngineError, match="b.zip: expected a network out of metst64, metst128, metst_plus, .*, got 'metst_next'"
    ):
        networks.describe("metst_next", {}, "b.zip")
