"""Windows measured for training are those the SDK's front end gives, and are measured once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metst_edge.capture import Frame, open_source
from metst_edge.face import FaceFinder
from metst_edge.flow import window_features
from training.data import features
from training.data.errors import DataError
from training.data.features import Measured, measure
from training.data.folder import Video
from training.data.windows import FolderWindows
from training.presets import PRESETS
from training.samples import Annotation

PRESET = PRESETS["metst64"]


@pytest.fixture(scope="module")
def face_video(test_data: Path) -> Video:
    return Video("single_face.mp4", test_data / "single_face.mp4", "s1", None, (Annotation(20, 25, 40, 2),))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_windows_are_those_of_the_front_end(face_video: Video, cache: Path) -> None:
    measured = measure(face_video, PRESET, cache)
    with open_source(face_video.path) as source:
        frames = [frame for frame in source if isinstance(frame, Frame)]
    finder, gray = FaceFinder(), [frame.gray for frame in frames]
    starts = range(0, len(frames) - PRESET.k + 1, PRESET.k // 2)
    assert measured.length == len(frames)
    assert measured.frames.tolist() == [list(range(start, start + PRESET.k)) for start in starts]
    for start, window in zip(starts, measured.windows, strict=True):
        face = finder.find(frames[start].image)
        assert face is not None
        expected = window_features(gray[start : start + PRESET.k], face.crop_landmarks, face.box)
        np.testing.assert_allclose(window, expected, atol=1e-4)


def test_labels_follow_the_frames_of_the_video(face_video: Video, cache: Path) -> None:
    measured = measure(face_video, PRESET, cache)
    y, classes = measured.labels()
    for row, frames in enumerate(measured.frames):
        inside = (frames > 20) & (frames < 40)
        assert np.array_equal(y[row], inside.astype(np.float32))
        assert np.array_equal(classes[row], np.where(inside, 2, 4))


def test_a_video_is_measured_once_and_relabelled_freely(
    face_video: Video, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measure(face_video, PRESET, cache)
    monkeypatch.setattr(features, "_measure", lambda *a: pytest.fail("measured again"))
    again = measure(replace(face_video, annotations=()), PRESET, cache)
    assert np.array_equal(first.windows, again.windows)
    assert not again.labels()[0].any()


def test_other_settings_are_measured_anew(face_video: Video, cache: Path) -> None:
    measure(face_video, PRESET, cache)
    half = measure(face_video, replace(PRESET, fps=15.0), cache)
    assert half.rate == pytest.approx(0.5, rel=1e-3)
    # Every second frame of the video is a frame of the model.
    assert half.frames[0].tolist() == list(range(0, 2 * PRESET.k, 2))
    assert [a.onset for a in half.model_annotations()] == [10]


def test_an_event_behind_the_end_is_refused(face_video: Video, cache: Path) -> None:
    late = replace(face_video, annotations=(Annotation(60, 65, 72, 1),))
    with pytest.raises(DataError, match=r"expected offsets below its 72 frames \(counted from 0\), got 72"):
        measure(late, PRESET, cache)


def test_a_cache_that_cannot_be_written_is_said(face_video: Video, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot keep measured windows at .* name another --cache"):
        measure(face_video, replace(PRESET, fps=10.0), tmp_path / "file")


def video_of(positive: list[bool]) -> Measured:
    """Windows whose first channel holds their number; 30 frames each, an event in the positive ones."""
    windows = np.zeros((len(positive), 10, 30), np.float32)
    windows[:, 0] = np.arange(len(positive))[:, None]
    frames = np.arange(30 * len(positive)).reshape(-1, 30)
    events = tuple(Annotation(30 * i + 5, 30 * i + 8, 30 * i + 14, i % 4) for i, p in enumerate(positive) if p)
    return Measured(windows, frames, 30 * len(positive), events, 1.0)


def test_an_epoch_holds_all_positive_windows_and_ratio_times_as_many_others() -> None:
    source = FolderWindows([video_of([True, False, False, False] * 6)], batch=3, ratio=2.0, seed=5)
    assert (source.batches_per_epoch, source.k_p) == (6, 5)
    for epoch in (0, 1):
        numbers = np.concatenate([source.batch(6 * epoch + step)[0][:, 0, 0] for step in range(6)])
        assert sorted(numbers[numbers % 4 == 0]) == [0, 4, 8, 12, 16, 20]
        assert len(numbers) == len(set(numbers)) == 18
    again = FolderWindows([video_of([True, False, False, False] * 6)], batch=3, ratio=2.0, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(source.batch(7), again.batch(7), strict=True))


def test_batches_carry_the_labels_of_their_windows() -> None:
    source = FolderWindows([video_of([True, False])], batch=2, ratio=1.0, seed=0)
    x, y, classes = source.batch(0)
    positive = int(np.flatnonzero(x[:, 0, 0] == 0)[0])
    assert y[positive].tolist() == [0.0] * 6 + [1.0] * 8 + [0.0] * 16
    assert set(classes[positive]) == {0, 4} and not y[1 - positive].any()


def test_a_folder_without_any_event_in_a_window_cannot_be_trained_on() -> None:
    with pytest.raises(DataError, match="expected windows with a micro-expression in them, got none in 2 windows"):
        FolderWindows([video_of([False, False])], batch=2, ratio=1.0, seed=0)
