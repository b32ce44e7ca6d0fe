"""The whole way from frames to events, on real video."""

import json

import cv2
import numpy as np
import pytest

import metst_edge
from metst_edge.analyzer import LOST_BELOW
from metst_edge.engine.lanes import stitch
from metst_edge.errors import FrameError, MetstError, ModelNotFoundError, SourceError, TimestampError
from metst_edge.events import Gap, MicroExpression
from metst_edge.face import FaceFinder
from metst_edge.flow import window_features


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
        items += scorer.push(frame, time, index)
    items += scorer.flush()
    return items


def test_scores_are_those_of_windows_measured_and_scored_one_by_one(analyzer, video, test_data):
    """The plain way: every window from its own first frame, the network on whole windows, second halves kept."""
    bundle, finder = analyzer.bundle, FaceFinder()
    gray = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in video]
    windows = []
    for start in range(0, len(video), bundle.k // 2):
        face = finder.find(video[start])
        windows.append(window_features(gray[start : start + bundle.k], face.crop_landmarks, face.box, bundle.roi_set))
    spot, emotion = stitch(analyzer.engine, windows, bundle.k)
    report = analyzer.analyze(test_data / "single_face.mp4")
    assert report.frames == len(video) == len(report.scores.spot)
    np.testing.assert_allclose(report.scores.spot, spot, atol=1e-4)
    np.testing.assert_allclose(report.scores.emotion, emotion, atol=1e-3)
    np.testing.assert_array_equal(report.scores.frame, np.arange(len(video)))


def test_a_faster_source_gives_the_same_scores(analyzer, video):
    """Every frame twice at 60 frames per second is the same film."""
    slow = scores_of(analyzer, video[:40], [i / 30 for i in range(40)])
    doubled = [frame for frame in video[:40] for _ in range(2)]
    fast = scores_of(analyzer, doubled, [i / 60 for i in range(80)])
    assert [item.spot for item in fast] == pytest.approx([item.spot for item in slow], abs=1e-5)
    assert [item.frame for item in fast] == [2 * item.frame for item in slow]


def test_pushing_streaming_and_reading_give_the_same_events(analyzer, video, test_data):
    pushed = []
    for i, frame in enumerate(video):
        pushed += analyzer.push(frame, i / 30)
    pushed += analyzer.flush()
    streamed = list(analyzer.stream(test_data / "single_face.mp4"))
    assert [event.to_dict() for event in pushed] == [event.to_dict() for event in streamed]


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
    (live,) = analyzer.stream(test_data / "no_face.mp4")
    assert live == gap


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
    covered = [np.roll(frame, 300, axis=1) for frame in video[:8]]  # the crop shows the wall
    items = scores_of(analyzer, video[:20] + covered, [i / 30 for i in range(28)])
    gaps = [item for item in items if isinstance(item, Gap)]
    assert gaps and gaps[0].start <= 21 / 30
    assert 0 < LOST_BELOW < 1


def test_a_refused_frame_does_not_end_the_stream(analyzer, video):
    undisturbed = scores_of(analyzer, video, [i / 30 for i in range(len(video))])
    scorer, items = analyzer._scorer, []
    for i, frame in enumerate(video):
        if i == 40:
            with pytest.raises(FrameError):
                analyzer.push(frame[:-1], i / 30)
            with pytest.raises(TimestampError):
                analyzer.push(frame, (i - 1) / 30)
        items += scorer.push(frame, i / 30, i)
    items += scorer.flush()
    assert [item.spot for item in items] == [item.spot for item in undisturbed]


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
    assert list(plain) == ["source", "model", "engine", "fps", "frames", "duration", "complete", "events"]
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
        "face": 0,
    }


def test_errors_share_one_base():
    assert all(issubclass(error, MetstError) for error in (FrameError, TimestampError, SourceError))
