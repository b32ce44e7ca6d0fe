"""The stream of generated windows can be entered anywhere and never repeats; rendered clips are a labelled folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.errors import DataError
from training.data.folder import read_folder
from training.data.rendered import render_folder
from training.data.synthetic import CHUNK_BATCHES, SyntheticWindows
from training.losses import class_weights
from training.presets import PRESETS


@pytest.fixture(scope="module")
def stream():
    source = SyntheticWindows(PRESETS["metst64"], batch=8, seed=0)
    yield source
    source.close()


def test_a_batch_is_the_same_whatever_was_asked_for_before(stream: SyntheticWindows) -> None:
    other = SyntheticWindows(PRESETS["metst64"], batch=8, seed=0)
    late = CHUNK_BATCHES + 3
    expected = [stream.batch(step) for step in (0, 1, late)]
    again = {step: other.batch(step) for step in (late, 1, 0)}
    other.close()
    for step, batch in zip((0, 1, late), expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(batch, again[step], strict=True))


def test_no_window_comes_twice(stream: SyntheticWindows) -> None:
    windows = np.concatenate([stream.batch(step)[0] for step in range(2 * CHUNK_BATCHES)])
    assert windows.shape == (2 * CHUNK_BATCHES * 8, 10, 30) and windows.dtype == np.float32
    assert len({window.tobytes() for window in windows}) == len(windows)


def test_other_seeds_give_other_windows(stream: SyntheticWindows) -> None:
    other = SyntheticWindows(PRESETS["metst64"], batch=8, seed=1)
    x = other.batch(0)[0]
    other.close()
    assert not np.array_equal(stream.batch(0)[0], x)


def test_half_the_windows_hold_an_event_and_weights_follow_their_frames(stream: SyntheticWindows) -> None:
    _, y, classes = (
        np.concatenate(part) for part in zip(*(stream.batch(i) for i in range(CHUNK_BATCHES)), strict=True)
    )
    assert y.any(axis=1).mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(y == 1, classes != 4)
    # Measured on windows of their own, so alike but not equal.
    assert stream.weights == pytest.approx(class_weights(classes), rel=0.5)
    assert 4 <= stream.k_p <= 6


def test_a_network_that_waits_is_labelled_late(stream: SyntheticWindows) -> None:
    late = SyntheticWindows(replace(PRESETS["metst64"], delay=8), batch=8, seed=0)
    (x, y, classes), (same, now, now_classes) = late.batch(0), stream.batch(0)
    late.close()
    assert np.array_equal(x, same) and now.any()
    assert np.array_equal(y[:, 8:], now[:, :-8]) and np.array_equal(classes[:, 8:], now_classes[:, :-8])
    assert not y[:, :8].any() and (classes[:, :8] == 4).all()


def test_held_out_clips_are_labelled_and_cut_at_their_end(stream: SyntheticWindows) -> None:
    clip, other = stream.clips(2, 2.2)  # 66 frames
    assert [window.shape for window in clip.windows] == [(10, 30), (10, 30), (10, 30), (10, 21)]
    assert not np.array_equal(clip.windows[0], other.windows[0])
    assert all(0 <= a.onset < a.offset <= 66 for c in (clip, other) for a in c.annotations)


def test_rendered_clips_are_a_labelled_folder_and_are_rendered_once(tmp_path: Path) -> None:
    folder, done = tmp_path / "clips", []
    render_folder(folder, seed=3, count=2, seconds=1.0, report=done.append)
    videos = read_folder(folder)
    assert done == [1, 2]
    assert [video.name for video in videos] == ["clip-000.mp4", "clip-001.mp4"]
    for video in videos:
        truth = json.loads(video.path.with_suffix(".json").read_text())["events"]
        assert [(a.onset, a.apex, a.offset) for a in video.annotations] == [
            (event["onset"], event["apex"], event["offset"]) for event in truth
        ]
    before = [video.path.stat().st_mtime_ns for video in videos]
    render_folder(folder, seed=3, count=2, seconds=1.0)
    assert [video.path.stat().st_mtime_ns for video in videos] == before


def test_people_are_rendered_in_turn_by_the_names_of_their_portraits(tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data", reason="a portrait of somebody")
    portraits = tmp_path / "portraits"
    portraits.mkdir()
    for name in ("ann", "bea"):
        cv2.imwrite(str(portraits / f"{name}.png"), data.astronaut()[:400, :400, ::-1])
    folder = tmp_path / "clips"
    render_folder(folder, seed=3, count=3, seconds=0.2, portraits=portraits, people=["ann", "bea"], drawing="bumps")
    videos = read_folder(folder)
    assert [video.subject for video in videos] == ["ann", "bea", "ann"]
    told = [json.loads(video.path.with_suffix(".json").read_text()) for video in videos]
    assert [(truth["subject"], truth["drawing"]) for truth in told] == [(v.subject, "bumps") for v in videos]
    assert all(80 < truth["face_px"] < 330 for truth in told)
    assert len({truth["face_px"] for truth in told}) == 3
    with pytest.raises(DataError, match="holds clips of another seed or length"):
        render_folder(folder, seed=3, count=1, seconds=0.2, portraits=portraits, people=["ann"], drawing="bumps")
    cv2.imwrite(str(portraits / "bea.png"), data.astronaut()[:400, 1:401, ::-1])  # another bea
    with pytest.raises(DataError, match=r"made of something else \(portraits\)"):
        render_folder(folder, seed=3, count=4, seconds=0.2, portraits=portraits, people=["ann", "bea"], drawing="bumps")
    told = json.loads((folder / "rendered.json").read_text())
    told.pop("portraits")  # of before they were told apart: taken as they are
    (folder / "rendered.json").write_text(json.dumps(told))
    render_folder(folder, seed=3, count=3, seconds=0.2, portraits=portraits, people=["ann", "bea"], drawing="bumps")
    with pytest.raises(ValueError, match="expected a portrait of cid in"):
        render_folder(tmp_path / "new", seed=3, count=1, seconds=0.2, portraits=portraits, people=["cid"])


def test_clips_of_other_settings_and_other_files_are_not_mixed(tmp_path: Path) -> None:
    render_folder(tmp_path / "clips", seed=3, count=1, seconds=0.2)
    with pytest.raises(DataError, match="holds clips of another seed or length"):
        render_folder(tmp_path / "clips", seed=4, count=1, seconds=0.2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(DataError, match="found other files in it"):
        render_folder(tmp_path / "other", seed=3, count=1, seconds=0.2)
