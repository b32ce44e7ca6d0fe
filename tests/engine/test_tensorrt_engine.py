"""Engine `tensorrt` gives the native engine's scores, keeps state on the GPU, and gives back what it takes.

On a GPU made of NumPy (fake_gpu.py), which runs the bundle's graphs in ONNX Runtime. What the engine asks of CUDA and
TensorRT is thereby known, not that they do it: that needs the hardware.
"""

import logging
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

import metst_edge
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.capture import open_source
from metst_edge.engine import Scores, load_engine, why_missing
from metst_edge.engine.native import NativeEngine
from metst_edge.engine.onnxruntime import OnnxRuntimeEngine
from metst_edge.engine.tensorrt.builder import MAX_WINDOWS
from metst_edge.engine.tensorrt.runtime import TensorRTEngine
from metst_edge.errors import EngineError

FRAMES = 120


class Recorder:
    """A stream that writes down what it is fed."""

    def __init__(self, stream, fed):
        self.stream, self.fed = stream, fed
        self.lanes, self.channels, self.look_ahead = stream.lanes, stream.channels, stream.look_ahead

    def step(self, features, reset=None):
        self.fed.append((features.copy(), reset.copy()))
        return self.stream.step(features, reset)

    def reset(self):
        self.stream.reset()


@pytest.fixture(scope="module")
def fed():
    """What the analyzer feeds its stream for the packaged clip: a list of features (2, 10) and reset flags (2,)."""
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        open_stream = NativeEngine.open_stream
        patch.setattr(NativeEngine, "open_stream", lambda self, lanes: Recorder(open_stream(self, lanes), steps))
        with metst_edge.Analyzer("demo", engine="native") as analyzer, open_source(demo_clip()) as source:
            for frame in source:
                analyzer.push(frame.image, frame.timestamp)
                if len(steps) == FRAMES:
                    return steps
    raise AssertionError("the clip is too short")


@pytest.fixture
def demo():
    return Bundle.find("demo")


@pytest.fixture
def engine(gpu, demo):
    with TensorRTEngine(demo, say=complaint) as engine:
        yield engine


@pytest.fixture
def tiny(gpu, tiny_folder):
    with TensorRTEngine(Bundle.load(tiny_folder), say=complaint) as engine:
        yield engine


def complaint(line):
    assert "building" in line


def frames(n, lanes=2, seed=1):
    return np.random.default_rng(seed).standard_normal((n, lanes, 10)).astype(np.float32)


def assert_equal(found, expected):
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.spot.dtype == found.emotion.dtype == np.float32
        np.testing.assert_allclose(found.spot, expected.spot, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.emotion, expected.emotion, rtol=1e-4, atol=1e-4)


def assert_same(found, expected):
    """The same graphs in the same ONNX Runtime: whatever differs, the engine has done."""
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found.spot, expected.spot)
        np.testing.assert_array_equal(found.emotion, expected.emotion)


# The scores.


def test_steps_on_real_video_score_as_the_native_engine(engine, demo, fed):
    stream, native, onnx = (e.open_stream() for e in (engine, load_engine(demo, "native"), OnnxRuntimeEngine(demo)))
    for features, reset in fed:
        scores = stream.step(features, reset)
        assert_equal(scores, native.step(features, reset))
        assert_same(scores, onnx.step(features, reset))


@pytest.mark.parametrize("windows", [1, MAX_WINDOWS, MAX_WINDOWS + 1, 2 * MAX_WINDOWS + 3])
def test_windows_of_real_video_score_as_the_native_engine_in_as_few_batches_as_can_be(windows, engine, demo, fed, gpu):
    features = np.stack([f[0] for f, _ in fed])
    starts = np.arange(windows) % (FRAMES - demo.k)
    batch = np.stack([features[s : s + demo.k].T for s in starts])
    scores = engine.infer(batch)
    assert_equal(scores, load_engine(demo, "native").infer(batch))
    parts = [OnnxRuntimeEngine(demo).infer(batch[n : n + MAX_WINDOWS]) for n in range(0, windows, MAX_WINDOWS)]
    assert_same(scores, Scores(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("spot", "emotion"))))
    assert len(gpu.named("run")) == -(-windows // MAX_WINDOWS)
    gpu.log.clear()
    engine.infer(batch[:1])
    assert [name for name, *_ in gpu.log] == ["wait", "upload", "run", "download"]


def test_windows_shorter_than_the_models_score_alike_and_longer_ones_are_refused(tiny, tiny_on_cpu):
    rng = np.random.default_rng(2)
    for windows, length in [(3, 30), (3, 1), (1, 17), (40, 17), (3, 30)]:
        batch = rng.standard_normal((windows, 10, length)).astype(np.float32)
        assert_equal(tiny.infer(batch), tiny_on_cpu["native"].infer(batch))
    with pytest.raises(EngineError, match="at most 30 frames.*got 31; use engine='native'"):
        tiny.infer(np.zeros((1, 10, 31), np.float32))


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_every_number_of_lanes_has_an_engine_of_its_own_built_once(lanes, tiny, tiny_on_cpu, gpu):
    features, resets = frames(8, lanes), np.random.default_rng(3).random((8, lanes)) < 0.3
    for _ in range(2):
        stream, native = tiny.open_stream(lanes=lanes), tiny_on_cpu["native"].open_stream(lanes=lanes)
        for frame, reset in zip(features, resets, strict=True):
            assert_equal(stream.step(frame, reset), native.step(frame, reset))
    assert gpu.alive["engine"] == 1
    assert [name for name, _ in gpu.tensorrt.calls].count("build_serialized_network") == 1


def test_two_rates_score_as_in_onnx_runtime(gpu, tiny_plus_folder):
    """ME-TST+: a score three steps late, more states and of more shapes, windows of even and odd lengths."""
    bundle, rng = Bundle.load(tiny_plus_folder), np.random.default_rng(6)
    assert bundle.look_ahead == 3 and {(1,), (3,), (16,), (32,)} <= {state.shape for state in bundle.state}
    with TensorRTEngine(bundle, say=complaint) as engine:
        onnx = OnnxRuntimeEngine(bundle)
        for lanes in (1, 2):
            stream, expected = engine.open_stream(lanes), onnx.open_stream(lanes)
            assert (stream.look_ahead, stream.channels) == (3, 36)
            for n, reset in enumerate(rng.random((40, lanes)) < 0.2):
                features = rng.standard_normal((lanes, 36)).astype(np.float32)
                if n % 7 == 3:
                    stream.step(-features, ~reset)
                    stream.take_back()
                found = stream.step(features, reset)
                assert (found is None) == (n < 3)
                assert_same(found, expected.step(features, reset))
        for windows, frames in [(3, 30), (1, 1), (2, 17), (MAX_WINDOWS + 1, 8)]:
            batch = rng.standard_normal((windows, 36, frames)).astype(np.float32)
            assert_equal(engine.infer(batch), onnx.infer(batch))


def test_half_precision_runs_the_graphs_in_fp16(gpu, demo, fed):
    scores = {}
    for precision in ("fp32", "fp16"):
        with load_engine(demo, "tensorrt", precision) as engine:
            assert engine.precision == precision
            stream = engine.open_stream()
            scores[precision] = [stream.step(f, r) for f, r in fed[:40]][2:]
    difference = max(np.abs(a.spot - b.spot).max() for a, b in zip(scores["fp32"], scores["fp16"], strict=True))
    assert 0 < difference < 5e-3


def test_an_analyzer_runs_on_it_and_gives_it_back(gpu):
    events = {}
    for engine in ("native", "tensorrt"):
        with metst_edge.Analyzer(engine=engine) as analyzer, open_source(demo_clip()) as source:
            found = [
                e
                for frame, _ in zip(source, range(100), strict=False)
                for e in analyzer.push(frame.image, frame.timestamp)
            ]
            events[engine] = [event.to_dict() for event in found + analyzer.flush()]
        assert analyzer.engine.name == engine
        analyzer.close()
    assert not gpu.left
    assert len(events["native"]) > 0
    for a, b in zip(events["native"], events["tensorrt"], strict=True):
        assert a == {
            key: pytest.approx(value, abs=1e-4) if key in ("score", "height", "probabilities") else value
            for key, value in b.items()
        }


# What is asked of the GPU.


def test_a_step_is_one_upload_one_launch_one_download_and_one_wait(tiny, gpu):
    stream = tiny.open_stream()
    stream.step(frames(1)[0])
    gpu.log.clear()
    for frame in frames(10):
        stream.step(frame)
        upload, download = 2 * 256, 2 * 256  # features and flags, spot and emotion: each in the 256 bytes it is given
        names = ["launch", "wait", "upload", "run", "download"]
        assert [name for name, *_ in gpu.log] == names
        assert gpu.log[2] == ("upload", upload) and gpu.log[4] == ("download", download)
        gpu.log.clear()


def test_a_board_with_one_memory_is_asked_for_no_copies(gpu, tiny_folder, tiny_on_cpu):
    gpu.one_memory = True
    with TensorRTEngine(Bundle.load(tiny_folder), say=complaint) as engine:
        stream, native = engine.open_stream(), tiny_on_cpu["native"].open_stream()
        gpu.log.clear()
        for frame in frames(10):
            assert_equal(stream.step(frame), native.step(frame))
            assert [name for name, *_ in gpu.log if name != "clear"] == ["launch", "wait", "run"]
            gpu.log.clear()
        for windows, length in [(3, 30), (40, 17)]:
            batch = np.random.default_rng(2).standard_normal((windows, 10, length)).astype(np.float32)
            assert_equal(engine.infer(batch), tiny_on_cpu["native"].infer(batch))
        assert not gpu.named("upload") and not gpu.named("download")


def test_features_of_a_flow_under_way_do_not_overwrite_those_of_the_host(gpu, tiny_folder, tiny_on_cpu):
    """With one memory the host writes them at once, whatever the stream has still to do."""
    gpu.one_memory = True
    with TensorRTEngine(Bundle.load(tiny_folder), say=complaint) as engine:
        stream, native = engine.open_stream(), tiny_on_cpu["native"].open_stream()
        for frame in frames(6):
            put(gpu, stream, -frame)
            stream._stream.busy = True  # as a flow leaves it
            assert_equal(stream.step(frame), native.step(frame))


def test_state_goes_from_one_set_of_tensors_to_the_other_and_back(tiny, gpu):
    stream = tiny.open_stream()
    gpu.log.clear()
    for frame in frames(6):
        stream.step(frame)
    runs = [addresses for _, addresses in gpu.named("run")]
    for state in tiny.bundle.state:
        read, written = ([run[name] for run in runs] for name in (state.name, f"{state.name}_next"))
        assert read[1:] == written[:-1]
        assert len(set(read)) == 2
    assert len({run["features"] for run in runs}) == len({run["spot"] for run in runs}) == 1


def test_both_directions_are_recorded_before_the_first_frame_and_never_again(tiny, gpu):
    stream = tiny.open_stream()
    assert len(gpu.named("record")) == 2
    assert gpu.alive["execution context"] == gpu.alive["graph"] == 2
    for frame in frames(7):
        stream.step(frame)
    stream.reset()
    stream.step(frames(1)[0])
    assert len(gpu.named("record")) == 2 and len(gpu.named("launch")) == 8


def test_a_reset_clears_both_sets_on_the_stream_and_waits_for_nothing(tiny, gpu):
    stream = tiny.open_stream()
    for frame in frames(3):
        stream.step(frame)
    gpu.log.clear()
    stream.reset()
    assert not gpu.log
    stream.step(frames(1)[0])
    names = [name for name, *_ in gpu.log]
    assert names == ["launch", "wait", "clear", "clear", "upload", "run", "download"]
    floats = sum(-(-2 * int(np.prod(state.shape)) // 64) * 64 for state in tiny.bundle.state)
    assert {entry[1] for entry in gpu.named("clear")} == {4 * floats}


def test_features_on_the_gpu_are_read_where_they_are(tiny, tiny_on_cpu, gpu):
    stream, native = tiny.open_stream(), tiny_on_cpu["native"].open_stream()
    resets = np.random.default_rng(3).random((12, 2)) < 0.3
    recorded = []
    for n, (frame, reset) in enumerate(zip(frames(12), resets, strict=True)):
        gpu.log.clear()
        if n in (2, 7):  # from the host, now and then
            found = stream.step(frame, reset)
        else:
            put(gpu, stream, frame)
            found = stream.step_device(reset)
            assert gpu.named("upload") == [("upload", 256)]  # the flags
        assert_equal(found, native.step(frame, reset))
        assert gpu.named("run")[0][1]["features"] == stream.features
        recorded.append(len(gpu.named("record")))
    assert recorded == [1, 1, *[0] * 10]


def put(gpu, stream, features):
    """Have the GPU write features, as a flow would: enqueued on the stream's own stream and not waited for."""

    def write():
        gpu.floats(stream.features, features.shape)[:] = features

    gpu.streams[stream.cuda_stream].enqueue(write)


def test_a_step_that_is_taken_back_was_never_made(tiny, tiny_on_cpu, gpu):
    stream, native = tiny.open_stream(), tiny_on_cpu["native"].open_stream()
    with pytest.raises(EngineError, match="expected a step to take back, got none"):
        stream.take_back()
    for n, frame in enumerate(frames(12)):
        if n in (0, 1, 2, 5, 6, 9):
            stream.step(3 * frame, np.ones(2, bool))
            stream.take_back()
            with pytest.raises(EngineError, match="expected a step to take back, got none"):
                stream.take_back()
        assert_equal(stream.step(frame), native.step(frame))
    stream.reset()
    with pytest.raises(EngineError, match="expected a step to take back, got none"):
        stream.take_back()
    stream.step(frame)
    gpu.failing = {"wait"}
    with pytest.raises(EngineError, match="CUDA says: wait"):
        stream.step(frame)
    gpu.failing = set()
    with pytest.raises(EngineError, match="expected a step to take back, got none"):
        stream.take_back()  # it may have written where the one before it read
    stream.close()
    with pytest.raises(EngineError, match="got a closed one"):
        stream.take_back()


# Where graphs cannot be recorded.


@pytest.mark.parametrize("failing", ["CudaGraph", "recording", "end", "is_stream_capturable"])
def test_without_graphs_steps_are_enqueued_with_one_warning(failing, gpu, tiny_folder, tiny_on_cpu, monkeypatch):
    gpu.failing = {failing}
    if failing == "recording":  # TensorRT other than RTX says so when it is tried
        monkeypatch.delattr("tests.engine.fake_gpu.Context.is_stream_capturable")
    said = []
    with TensorRTEngine(Bundle.load(tiny_folder), say=said.append) as engine:
        stream, native = engine.open_stream(), tiny_on_cpu["native"].open_stream()
        for frame in frames(9):
            assert_equal(stream.step(frame), native.step(frame))
        assert not gpu.named("launch") and not gpu.alive.get("graph")
    (line,) = [line for line in said if "building" not in line]
    assert "cannot be recorded as a CUDA graph" in line and "\n" not in line
    assert ("TensorRT says that its runs cannot be captured" in line) == (failing == "is_stream_capturable")
    assert not gpu.named("record") or failing == "recording"


def test_a_graph_that_cannot_be_launched_is_an_error(tiny, gpu):
    stream = tiny.open_stream()
    gpu.failing = {"launch"}
    with pytest.raises(EngineError, match="recorded step to run, but the graph cannot be launched: no"):
        stream.step(frames(1)[0])


# What fails.


@pytest.mark.parametrize(
    "failing",
    [
        "create_execution_context",
        "set_input_shape",
        "set_tensor_address",
        "execute_async_v3",
        "mem_alloc",
        "pagelocked_empty",
        "memcpy_htod_async",
        "memcpy_dtoh_async",
        "memset_d8_async",
        "wait",
    ],
)
@pytest.mark.parametrize("use", ["stream", "infer"])
def test_what_tensorrt_or_cuda_refuse_is_an_error_that_leaves_nothing(use, failing, gpu, tiny_folder, tiny_on_cpu):
    batch = np.random.default_rng(4).standard_normal((2, 10, 30)).astype(np.float32)
    with TensorRTEngine(Bundle.load(tiny_folder), say=complaint) as engine:
        gpu.failing = {failing}
        expected = "memory" if failing == "create_execution_context" else f"no {failing}|CUDA says: {failing}"
        with pytest.raises(EngineError, match=expected):
            engine.open_stream() if use == "stream" else engine.infer(batch)
        gpu.failing = set()
        if use == "stream":
            assert set(gpu.left) == {"engine"}
            assert engine.open_stream().step(batch[:, :, 0]) is None
        else:
            assert_equal(engine.infer(batch), tiny_on_cpu["native"].infer(batch))
    assert not gpu.left


def test_an_engine_of_another_graph_is_refused(gpu, tiny, monkeypatch):
    deserialise = gpu.tensorrt.Runtime.deserialize_cuda_engine

    def changed(change):
        def deserialize_cuda_engine(self, plan):
            engine = deserialise(self, plan)
            change(engine)
            return engine

        monkeypatch.setattr(gpu.tensorrt.Runtime, "deserialize_cuda_engine", deserialize_cuda_engine)

    changed(lambda engine: engine.inputs.remove("reset"))
    with pytest.raises(EngineError, match="expected tensors .*reset.*, got .*; export the bundle again"):
        tiny.open_stream(lanes=1)
    changed(lambda engine: engine.types.update(spot="float16"))
    with pytest.raises(EngineError, match="expected float32 tensors, got spot as float16"):
        tiny.open_stream(lanes=3)
    monkeypatch.setattr("tests.engine.fake_gpu.Context.get_tensor_shape", lambda self, name: (1, 2))
    changed(lambda engine: None)
    with pytest.raises(EngineError, match=r"expected spot as \(2, 30\)|expected spot as \(32, 30\), got \(1, 2\)"):
        tiny.infer(np.zeros((1, 10, 30), np.float32))


def test_without_pycuda_or_a_gpu_it_says_what_to_do(gpu, tiny_folder, monkeypatch):
    gpu.failing = {"retain_primary_context"}
    with pytest.raises(EngineError, match="an NVIDIA GPU, but CUDA says: .*device is busy; see what nvidia-smi"):
        load_engine(tiny_folder, "tensorrt")
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"expected pycuda, .*pip install 'pycuda>=2022.1', .*engine='native'"):
        load_engine(tiny_folder, "tensorrt")


# What it holds, and when it lets go.


def test_everything_is_given_back_last_first(gpu, tiny_folder):
    engine = TensorRTEngine(Bundle.load(tiny_folder), say=complaint)
    stream = engine.open_stream()
    engine.infer(np.zeros((1, 10, 30), np.float32))
    assert gpu.left == {
        "stream": 2,
        "event": 2,
        "device memory": 6,
        "pinned memory": 4,
        "engine": 2,
        "graph": 2,
        "execution context": 3,
    }
    gpu.log.clear()
    engine.close()
    names = [entry[-1] for entry in gpu.log if entry[0] in ("free", "destroy")]
    of_stream, of_windows, of_engine = names[:8], names[8:13], names[13:]
    assert of_stream == ["execution context"] * 2 + ["free"] * 4 + ["event", "stream"]
    assert of_windows == ["execution context"] + ["free"] * 2 + ["event", "stream"]
    assert of_engine == ["engine"] * 2
    assert not gpu.left
    engine.close()
    for use in (
        engine.open_stream,
        lambda: engine.infer(np.zeros((1, 10, 30), np.float32)),
        stream.reset,
        lambda: stream.step(frames(1)[0]),
        stream.step_device,
    ):
        with pytest.raises(EngineError, match="got a closed one; call load_engine again"):
            use()
    stream.close()


def test_a_closed_stream_leaves_the_others(tiny, tiny_on_cpu):
    native = tiny_on_cpu["native"].open_stream()
    with tiny.open_stream() as closed, tiny.open_stream() as stream:
        for n, frame in enumerate(frames(6)):
            if n == 3:
                closed.close()
                closed.close()
            assert_equal(stream.step(frame), native.step(frame))
    with pytest.raises(EngineError, match="closed"):
        closed.step(frames(1)[0])


def test_a_stream_keeps_its_engine_and_both_go_when_nobody_refers_to_them(gpu, tiny_folder, tiny_on_cpu):
    engine = load_engine(tiny_folder, "tensorrt")
    alive = weakref.ref(engine)
    stream, native = engine.open_stream(), tiny_on_cpu["native"].open_stream()
    del engine
    for frame in frames(4):
        assert_equal(stream.step(frame), native.step(frame))
    assert alive() is not None
    del stream
    assert alive() is None and not gpu.left


def test_an_interpreter_that_ends_first_gives_everything_back(tiny_folder, tmp_path):
    code = (
        "import atexit, pathlib, sys, weakref, numpy, pytest\n"
        "from tests.engine.fake_gpu import FakeGpu\n"
        "from metst_edge.engine import load_engine\n"
        "gpu = FakeGpu(pytest.MonkeyPatch(), pathlib.Path(sys.argv[2]))\n"
        "weakref.finalize(gpu, lambda alive, log: print('after', {k for k in alive if alive[k]}, log[-1]), gpu.alive, "
        "gpu.log)\n"
        "atexit.register(lambda: print('before', sorted(gpu.left)))\n"
        "engine = load_engine(sys.argv[1], 'tensorrt')\n"
        "engine.infer(numpy.zeros((1, 10, 30), numpy.float32))\n"
        "stream = engine.open_stream()\n"
        "stream.step(numpy.zeros((2, 10), numpy.float32))\n"
        "cycle = [engine, stream]; cycle.append(cycle)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tiny_folder), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.splitlines()
    assert before.startswith("before ['device memory', 'engine'") and after == "after set() ('detach',)"
    assert "Error" not in done.stderr and "Traceback" not in done.stderr


def test_the_context_is_current_only_during_a_call_and_somebody_elses_stays(tiny, gpu):
    stream = tiny.open_stream()
    assert not gpu.stack
    somebody = object()
    gpu.stack.append(somebody)
    stream.step(frames(1)[0])
    with pytest.raises(EngineError):
        stream.step(frames(1)[0][:1])
    gpu.failing = {"wait"}
    with pytest.raises(EngineError):
        stream.step(frames(1)[0])
    gpu.failing = set()
    assert gpu.stack == [somebody]
    gpu.stack.pop()


def test_threads_may_share_an_engine_and_a_stream(tiny, tiny_on_cpu, gpu):
    """Made here, used and closed there; and several at once."""
    made, native = tiny.open_stream(), tiny_on_cpu["native"]
    problems = []

    def work(seed):
        try:
            stream, expected = tiny.open_stream(), native.open_stream()
            for frame in frames(25, seed=seed):
                assert_equal(stream.step(frame), expected.step(frame))
                batch = frame.T[None].copy()
                assert_equal(tiny.infer(batch), native.infer(batch))
                made.step(frame)
            assert not gpu.stack
            if seed % 2:
                stream.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    tiny.close()
    assert not gpu.left


def test_engines_share_the_primary_context(gpu, tiny_folder, demo):
    with load_engine(tiny_folder, "tensorrt") as a, load_engine(demo, "tensorrt") as b:
        assert a.device is b.device
        a.open_stream()
        b.open_stream()
    assert not gpu.left and not gpu.detached


# Which engine is taken.


def test_auto_is_tensorrt_where_it_pycuda_and_a_gpu_are_and_says_why(gpu, tiny_folder, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="metst_edge.engine")
    assert why_missing("tensorrt") is None
    assert load_engine(tiny_folder).name == "tensorrt"
    assert "engine 'auto' is 'tensorrt'" in caplog.text

    def no_gpu():
        raise EngineError("expected an NVIDIA GPU, but there is none")

    for remove, reason in [
        (lambda: monkeypatch.setattr("metst_edge.engine.tensorrt.gpu.find_gpu", no_gpu), "expected an NVIDIA GPU"),
        (lambda: monkeypatch.setitem(sys.modules, "pycuda", None), r"needs pycuda: pip install"),
        (lambda: [monkeypatch.setitem(sys.modules, n, None) for n in ("tensorrt", "tensorrt_rtx")], "not installed"),
    ]:
        remove()
        caplog.clear()
        assert reason in why_missing("tensorrt")
        assert load_engine(tiny_folder).name == "native"
        assert "engine 'auto' is 'native'; TensorRT: " in caplog.text and reason in caplog.text


def test_nothing_is_built_before_it_is_needed(gpu, tiny_folder):
    with load_engine(tiny_folder, "tensorrt") as engine:
        assert not gpu.left and "parse" not in [name for name, _ in gpu.tensorrt.calls]
        engine.open_stream()
        assert [name for name, _ in gpu.tensorrt.calls].count("build_serialized_network") == 1


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("native", "int8", "expected precision 'fp32' or 'fp16', got 'int8'"),
        ("tensorrt", "fp16", "expected precision fp32.*got 'fp16'; add it with `python -m export fp16`"),
        ("onnxruntime", "int8", "expected precision fp32.*got 'int8'"),
    ],
)
def test_a_precision_that_an_engine_or_bundle_does_not_have_is_refused(engine, precision, message, gpu, tiny_folder):
    with pytest.raises(EngineError, match=message):
        load_engine(tiny_folder, engine, precision)
