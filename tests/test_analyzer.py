"""The whole way from frames to events, on real video."""

import json

import cv2
import numpy as np
import pytest

import metst_edge
import metst_edge.analyzer
import metst_edge.scoring.host
from metst_edge import _native
from metst_edge.app.demo import demo_clip, demo_truth
from metst_edge.app.demo.outcome import compare
from metst_edge.capture import Frame, Interruption, open_source
from metst_edge.engine.lanes import FrameScore, stitch
from metst_edge.errors import (
    EngineError,
    FrameError,
    MetstError,
    ModelNotFoundError,
    SettingsError,
    SourceError,
    TimestampError,
)
from metst_edge.events import Gap, MicroExpression
from metst_edge.face import FaceFinder
from metst_edge.flow import SteadyFlow, default_threads, window_features
from metst_edge.scoring import found_in


@pytest.fixture(scope="module")
def analyzer():
    with metst_edge.Analyzer() as analyzer:
        yield analyzer


@pytest.fixture(scope="module")
def video(test_data):
    """The 72 frames of a calm face at 30 frames per second."""
    capture = cv2.VideoCapture(str(test_data / "single_face.mp4"))
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames
        frames.append(frame)


def scores_of(analyzer, frames, times):
    """The spotting curve of pushed frames, as the analyzer sees it before it decodes."""
    scorer = analyzer._scorer
    scorer.reset()
    items = []
    for index, (frame, time) in enumerate(zip(frames, times, strict=True)):
        items += scorer.push(Frame(index, time, frame))
    items += scorer.flush()
    return [item for item in items if (isinstance(item, Gap) and item.end is not None) or hasattr(item, "spot")]


def test_scores_are_those_of_windows_measured_and_scored_one_by_one(analyzer, test_data):
    """The plain way: every window from its own first frame, the network on whole windows, second halves kept."""
    bundle, finder = analyzer.bundle, FaceFinder()
    video = list(open_source(test_data / "single_face.mp4"))
    gray = [frame.gray for frame in video]
    windows = []
    for start in range(0, len(video), bundle.k // 2):
        face = finder.find(video[start].image)
        windows.append(window_features(gray[start : start + bundle.k], face.crop_landmarks, face.box, bundle.roi_set))
    spot, emotion = stitch(analyzer.engine, windows, bundle.k, bundle.delay)
    report = analyzer.analyze(test_data / "single_face.mp4")
    assert report.frames == len(video) == len(report.scores.spot)
    np.testing.assert_allclose(report.scores.spot, spot, atol=1e-4)
    np.testing.assert_allclose(report.scores.emotion, emotion, atol=1e-3)
    np.testing.assert_array_equal(report.scores.frame, np.arange(len(video)))


def test_scores_of_a_face_held_steady_are_too_and_a_stream_has_those_of_the_file(edge_folder, test_data):
    pictures, finder = list(open_source(test_data / "single_face.mp4")), FaceFinder()
    with metst_edge.Analyzer(edge_folder, threads=1) as analyzer:
        assert analyzer.bundle.roi_set == "edge" and analyzer.flow == "cpu"
        windows, k = [], analyzer.bundle.k
        for start in range(0, len(pictures), k // 2):
            anchor, *others = pictures[start : start + k]
            face = finder.find(anchor.image)
            flow = SteadyFlow(anchor.gray, face.box, face.crop_landmarks, anchor.timestamp)
            features = [flow.measure(picture.gray, picture.timestamp) for picture in others]
            windows.append(np.stack([np.zeros(analyzer.bundle.channels, np.float32), *features], 1))
        spot, emotion = stitch(analyzer.engine, windows, k, analyzer.bundle.delay, anchored=False)
        report = analyzer.analyze(test_data / "single_face.mp4")
    assert len(report.scores.spot) == len(pictures) and np.std(report.scores.spot) > 0.01
    np.testing.assert_allclose(report.scores.spot, spot, atol=1e-4)
    np.testing.assert_allclose(report.scores.emotion, emotion, atol=1e-3)
    for threads in 1, 2:
        with metst_edge.Analyzer(edge_folder, threads=threads) as analyzer:
            items = [item for picture in pictures for item in analyzer._scorer.push(picture)]
            scores = [item for item in items + analyzer._scorer.flush() if hasattr(item, "spot")]
        assert [item.spot for item in scores] == report.scores.spot.tolist()
        np.testing.assert_array_equal([item.emotion for item in scores], report.scores.emotion)


def test_events_of_a_face_held_steady_are_those_of_the_file_and_tell_what_moved(edge_folder, demo):
    """All that is found offline is found live; slots reach back 4, so what moved is summed, not subtracted."""
    with metst_edge.Analyzer(edge_folder) as analyzer:
        offline = analyzer.analyze(demo_clip())
        live = list(analyzer.stream(demo_clip()))
        pushed = [item for picture in open_source(demo_clip()) for item in analyzer._scorer.push(picture)]
        pushed = [item for item in pushed + analyzer._scorer.flush() if hasattr(item, "spot")]
    assert [item.spot for item in pushed] == offline.scores.spot.tolist()
    found = {(event.onset_frame, event.apex_frame): event for event in offline.micro_expressions}
    both = [event for event in live if (event.onset_frame, event.apex_frame) in found]
    assert len(both) > 3 and all(len(event.motion) == 6 for event in both)
    for event in both:
        assert event.motion == found[event.onset_frame, event.apex_frame].motion


def test_scores_do_not_depend_on_the_number_of_threads(demo, monkeypatch):
    """Of a moving face, two windows open; and the threads asked for are those that the flow is given."""
    used = []
    measure = metst_edge.scoring.host.measure
    monkeypatch.setattr(
        metst_edge.scoring.host,
        "measure",
        lambda flows, frame, threads: used.append(threads) or measure(flows, frame, threads),
    )
    curves = {}
    for threads in 1, 2:
        with metst_edge.Analyzer(threads=threads) as analyzer:
            assert analyzer.threads == threads
            curves[threads] = scores_of(analyzer, demo[:60], [i / 30 for i in range(60)])
    assert set(used[: len(used) // 2]) == {1} and set(used[len(used) // 2 :]) == {2} and len(used) == 2 * 59
    assert [item.spot for item in curves[1]] == [item.spot for item in curves[2]]
    np.testing.assert_array_equal(*([item.emotion for item in items] for items in curves.values()))
    assert len(curves[1]) == 60 and np.std([item.spot for item in curves[1]]) > 0


def test_more_threads_than_any_machine_has_are_refused():
    with pytest.raises(ValueError, match="expected at most 1024 threads, got 99999999999"):
        metst_edge.Analyzer(threads=99999999999)


def test_less_than_one_thread_is_refused(analyzer):
    for threads in 0, -1:
        with pytest.raises(ValueError, match=f"expected at least 1 thread, got {threads}"):
            metst_edge.Analyzer(threads=threads)
    assert analyzer.threads == default_threads()


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_a_vector_path_this_processor_lacks_is_an_engine_error(monkeypatch, engine):
    """Flow needs one whatever runs the network."""
    path = next(name for name in ("neon", "avx2") if name not in _native.simd_paths())
    monkeypatch.setenv("METST_EDGE_SIMD", path)
    with pytest.raises(EngineError, match=f"METST_EDGE_SIMD: expected one of auto, .*got '{path}'"):
        metst_edge.Analyzer(engine=engine)


def test_pushed_pictures_give_the_events_of_the_file_they_were_decoded_from(analyzer, demo):
    """Gray levels made of colours and those of the decoder differ by a rounding."""
    analyzer.reset()
    found = [event for i, frame in enumerate(demo) for event in analyzer.push(frame, i / 30)] + analyzer.flush()
    streamed = list(analyzer.stream(demo_clip()))
    assert [event.emotion for event in found] == [event.emotion for event in streamed]
    for a, b in zip(found, streamed, strict=True):
        assert max(abs(a.onset_frame - b.onset_frame), abs(a.apex_frame - b.apex_frame)) <= 2


def test_a_faster_source_gives_the_same_scores(analyzer, video):
    """Every frame twice at 60 frames per second is the same film."""
    slow = scores_of(analyzer, video[:40], [i / 30 for i in range(40)])
    doubled = [frame for frame in video[:40] for _ in range(2)]
    fast = scores_of(analyzer, doubled, [i / 60 for i in range(80)])
    assert [item.spot for item in fast] == pytest.approx([item.spot for item in slow], abs=1e-5)
    assert [item.frame for item in fast] == [2 * item.frame for item in slow]


@pytest.fixture(scope="module")
def demo():
    """The 660 frames of the packaged clip, in which events are found for certain."""
    capture = cv2.VideoCapture(str(demo_clip()))
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames
        frames.append(frame)


def test_live_events_are_found_in_time_order_soon_after_their_apex(analyzer):
    analyzer.reset()
    found, pushed_at = [], []
    for i, frame in enumerate(open_source(demo_clip())):
        later = Frame(i, 100 + i / 30, gray=frame.gray, colour=lambda frame=frame: frame.image)
        for event in analyzer.push(later):
            found.append(event)
            pushed_at.append(i)
    found += analyzer.flush()
    outcome = compare(found, demo_truth())
    assert len(outcome.pairs) >= 0.8 * len(demo_truth())
    assert [event.onset_frame for event in found] == sorted(event.onset_frame for event in found)
    assert all(event.apex == pytest.approx(100 + event.apex_frame / 30) for event in found)
    delays = [at - event.apex_frame for at, event in zip(pushed_at, found, strict=False)]
    bundle = analyzer.bundle
    assert max(delays) <= 2 * bundle.k_p + bundle.look_ahead + bundle.delay + 2
    streamed = list(analyzer.stream(demo_clip()))
    assert [event.onset_frame for event in streamed] == [event.onset_frame for event in found]


def test_frame_numbers_stay_right_after_a_hole_in_time(analyzer, demo):
    """The clip with a pause of ten seconds in a quiet moment: the same events, the later ones ten seconds later."""
    analyzer.reset()
    events = []
    for i, frame in enumerate(demo):
        events += analyzer.push(frame, i / 30 + (10 if i >= 320 else 0))
    events += analyzer.flush()
    (gap,) = [event for event in events if isinstance(event, Gap)]
    assert (gap.start, gap.end) == (pytest.approx(319 / 30), pytest.approx(320 / 30 + 10))
    found = [event for event in events if isinstance(event, MicroExpression)]
    assert len(compare(found, demo_truth()).pairs) >= 0.8 * len(demo_truth())
    late = [event for event in found if event.onset_frame > 320]
    assert late and all(event.onset == pytest.approx(event.onset_frame / 30 + 10) for event in late)


def test_an_event_is_told_when_the_face_leaves_not_when_it_comes_back(analyzer, demo):
    apex = demo_truth()[0].apex_frame
    nobody = np.full_like(demo[0], 128)
    analyzer.reset()
    for i in range(apex + 5):
        assert not analyzer.push(demo[i], i / 30)
    events = []
    for i in range(apex + 5, apex + 8):
        events += analyzer.push(nobody, i / 30)
    assert [type(event) for event in events] == [MicroExpression, Gap, Gap]
    assert events[1].reason == "scene_cut" and events[2] == Gap((apex + 5) / 30, None, "face_lost")
    analyzer.reset()


def test_the_caller_may_draw_on_a_frame_after_pushing_it(analyzer, video):
    """At 24 frames per second slots lie between frames, so that a frame is needed again with the next one."""
    untouched, drawn_on = [], []
    for results, spoil in (untouched, False), (drawn_on, True):
        analyzer.reset()
        scored = analyzer._scorer.run._scored
        analyzer._scorer.run._scored = lambda scores, results=results, scored=scored: (
            results.extend(score.spot for score in scores) or scored(scores)
        )
        try:
            for i, frame in enumerate(video[:40]):
                gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
                analyzer.push(gray, i / 24)
                if spoil:
                    gray[:] = 255
        finally:
            del analyzer._scorer.run._scored
    assert drawn_on == untouched and len(untouched) > 40
    analyzer.reset()


def test_a_slower_source_is_interpolated_between_its_frames(analyzer, video):
    """At half the rate, every second slot lies midway between two frames and has the mean of their features."""
    fed = []
    push = analyzer._scorer.run.lanes.network.push
    analyzer._scorer.run.lanes.network.push = lambda features: fed.append(features[0].copy()) or push(features)
    try:
        scores_of(analyzer, video[:15], [i / 15 for i in range(15)])
    finally:
        del analyzer._scorer.run.lanes.network.push
    assert len(fed) == 29
    for i in range(1, 27, 2):
        np.testing.assert_allclose(fed[i], (fed[i - 1] + fed[i + 1]) / 2, atol=1e-5)
    assert np.abs(fed[20]).max() > 0.01


def test_a_source_too_slow_for_the_model_is_refused(analyzer, tmp_path):
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((64, 64, 3), 90, np.uint8))
    for read in (analyzer.analyze, lambda uri: list(analyzer.stream(uri))):
        with pytest.raises(SourceError, match="expected at least 15 frames per second .* got 10"):
            read(f"folder://{tmp_path}?fps=10")


class Interrupted:
    """A live source that was away between its frames 9 and 10, and came back with another size."""

    uri, fps, frame_count, live = "fake", None, None, True

    def __init__(self, frames):
        small = [cv2.resize(frame, None, fx=0.5, fy=0.5) for frame in frames[10:20]]
        before = [Frame(i, i / 30, frame) for i, frame in enumerate(frames[:10])]
        after = [Frame(10 + i, 9 + i / 30, frame) for i, frame in enumerate(small)]
        self._items = iter([*before, Interruption(9 / 30, 9.0, "camera_lost"), *after])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def __iter__(self):
        return self._items


def test_an_interrupted_camera_is_a_gap_and_goes_on(analyzer, video, monkeypatch):
    monkeypatch.setattr("metst_edge.analyzer.open_source", lambda uri: Interrupted(video))
    scored = []
    take = analyzer._scorer.run._scored
    monkeypatch.setattr(
        analyzer._scorer.run,
        "_scored",
        lambda scores: scored.extend(take(scores)) or scored[-len(scores) :][: len(scores)],
    )
    events = list(analyzer.stream("fake"))
    assert Gap(9 / 30, 9.0, "camera_lost") in events
    assert [item.frame for item in scored] == list(range(20))
    with pytest.raises(SourceError, match="expected recorded video, got a live source"):
        analyzer.analyze("fake")


def test_ctrl_c_keeps_what_was_found(analyzer, test_data):
    def stop(done, total):
        if done == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupted:
        analyzer.analyze(test_data / "single_face.mp4", progress=stop)
    report = interrupted.value.report
    assert report.frames == 60 and not report.complete and len(report.scores.spot) == 60


def test_scores_that_are_no_numbers_are_an_error_not_an_event(analyzer, video):
    analyzer.reset()
    push = analyzer._scorer.run.lanes.network.push
    bad = FrameScore(0, float("nan"), np.zeros(5, np.float32), np.zeros((2, 10), np.float32))
    analyzer._scorer.run.lanes.network.push = lambda features: [bad]
    try:
        with pytest.raises(EngineError, match="expected finite scores"):
            analyzer.push(video[0], 0.0)
    finally:
        analyzer._scorer.run.lanes.network.push = push
        analyzer.reset()


@pytest.mark.parametrize(
    ("precision", "cure"),
    [
        ("fp32", "; the model's weights are damaged: export it again$"),
        ("fp16", " in fp16, .*: use precision 'fp32', or "),
    ],
)
def test_scores_that_are_no_numbers_are_told_with_the_precision_they_were_computed_in(precision, cure, video):
    with metst_edge.Analyzer(engine="onnxruntime", precision=precision) as analyzer:
        bad = FrameScore(0, float("nan"), np.zeros(5, np.float32), np.zeros((2, 10), np.float32))
        analyzer._scorer.run.lanes.network.push = lambda features: [bad]
        with pytest.raises(EngineError, match=f"expected finite scores, got spot nan and logits .*{cure}"):
            analyzer.push(video[0], 0.0)


def test_gray_and_colour_frames_are_both_taken(analyzer, video):
    gray = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in video[:20]]
    items = scores_of(analyzer, gray, [i / 30 for i in range(20)])
    assert len(items) == 20 and all(0 <= item.spot <= 1 for item in items)


@pytest.mark.parametrize("clip", ["WolfgangLanger_Pexels.mp4", "single_face.mp4", "face_noface.mov", "no_face.mp4"])
def test_every_real_clip_runs_to_its_end(analyzer, test_data, clip):
    report = analyzer.analyze(test_data / clip)
    assert report.complete and report.frames > 0
    for event in report.micro_expressions:
        assert 0 <= event.onset_frame <= event.apex_frame <= event.offset_frame < report.frames
        assert event.onset <= event.apex <= event.offset
        assert sum(event.probabilities.values()) == pytest.approx(1)
    gaps = [event for event in report.events if isinstance(event, Gap)]
    for event in report.micro_expressions:
        assert not any(gap.start < event.offset and gap.end > event.onset for gap in gaps), "none crosses a gap"


def test_nobody_gives_no_event_and_one_gap(analyzer, test_data):
    report = analyzer.analyze(test_data / "no_face.mp4")
    (gap,) = report.events
    assert isinstance(gap, Gap) and gap.reason == "face_lost"
    assert gap.start == 0 and gap.end == pytest.approx(report.duration, abs=0.1)
    begun, live = analyzer.stream(test_data / "no_face.mp4")
    assert live == gap and begun == Gap(0, None, "face_lost")


def test_a_face_that_leaves_ends_in_a_gap(analyzer, test_data):
    report = analyzer.analyze(test_data / "face_noface.mov")
    last = [event for event in report.events if isinstance(event, Gap)][-1]
    assert last.reason == "face_lost" and last.end == pytest.approx(report.duration, abs=0.1)
    assert report.scores.time.max() <= last.start


def test_a_hole_in_time_is_a_gap(analyzer, video):
    times = [i / 30 for i in range(30)] + [5 + i / 30 for i in range(30)]
    items = scores_of(analyzer, video[:60], times)
    (gap,) = [item for item in items if isinstance(item, Gap)]
    assert (gap.start, gap.end, gap.reason) == (pytest.approx(29 / 30), 5, "no_frames")
    assert len(items) == 61, "no frame is lost and none invented"


def test_a_scene_cut_is_a_gap(analyzer, video):
    upside_down = [np.ascontiguousarray(frame[::-1]) for frame in video[:10]]
    events = scores_of(analyzer, video[:20] + upside_down, [i / 30 for i in range(30)])
    gaps = [item for item in events if isinstance(item, Gap)]
    assert gaps[0] == Gap(19 / 30, 20 / 30, "scene_cut")


def test_a_face_covered_within_a_window_is_noticed_before_the_next_one(analyzer, video):
    """A board is held before the face: the picture as a whole stays much the same, the crop does not."""
    box = FaceFinder().find(video[0]).box
    covered = [frame.copy() for frame in video[20:28]]
    for frame in covered:
        squares = np.arange(box.height)[:, None, None] // 30 + np.arange(box.width)[None, :, None] // 30
        frame[box.top : box.bottom, box.left : box.right] = 60 + 140 * (squares % 2)
    items = scores_of(analyzer, video[:20] + covered, [i / 30 for i in range(28)])
    gaps = [item for item in items if isinstance(item, Gap)]
    assert [gap.reason for gap in gaps] == ["face_lost"]
    assert 19 / 30 <= gaps[0].start <= 21 / 30


def test_a_refused_frame_does_not_end_the_stream(analyzer, video):
    undisturbed = scores_of(analyzer, video, [i / 30 for i in range(len(video))])
    scorer, items = analyzer._scorer, []
    for i, frame in enumerate(video):
        if i == 40:
            with pytest.raises(FrameError):
                analyzer.push(frame[:-1], i / 30)
            with pytest.raises(TimestampError):
                analyzer.push(frame, (i - 1) / 30)
        items += scorer.push(Frame(i, i / 30, frame))
    items += scorer.flush()
    spots = [item.spot for item in items if hasattr(item, "spot")]
    assert spots == [item.spot for item in undisturbed]


def test_after_flush_another_video_may_begin(analyzer, video):
    analyzer.reset()
    analyzer.push(video[0], 5.0)
    analyzer.flush()
    assert analyzer.push(video[0][::2, ::2], 0.0) == []


@pytest.mark.parametrize(
    "frame, words",
    [
        (np.zeros((1, 1, 3), np.uint8), "at least 32x32 pixels; got 1x1"),
        (np.zeros((64, 64, 3), np.float32), "got dtype float32"),
        (np.zeros((64, 64, 4), np.uint8), r"got shape \(64, 64, 4\)"),
        ([[0]], "got list"),
        (None, "got NoneType"),
        (np.ma.masked_array(np.zeros((64, 64), np.uint8), True), "got MaskedArray: convert it with numpy.asarray"),
    ],
)
def test_bad_frames_are_refused(analyzer, frame, words):
    analyzer.reset()
    with pytest.raises(FrameError, match=words):
        analyzer.push(frame, 0.0)


def test_a_size_that_changes_is_refused(analyzer, video):
    analyzer.reset()
    analyzer.push(video[0], 0.0)
    with pytest.raises(FrameError, match=r"expected a frame of shape \(360, 640, 3\) .*; got \(180, 320, 3\)"):
        analyzer.push(video[1][::2, ::2], 0.1)


@pytest.mark.parametrize("time", [float("nan"), float("inf"), "now", None])
def test_timestamps_must_be_numbers(analyzer, video, time):
    analyzer.reset()
    with pytest.raises(TimestampError, match="expected a timestamp in seconds"):
        analyzer.push(video[0], time)


@pytest.mark.parametrize("time", [1.0, 0.5])
def test_timestamps_must_rise(analyzer, video, time):
    analyzer.reset()
    analyzer.push(video[0], 1.0)
    with pytest.raises(TimestampError, match=r"expected a timestamp above 1\.0 s"):
        analyzer.push(video[1], time)


def test_what_finds_the_face_is_chosen_by_name(monkeypatch):
    asked = []
    monkeypatch.setattr(metst_edge.analyzer, "open_finder", lambda *choice: (asked.append(choice), FaceFinder())[1])
    for options in {}, {"face": "mediapipe", "face_model": "a.task"}:
        with metst_edge.Analyzer(**options) as analyzer:
            assert analyzer.face == options.get("face", "opencv")
    assert asked == [("opencv", None), ("mediapipe", "a.task")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "best"}, "expected decoder to be one of fixed, adaptive; got 'best'"),
        ({"synergy": "both"}, "expected synergy to be one of"),
        ({"class_priors": {"positive": "much"}}, "expected class_priors to be a finite number for each label"),
        ({"class_priors": {"glee": 1.0}}, "expected class_priors of the labels negative, .*; got glee"),
    ],
)
def test_decode_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        metst_edge.Analyzer(**options)


def test_decode_settings_are_the_models_but_for_what_is_given(analyzer):
    assert analyzer.decode_settings == analyzer.bundle.decode_settings
    options = {"decoder": "adaptive", "synergy": "none", "class_priors": {"positive": 0.5}}
    with metst_edge.Analyzer(**options) as other:
        settings = other.decode_settings
    assert {name: getattr(settings, name) for name in options} == options
    assert (settings.ratio, settings.floor) == (analyzer.decode_settings.ratio, analyzer.decode_settings.floor)


def test_decode_settings_decide_what_is_found_live_and_offline(analyzer, demo):
    """The scores are the same; a prior that no logit comes up against names every emotion."""
    plain = analyzer.analyze(demo_clip())
    with metst_edge.Analyzer(decoder="adaptive", class_priors={"others": 1e4}) as other:
        report = other.analyze(demo_clip())
        live = [event for event in other.stream(demo_clip()) if isinstance(event, MicroExpression)]
    np.testing.assert_array_equal(report.scores.spot, plain.scores.spot)
    for events in (report.micro_expressions, live):
        assert events and {event.emotion for event in events} == {"others"}
        assert {event.offset_frame - event.onset_frame for event in events} != {12}
    # Decoded again as the model says, the scores give what it gave.
    again = found_in(report.scores, other.bundle, analyzer.decode_settings)
    assert tuple(again) == plain.micro_expressions


def test_an_unknown_model_is_named_with_those_there_are():
    with pytest.raises(ModelNotFoundError, match=r"expected a shipped model \(.*demo.*\).*got 'nonsense'"):
        metst_edge.Analyzer(model="nonsense")


def test_what_was_found_before_a_file_breaks_off_is_kept(analyzer, test_data, tmp_path):
    whole = (test_data / "WolfgangLanger_Pexels.mp4").read_bytes()
    clip = tmp_path / "cut.mp4"
    clip.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    streamed = []
    with pytest.raises(SourceError, match="cut.mp4") as live:
        for event in analyzer.stream(clip):
            streamed.append(event)
    with pytest.raises(SourceError, match="cut.mp4") as offline:
        analyzer.analyze(clip)
    assert live.value.report is None
    report = offline.value.report
    assert 0 < report.frames < 472 and not report.complete
    assert len(report.scores.spot) > 0.8 * report.frames


def test_the_reports_json_is_as_documented(analyzer, test_data):
    report = analyzer.analyze(test_data / "face_noface.mov")
    plain = json.loads(report.to_json())
    assert list(plain) == ["source", "model", "engine", "fps", "frames", "duration", "complete", "events", "schema"]
    assert plain["fps"] == pytest.approx(26.35, abs=0.1)
    with_scores = json.loads(report.to_json(scores=True))
    assert len(with_scores["spot"]["score"]) == len(report.scores.spot)
    event = MicroExpression(3.1, 3.23, 3.43, 93, 97, 103, "surprise", {"surprise": 1.0}, 0.92)
    assert json.loads(event.to_json()) == {
        "type": "micro_expression",
        "onset": 3.1,
        "apex": 3.23,
        "offset": 3.43,
        "onset_frame": 93,
        "apex_frame": 97,
        "offset_frame": 103,
        "emotion": "surprise",
        "probabilities": {"surprise": 1.0},
        "score": 0.92,
        "height": 0.92,
        "face": 0,
        "schema": 1,
    }


def test_errors_share_one_base():
    assert all(issubclass(error, MetstError) for error in (FrameError, TimestampError, SourceError))
