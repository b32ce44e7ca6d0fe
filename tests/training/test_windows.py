"""Training learns from the windows that the SDK scores: the same starts, the same frames, the same features."""

import numpy as np
import pytest

import metst_edge
from metst_edge.events import Gap
from metst_edge.face import FaceFinder
from training.data.features import measure
from training.data.folder import Video
from training.presets import PRESETS

PRESET = PRESETS["metst64"]
CLIPS = ("WolfgangLanger_Pexels.mp4", "face_noface.mov", "no_face.mp4", "single_face.mp4")
FACES = ("fx_missing1.mov", "fx_test.mov", "grid_lbax4n.mpg", "mf_camout.mp4")


@pytest.fixture(scope="module")
def analyzer():
    with metst_edge.Analyzer(engine="native") as analyzer:
        bundle = analyzer.bundle
        assert (bundle.fps, bundle.k, bundle.roi_set) == (PRESET.fps, PRESET.k, PRESET.roi_set)
        yield analyzer


@pytest.fixture(scope="module")
def finder():
    finder = FaceFinder()
    yield finder
    finder.close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("windows")


def scored(analyzer, path, monkeypatch):
    """What the SDK's network is fed on a clip, float32 (n, 2, C) for each run, a row a lane; and the report."""
    network = analyzer._scorer.run.lanes.network
    push, reset, runs = network.push, network.reset, [[]]
    monkeypatch.setattr(network, "push", lambda features: runs[-1].append(features.copy()) or push(features))
    monkeypatch.setattr(network, "reset", lambda: runs.append([]) or reset())
    report = analyzer.analyze(path)
    return [np.stack(run) for run in runs if run], report


def whole_windows(runs, frames, k):
    """By the rule of the lanes: window w of a run starts on its slot w k/2, in lane w % 2; and its source frames."""
    half, before, found = k // 2, 0, []
    for rows in runs:
        for window, start in enumerate(range(0, len(rows) - k + 1, half)):
            span = slice(before + start, before + start + k)
            found.append((frames[span], rows[start : start + k, window % 2].T))
        before += len(rows)
    assert before == len(frames)
    return found


@pytest.mark.parametrize("clip", [*CLIPS, *(f"faces/{name}" for name in FACES)])
def test_windows_are_exactly_those_that_the_sdk_scores(clip, analyzer, finder, test_data, cache, monkeypatch):
    measured = measure(Video(clip, test_data / clip, "s", None, ()), PRESET, cache, finder)
    runs, report = scored(analyzer, test_data / clip, monkeypatch)
    expected = whole_windows(runs, report.scores.frame, PRESET.k)
    assert measured.length == report.frames
    assert measured.frames.tolist() == [frames.tolist() for frames, _ in expected]
    assert len(measured.windows) == len(expected)
    for window, (_, features) in zip(measured.windows, expected, strict=True):
        np.testing.assert_array_equal(window, features)
    time = dict(zip(report.scores.frame.tolist(), report.scores.time.tolist(), strict=True))
    for gap in (event for event in report.events if isinstance(event, Gap)):
        inside = [(frames[0], frames[-1]) for frames in measured.frames.tolist()]
        assert not any(time[first] < gap.end and time[last] > gap.start for first, last in inside), "none crosses a gap"


def test_what_shows_another_scene_or_nobody_is_not_learnt(finder, test_data, cache):
    """The face is there for 72 of the model's frames, then it leaves: of the windows that start, two are cut off."""
    clip = "face_noface.mov"
    measured = measure(Video(clip, test_data / clip, "s", None, ()), PRESET, cache, finder)
    assert measured.frames[:, 0].tolist() == [0, 14, 29]
    assert measured.frames.max() < 63


def test_windows_start_where_the_face_is_found_not_where_the_video_begins(finder, test_data, cache):
    """By the grid of the video's first frame it would be 287; the run begins on the frame with the face."""
    clip = "fx_missing1.mov"
    measured = measure(Video(clip, test_data / "faces" / clip, "s", None, ()), PRESET, cache, finder)
    starts = measured.frames[:, 0]
    assert starts[0] == 2 and not ((starts > 107) & (starts < 300)).any()
    late = starts[starts >= 300]
    assert (np.diff(late) == PRESET.k // 2).all() and len(late) > 5
