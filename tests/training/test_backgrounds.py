"""Backgrounds are windows as the front end sees them, without anything annotated, and measured once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metst_edge.capture import Frame, open_source
from metst_edge.face import FaceFinder
from training.data import backgrounds
from training.data.backgrounds import APART, measure_backgrounds
from training.data.folder import Video
from training.presets import PRESETS
from training.samples import Annotation
from training.synthesis.measuring import PointFlow, SteadyPoints

PRESET, STEADY = PRESETS["metst_plus_small"], PRESETS["edge"]


@pytest.fixture(scope="module")
def face_video(test_data: Path) -> Video:
    return Video("single_face.mp4", test_data / "single_face.mp4", "s1", None, ())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_windows_are_measured_from_their_first_frame(face_video: Video, cache: Path) -> None:
    found = measure_backgrounds(face_video, PRESET, cache)
    with open_source(face_video.path) as source:
        frames = [frame for frame in source if isinstance(frame, Frame)]
    starts = range(0, len(frames) - PRESET.k + 1, APART)
    assert len(found) == len(starts)
    assert set(found.subject) == {"s1"}
    start = starts[2]
    face = FaceFinder().find(frames[start].image)
    assert face is not None
    flow = PointFlow(frames[start].gray, face)
    np.testing.assert_array_equal(found.landmarks[2], face.crop_landmarks.astype(np.float32))
    for row, frame in zip(found.flow[2][1:], frames[start + 1 :], strict=False):
        np.testing.assert_allclose(row.astype(np.float32), flow.measure(frame.gray), atol=0.02)
    assert not found.flow[:, 0].any()


@pytest.mark.parametrize("long", [STEADY.k, 50, 120])
def test_windows_of_a_face_held_steady_are_pieces_of_long_ones(
    face_video: Video, cache: Path, monkeypatch: pytest.MonkeyPatch, long: int
) -> None:
    """They begin as often as others; a long one is measured from its own first frame, and the next takes over."""
    monkeypatch.setattr(backgrounds, "LONG", long)
    found = measure_backgrounds(face_video, STEADY, cache)
    with open_source(face_video.path) as source:
        frames = [frame for frame in source if isinstance(frame, Frame)]
    starts = list(range(0, len(frames) - STEADY.k + 1, APART))
    assert len(found) == len(starts)
    assert not found.flow[:, :4].any() and found.flow[:, 4:].any((1, 2, 3)).all()
    anchors = range(0, len(frames), long - STEADY.k + APART)
    for anchor in anchors[:2]:
        face = FaceFinder().find(frames[anchor].image)
        assert face is not None
        flow = SteadyPoints(frames[anchor].gray, face, frames[anchor].timestamp)
        rows = [flow.measure(frame.gray, frame.timestamp) for frame in frames[anchor + 1 : anchor + long]]
        pieces = [i for i, start in enumerate(starts) if anchor <= start <= anchor + long - STEADY.k]
        for i in pieces:
            np.testing.assert_array_equal(found.landmarks[i], face.crop_landmarks.astype(np.float32))
            first = starts[i] - anchor
            expected = rows[first + 3 : first + STEADY.k - 1]
            np.testing.assert_allclose(found.flow[i, 4:].astype(np.float32), expected, atol=0.02)
        assert np.abs(np.diff(found.gain[pieces], axis=0)).max(initial=0) == 0


def test_windows_with_an_annotated_frame_are_left_out_and_nothing_is_measured_again(
    face_video: Video, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_backgrounds(face_video, PRESET, cache)
    monkeypatch.setattr(backgrounds, "_measure", lambda *a: pytest.fail("measured again"))
    # Frames 51 to 58: in windows that start at 22 to 58.
    annotated = replace(face_video, annotations=(Annotation(50, 54, 59, 1),))
    left = measure_backgrounds(annotated, PRESET, cache)
    starts = np.arange(len(whole)) * APART
    np.testing.assert_array_equal(left.flow, whole.flow[starts + PRESET.k <= 51])


def test_a_video_without_a_face_has_none(test_data: Path, cache: Path) -> None:
    assert len(measure_backgrounds(Video("no_face.mp4", test_data / "no_face.mp4", "s2", None, ()), PRESET, cache)) == 0
