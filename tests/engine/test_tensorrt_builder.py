"""Engines are built once, of what they depend on, and never taken from the cache when anything of that has changed.

Where tensorrt_rtx is installed its builder, which needs no GPU, parses and builds for real. The fake module stands in
for plugins, TensorRT's generations and calls that give nothing.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import onnx
import pytest
import torch
from rich.console import Console

from export.bundle import write
from export.description import Description
from metst_edge.app import cli
from metst_edge.app.verbs import build
from metst_edge.bundle import Bundle
from metst_edge.engine.tensorrt import builder as building
from metst_edge.engine.tensorrt import module
from metst_edge.engine.tensorrt.builder import EngineBuilder
from metst_edge.engine.tensorrt.cache import EngineCache
from metst_edge.engine.tensorrt.gpu import Gpu, find_gpu
from metst_edge.engine.tensorrt.module import load_tensorrt
from metst_edge.engine.tensorrt.onnx_function import without_function
from metst_edge.engine.tensorrt.plugin import find_plugin
from metst_edge.errors import BundleGraphError, EngineError
from tests.engine.fake_tensorrt import SCAN, fake_tensorrt
from tests.engine.test_bundle import rehash
from tests.schemas import check
from training.models import build as build_network

TARGET = "sm89"
ORIN = Gpu("Orin", "8.7", 16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test sees the engines or the plugin of whoever runs it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("METST_EDGE_PLUGIN", raising=False)
    monkeypatch.setattr("metst_edge.engine.tensorrt.plugin.PLUGIN_FOLDERS", ())
    return tmp_path / "cache" / "metst_edge" / "engines"


@pytest.fixture
def rtx(monkeypatch):
    """TensorRT-RTX, whatever else is installed."""
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(module, "MODULES", ("tensorrt_rtx",))


@pytest.fixture
def use(monkeypatch, tiny_folder):
    """Return a function that installs a fake TensorRT, which parses the tiny bundle's step, and an Orin."""

    def install(**options):
        trt = fake_tensorrt(**options)
        bundle = Bundle.load(tiny_folder)
        trt.inputs = ["features", "reset", *(state.name for state in bundle.state)]
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setattr(building, "find_gpu", lambda: ORIN)
        return trt

    return install


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A plugin's file, found by the variable."""
    path = tmp_path / "libplugin.so"
    path.write_bytes(b"\x7fELF one")
    monkeypatch.setenv("METST_EDGE_PLUGIN", str(path))
    return path


def names(trt):
    return [name for name, _ in trt.calls]


def arguments(trt, name):
    return [arguments for called, arguments in trt.calls if called == name]


# What TensorRT itself says.


def test_both_graphs_of_the_shipped_model_build_in_both_precisions(rtx):
    sizes, progress = {}, []
    for precision in ("fp32", "fp16"):
        builder = EngineBuilder(
            Bundle.find("demo"),
            precision=precision,
            target=TARGET,
            progress=lambda share, phase: progress.append((share, phase)),
            say=str,
        )
        for graph in ("step", "window"):
            plan = builder.plan(graph)
            assert plan.built and plan.path.read_bytes() == plan.content and plan.seconds > 0
            shares = [share for share, _ in progress]
            assert shares == sorted(shares) and 0 < shares[0] < 0.1 and 0.8 < shares[-1] <= 1.0
            assert "Building engine" in {phase for _, phase in progress}
            progress.clear()
            again = builder.plan(graph)
            assert (again.built, again.content, again.path) == (False, plan.content, plan.path)
            assert (again.seconds, again.created) == (pytest.approx(plan.seconds, abs=1e-3), plan.created)
            assert not progress  # TensorRT was not asked
            sizes[graph, precision] = len(plan.content)
    assert all(sizes[graph, "fp16"] < sizes[graph, "fp32"] for graph in ("step", "window"))


def of_two_rates(folder, name, **sizes):
    """Export a network in both precisions, without the checks of what it scores, which others make."""
    torch.manual_seed(0)
    description = Description(name, fps=30, k=30, k_p=5, roi_set="metst_plus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.parity.measure", lambda bundle, network: ([], {}))
        patch.setattr("export.half.measure", lambda bundle, clips: [])
        network, console = build_network(name, **sizes).eval(), Console(quiet=True)
        return write(network, description, folder / name, force=False, console=console, precision="fp16")


def builds(bundle):
    for precision in ("fp32", "fp16"):
        builder = EngineBuilder(bundle, precision=precision, target=TARGET, say=str)
        for graph in ("step", "window"):
            assert builder.plan(graph).built


def test_graphs_of_two_rates_build_in_both_precisions(rtx, tmp_path):
    """A pathway for each head, of one block a stage, which has all that there is in any of them."""
    builds(of_two_rates(tmp_path, "metst_plus", dim=32, slow_dim=64, depth=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metst_plus_small", "metst_plus_shared", "metst_plus"])
def test_graphs_of_two_rates_build_at_their_full_sizes(name, rtx, tmp_path):
    builds(of_two_rates(tmp_path, name))


def test_a_damaged_engine_is_told_of_in_one_line_and_built_again(rtx, tiny_folder):
    said = []
    builder = EngineBuilder(Bundle.load(tiny_folder), target=TARGET, say=said.append)
    plan = builder.plan("step")
    assert [line.partition(";")[0] for line in said] == ["building the step engine of tiny in fp32"]
    said.clear()
    plan.path.write_bytes(plan.content[:1000])
    again = builder.plan("step")
    assert again.built and again.path.read_bytes() == again.content
    report, _ = said
    assert f"{plan.path}: expected {len(plan.content)} bytes, sha256 " in report
    assert "got 1000 bytes" in report and "building it again" in report and "\n" not in report


def test_force_builds_again(rtx, tiny_folder):
    builder = EngineBuilder(Bundle.load(tiny_folder), target=TARGET, say=str)
    assert builder.plan("step").built
    assert builder.plan("step", force=True).built
    assert not builder.plan("step").built


def test_a_graph_tensorrt_refuses_is_named_with_its_node(rtx, tiny_folder, tmp_path, own_cache):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    model = onnx.load(folder / "step.onnx", load_external_data=False)
    model.graph.node[5].op_type = "Nonsense"
    (folder / "step.onnx").write_bytes(model.SerializeToString())
    rehash(folder, "step.onnx")
    builder = EngineBuilder(Bundle.load(folder), target=TARGET, say=str)
    with pytest.raises(EngineError) as caught:
        builder.plan("step")
    text = str(caught.value)
    assert text.startswith(f"{folder}: TensorRT refuses step.onnx: node {model.graph.node[5].name} (Nonsense): ")
    assert "Plugin not found" in text and "onnxOpCheckers.cpp:" in text and "\n" not in text
    assert not list(own_cache.glob("*.plan"))


def test_a_file_that_is_no_graph_is_refused(rtx, tiny_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    (folder / "step.onnx").write_bytes(b"no graph at all")
    rehash(folder, "step.onnx")
    with pytest.raises(BundleGraphError, match="step.onnx: expected an ONNX model, got bytes that are none"):
        EngineBuilder(Bundle.load(folder), target=TARGET, say=str).plan("step")


def test_a_graph_that_tensorrt_does_not_know_is_refused(rtx, tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "broken")
    content = (folder / "step.onnx").read_bytes()
    (folder / "step.onnx").write_bytes(content.replace(b"\x07Sigmoid", b"\x07Sigmoix"))
    rehash(folder, "step.onnx")
    with pytest.raises(EngineError, match="TensorRT refuses step.onnx: "):
        EngineBuilder(Bundle.load(folder), target=TARGET, say=str).plan("step")


def test_a_graph_of_other_inputs_than_the_manifests_is_refused(rtx, tiny_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    shutil.copyfile(folder / "window.onnx", folder / "step.onnx")
    rehash(folder, "step.onnx")
    with pytest.raises(
        EngineError, match=r"expected step.onnx with inputs conv_00, .*, got features; export the bundle"
    ):
        EngineBuilder(Bundle.load(folder), target=TARGET, say=str).plan("step")


def test_a_gpu_tensorrt_does_not_know_is_answered_with_those_it_does(rtx, tiny_folder):
    with pytest.raises(EngineError, match=r"expected a GPU that tensorrt_rtx .* can build for.*sm89.*got 'sm1'"):
        EngineBuilder(Bundle.load(tiny_folder), target="sm1")


def test_what_progress_raises_ends_the_build(rtx, tiny_folder, own_cache):
    def broken(share, phase):
        raise BrokenPipeError("the reader has gone")

    builder = EngineBuilder(Bundle.load(tiny_folder), target=TARGET, progress=broken, say=str)
    with pytest.raises(BrokenPipeError, match="the reader has gone"):
        builder.plan("step")
    assert not list(own_cache.glob("*.plan"))


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_ctrl_c_ends_a_build_and_leaves_no_engine(rtx, own_cache, seconds):
    command = [sys.executable, "-m", "metst_edge", "build", "demo", "--target", TARGET]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "building the window engine" in line:
            time.sleep(seconds)  # not for anything: to meet another part of the build
            process.send_signal(signal.SIGINT)
            break
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 1 and rest.splitlines()[-1] == "metst-edge: interrupted", (lines, rest)
    assert seconds == 0.0 or "stopping the build" in rest
    assert out == ""
    assert len(list(own_cache.glob("*.plan"))) == len(list(own_cache.glob("*.json"))) == 1  # of the step
    assert not list(own_cache.glob(".*"))


# How it is asked.


def test_the_plugin_is_loaded_before_parsing_and_before_deserialising(use, plugin, tiny_folder):
    trt = use()
    assert EngineBuilder(Bundle.load(tiny_folder), say=str).engine("step") == "engine of plan 0"
    order = names(trt)
    assert order.index("load_library") < order.index("parse") < order.index("build_serialized_network")
    assert order.index("build_serialized_network") < order.index("deserialize_cuda_engine")
    assert arguments(trt, "load_library") == [(str(plugin),)]

    trt.calls.clear()
    trt.creators.clear()  # as in a new process
    module._LOADED.clear()
    assert EngineBuilder(Bundle.load(tiny_folder), say=str).engine("step") == "engine of plan 0"
    order = names(trt)
    assert "parse" not in order
    assert order.index("load_library") < order.index("deserialize_cuda_engine")


def test_a_plugin_is_loaded_once_in_a_process(use, plugin, tiny_folder):
    trt = use()
    for _ in range(2):
        EngineBuilder(Bundle.load(tiny_folder), say=str)
    assert names(trt).count("load_library") == 1


def test_a_plugin_that_has_changed_since_it_was_loaded_is_refused(use, plugin, tiny_folder):
    """Its old code would be timed, and the engine kept as the new one's."""
    use()
    EngineBuilder(Bundle.load(tiny_folder), say=str)
    plugin.write_bytes(b"a new version")
    with pytest.raises(EngineError, match=r"plugin that this process has loaded from .*, got another one; start the"):
        EngineBuilder(Bundle.load(tiny_folder), say=str)


def test_a_plugin_that_the_application_has_loaded_is_used(use, plugin, tiny_folder):
    trt = use(nothing="load_library")  # TensorRT refuses a second time
    trt.creators.add(SCAN)
    assert EngineBuilder(Bundle.load(tiny_folder), say=str).engine("step") == "engine of plan 0"


def test_with_a_plugin_the_function_is_stripped(use, plugin, tiny_folder):
    trt = use()
    trt.inputs = ["features"]
    EngineBuilder(Bundle.load(tiny_folder), say=str).plan("window")
    ((content, path),) = arguments(trt, "parse")
    assert path == str(tiny_folder / "window.onnx")
    model = onnx.load_from_string(content)
    assert "SelectiveScan" in {node.op_type for node in model.graph.node}
    assert not model.functions
    assert "set_flag" not in names(trt)


@pytest.mark.parametrize("options", [{"plugins": False}, {}])
def test_without_a_plugin_the_function_is_kept(use, tiny_folder, options, request):
    if not options.get("plugins", True):
        request.getfixturevalue("plugin")  # there is one, but this TensorRT takes none
    trt = use(**options)
    trt.inputs = ["features"]
    EngineBuilder(Bundle.load(tiny_folder), say=str).plan("window")
    ((content, _),) = arguments(trt, "parse")
    # The file, but for the weights, which are in it: TensorRT opens no file.
    assert content == Bundle.load(tiny_folder).graph_bytes("window")
    graph, stored = onnx.load_from_string(content), onnx.load(tiny_folder / "window.onnx")
    assert graph.functions == stored.functions and graph.graph.node == stored.graph.node
    assert "set_flag" not in names(trt) and "load_library" not in names(trt)


def test_sizes_that_are_fixed_are_static(use, tiny_folder):
    trt, bundle = use(), Bundle.load(tiny_folder)
    EngineBuilder(bundle, lanes=3, say=str).plan("step")
    expected = {state.name: (3, *state.shape) for state in bundle.state}
    assert {name: tensor.shape for name, tensor in trt.tensors.items()} == {
        "features": (3, 10),
        "reset": (3,),
        **expected,
    }
    trt.inputs = ["features"]
    trt.tensors.clear()
    EngineBuilder(bundle, say=str).plan("window")
    assert trt.tensors["features"].shape is None


@pytest.mark.parametrize(("weak", "flags"), [(True, 1 << 1), (False, 0)])
def test_networks_are_strongly_typed_and_fp32_is_not_tf32(use, tiny_folder, weak, flags):
    trt = use(weak=weak)
    EngineBuilder(Bundle.load(tiny_folder), workspace_mib=64, say=str).plan("step")
    assert arguments(trt, "create_network") == [(flags,)]
    assert arguments(trt, "clear_flag") == [("TF32",)]
    assert arguments(trt, "set_memory_pool_limit") == [("workspace", 64 << 20)]


@pytest.mark.parametrize("rtx", [False, True])
def test_steps_are_built_to_be_recorded_and_the_key_says_how(use, tiny_folder, rtx):
    trt = use(rtx=rtx)
    builder = EngineBuilder(Bundle.load(tiny_folder), say=str)
    builder.plan("step")
    trt.inputs = ["features"]
    builder.plan("window")
    assert arguments(trt, "max_aux_streams") == [(0,), (None,)]
    asked = ["REQUIRE_USER_ALLOCATION"] if rtx else []
    assert arguments(trt, "set_builder_flag") == [(flag,) for flag in asked]
    assert builder.parts("step")["flags"][3:] == ["no auxiliary streams", *asked]
    assert builder.parts("window")["flags"][3:] == []


def test_shapes_are_those_of_the_manifest(use, tiny_folder):
    trt = use()
    builder = EngineBuilder(Bundle.load(tiny_folder), lanes=3, say=str)
    builder.plan("step")
    shapes = {name: shapes for name, *shapes in arguments(trt, "set_shape")}
    assert shapes["features"] == [(3, 10)] * 3 and shapes["reset"] == [(3,)] * 3
    assert shapes["ssm_01"] == [(3, 32, 8)] * 3 and shapes["conv_00"] == [(3, 32, 3)] * 3
    assert set(shapes) == set(trt.inputs)
    assert builder.profile("window") == {"features": ((1, 10, 1), (16, 10, 30), (32, 10, 30))}


def test_what_one_build_measured_the_next_one_is_given(use, tiny_folder):
    trt = use()
    for workspace in (64, 65):
        EngineBuilder(Bundle.load(tiny_folder), workspace_mib=workspace, say=str).plan("step")
    assert arguments(trt, "create_timing_cache") == [(b"",), (b"measured",)]
    assert arguments(trt, "set_timing_cache") == [("timing", False)] * 2


def test_another_plugin_is_measured_anew(use, plugin, tiny_folder):
    trt = use()
    for content in (b"\x7fELF one", b"\x7fELF two"):
        plugin.write_bytes(content)
        module._LOADED.clear()  # as in a new process
        EngineBuilder(Bundle.load(tiny_folder), say=str).plan("step")
    assert arguments(trt, "create_timing_cache") == [(b"",), (b"",)]


@pytest.mark.parametrize("nothing", ["create_timing_cache", "set_timing_cache"])
def test_a_build_goes_on_without_a_timing_cache(use, tiny_folder, nothing):
    use(nothing=nothing)
    assert EngineBuilder(Bundle.load(tiny_folder), say=str).plan("step").built


@pytest.mark.parametrize(
    "nothing",
    [
        "Builder",
        "create_network",
        "parse",
        "create_builder_config",
        "create_optimization_profile",
        "add_optimization_profile",
        "build_serialized_network",
        "Runtime",
        "deserialize_cuda_engine",
    ],
)
def test_a_call_that_gives_nothing_is_an_error_with_tensorrts_own_words(use, tiny_folder, own_cache, nothing):
    use(nothing=nothing)
    with pytest.raises(EngineError) as caught:
        EngineBuilder(Bundle.load(tiny_folder), say=str).engine("step")
    assert f"no {nothing} today" in str(caught.value) and "\n" not in str(caught.value)
    assert bool(list(own_cache.glob("*.plan"))) == (nothing in ("Runtime", "deserialize_cuda_engine"))


def test_an_engine_from_the_cache_that_tensorrt_refuses_is_built_again(use, tiny_folder):
    trt, said = use(), []
    builder = EngineBuilder(Bundle.load(tiny_folder), say=said.append)
    path = builder.plan("step").path
    trt.refused.add(b"plan 0")
    said.clear()
    assert builder.engine("step") == "engine of plan 1"
    report = f"{path}: expected an engine, but TensorRT refuses it (magic tag does not match); building it again"
    assert said[0] == report
    assert path.read_bytes() == b"plan 1"


def test_an_engine_that_was_just_built_is_not_built_forever(use, tiny_folder):
    trt = use()
    trt.refused |= {b"plan 0", b"plan 1"}
    with pytest.raises(EngineError, match="built the step engine and then refuses it: magic tag does not match"):
        EngineBuilder(Bundle.load(tiny_folder), say=str).engine("step")
    assert names(trt).count("build_serialized_network") == 1


# What an engine depends on.


def test_an_engine_is_of_everything_it_depends_on(use, plugin, tiny_folder):
    use()
    bundle = Bundle.load(tiny_folder)
    parts = EngineBuilder(bundle, say=str).parts("step")
    hashes = {name: bundle.manifest["files"][name]["sha256"] for name in ("step.onnx", "window.onnx", "weights.bin")}
    assert parts.items() >= hashes.items()
    assert (parts["tensorrt"], parts["gpu"], parts["compute_capability"]) == ("10.3.0 (tensorrt)", "Orin", "8.7")
    assert parts["multiprocessors"] == 16
    assert parts["plugin"] == hashlib.sha256(plugin.read_bytes()).hexdigest()
    assert parts["profile"]["features"] == "2x10" and parts["workspace_mib"] == 256
    assert parts["scan"] == "plugin, function stripped" and parts["flags"][:2] == ["strongly typed", "no TF32"]
    assert json.loads(json.dumps(parts)) == parts


def test_an_engine_of_two_rates_depends_on_all_of_its_state(use, tiny_plus_folder):
    trt = use()
    bundle = Bundle.load(tiny_plus_folder)
    trt.inputs = ["features", "reset", *(state.name for state in bundle.state)]
    builder = EngineBuilder(bundle, lanes=4, say=str)
    profile = builder.parts("step")["profile"]
    assert profile.items() >= {"features": "4x36", "reset": "4", "resets": "4x3", "odd": "4x1"}.items()
    assert profile["pathway_0_fast"] == "4x16" and profile["pathway_0_slow"] == "4x32"
    assert set(profile) == set(trt.inputs)
    builder.plan("step")
    assert {name: tensor.shape for name, tensor in trt.tensors.items()}["odd"] == (4, 1)
    assert builder.parts("window")["profile"] == {"features": "1x36x1 16x36x30 32x36x30"}


def test_fp16_engines_depend_on_the_fp16_files(use):
    use()
    bundle = Bundle.find("demo")
    full, half = (EngineBuilder(bundle, precision=precision, say=str).parts("step") for precision in ("fp32", "fp16"))
    assert {name for name in half if name in bundle.manifest["files"]} == {
        "step.fp16.onnx",
        "window.fp16.onnx",
        "weights.bin",
        "weights.fp16.bin",
    }
    assert not {name for name in full if "fp16" in name}


def change_the_plugin(patch, plugin, trt):
    plugin.write_bytes(b"\x7fELF two")


def change_the_version(patch, plugin, trt):
    trt.__version__ = "10.3.1"


def change_the_gpu(patch, plugin, trt):
    patch.setattr(building, "find_gpu", lambda: Gpu("Orin", "8.7", 8))


def remove_the_plugin(patch, plugin, trt):
    patch.delenv("METST_EDGE_PLUGIN")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_the_plugin, "plugin "),
        (change_the_version, "tensorrt 10.3.1 (tensorrt), got 10.3.0 (tensorrt)"),
        (change_the_gpu, "multiprocessors 8, got 16"),
        (remove_the_plugin, "plugin None, got "),
    ],
)
def test_what_has_changed_is_told_and_the_engine_built_anew(use, plugin, tiny_folder, monkeypatch, change, told):
    trt, said = use(), []
    first = EngineBuilder(Bundle.load(tiny_folder), say=said.append).plan("step")
    said.clear()
    change(monkeypatch, plugin, trt)
    module._LOADED.clear()  # as in a new process
    second = EngineBuilder(Bundle.load(tiny_folder), say=said.append).plan("step")
    assert second.built and second.key != first.key and second.path != first.path
    assert told in said[0] and "\n" not in said[0]
    assert "expected an engine for " in said[0] and said[0].endswith("; building it again")


@pytest.mark.parametrize("options", [{"lanes": 1}, {"workspace_mib": 64}])
def test_an_engine_of_other_settings_is_another_one(use, tiny_folder, options):
    use()
    bundle = Bundle.load(tiny_folder)
    first = EngineBuilder(bundle, say=str).plan("step")
    assert EngineBuilder(bundle, say=str, **options).plan("step").key != first.key
    assert not EngineBuilder(bundle, say=str).plan("step").built


def test_an_engine_of_other_weights_is_another_one(use, tiny_folder, tmp_path):
    use()
    folder = tmp_path / "retrained"
    shutil.copytree(tiny_folder, folder)
    with (folder / "weights.bin").open("r+b") as weights:
        weights.write(b"\0\0\0\0")
    rehash(folder, "weights.bin")
    keys = {EngineBuilder(Bundle.load(path), say=str).plan("step").key for path in (tiny_folder, folder)}
    assert len(keys) == 2


# A cache that is not as it should be.


def test_an_engine_another_process_just_built_is_taken(use, tiny_folder, own_cache):
    """The lock is held by a process that puts the engine there before it lets go."""
    trt, said = use(), []
    cache = EngineCache(own_cache)
    holder = os.open(own_cache / "lock", os.O_RDWR | os.O_CREAT)
    os.write(holder, b"4711\n")
    fcntl.flock(holder, fcntl.LOCK_EX)

    def on_waiting(line):
        said.append(line)
        cache.write(builder.parts("step"), b"theirs", 1.0)
        os.close(holder)

    builder = EngineBuilder(Bundle.load(tiny_folder), say=on_waiting)
    plan = builder.plan("step")
    assert (plan.built, plan.content) == (False, b"theirs")
    assert said == ["process 4711 is building engines; waiting for it"]
    assert "parse" not in names(trt)


def test_an_engine_in_the_cache_does_not_wait_for_somebody_elses_build(use, tiny_folder, own_cache):
    use()
    builder = EngineBuilder(Bundle.load(tiny_folder), say=str)
    builder.plan("step")
    holder = os.open(own_cache / "lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert not builder.plan("step").built
    os.close(holder)


def test_a_full_disk_costs_the_next_start_and_not_this_one(use, tiny_folder, own_cache, monkeypatch):
    use()

    def full(file):
        raise OSError(28, "No space left on device")

    said = []
    monkeypatch.setattr(os, "fsync", full)
    plan = EngineBuilder(Bundle.load(tiny_folder), say=said.append).plan("step")
    assert plan.built and plan.path is None and plan.content == b"plan 0"
    assert "the step engine cannot be kept" in said[-1] and "No space left on device" in said[-1]
    assert [path.name for path in own_cache.iterdir()] == ["lock"]


def test_a_read_only_cache_still_gives_what_it_has(use, tiny_folder, own_cache, monkeypatch):
    use()
    bundle = Bundle.load(tiny_folder)
    EngineBuilder(bundle, say=str).plan("step")
    os_open, said = os.open, []

    def read_only(path, flags, *mode):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(30, "Read-only file system")
        return os_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", read_only)
    builder = EngineBuilder(bundle, say=said.append)
    assert not builder.plan("step").built
    plan = builder.plan("step", force=True)
    assert plan.built and plan.path is None
    assert "cannot be kept" in said[-1] and "Read-only file system" in said[-1]


def test_without_a_place_for_a_cache_engines_are_built_every_time(use, tiny_folder, tmp_path, monkeypatch):
    trt, said = use(), []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    builder = EngineBuilder(Bundle.load(tiny_folder), say=said.append)
    assert "engines cannot be kept" in said[0]
    assert [builder.plan("step").built for _ in range(2)] == [True, True]
    assert names(trt).count("parse") == 2


def test_a_cache_others_may_write_to_is_refused(use, tiny_folder, own_cache):
    use()
    own_cache.mkdir(parents=True)
    own_cache.chmod(0o777)
    with pytest.raises(EngineError, match="expected a directory that user .* owns.*mode 0777; chmod 700 it"):
        EngineBuilder(Bundle.load(tiny_folder), say=str)


# What is missing.


def test_without_tensorrt_one_line_says_how_to_get_it(tiny_folder, monkeypatch, capsys):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["build", str(tiny_folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("expected TensorRT", "python3-libnvinfer", "--system-site-packages", "pip install tensorrt"):
        assert part in line


def test_a_tensorrt_that_is_broken_says_why(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise RuntimeError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineError, match=r"tensorrt: libnvinfer.so.10: cannot open"):
        load_tensorrt()


def test_a_precision_the_bundle_has_not_is_refused_before_anything_is_asked(tiny_folder):
    with pytest.raises(EngineError, match="expected precision fp32, which the bundle holds, got 'fp16'"):
        EngineBuilder(Bundle.load(tiny_folder), precision="fp16")


def test_a_tensorrt_that_builds_for_its_own_gpu_only_says_so(use, tiny_folder):
    use()
    with pytest.raises(EngineError, match=r"can build for elsewhere \(none\), got 'sm89'; leave it away"):
        EngineBuilder(Bundle.load(tiny_folder), target="sm89")


def test_a_plugin_is_looked_for_beside_the_package(tmp_path, monkeypatch):
    assert find_plugin() is None
    folders = (tmp_path / "checkout", tmp_path / "site-packages")
    monkeypatch.setattr("metst_edge.engine.tensorrt.plugin.PLUGIN_FOLDERS", folders)
    assert find_plugin() is None
    for folder in reversed(folders):
        folder.mkdir()
        (folder / "libmetst_edge_plugin.so").write_bytes(b"")
        assert find_plugin() == folder / "libmetst_edge_plugin.so"


def test_a_plugin_that_is_named_and_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("METST_EDGE_PLUGIN", str(tmp_path / "none.so"))
    with pytest.raises(EngineError, match=r"expected METST_EDGE_PLUGIN to name the plugin's file, got '.*none.so'"):
        find_plugin()


@pytest.mark.parametrize("library", [set(), {("SelectiveScan", "1", "")}])
def test_a_library_without_the_plugin_is_refused(use, plugin, tiny_folder, library):
    use().library = library
    with pytest.raises(EngineError, match=r"plugin metst::SelectiveScan 1, but TensorRT 10.3.0 cannot load it from"):
        EngineBuilder(Bundle.load(tiny_folder), say=str)


def test_a_library_tensorrt_refuses_is_told_with_its_words(use, plugin, tiny_folder):
    use(nothing="load_library")
    with pytest.raises(EngineError, match=r"cannot load it from .*libplugin.so \(no load_library today\)"):
        EngineBuilder(Bundle.load(tiny_folder), say=str)
    assert SCAN[2] == "metst"


class Driver:
    """libcuda, as far as it is asked."""

    def __init__(self, failing=None):
        self.failing = failing

    def __getattr__(self, name):
        def function(*arguments):
            if name == self.failing:
                return 100
            if name == "cuDeviceGetName":
                arguments[0].value = b"Orin"
            if name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = {16: 16, 75: 8, 76: 7}[arguments[1]]
            return 0

        return function


def test_the_gpu_is_that_of_the_driver(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert find_gpu() == ORIN


@pytest.mark.parametrize("failing", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"])
def test_a_driver_without_a_gpu_is_told_with_its_error(monkeypatch, failing):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(failing))
    with pytest.raises(EngineError, match=f"the driver's {failing} fails with CUDA error 100"):
        find_gpu()


def test_without_a_driver_there_is_no_gpu(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(EngineError, match=r"expected an NVIDIA GPU and its driver, but libcuda.so.1 cannot be loaded"):
        find_gpu()


# The bytes of an ONNX file.


@pytest.mark.parametrize("name", ["window.onnx", "window.fp16.onnx", "step.onnx"])
def test_a_model_without_its_function_is_what_onnx_makes_of_it(name):
    content = Bundle.find("demo").file(name).read_bytes()
    expected = onnx.load_from_string(content)
    del expected.functions[:]
    found = without_function(content, "metst", "SelectiveScan")
    assert onnx.load_from_string(found) == expected
    if name == "step.onnx":
        assert found == content


def test_only_the_function_that_is_named_is_left_out():
    def function(domain, name):
        opset = [onnx.helper.make_opsetid("", 17)]
        node = onnx.helper.make_node("Relu", ["x"], ["y"])
        return onnx.helper.make_function(domain, name, ["x"], ["y"], [node], opset)

    named = [("metst", "SelectiveScan"), ("metst", "Other"), ("other", "SelectiveScan"), ("metst", "SelectiveScan2")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([], "none", [], []), functions=[function(*each) for each in named]
    )
    found = onnx.load_from_string(without_function(model.SerializeToString(), "metst", "SelectiveScan"))
    assert [(function.domain, function.name) for function in found.functions] == named[1:]


@pytest.mark.parametrize("cut", [1, 100, 20000])
def test_a_cut_off_model_is_refused(cut):
    content = Bundle.find("demo").file("window.onnx").read_bytes()
    with pytest.raises(EngineError, match="expected an ONNX model"):
        without_function(content[:-cut], "metst", "SelectiveScan")


@pytest.mark.parametrize("content", [b"\xff" * 20, b"\x0b", b"\x08"])
def test_bytes_that_are_no_protobuf_are_refused(content):
    with pytest.raises(EngineError, match="expected an ONNX model"):
        without_function(content, "metst", "SelectiveScan")


# metst-edge build.


def test_the_command_tells_what_it_built_and_what_it_found(rtx, tiny_folder, capsys, own_cache):
    for word in ("built in", "in the cache, built 20"):
        assert cli.main(["build", str(tiny_folder), "--target", TARGET]) == 0
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        assert [line.split()[0] for line in lines] == ["step", "window"]
        assert all(word in line and " s  " in line and " MB  " in line and str(own_cache) in line for line in lines)
        assert ("building the step engine of tiny in fp32" in captured.err) == (word == "built in")


def test_the_command_gives_one_json_object(rtx, tiny_folder, capsys):
    for force, built in ((False, True), (False, False), (True, True)):
        options = ["--json", "--workspace", "64", *(["--force"] if force else [])]
        assert cli.main(["build", str(tiny_folder), "--target", TARGET, *options]) == 0
        (line,) = capsys.readouterr().out.splitlines()
        result = json.loads(line)
        check("build", result)
        assert (result["bundle"], result["precision"]) == (str(tiny_folder), "fp32")
        assert [(engine["graph"], engine["built"]) for engine in result["engines"]] == [
            ("step", built),
            ("window", built),
        ]
        for engine in result["engines"]:
            assert os.path.getsize(engine["path"]) == engine["bytes"]
            assert engine["parts"]["workspace_mib"] == 64 and engine["seconds"] > 0


def test_what_cannot_be_built_is_one_line_and_status_1(rtx, tiny_folder, capsys):
    assert cli.main(["build", str(tiny_folder), "--target", TARGET, "--precision", "fp16"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("metst-edge: error: ") and "python -m export fp16" in line


@pytest.mark.parametrize("options", [[], ["demo", "--precision", "int8"], ["demo", "--workspace", "0"]])
def test_bad_usage_of_build_is_status_2(options, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["build", *options])
    assert stop.value.code == 2
    assert "metst-edge build: error: " in capsys.readouterr().err


def test_a_wait_of_some_length_is_told_line_by_line_where_there_is_no_terminal(monkeypatch):
    clock, said, drawn = SimpleNamespace(now=100.0), [], []
    monkeypatch.setattr(build.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: False))
    progress = build.percent(lambda done, total: drawn.append((done, total)), said.append)
    for share, clock.now in ((0.1, 109.9), (0.25, 110.0), (0.26, 119.9), (0.5, 125.0)):
        progress(share, "Timing")
    assert said == ["25% done", "50% done"]
    assert drawn == [(10, 100), (25, 100), (26, 100), (50, 100)]
