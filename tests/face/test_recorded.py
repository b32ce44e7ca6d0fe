"""Faces are where MediaPipe found them when it was recorded: in the same frames, within 0.2 % of a face's width."""

import numpy as np
import pytest

from metst_edge.face import FaceFinder
from tests.face.record_mediapipe import FILE, events, landmarks


@pytest.fixture(scope="module")
def recorded():
    with np.load(FILE) as found:
        return dict(found)


def test_landmarks_are_mediapipes_on_every_real_clip(recorded, test_data):
    ours = FaceFinder()
    frames = differing = 0
    clips = [name for name in recorded if name != "events" and (test_data / name).exists()]
    assert len(clips) >= 0.9 * (len(recorded) - 1), "of the clips that were recorded"
    for name in clips:
        expected, found = recorded[name], landmarks(ours, test_data / name)
        assert len(found) == len(expected), name
        frames += len(found)
        differing += int((np.isnan(found[:, 0, 0]) != np.isnan(expected[:, 0, 0])).sum())
        distance = np.linalg.norm(found - expected, axis=2).mean(axis=1)
        jaw = expected[:, :17, 0]
        apart = distance / (jaw.max(axis=1) - jaw.min(axis=1))
        assert np.isnan(apart).all() or np.nanmean(apart) <= 0.002, name
    assert differing <= 0.01 * frames


def test_the_events_of_the_demo_are_mediapipes(recorded):
    assert np.array(events("opencv"), recorded["events"].dtype).tolist() == recorded["events"].tolist()
