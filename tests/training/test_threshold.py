"""The threshold that is chosen is the one that decoding everything anew would choose, on training people only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from metst_edge import Analyzer, Bundle
from metst_edge.decode import DecodeSettings, decode_clip
from metst_edge.labels import LABELS
from metst_edge.report import Scores
from training.data.errors import DataError
from training.evaluation.metrics import Clip, Labelled, Spotting, score
from training.evaluation.threshold import Scored, Setting, Source, best, score_all, search

RATIOS, FLOORS = (0.0, 0.3, 0.55, 0.9), (0.0, 0.2, 0.35, 0.5, 1.0)


@dataclass(frozen=True)
class Model:
    """What a search asks of a bundle."""

    decode_settings: DecodeSettings
    k_p: int = 4
    labels: tuple[str, ...] = LABELS
    calibration: None = None
    k: int = 30
    roi_set: str = "metst"
    fps: float = 30.0


def video(model: Model, random: np.random.Generator, labelled: bool, quiet: bool) -> Scored:
    """Bumps of all heights in two runs, true ones about some of them."""
    spot = np.clip(0.2 * random.random(240), 0, 1)
    truth = []
    for i, middle in enumerate(range(15, 230, 20)):
        span = slice(middle - 5, middle + 6)
        spot[span] = np.maximum(spot[span], random.random() * np.hanning(11))
        if i % 2 and not quiet:
            truth.append(Labelled(2 * (middle - 4), 2 * (middle + 4), 0))
    emotion = random.normal(size=(240, len(LABELS))).astype(np.float32)
    runs = (slice(0, 130), slice(130, 240))
    frame = 2 * np.arange(240)
    scores = Scores(frame / 60, frame, spot.astype(np.float32), emotion, runs)
    return Scored(cast("Bundle", model), scores, tuple(truth), 0.5, labelled, quiet)


def slowly(model: Model, videos: list[Scored], ratio: float, floor: float) -> tuple[tuple[int, int, int], float]:
    """Decode every run anew."""
    settings = model.decode_settings.changed(ratio=ratio, floor=floor)
    clips, alarms, minutes = [], 0, 0.0
    for each in videos:
        found = []
        for run in each.scores.runs:
            frames = each.scores.frame[run]
            spot, emotion = each.scores.spot[run], each.scores.emotion[run]
            for interval in decode_clip(spot, emotion, model.k_p, settings):
                found.append(Labelled(int(frames[interval.onset]), int(frames[interval.offset]), 0))
        if each.quiet:
            alarms, minutes = alarms + len(found), minutes + each.minutes
        if each.labelled:
            clips.append(Clip(tuple(found), each.truth))
    spotting = score(clips).spotting
    return (spotting.tp, spotting.fp, spotting.fn), alarms / minutes if minutes else 0.0


@pytest.mark.parametrize("decoder", ["fixed", "adaptive"])
@pytest.mark.parametrize("synergy", ["spotting_mainly", "recognition_mainly"])
def test_every_setting_counts_what_decoding_anew_counts(decoder: str, synergy: str) -> None:
    random = np.random.default_rng(3)
    model = Model(DecodeSettings(decoder=decoder, synergy=synergy))
    videos = [video(model, random, *counts) for counts in ((True, False), (False, True), (True, True), (True, False))]
    shares: list[float] = []
    got = search(videos, RATIOS, FLOORS, shares.append)
    assert [(each.ratio, each.floor) for each in got] == [(ratio, floor) for ratio in RATIOS for floor in FLOORS]
    for each in got:
        counts, alarms = slowly(model, videos, each.ratio, each.floor)
        assert (each.spotting.tp, each.spotting.fp, each.spotting.fn) == counts
        assert each.false_alarms == alarms
    assert shares == [0.25, 0.5, 0.75, 1.0] and len({each.spotting for each in got}) > 5


def test_the_best_keeps_the_bound() -> None:
    settings = [
        Setting(0.5, 0.1, Spotting(9, 1, 1), 3.0),
        Setting(0.5, 0.2, Spotting(7, 1, 3), 0.5),
        Setting(0.5, 0.3, Spotting(7, 1, 3), 0.4),
        Setting(0.5, 0.4, Spotting(2, 0, 8), 0.0),
    ]
    assert best(settings, 5).floor == 0.1
    assert best(settings, 0.5).floor == 0.3  # of equals the one of fewer false alarms
    assert best(settings, 0.1).floor == 0.4
    with pytest.raises(DataError, match=r"keep 0.1 false alarms a minute, got 0.40 at the least"):
        best(settings[:3], 0.1)


def test_of_settings_that_come_to_the_same_the_middle_is_chosen() -> None:
    same = [Setting(r, f, Spotting(7, 1, 3), 0.4) for r in (0.1, 0.2, 0.3) for f in (0.3, 0.32, 0.5, 0.6, 0.62)]
    worse = [Setting(0.9, 0.9, Spotting(6, 1, 4), 0.0)]
    assert best([*same, *worse], 0.5) == Setting(0.2, 0.5, Spotting(7, 1, 3), 0.4)


def test_the_network_runs_once(test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = Bundle.find("demo")
    clip = tmp_path / "a.mp4"
    clip.write_bytes((test_data / "single_face.mp4").read_bytes())
    sources = [Source("a.mp4", clip, "s1", (), labelled=False, quiet=True)]
    (first,) = score_all(demo, sources, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Analyzer, "analyze", lambda *a, **k: pytest.fail("analysed again"))
        (again,) = score_all(demo, sources, tmp_path)
        clip.write_bytes(clip.read_bytes() + b"?")
        with pytest.raises(pytest.fail.Exception):
            score_all(demo, sources, tmp_path)  # another video of this name
        clip.write_bytes(clip.read_bytes()[:-1])
    for name in ("time", "frame", "spot", "emotion"):
        assert np.array_equal(getattr(first.scores, name), getattr(again.scores, name))
    assert first.scores.runs == again.scores.runs and first.minutes == again.minutes == 72 / 30 / 60
    (kept,) = (tmp_path / "scores").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    (anew,) = score_all(demo, sources, tmp_path)
    assert np.array_equal(anew.scores.spot, first.scores.spot)
    monkeypatch.setattr("training.evaluation.threshold.key_of", lambda *given: "another")
    with pytest.raises(DataError, match="holds scores of another model"):
        score_all(demo, sources, tmp_path)


def test_people_who_are_tested_are_not_looked_at(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from training.cli import main

    data = tmp_path / "data"
    data.mkdir()
    rows = ["face.mp4,s1,20,25,34,happy", "other.mp4,s2,2,8,14,surprise"]
    (data / "labels.csv").write_text("\n".join(["video,subject,onset,apex,offset,emotion", *rows]) + "\n")
    clips = [tmp_path / name for name in ("quiet1.mp4", "quiet2.mp4", "quiet3.mp4")]
    for path in (data / "face.mp4", data / "other.mp4", *clips):
        path.write_bytes((test_data / "single_face.mp4").read_bytes())
    (tmp_path / "people.csv").write_text("file,subject\nquiet1.mp4,s1\nquiet2.mp4,s2\nquiet3.mp4,s3\n")
    (tmp_path / "folds.json").write_text('{"0": ["s1"], "1": ["s2"]}')
    arguments = ["threshold", "demo", "--data", str(data), "--fold", f"{tmp_path / 'folds.json'}:0"]
    arguments += ["--quiet", *map(str, clips), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "expected something to be found rightly at 0.5 false alarms a minute" in capsys.readouterr().err
    assert main([*arguments, "--false-alarms", "30"]) == 0
    assert "chosen" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "decode.json").read_text())
    assert written["people"] == ["s2", "s3"] and written["quiet_minutes"] == pytest.approx(2 * 72 / 1800)
    assert written["chosen"]["f1"] == 1.0 and written["chosen"]["false_alarms_per_minute"] == pytest.approx(25)
    assert written["floor"] < 0.21  # the height of what is there
    assert len(written["tried"]) == 1000
    looked_at = {path.name.rpartition("-")[0] for path in (tmp_path / "out" / "scores").iterdir()}
    assert looked_at == {"other.mp4", *(str(clip).replace("/", "__") for clip in clips[1:])}
    (tmp_path / "people.csv").write_text("file,subject\nquiet1.mp4,s1\n")
    assert main(arguments) == 1
    assert f"expected who is seen in {clips[1]}" in capsys.readouterr().err


def test_each_fold_is_looked_at_by_the_model_that_does_not_know_it(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from training.cli import main

    monkeypatch.chdir(tmp_path)
    for folder, rows in (("one", ["a.mp4,s1,20,25,34,happy", "b.mp4,s2,2,8,14,surprise"]), ("two", ["a.mp4,s3,,,,"])):
        Path(folder).mkdir()
        Path(folder, "labels.csv").write_text("\n".join(["video,subject,onset,apex,offset,emotion", *rows]) + "\n")
        for row in rows:
            Path(folder, row[:5]).symlink_to(test_data / "single_face.mp4")
    Path("folds.json").write_text('{"0": ["s1"], "1": ["s2"], "2": ["s3"]}')
    models = ["demo", "demo_plus", "demo"]
    arguments = ["threshold", *models, "--data", "one", "two", "--folds", "folds.json", "--out", "out"]
    assert main([*arguments, "--without", "0", "--false-alarms", "30"]) == 0
    said = capsys.readouterr().out
    assert "1 quiet video, 2 seconds of face" in said and "next: python -m export bundle demo --decode" in said
    written = json.loads(Path("out/decode.json").read_text())
    assert written["people"] == ["s2", "s3"] and "weights_sha256" not in written  # it is for another model than these
    looked_at = {path.parts[1]: path.name[:5] for path in Path("out").glob("*/scores/*.npz")}
    assert looked_at == {"fold1": "b.mp4", "fold2": "a.mp4"}
    by_hand = []
    for fold, (model, folder, name, truth) in enumerate((("demo_plus", "one", "b", (2, 14)), ("demo", "two", "a", ()))):
        sources = [
            Source(name, Path(folder, f"{name}.mp4"), "s", (Labelled(*truth, 2),) if truth else (), True, not truth)
        ]
        by_hand += score_all(Bundle.find(model), sources, tmp_path / str(fold))
    ratio, floor = written["ratio"], written["floor"]
    (again,) = search(by_hand, [ratio], [floor])
    assert again.to_dict() == written["chosen"]

    for wrong, words in (
        (["threshold", "demo", "demo", "--data", "one"], "expected one MODEL, or --folds FILE and one for each fold"),
        (["threshold", "demo", "--data", "one", "--without", "0"], "expected one MODEL, or --folds FILE"),
        (
            ["threshold", "demo", "--data", "one", "--folds", "folds.json"],
            "expected a MODEL for each of 3 folds, got 1",
        ),
        ([*arguments, "--without", "3"], "--without: expected one of folds 0 to 2 of folds.json, got 3"),
    ):
        assert main(wrong) == 1
        assert words in capsys.readouterr().err


def test_without_quiet_video_there_is_no_bound() -> None:
    settings = [Setting(0.5, 0.1, Spotting(9, 1, 1), 0.0), Setting(0.5, 0.2, Spotting(0, 0, 10), 0.0)]
    assert best(settings, None).floor == 0.1
    with pytest.raises(DataError, match="got nothing at any ratio and floor; is a face seen"):
        best(settings[1:], None)


def test_what_is_chosen_is_shown_beside_what_the_model_did_before(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from training.cli import main

    monkeypatch.setenv("COLUMNS", "80")
    rows = ["a.mp4,s1,2,8,14,surprise", "b.mp4,s2,20,25,34,happy"]
    (tmp_path / "labels.csv").write_text("\n".join(["video,subject,onset,apex,offset,emotion", *rows]) + "\n")
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).symlink_to(test_data / "single_face.mp4")
    demo, out = Bundle.find("demo"), tmp_path / "out"
    arguments = ["threshold", "demo", "--data", str(tmp_path), "--test-subjects", "s2", "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    for words in (
        "no quiet video, so",
        "no bound on false alarms",
        "Before and after, on the same 1 person",
        "on 1 person",
    ):
        assert words in said
    assert "at most" not in said and "metst-edge SOURCE --model demo --ratio" in said
    written = json.loads((out / "decode.json").read_text())
    rows = {
        cells[1].strip(): cells[2:4] for cells in (line.split("│") for line in said.splitlines()) if len(cells) == 5
    }
    for column, each in enumerate((written["before"], written["chosen"])):
        counts = zip(("found", "false", "missed"), (each[name] for name in ("tp", "fp", "fn")), strict=True)
        for name, value in (("ratio", each["ratio"]), ("floor", each["floor"]), *counts):
            assert float(rows[name][column]) == pytest.approx(value)
        for name, key in (("precision", "precision"), ("recall", "recall"), ("spotting F1", "f1")):
            assert float(rows[name][column]) == pytest.approx(each[key], abs=5e-4)
        assert rows["quiet: false a minute"][column].strip() == "-"
    settings = demo.decode_settings
    assert (written["before"]["ratio"], written["before"]["floor"]) == (settings.ratio, settings.floor)
    with Analyzer(demo.path) as analyzer:
        found = analyzer.analyze(test_data / "single_face.mp4").micro_expressions
    assert written["before"]["tp"] + written["before"]["fp"] == len(found)  # what the model finds as it is
    assert written["false_alarms_at_most"] is None and written["quiet_minutes"] == 0
    assert written["weights_sha256"] == demo.manifest["files"]["weights.bin"]["sha256"]
