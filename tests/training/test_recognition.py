"""Recognisers are trained on what the SDK would show them, repeatably, and scored on intervals that are given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from metst_edge.capture import open_source  # noqa: E402
from metst_edge.face import FaceFinder  # noqa: E402
from metst_edge.recognise.crops import view_of  # noqa: E402
from metst_edge.recognise.images import ImageSettings, interval_images  # noqa: E402
from training.cli import main  # noqa: E402
from training.data.errors import DataError  # noqa: E402
from training.data.folder import Video, read_folder  # noqa: E402
from training.fit import Interrupted  # noqa: E402
from training.models.recognisers import load_recogniser  # noqa: E402
from training.recognition import intervals as drawing  # noqa: E402
from training.recognition.dynamic import coefficients, dynamic_image, phases  # noqa: E402
from training.recognition.fit import RecognitionRun, fit, labels_of  # noqa: E402
from training.recognition.intervals import Interval, draw, scaled, slots  # noqa: E402
from training.recognition.presets import PRESETS  # noqa: E402
from training.samples import Annotation  # noqa: E402

SETTINGS = ImageSettings(input_size=96)


# Dynamic images.


def test_the_weights_of_a_dynamic_image_are_those_of_approximate_rank_pooling():
    np.testing.assert_allclose(coefficients(2), [-0.5, 0.5])
    for length in (1, 2, 5, 11):
        weights = coefficients(length)
        assert weights.sum() == pytest.approx(0)
        # Bilen et al.: the sum over t of the differences between t and the mean of all that came up to it.
        expected = np.zeros(length)
        for t in range(1, length + 1):
            expected[:t] += (2 * t - length - 1) / t
        np.testing.assert_allclose(weights, expected, atol=1e-12)


def test_what_appears_late_is_bright_and_what_goes_is_dark():
    pictures = np.full((5, 3, 2, 2), 100, np.uint8)
    pictures[:, :, 0, 0] = np.linspace(0, 200, 5)[:, None]
    pictures[:, :, 1, 1] = np.linspace(200, 0, 5)[:, None]
    pooled = dynamic_image(pictures)
    assert (pooled[:, 0, 0] == 255).all() and (pooled[:, 1, 1] == 0).all()
    assert (np.abs(pooled[:, 0, 1].astype(int) - 127) <= 1).all()


def test_one_picture_is_its_own_dynamic_image_and_none_that_changes_is_black():
    picture = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    np.testing.assert_array_equal(dynamic_image(picture), picture[0])
    assert not dynamic_image(np.repeat(picture, 4, 0)).any()


@pytest.mark.parametrize("apex", [0, 1, 3, 5])
def test_phases_meet_at_the_apex_and_leave_the_onset_out(apex):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    first, second = phases(pictures, apex)
    top = max(apex, 1)
    np.testing.assert_array_equal(first, dynamic_image(pictures[1 : top + 1]))
    np.testing.assert_array_equal(second, dynamic_image(pictures[top:]))


# What is drawn.


@pytest.mark.parametrize(
    ("annotation", "fps", "frames", "apex"),
    [
        (Annotation(10, 13, 16, 0), 30.0, list(range(10, 17)), 3),
        (Annotation(10, 13, 16, 0), 25.0, list(range(10, 17)), 3),
        (Annotation(0, 20, 40, 0), 200.0, [0, 7, 13, 20, 27, 33, 40], 3),
        (Annotation(5, 6, 7, 0), 200.0, [5, 7], 0),
        (Annotation(5, 5, 5, 0), 30.0, [5], 0),
    ],
)
def test_a_faster_video_is_thinned_to_the_rate_of_the_models_that_spot(annotation, fps, frames, apex):
    assert slots(annotation, fps) == (frames, apex)


@pytest.fixture(scope="module")
def face_video(test_data: Path) -> Video:
    truth = (Annotation(20, 25, 34, 1), Annotation(30, 36, 44, 2), Annotation(50, 50, 50, 3))
    return Video("single_face.mp4", test_data / "single_face.mp4", "s1", None, truth)


@pytest.fixture(scope="module")
def drawn(face_video: Video, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Interval], Path]:
    cache = tmp_path_factory.mktemp("cache")
    return draw(face_video, SETTINGS, 11, cache), cache


def test_intervals_are_drawn_as_the_sdk_draws_them(face_video, drawn):
    with open_source(face_video.path) as source:
        pictures = [frame.gray.copy() for frame in source]
    intervals, _ = drawn
    assert [(i.onset, i.emotion, i.subject) for i in intervals] == [(20, 1, "s1"), (30, 2, "s1")]  # not the lone frame
    for interval, annotation in zip(intervals, face_video.annotations, strict=False):
        onset = pictures[annotation.onset]
        face = FaceFinder().find(onset)
        assert face is not None
        expected = interval_images(
            pictures[annotation.onset : annotation.offset + 1],
            annotation.apex - annotation.onset,
            view_of(face.landmarks, *onset.shape),
            SETTINGS,
        )
        np.testing.assert_allclose(scaled(interval.whole, SETTINGS), expected, atol=1e-6)
        assert interval.phases.shape == (2, 3, 96, 96) and interval.phases.std() > 10


def test_a_video_is_drawn_once_and_again_where_its_labels_change(face_video, drawn, monkeypatch):
    intervals, cache = drawn
    monkeypatch.setattr(drawing, "open_source", None)
    again = draw(face_video, SETTINGS, 11, cache)
    for before, now in zip(intervals, again, strict=True):
        np.testing.assert_array_equal(before.whole, now.whole)
    with pytest.raises(TypeError):
        draw(replace(face_video, annotations=face_video.annotations[:1]), SETTINGS, 11, cache)
    with pytest.raises(TypeError):
        draw(face_video, replace(SETTINGS, winsize=9), 11, cache)


def test_an_interval_behind_the_end_is_refused(face_video, tmp_path):
    video = replace(face_video, annotations=(Annotation(5000, 5005, 5010, 0),))
    with pytest.raises(DataError, match=r"expected offsets below its \d+ frames .*got 5010.*--first-frame 1"):
        draw(video, SETTINGS, 11, tmp_path)


# Training.


def patterns(count: int, side: int = 96) -> list[Interval]:
    """Intervals whose emotion is the colour in which they are bright."""
    rng, out = np.random.default_rng(3), []
    for i in range(count):
        emotion = (0, 1, 3)[i % 3]
        pictures = rng.integers(0, 60, (11, 3, side, side), dtype=np.uint8)
        pictures[:, i % 3] += 150
        out.append(Interval(f"v{i}", "s1", 0, emotion, pictures, pictures[:2]))
    return out


def a_run(epochs: int = 2, **values) -> RecognitionRun:
    preset = replace(PRESETS["slstt_small"], epochs=epochs, batch=6)
    return RecognitionRun(preset=preset, seed=1, threads=1, device="cpu", data="patterns", **values)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_a_recogniser_learns_to_tell_patterns_apart(tmp_path):
    shown = patterns(12)
    losses = []
    fit(a_run(8), shown, tmp_path / "run", report=lambda step, steps, loss: losses.append(loss))
    assert len(losses) == 8 * 2 and np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    found = load_recogniser(tmp_path / "run" / "model.pt")
    assert found.meta["labels"] == ["negative", "positive", "others"] and found.network.sizes.classes == 3
    assert found.meta["training"]["intervals"] == 12 and found.meta["training"]["phases"] is True
    images = torch.from_numpy(scaled(np.stack([i.whole for i in shown]), SETTINGS))
    with torch.no_grad():
        named = found.network(images).argmax(1).tolist()
    assert named == [[0, 1, None, 2][i.emotion] for i in shown]


def test_the_rate_falls_to_a_tenth_every_so_many_epochs(tmp_path):
    run = a_run(3)
    fit(replace(run, preset=replace(run.preset, decay_every=2)), patterns(6), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.1, 0.1, 0.01])


def test_an_interrupted_run_goes_on_to_the_same_network(tmp_path):
    shown = patterns(12)
    fit(a_run(), shown, tmp_path / "whole")
    asked = iter([False, False, False, True])
    with pytest.raises(Interrupted) as stop:
        fit(a_run(), shown, tmp_path / "halves", stop=lambda: next(asked))
    assert stop.value.step == 3
    with pytest.raises(DataError, match="already holds a run"):
        fit(a_run(), shown, tmp_path / "halves")
    with pytest.raises(DataError, match="phases was True, is False"):
        fit(a_run(phases=False), shown, tmp_path / "halves", resume=True)
    fit(a_run(), shown, tmp_path / "halves", resume=True)
    whole, halves = (load_recogniser(tmp_path / name / "model.pt").network for name in ("whole", "halves"))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(halves.state_dict()[name], tensor, rtol=0, atol=0)


def test_one_emotion_is_nothing_to_tell_apart():
    with pytest.raises(DataError, match="at least two emotions to tell apart, got 2 of negative"):
        labels_of([interval for interval in patterns(6) if interval.emotion == 0])
    with pytest.raises(DataError, match="got 0 of none"):
        labels_of([])


# The command line.


@pytest.fixture
def folder(tmp_path: Path, test_data: Path) -> Path:
    """Two people, two emotions each."""
    (tmp_path / "data").mkdir()
    for name in ("one", "two"):
        (tmp_path / "data" / f"{name}.mp4").write_bytes((test_data / "single_face.mp4").read_bytes())
    rows = [f"{v}.mp4,{v},{onset},{onset + 5},{onset + 14},{e}" for v in ("one", "two") for onset, e in HAPPENS]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(["video,subject,onset,apex,offset,emotion", *rows]) + "\n")
    return tmp_path / "data"


HAPPENS = ((20, "happy"), (40, "surprise"))


def test_a_labelled_folder_is_trained_on_exported_and_evaluated(folder, tmp_path, capsys):
    arguments = ["recognise", "fit", "--data", str(folder), "--epochs", "1", "--batch", "1", "--test-subjects", "two"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert "2 intervals of 1 subject" in capsys.readouterr().out
    out = tmp_path / "scores"
    arguments = ["recognise", "evaluate", str(tmp_path / "run" / "model.pt"), "--data", str(folder)]
    assert main([*arguments, "--subjects", "two", "--out", str(out)]) == 0
    assert "2 intervals: UF1" in capsys.readouterr().out
    scores = json.loads((out / "metrics.json").read_text())
    assert scores["labels"] == ["positive", "surprise"] and np.sum(scores["confusion"]) == scores["count"] == 2
    assert (out / "confusion.png").is_file()
    assert (
        main(["recognise", "evaluate", str(out / "bundle"), "--data", str(folder), "--out", str(tmp_path / "b")]) == 0
    )
    assert "4 intervals" in capsys.readouterr().out


def test_what_goes_wrong_is_one_line(folder, tmp_path, capsys):
    run = ["recognise", "fit", "--data", str(folder), "--out", str(tmp_path / "run")]
    for arguments, reason in (
        (["recognise", "fit", "--out", str(tmp_path / "run")], "expected --portraits DIR with --data synthetic"),
        ([*run, "--imagenet", str(tmp_path / "vit.pth")], "vit.pth: expected a checkpoint file, found none"),
        ([*run, "--test-subjects", "three"], "expected test subjects that labels.csv names, got three"),
        (["recognise", "evaluate", str(tmp_path / "no.pt"), "--data", str(folder)], "found none"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err.splitlines()
        assert reason in error[-1] and error[-1].startswith("training: error: ")


def test_rendered_intervals_of_training_identities_are_others_than_the_test_person(test_data, tmp_path, capsys):
    portraits = test_data / "portraits"
    if not portraits.is_dir():
        pytest.skip("no training portraits here")
    arguments = ["render", "--out", str(tmp_path / "clips"), "--portraits", str(portraits), "--clips", "2"]
    assert main([*arguments, "--seconds", "1.5", "--seed", "4"]) == 0
    assert [video.subject for video in read_folder(tmp_path / "clips")] == ["obama-0", "biden-1"]
    assert main([*arguments[:3], "--clips", "2", "--seconds", "1.5", "--seed", "4"]) == 1  # the test person's
    assert "clips of another seed or length" in capsys.readouterr().err
