"""The engine on the CUDA kernels alone, on the GPU made of NumPy (fake_gpu.py) with the kernels in their emulation.

What every engine does is in test_engines.py, on it too.
"""

import ctypes.util
import subprocess
from dataclasses import replace

import numpy as np
import pytest

import metst_edge
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.capture import open_source
from metst_edge.engine import load_engine, networks, why_missing
from metst_edge.engine.cuda import library as step_library
from metst_edge.engine.cuda import runtime
from metst_edge.engine.cuda.runtime import CudaEngine
from metst_edge.engine.lanes import Lanes
from metst_edge.errors import EngineError
from metst_edge.face import FaceFinder
from tests.engine.test_tensorrt_flow import (
    LAST,
    ask,
    assert_alike,
    covered,
    features_come_down,
    gray,
    items_of,
    two_frames_in_one_step,
)


@pytest.fixture(scope="module")
def clip():
    with open_source(demo_clip()) as source:
        return [frame.image for frame, _ in zip(source, range(60), strict=False)]


@pytest.fixture(scope="module")
def face(clip):
    return FaceFinder().find(clip[0])


@pytest.fixture(params=[False, True], ids=["a card", "a board with one memory"])
def machine(gpu, emulated_kernels, request):
    """A GPU that has the kernels; regions are measured by the CPU's flow in their place."""
    gpu.one_memory = request.param
    gpu.give_flow()
    gpu.give_step(emulated_kernels)
    return gpu


@pytest.fixture
def stream(machine, tiny_folder):
    with CudaEngine(Bundle.load(tiny_folder), say=complaint) as engine:
        yield engine.open_stream()


def complaint(line):
    raise AssertionError(line)


def frames(count, lanes=2):
    return np.random.default_rng(4).standard_normal((count, lanes, 10)).astype(np.float32)


# Scores.


def test_published_weights_give_the_published_scores(gpu, emulated_kernels, golden, published_bundle):
    gpu.give_step(emulated_kernels)
    vectors = np.load(golden / "metst64.npz")
    with load_engine(published_bundle("metst64"), "cuda") as engine:
        scores = engine.infer(vectors["x_30"][:1])
    np.testing.assert_allclose(scores.spot, vectors["spot_30"][:1], rtol=0, atol=1e-4)
    np.testing.assert_allclose(scores.emotion, vectors["recog_30"][:1], rtol=0, atol=1e-3)


def test_published_weights_of_two_rates_give_the_published_scores(gpu, emulated_kernels, golden, published_bundle):
    """Of the first frames; all of them would take the emulation a minute."""
    gpu.give_step(emulated_kernels)
    vectors, count = np.load(golden / "metst_plus.npz"), 3
    with load_engine(published_bundle("metst_plus"), "cuda") as engine, engine.open_stream(lanes=1) as stream:
        fed = vectors["x_30"][:1, :, : count + stream.look_ahead].transpose(2, 0, 1)
        steps = [stream.step(np.ascontiguousarray(frame), np.array([i == 0])) for i, frame in enumerate(fed)]
    scores = steps[stream.look_ahead :]
    np.testing.assert_allclose([s.spot for s in scores], vectors["spot_30"][:1, :count].T, rtol=0, atol=1e-4)
    np.testing.assert_allclose([s.emotion[0] for s in scores], vectors["recog_30"][0, :count], rtol=0, atol=1e-3)


@pytest.mark.parametrize("frames_of_a_window", [7, 8])
def test_two_rates_in_lanes_of_every_phase_are_the_cpu_s(frames_of_a_window, gpu, emulated_kernels, tiny_plus_folder):
    """One lane begins its windows one frame later each time, the other after as many frames."""
    gpu.give_step(emulated_kernels)
    fed = np.random.default_rng(1).standard_normal((24, 2, 36)).astype(np.float32)
    with load_engine(tiny_plus_folder, "cuda") as engine:
        stream, expected = engine.open_stream(), load_engine(tiny_plus_folder, "native").open_stream()
        for t, frame in enumerate(fed):
            resets = np.array([t % frames_of_a_window == 0, t in (0, 1, 3, 6, 10, 15, 21)])
            if t % 3 == 1:  # one that is taken back leaves no trace
                stream.step(3 * frame, ~resets)
                stream.take_back()
            found, scores = stream.step(frame, resets), expected.step(frame, resets)
            assert (found is None) == (scores is None) == (t < 3)
            if found is not None:
                np.testing.assert_allclose(found.spot, scores.spot, rtol=0, atol=1e-5)
                np.testing.assert_allclose(found.emotion, scores.emotion, rtol=0, atol=1e-4)


def test_windows_of_two_rates_are_scored_to_their_ends(gpu, emulated_kernels, tiny_plus_folder):
    gpu.give_step(emulated_kernels)
    native = load_engine(tiny_plus_folder, "native")
    with load_engine(tiny_plus_folder, "cuda") as engine:
        for length in (1, 2, 5):
            windows = np.random.default_rng(length).standard_normal((2, 36, length)).astype(np.float32)
            found, expected = engine.infer(windows), native.infer(windows)
            np.testing.assert_allclose(found.spot, expected.spot, rtol=0, atol=1e-5)
            np.testing.assert_allclose(found.emotion, expected.emotion, rtol=0, atol=1e-4)


def test_windows_beyond_what_is_stepped_at_once_are_scored_too(gpu, emulated_kernels, tiny_folder, monkeypatch):
    monkeypatch.setattr(runtime, "MAX_WINDOWS", 2)
    gpu.give_step(emulated_kernels)
    windows = frames(5, lanes=7).transpose(0, 2, 1)[:, :, :6].copy()
    with load_engine(tiny_folder, "cuda") as engine:
        found, expected = engine.infer(windows), load_engine(tiny_folder, "native").infer(windows)
        assert set(gpu.left) == {"stream", "event", "device memory"}, "the weights, and no stream of a window"
    np.testing.assert_allclose(found.spot, expected.spot, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.emotion, expected.emotion, rtol=0, atol=1e-4)


# What is asked of the GPU.


def test_a_step_is_one_launch_and_weights_go_up_once(machine, stream):
    uploads = [] if machine.one_memory else [("upload", 512)]
    for frame in frames(4):
        machine.log.clear()
        stream.step(frame)
        assert [name for name, *_ in machine.log if name in ("launch", "step", "wait")] == ["launch", "wait", "step"]
        assert machine.named("upload") == uploads
    stream.step(frames(1)[0])
    first, second = (arrays for _, arrays in machine.named("step"))
    assert (first["state"], first["next_state"]) == (second["next_state"], second["state"])


def test_flow_and_step_are_one_graph(machine, stream, clip, face):
    flow = stream.open_flow(gray(clip[0]).shape)
    flow.show(gray(clip[0]))
    flow.start(0, face.box, face.crop_landmarks)
    for frame in clip[1:5]:
        machine.log.clear()
        flow.show(gray(frame))
        flow.measure(*ask(0))
        stream.step_device()
        names = [name for name, *_ in machine.log if name in ("launch", "wait", "measure", "blend", "step", "record")]
        if frame is not clip[1]:  # before which the anchor's upload is waited for
            assert names == ["launch", "wait", "measure", "step"]
    machine.log.clear()
    flow.blend(LAST)
    stream.step_device()
    assert [name for name, *_ in machine.log if name in ("launch", "blend", "step")] == ["launch", "blend", "step"]


def test_features_come_down_with_the_scores(stream, clip, face):
    features_come_down(stream, clip, face)


def test_what_no_step_follows_is_measured_all_the_same(machine, stream, clip, face):
    flow, _ = two_frames_in_one_step(stream, machine, clip, face)
    flow.measure(*ask(0))
    stream.step(frames(1)[0])  # which is not of the flow's features
    flow.measure(*ask(0))
    flow.close()
    flow.close()
    assert stream.step_device() is not None


def test_every_flow_gives_back_what_it_took(machine, stream):
    stream.open_flow((200, 300))
    held = dict(machine.left)
    for shape in ((100, 100), (200, 300)):
        stream.open_flow(shape)
        assert machine.left == held


@pytest.mark.parametrize("rate", [30, 25])
def test_the_analyzer_scores_as_with_flow_on_the_cpu(rate, machine, tiny_folder, clip, face):
    seen = [*clip[:37], covered(clip[37], face.box), *clip[38:]]
    times = [i / rate for i in range(len(seen))]
    expected = items_of(tiny_folder, "cpu", seen, times, engine="native")
    assert_alike(items_of(tiny_folder, "cuda", seen, times, engine="cuda"), expected)


def test_a_push_that_is_taken_back_was_never_made(machine, stream):
    def scores(unwanted):
        lanes, found = Lanes(stream, 10), []
        for n, frame in enumerate(fed):
            for features in [3 * frame, frame] if n in unwanted else [frame]:
                machine.floats(stream.features, (2, 10))[:] = features
                given = lanes.push(None)
                if features is not frame:
                    lanes.take_back(given)
            found += [(score.frame, score.spot) for score in given]
        return found + [(score.frame, score.spot) for score in lanes.flush()]

    fed = frames(12)
    expected = scores(())
    assert len(expected) == 12
    for unwanted in (range(0, 12, 2), range(1, 12, 2)):
        assert scores(unwanted) == expected


def test_kernels_alone_feed_each_other(gpu, emulated_kernels, tiny_folder, clip):
    """Flow and step both in the emulation, at 25 frames a second, so that features of two frames are blended."""
    gpu.give_flow(emulated_kernels)
    gpu.give_step(emulated_kernels)
    times = [i / 25 for i in range(20)]
    expected = items_of(tiny_folder, "cpu", clip[:20], times, engine="native")
    assert_alike(items_of(tiny_folder, "cuda", clip[:20], times, engine="cuda"), expected)


@pytest.mark.parametrize("failing", ["CudaGraph", "recording", "end"])
def test_without_graphs_it_is_enqueued_all_the_same(failing, gpu, emulated_kernels, tiny_folder, clip):
    gpu.give_flow()
    gpu.give_step(emulated_kernels)
    times = [i / 30 for i in range(24)]
    expected = items_of(tiny_folder, "cpu", clip[:24], times, engine="native")
    gpu.failing = {failing}
    assert_alike(items_of(tiny_folder, "cuda", clip[:24], times, engine="cuda"), expected)


# Which engine it is.


def test_auto_takes_it_where_there_is_no_tensorrt(gpu, emulated_kernels, tiny_folder, tiny_plus_folder, monkeypatch):
    gpu.give_step(emulated_kernels)
    with load_engine(tiny_folder) as engine:
        assert engine.name == "tensorrt"
    monkeypatch.setattr("metst_edge.engine.tensorrt.module.MODULES", ("no_such_module",))
    for folder, precision, name in [
        (tiny_folder, "fp32", "cuda"),
        (tiny_folder, "fp16", "native"),
        (tiny_plus_folder, "fp32", "cuda"),
        (tiny_plus_folder, "fp16", "native"),
    ]:
        engine = load_engine(folder, precision=precision)
        assert engine.name == name
        engine.close()
    assert why_missing("cuda") is None
    gpu.give_flow()
    with metst_edge.Analyzer(tiny_folder) as analyzer:
        assert (analyzer.engine.name, analyzer.flow) == ("cuda", "cuda")


def test_what_is_missing_is_told(gpu, tiny_folder, monkeypatch):
    text = "expected the library with the CUDA kernels, which is not installed: build it as in docs/jetson.md"
    assert why_missing("cuda").startswith(text)
    with pytest.raises(EngineError, match=text):
        load_engine(tiny_folder, "cuda")
    monkeypatch.setattr(
        "metst_edge.engine.tensorrt.gpu.find_gpu", lambda: (_ for _ in ()).throw(EngineError("no GPU today"))
    )
    assert why_missing("cuda") == "no GPU today"
    monkeypatch.setattr("metst_edge.engine.find_spec", lambda name: None)
    assert why_missing("cuda") == "needs pycuda: pip install 'pycuda>=2022.1'"
    monkeypatch.setattr("metst_edge.engine.tensorrt.module.MODULES", ())
    assert load_engine(tiny_folder).name == "native"


def test_networks_and_precisions_that_it_has_not_are_refused(tiny_folder):
    with pytest.raises(EngineError, match="expected precision 'fp32' for engine 'cuda', got 'fp16'; use engine="):
        load_engine(tiny_folder, "cuda", "fp16")
    bundle = replace(Bundle.load(tiny_folder), model="metst_next")
    with pytest.raises(EngineError, match="it runs metst64, metst128, .*, not metst_next; use another engine"):
        load_engine(bundle, "cuda")


def test_the_library_is_the_plugins_or_one_without_tensorrt(monkeypatch, tmp_path):
    from metst_edge.engine.tensorrt import plugin

    monkeypatch.delenv(plugin.PLUGIN_VARIABLE, raising=False)
    monkeypatch.setattr(plugin, "PLUGIN_FOLDERS", (tmp_path / "a", tmp_path / "b"))
    assert plugin.find_cuda_library() is None
    for path in (tmp_path / "b" / plugin.CUDA_LIBRARY, tmp_path / "b" / plugin.PLUGIN_LIBRARY):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        assert plugin.find_cuda_library() == path


def test_a_library_without_it_or_of_another_version_is_refused(tmp_path):
    text = tmp_path / "text.so"
    text.write_text("not a library")
    for path in (text, tmp_path / "none.so", ctypes.util.find_library("m")):
        with pytest.raises(EngineError, match="expected a library with the network's step, got .*; build and install"):
            step_library.load(path)
    source, other = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int metst_network_step_version(void) { return 7; }")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(other)], check=True)
    with pytest.raises(EngineError, match=f"expected version {step_library.VERSION} of the network's step, got 7"):
        step_library.load(other)


# What fails.


def test_what_the_library_refuses_it_says_in_one_line(emulated_kernels, tiny_folder):
    library = step_library.load(emulated_kernels)
    bundle = Bundle.load(tiny_folder)
    network = networks.of_bundle(bundle)
    step = step_library.FusedStep(library, network)
    with pytest.raises(EngineError, match="on the GPU, but an array is missing; use engine='native'"):
        step.enqueue(1, 0, dict.fromkeys(step_library.ARRAYS, 0), 0)
    with pytest.raises(EngineError, match="a size or the number of lanes is out of range"):
        step.enqueue(0, 256, dict.fromkeys(step_library.ARRAYS, 256), 0)
    wide = networks.describe("metst64", {**bundle.sizes, "dim": 5000}, "wide")
    with pytest.raises(EngineError, match="the network is larger than one multiprocessor can step"):
        step_library.FusedStep(library, wide)
    two_rates = {"slow_dim": 8, "stages": 200, "depth": 70, "pathways": 1, "slow_dt_rank": 1}
    deep = networks.describe("metst_plus", {**bundle.sizes, **two_rates}, "deep")
    with pytest.raises(EngineError, match="the network is larger than one multiprocessor can step"):
        step_library.FusedStep(library, deep)
    texts = [library.metst_network_step_text(status) for status in range(6)]
    assert len(set(texts)) == 6 and texts[-1] == b"unknown"


@pytest.mark.parametrize(
    "failing", ["step", "mem_alloc", "pagelocked_empty", "memcpy_htod_async", "memcpy_dtoh_async", "wait"]
)
def test_what_cuda_refuses_is_an_error_that_leaves_nothing(failing, gpu, emulated_kernels, tiny_folder):
    gpu.give_step(emulated_kernels)
    bundle = Bundle.load(tiny_folder)
    gpu.failing = {failing}
    with pytest.raises(EngineError, match=f"CUDA says: {failing}"), CudaEngine(bundle) as engine:
        engine.open_stream()
    assert not gpu.left
    gpu.failing = set()
    with CudaEngine(bundle) as engine:
        stream = engine.open_stream()
        assert stream.step(frames(1)[0]) is None
    with pytest.raises(EngineError, match="closed one; call load_engine again"):
        stream.step(frames(1)[0])
    with pytest.raises(EngineError, match="closed one; call load_engine again"):
        engine.open_stream()


def test_pictures_of_another_kind_are_refused_as_by_every_flow(stream, clip):
    flow = stream.open_flow(gray(clip[0]).shape)
    with pytest.raises(EngineError, match="expected lanes out of 0 to 1, got 2"):
        flow.measure([2], LAST)
    with pytest.raises(EngineError, match="expected a picture to start from, got none"):
        flow.start(0, None, None)
