"""Training learns from the windows that the SDK scores: the same starts, the same frames, the same features."""

import numpy as np
import pytest

import metst_edge
from metst_edge.events import Gap
from training.data.features import measure
from training.data.folder import Video
from training.presets import PRESETS

PRESET = PRESETS["metst64"]
SOME = (
    *("WolfgangLanger_Pexels.mp4", "face_noface.mov", "no_face.mp4", "single_face.mp4"),
    *("faces/fx_missing1.mov", "faces/fx_test.mov", "faces/grid_lbax4n.mpg", "faces/mf_camout.mp4"),
)
VIDEO = (".mp4", ".mov", ".mpg")


@pytest.fixture(scope="module")
def analyzer():
    with metst_edge.Analyzer("demo", engine="native") as analyzer:
        bundle = analyzer.bundle
        assert (bundle.fps, bundle.k, bundle.roi_set) == (PRESET.fps, PRESET.k, PRESET.roi_set)
        yield analyzer


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


def windows_of(clip, test_data, cache, finder):
    """What training measures on a clip."""
    path = test_data / clip
    if not path.is_file():
        pytest.skip(f"METST_EDGE_TEST_DATA has no {clip}")
    return measure(Video(clip, path, "s", None, ()), PRESET, cache, finder)


def check_windows(clip, analyzer, finder, test_data, cache, monkeypatch):
    measured = windows_of(clip, test_data, cache, finder)
    with monkeypatch.context() as patch:
        runs, report = scored(analyzer, test_data / clip, patch)
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


@pytest.mark.parametrize("clip", SOME)
def test_windows_are_exactly_those_that_the_sdk_scores(clip, analyzer, finder, test_data, cache, monkeypatch):
    check_windows(clip, analyzer, finder, test_data, cache, monkeypatch)


@pytest.mark.slow
def test_windows_are_those_that_the_sdk_scores_on_every_other_clip(analyzer, finder, test_data, cache, monkeypatch):
    clips = sorted(str(path.relative_to(test_data)) for path in test_data.rglob("*") if path.suffix in VIDEO)
    for clip in set(clips) - set(SOME):
        check_windows(clip, analyzer, finder, test_data, cache, monkeypatch)


def test_what_shows_another_scene_or_nobody_is_not_learnt(finder, test_data, cache):
    """The face is there for 72 of the model's frames, then it leaves: of the windows that start, two are cut off."""
    clip = "face_noface.mov"
    measured = windows_of(clip, test_data, cache, finder)
    assert measured.frames[:, 0].tolist() == [0, 15, 30]
    assert measured.frames.max() < 63


def test_windows_start_where_the_face_is_found_not_where_the_video_begins(finder, test_data, cache):
    """By the grid of the video's first frame it would be 287; the run begins on the frame with the face."""
    measured = windows_of("faces/fx_missing1.mov", test_data, cache, finder)
    starts = measured.frames[:, 0]
    assert starts[0] == 2 and not ((starts > 122) & (starts < 285)).any()
    late = starts[starts >= 285]
    assert (np.diff(late) == PRESET.k // 2).all() and len(late) > 5
