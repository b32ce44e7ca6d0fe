"""Backgrounds are windows as the front end sees them, without anything annotated, and measured once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest

from metst_edge.capture import Frame, open_source
from metst_edge.face import FaceFinder
from metst_edge.scoring.slots import Picture
from training.data import backgrounds
from training.data.backgrounds import APART, measure_backgrounds
from training.data.folder import Video
from training.presets import PRESETS, Preset
from training.samples import Annotation
from training.synthesis.absorption import PARAMETERS
from training.synthesis.calibration import ALL_POINTS
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


class Shown:
    """What is measured of a face that leaves its crop on some pictures."""

    places = np.zeros((ALL_POINTS, 2), np.float32)
    landmarks = np.zeros((68, 2), np.float32)
    likeness = 1.0

    def __init__(self, anchor: Picture, leaves: Collection[int]) -> None:
        self._leaves, self._slot = leaves, anchor.index

    def measure(self, gray: npt.NDArray[np.uint8], time: float) -> npt.NDArray[np.float32]:
        self._slot += 1
        self.likeness = -1.0 if self._slot in self._leaves else 1.0
        return np.full((ALL_POINTS, 2), self._slot, np.float32)

    def gain(self, gray: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.zeros((ALL_POINTS, 2, 2), np.float32)

    def absorbed(self) -> npt.NDArray[np.float32]:
        return np.zeros((PARAMETERS, 0, 2), np.float32)


class Finder:
    """Finds a face, but not at the times it is asked that it is told."""

    def __init__(self, nowhere: Collection[int]) -> None:
        self._asked, self._nowhere = 0, nowhere

    def find(self, image: npt.NDArray[np.uint8]) -> object:
        self._asked += 1
        return None if self._asked in self._nowhere else object()


@pytest.mark.parametrize(
    ("preset", "leaves", "nowhere", "opened", "first"),
    [
        (STEADY, (), (), [0, 25, 50], range(0, 41, APART)),
        (STEADY, (12,), (), [0, 13, 38, 63], [13, 18, 23, 28, 33, 38]),
        (STEADY, (12,), (2,), [0, 18, 43, 68], [18, 23, 28, 33, 38]),  # where it is looked for there is none
        (STEADY, (12, 20, 50), (), [0, 13, 21, 46, 51], []),
        (STEADY, (40,), (), [0, 25, 41, 66], [0, 5, 10, 41]),  # out of two windows
        (PRESET, (), (), range(0, 71, APART), range(0, 41, APART)),
        (PRESET, (12,), (2,), [0, *range(10, 71, APART)], range(15, 41, APART)),
    ],
)
def test_where_a_face_held_steady_is_lost_the_next_window_opens_at_once(
    face_video: Video,
    monkeypatch: pytest.MonkeyPatch,
    preset: Preset,
    leaves: tuple[int, ...],
    nowhere: tuple[int, ...],
    opened: Sequence[int],
    first: Sequence[int],
) -> None:
    """And others every few slots, whatever becomes of those before. Of 71 slots, in long windows of 50."""
    anchors: list[int] = []

    def points(anchor: Picture, face: object, steady: bool) -> Shown:
        anchors.append(anchor.index)
        return Shown(anchor, leaves)

    monkeypatch.setattr(backgrounds, "LONG", 50)
    monkeypatch.setattr(backgrounds, "_points", points)
    found = backgrounds._measure(face_video, preset, cast(FaceFinder, Finder(nowhere)), lambda share: None)
    assert anchors == list(opened)
    assert found["frames"][:, 0].tolist() == list(first)
    assert not set(leaves) & set(found["frames"].ravel().tolist())


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
