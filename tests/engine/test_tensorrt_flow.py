"""Flow on the GPU in front of the network's step: the analyzer's scores are those of flow on the CPU, frame by frame.

On the GPU made of NumPy (fake_gpu.py). With the CPU's flow in the kernels' place scores agree to rounding, whatever the
order of calls; the kernels themselves come in at the end, in their emulation.
"""

import cv2
import numpy as np
import pytest

import metst_edge
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, open_source
from metst_edge.engine.lanes import Lanes
from metst_edge.engine.native import NativeEngine
from metst_edge.engine.tensorrt.runtime import TensorRTEngine
from metst_edge.errors import EngineError, FrameError
from metst_edge.events import Gap
from metst_edge.face import FaceFinder
from metst_edge.flow import RoiFlow, measure
from tests.recognise.fakes import FakeRecognizer


@pytest.fixture(scope="module")
def whole_clip():
    with open_source(demo_clip()) as source:
        return [frame.image for frame in source]


@pytest.fixture(scope="module")
def clip(whole_clip):
    return whole_clip[:60]


@pytest.fixture(scope="module")
def face(clip):
    return FaceFinder().find(clip[0])


@pytest.fixture(params=[False, True], ids=["a card", "a board with one memory"])
def stream(gpu, tiny_folder, request):
    gpu.one_memory = request.param
    gpu.give_flow()
    with TensorRTEngine(Bundle.load(tiny_folder), say=complaint) as engine:
        yield engine.open_stream()


def complaint(line):
    assert "building" in line


def gray(frame):
    return cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)


def ask(*lanes):
    """What `measure` is told: to measure in these lanes, and that features are those measured last."""
    return lanes, LAST


LAST = {lane: (0.0, 1.0) for lane in range(2)}


# The analyzer.


def items_of(model, flow, frames, times, size=None, engine="tensorrt"):
    """What the analyzer has of pushed frames before it decodes; from frame ``size`` on they are of half the size."""
    with metst_edge.Analyzer(model, engine=engine, flow=flow) as analyzer:
        assert analyzer.flow == flow
        scorer, items = analyzer._scorer, []
        for index, (frame, time) in enumerate(zip(frames, times, strict=True)):
            if index == size:
                items += scorer.interrupt(Gap(times[index - 1], time, "source_lost"))
            shown = frame if size is None or index < size else frame[::2, ::2].copy()
            items += scorer.push(Frame(index, time, shown))
        return items + scorer.flush()


def assert_alike(found, expected):
    assert [type(item) for item in found] == [type(item) for item in expected]
    spots = 0
    for a, b in zip(found, expected, strict=True):
        if isinstance(a, Gap):
            assert a == b
        elif hasattr(a, "spot"):
            assert (a.frame, a.time) == (b.frame, b.time)
            np.testing.assert_allclose(a.spot, b.spot, rtol=0, atol=1e-5)
            np.testing.assert_allclose(a.emotion, b.emotion, rtol=0, atol=1e-4)
            spots += 1
    assert spots > 20


@pytest.mark.parametrize("rate", [30, 30.3, 25, 20, 50, 60])
def test_scores_are_those_of_flow_on_the_cpu_at_every_frame_rate(rate, gpu, tiny_folder, clip):
    gpu.give_flow()
    # Uneven, as cameras are.
    times = np.arange(len(clip)) / rate + np.random.default_rng(5).uniform(0, 0.2 / rate, len(clip))
    expected = items_of(tiny_folder, "cpu", clip, times)
    gpu.log.clear()
    assert_alike(items_of(tiny_folder, "cuda", clip, times), expected)
    starts, measured = gpu.named("start"), [lanes for _, lanes in gpu.named("measure") if lanes]
    assert len(starts) >= 2 and [0, 1] in measured
    if rate == 20:  # every second moment lies between the same two frames as the one before
        assert len(gpu.named("blend")) > len(clip) / 3


@pytest.mark.parametrize("rate", [30, 25])
def test_a_board_with_one_memory_scores_the_same_and_copies_nothing(rate, gpu, tiny_folder, clip):
    """Frames are read where the host has put them: it must not put the next one there too early."""
    gpu.one_memory = True
    gpu.give_flow()
    times = [i / rate for i in range(len(clip))]
    expected = items_of(tiny_folder, "cpu", clip, times, engine="native")
    assert_alike(items_of(tiny_folder, "cuda", clip, times), expected)
    assert gpu.named("run") and not gpu.named("upload") and not gpu.named("download")


@pytest.mark.parametrize("rate", [30, 25])
def test_eighteen_regions_in_front_of_two_rates_score_as_with_flow_on_the_cpu(rate, gpu, tiny_plus_folder, clip, face):
    """36 channels, a score three steps late, states of every shape, and a step that is taken back."""
    gpu.give_flow()
    frames = [*clip[:37], covered(clip[37], face.box), *clip[38:]]
    times = [i / rate for i in range(len(clip))]
    expected = items_of(tiny_plus_folder, "cpu", frames, times)
    assert [item.reason for item in expected if isinstance(item, Gap) and item.end] == ["face_lost"]
    assert_alike(items_of(tiny_plus_folder, "cuda", frames, times), expected)


def test_a_lost_face_ends_the_run_as_on_the_cpu(gpu, tiny_folder, clip, face):
    """The network has seen the frame already when the GPU says that there is no face; its scores must not show that."""
    gpu.give_flow()
    frames = [*clip[:37], *(covered(frame, face.box) for frame in clip[37:40]), *clip[40:]]
    times = [i / 30 for i in range(len(frames))]
    expected = items_of(tiny_folder, "cpu", frames, times)
    assert [item.reason for item in expected if isinstance(item, Gap) and item.end] == ["face_lost"]
    assert_alike(items_of(tiny_folder, "cuda", frames, times), expected)


def covered(frame, box):
    """The frame with squares where the face was."""
    squares = np.arange(box.height)[:, None, None] // 30 + np.arange(box.width)[None, :, None] // 30
    frame = frame.copy()
    frame[box.top : box.bottom, box.left : box.right] = 60 + 140 * (squares % 2)
    return frame


def test_frames_of_another_size_after_an_interruption_have_a_flow_of_their_own(gpu, tiny_folder, clip):
    gpu.give_flow()
    times = [i / 30 for i in range(len(clip))]
    expected = items_of(tiny_folder, "cpu", clip, times, size=24)
    assert_alike(items_of(tiny_folder, "cuda", clip, times, size=24), expected)
    assert not gpu.left


def test_a_size_that_does_not_fit_does_not_end_all_others(gpu, tiny_folder, clip):
    gpu.give_flow()
    with metst_edge.Analyzer(tiny_folder, engine="tensorrt") as analyzer:
        analyzer.push(clip[0], 0.0)
        analyzer.reset()
        gpu.failing = {"flow"}
        with pytest.raises(EngineError, match="its memory is short"):
            analyzer.push(clip[0][:-2].copy(), 0.0)
        gpu.failing = set()
        analyzer.reset()
        for i, frame in enumerate(clip[:5]):
            analyzer.push(frame, i / 30)
        analyzer.flush()


def test_events_are_the_same_and_a_second_video_begins_afresh(gpu, whole_clip):
    gpu.give_flow()
    events = {}
    for flow in ("cpu", "auto"):
        with metst_edge.Analyzer(engine="tensorrt", flow=flow) as analyzer:
            assert analyzer.flow == {"cpu": "cpu", "auto": "cuda"}[flow]
            for _ in range(2):
                found = [event for i, frame in enumerate(whole_clip[:110]) for event in analyzer.push(frame, i / 30)]
                events.setdefault(flow, []).append([event.to_dict() for event in found + analyzer.flush()])
    assert events["auto"][0] == events["auto"][1] and events["cpu"][0]
    for a, b in zip(events["auto"][0], events["cpu"][0], strict=True):
        for key in ("score", "height", "probabilities"):
            assert a.pop(key) == pytest.approx(b.pop(key), abs=1e-4)
        assert a == b


def test_a_recogniser_sees_the_same_wherever_flow_is_measured(gpu, whole_clip, monkeypatch):
    """It is shown pictures, of which the host has those of every slot in either way; it runs in TensorRT then."""
    gpu.give_flow()
    asked, opinions = [], {}
    monkeypatch.setattr(
        "metst_edge.recognise.engine.load_recognizer", lambda path, engine: (asked.append(engine), FakeRecognizer())[1]
    )
    for flow in ("cpu", "cuda"):
        with metst_edge.Analyzer(engine="tensorrt", flow=flow, recognizer="any") as analyzer:
            found = [event for i, frame in enumerate(whole_clip[:110]) for event in analyzer.push(frame, i / 30)]
            found += analyzer.flush()
            opinions[flow] = [event.recognizer for event in found if getattr(event, "revision", None) == 1]
    assert asked == ["tensorrt"] * 2
    assert opinions["cpu"] == opinions["cuda"] and opinions["cpu"]


def test_where_flow_is_measured_is_chosen_and_said(gpu, caplog):
    caplog.set_level("INFO")
    with pytest.raises(EngineError, match="expected flow 'auto', 'cpu', 'cuda', got 'gpu'"):
        metst_edge.Analyzer(flow="gpu")
    with pytest.raises(EngineError, match="optical flow on the GPU, but engine 'native' takes features from the host"):
        metst_edge.Analyzer(engine="native", flow="cuda")
    missing = "it is in the TensorRT plugin, which is not installed: see docs/jetson.md"
    with pytest.raises(EngineError, match=f"expected to measure optical flow on the GPU, but {missing}"):
        metst_edge.Analyzer(engine="tensorrt", flow="cuda")
    assert not gpu.alive.get("engine"), "asked before an engine is built, which takes minutes"
    with metst_edge.Analyzer(engine="tensorrt") as analyzer:
        assert analyzer.flow == "cpu"
    assert f"optical flow is measured on the CPU: {missing}" in caplog.text
    gpu.give_flow()
    with metst_edge.Analyzer(engine="tensorrt") as analyzer:
        assert analyzer.flow == "cuda"


def test_a_plugin_without_the_flow_leaves_it_on_the_cpu(gpu, monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO")
    old = tmp_path / "old.so"
    old.write_text("of an earlier version")
    monkeypatch.setattr("metst_edge.engine.tensorrt.runtime.find_plugin", lambda: old)
    with metst_edge.Analyzer(engine="tensorrt") as analyzer:
        assert analyzer.flow == "cpu"
    assert f"measured on the CPU: {old}: expected a library with the GPU's optical flow" in caplog.text


def test_a_push_that_is_taken_back_was_never_made(stream, gpu):
    """Whatever the place in the window, at whose end the score comes from the other lane."""

    def scores(frames, unwanted):
        lanes, found = Lanes(stream, 30), []
        for n, frame in enumerate(frames):
            for features in [3 * frame, frame] if n in unwanted else [frame]:
                gpu.floats(stream.features, (2, 10))[:] = features
                scores = lanes.push(None)
                if features is not frame:
                    lanes.take_back(scores)
            found += [(score.frame, score.spot, *score.emotion) for score in scores]
        return found + [(score.frame, score.spot, *score.emotion) for score in lanes.flush()]

    frames = np.random.default_rng(6).standard_normal((64, 2, 10)).astype(np.float32)
    expected = scores(frames, ())
    assert len(expected) == 64
    for unwanted in (range(0, 64, 2), range(1, 64, 2)):
        assert scores(frames, unwanted) == expected
    with pytest.raises(EngineError, match="expected features, got None, for a stream that has none on a device"):
        Lanes(NativeEngine(stream._engine.bundle).open_stream(), 30).push(None)
    with pytest.raises(EngineError, match="expected a stream whose steps can be taken back"):
        Lanes(NativeEngine(stream._engine.bundle).open_stream(), 30).take_back([])


# What is asked of the GPU.


def test_a_frame_goes_up_once_and_is_waited_for_once(stream, gpu, clip, face):
    shape = gray(clip[0]).shape
    flow = stream.open_flow(shape)
    assert len(gpu.named("record")) == 2 + 3 + 2  # steps, flows, steps after a flow
    flow.show(gray(clip[0]))
    flow.start(0, face.box, face.crop_landmarks)
    for frame in clip[1:6]:
        gpu.log.clear()
        flow.show(gray(frame))
        flow.measure(*ask(0))
        stream.step_device()
        names = [name for name, *_ in gpu.log if name not in ("start", "clear", "free")]
        if frame is clip[1]:  # the anchor's upload is waited for before its memory is written to
            assert names[:2] == ["wait", "launch" if gpu.one_memory else "upload"]
            continue
        if gpu.one_memory:
            assert names == ["launch", "launch", "wait", "measure", "run"]
            continue
        assert names == [
            "launch",
            "launch",
            "wait",
            *["upload", "measure", "download"],
            *["upload", "run", "download"],
            "download",
        ]
        assert gpu.named("upload") == [("upload", 256 + -(-shape[0] * shape[1] // 256) * 256), ("upload", 256)]
        assert gpu.named("download") == [("download", 8), ("download", 512), ("download", 256)], (
            "likeness, scores, features"
        )
    assert len(gpu.named("record")) == 0
    gpu.log.clear()
    flow.measure(*ask(1))
    stream.step_device()
    uploads = 0 if gpu.one_memory else 2
    assert gpu.named("upload") == [("upload", 256)] * uploads, "the frame is there already"


def test_features_come_down_with_the_scores(stream, clip, face):
    features_come_down(stream, clip, face)


def features_come_down(stream, clip, face):
    """What the last step read is known on the host, wherever it was measured."""
    flow = stream.open_flow(gray(clip[0]).shape)
    flow.show(gray(clip[0]))
    flow.start(1, face.box, face.crop_landmarks)
    host = RoiFlow(gray(clip[0]), face.box, face.crop_landmarks)
    for frame in clip[1:6]:
        flow.show(gray(frame))
        flow.measure(*ask(1))
        stream.step_device()
        expected = [np.zeros(10, np.float32), host.measure(gray(frame))]
        np.testing.assert_array_equal(stream.fed(), expected)
    features = np.full((2, 10), 0.25, np.float32)
    stream.step(features)
    np.testing.assert_array_equal(stream.fed(), features)


def two_frames_in_one_step(stream, gpu, clip, face):
    """As where neither of the two around a moment was measured before. Return the flow, and the lanes on the CPU."""
    flow = stream.open_flow(gray(clip[0]).shape)
    flow.show(gray(clip[0]))
    for lane in (0, 1):
        flow.start(lane, face.box, face.crop_landmarks)
    flow.show(gray(clip[3]))
    flow.measure(*ask(0))
    flow.show(gray(clip[6]))
    flow.measure(*ask(0, 1))
    flow.blend({0: (0.5, 0.5), 1: (0, 1)})
    stream.step_device()
    lanes = [RoiFlow(gray(clip[0]), face.box, face.crop_landmarks) for _ in range(2)]
    first, last = lanes[0].measure(gray(clip[3])), measure(lanes, gray(clip[6]))
    found = gpu.floats(stream.features, (2, 10))
    np.testing.assert_allclose(found, [0.5 * first + 0.5 * last[0], last[1]], rtol=0, atol=1e-6)
    return flow, lanes


def test_nothing_that_is_still_to_be_sent_is_overwritten(stream, gpu, clip, face):
    flow, lanes = two_frames_in_one_step(stream, gpu, clip, face)
    np.testing.assert_allclose(flow.likeness, [lane.likeness for lane in lanes], rtol=0, atol=1e-6)


@pytest.mark.parametrize("failing", ["CudaGraph", "recording", "end"])
def test_without_graphs_it_is_enqueued_all_the_same(failing, gpu, tiny_folder, clip):
    gpu.give_flow()
    times = [i / 30 for i in range(24)]
    expected = items_of(tiny_folder, "cpu", clip[:24], times)
    gpu.failing = {failing}
    assert_alike(items_of(tiny_folder, "cuda", clip[:24], times), expected)


# What fails.


def test_frames_of_another_kind_and_closed_flows_are_refused(stream, clip, face):
    frame = gray(clip[0])
    flow = stream.open_flow(frame.shape)
    for bad, got in [(clip[0], r"uint8 \(\d+, \d+, 3\)"), (frame[1:], "uint8"), (frame.astype(float), "float64")]:
        with pytest.raises(FrameError, match=rf"expected a gray picture, uint8 \(\d+, \d+\), got {got}"):
            flow.show(bad)
    with pytest.raises(FrameError, match="got NoneType"):
        flow.show(None)
    with pytest.raises(EngineError, match="expected a picture to start from, got none; call show first"):
        flow.start(0, face.box, face.crop_landmarks)
    for bad, got in [(2, "2"), (-1, "-1"), (None, "None")]:
        for use in (
            lambda lane=bad: flow.measure([lane], LAST),
            lambda lane=bad: flow.measure([0], {lane: (0, 1)}),
            lambda lane=bad: flow.blend({lane: (0, 1)}),
        ):
            with pytest.raises(EngineError, match=f"expected lanes out of 0 to 1, got {got}"):
                use()
    other = stream.open_flow(frame.shape)
    for use in (
        lambda: flow.show(frame),
        lambda: flow.start(0, face.box, face.crop_landmarks),
        lambda: flow.measure(*ask(0)),
        lambda: flow.blend(LAST),
        lambda: flow.likeness,
    ):
        with pytest.raises(EngineError, match="expected an open flow, got a closed one"):
            use()
    flow.close()
    other.show(frame)
    other.close()
    stream.close()
    with pytest.raises(EngineError, match="closed one; call load_engine again"):
        other.show(frame)
    other.close()


@pytest.mark.parametrize("failing", ["flow", "mem_alloc", "pagelocked_empty", "memcpy_htod_async", "memcpy_dtoh_async"])
def test_a_flow_that_cannot_be_opened_leaves_the_stream_as_it_was(failing, stream, gpu, clip):
    if gpu.one_memory and failing in ("mem_alloc", "memcpy_htod_async", "memcpy_dtoh_async"):
        pytest.skip("not called where nothing is copied")
    before = dict(gpu.left)
    gpu.failing = {failing}
    with pytest.raises(EngineError, match="its memory is short|CUDA says"):
        stream.open_flow((200, 300))
    gpu.failing = set()
    assert gpu.left == before
    stream.step(np.zeros((2, 10), np.float32))
    assert stream.open_flow((200, 300)).shape == (200, 300)


def test_every_flow_gives_back_what_it_took(stream, gpu):
    stream.open_flow((200, 300))
    held = dict(gpu.left)
    for shape in ((100, 100), (333, 77), (200, 300)):
        stream.open_flow(shape)
        assert gpu.left == held


# The kernels.


def test_the_kernels_feed_the_network_what_the_cpu_does(gpu, emulated_kernels, tiny_folder, clip):
    """At 25 frames per second, so that features of two frames are blended; both lanes in the last third."""
    kernels_feed(gpu, emulated_kernels, tiny_folder, clip[:22])


@pytest.mark.parametrize("tiny_plus_network", ["metst_plus_shared"], indirect=True)
def test_the_kernels_feed_two_rates_eighteen_regions(gpu, emulated_kernels, tiny_plus_folder, clip):
    kernels_feed(gpu, emulated_kernels, tiny_plus_folder, clip[:20])


def kernels_feed(gpu, kernels, folder, frames):
    gpu.give_flow(kernels)
    times = [i / 25 for i in range(len(frames))]
    expected = items_of(folder, "cpu", frames, times)
    assert_alike(items_of(folder, "cuda", frames, times), expected)
