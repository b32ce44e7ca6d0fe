"""A model says whom it was trained on and whom without, and is not scored on others for them unnoticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from metst_edge.bundle import Bundle  # noqa: E402
from training.cli import main  # noqa: E402
from training.data.errors import DataError  # noqa: E402
from training.kept_apart import Apart, record  # noqa: E402
from training.models import load_checkpoint  # noqa: E402
from training.presets import PRESETS  # noqa: E402
from training.recognition.fit import RecognitionRun  # noqa: E402
from training.recognition.presets import PRESETS as RECOGNISERS  # noqa: E402
from training.run import Run  # noqa: E402
from training.state import load_state, save_state  # noqa: E402

HEADER = "video,subject,onset,apex,offset,emotion\n"


def apart(trained_on: str = "", kept_out: str = "", **training: Any) -> Apart:
    return Apart.of({"training": {**training, "people": record(trained_on.split(), kept_out.split())}})


def test_a_record_names_nobody_and_tells_of_everybody() -> None:
    told = record(["ann", "bob", "ann"], ["zoe"])
    assert "ann" not in json.dumps(told) and len(told["trained_on"]) == 2
    model = Apart.of({"training": {"people": json.loads(json.dumps(told))}})
    assert model.knows(["zoe", "bob", "eve", "ann", "ann"]) == ["ann", "bob"] and model.kept(["zoe", "ann"]) == ["zoe"]


@pytest.mark.parametrize("training", [None, "by hand", {}, {"people": 3}, {"people": {"trained_on": ["ann"]}}])
def test_a_model_that_does_not_say_is_taken_as_it_is(training: object) -> None:
    model = Apart.of({"training": training})
    model.expect_fold("m.pt", 1, ["ann"])
    model.expect_unseen("m.pt", ["ann"])
    assert model.warning("m.pt", ["ann"]) is None and Apart.of({}) == Apart()


def test_a_fold_made_anew_of_other_people_is_refused() -> None:
    model = apart("ann bob", "eve zoe", fold=1)
    model.expect_fold("m.pt", 1, ["zoe", "eve"])
    for number, people, message in (
        (0, "eve zoe", "trained without fold 0, got one without fold 1"),
        (1, "ann zoe", r"m.pt: expected in fold 1 those .* got others \(ann came in and 1 went out\)"),
        (1, "eve zoe new", r"\(new came in\)"),
        (1, "eve", r"\(1 went out\)"),
    ):
        with pytest.raises(DataError, match=message):
            model.expect_fold("m.pt", number, people.split())
    apart("ann", "zoe").expect_fold("m.pt", 0, ["zoe", "eve"])  # by names, of no fold


def test_whoever_is_tested_chooses_nothing() -> None:
    model = apart("ann", "zoe")
    model.expect_unseen("m.pt", ["ann", "eve"])
    with pytest.raises(DataError, match="expected only people who are not tested, got zoe, without whom"):
        model.expect_unseen("m.pt", ["ann", "zoe"])


def run(**more: Any) -> Run:
    values: dict[str, Any] = {
        **{"preset": PRESETS["metst64"], "seed": 0, "steps": 1, "batch": 2, "learning_rate": 1e-3, "threads": 1},
        **{"device": "cpu", "data": "x"},
    }
    return Run(**values, **more)


def test_a_run_goes_on_only_with_the_same_people(tmp_path: Path) -> None:
    before = run(trained_on=("ann",), kept_out=("zoe",)).settings()
    save_state(tmp_path, {"settings": before, "step": 1})
    load_state(tmp_path, before)
    with pytest.raises(DataError, match="people was .* is "):
        load_state(tmp_path, run(trained_on=("zoe",), kept_out=("ann",)).settings())
    save_state(tmp_path, {"settings": run().settings(), "step": 1})  # begun before it was recorded
    load_state(tmp_path, before)
    recogniser = RecognitionRun(
        preset=RECOGNISERS["slstt_small"], seed=0, threads=1, device="cpu", data="x", trained_on=("ann",)
    )
    assert recogniser.checkpoint_meta(["positive", "negative"], 3)["training"]["people"] == record(["ann"], [])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("apart") / "data"
    folder.mkdir()
    rows = ["a.mp4,s1,20,25,34,happy", "b.mp4,s2,30,35,44,surprise", "c.mp4,s3,,,,"]
    for row in rows:
        (folder / row[:5]).symlink_to(test_data / "single_face.mp4")
    (folder / "labels.csv").write_text("\n".join([HEADER.strip(), *rows]) + "\n")
    return folder


def test_fit_records_who_is_trained_on_and_all_of_a_fold(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = tmp_path / "folds.json"
    folds.write_text('{"0": ["s2", "elsewhere"], "1": ["s1", "s3"]}')
    who = ["--fold", f"{folds}:0", "--steps", "1", "--batch", "2", "--out", str(tmp_path / "run")]
    assert main(["fit", "--data", str(data), *who]) == 0
    training = load_checkpoint(tmp_path / "run" / "model.pt").meta["training"]
    assert training["fold"] == 0 and training["people"] == record(["s1", "s3"], ["s2", "elsewhere"])
    folds.write_text('{"0": ["s2"], "1": ["s1", "s3", "elsewhere"]}')
    for verb in ("evaluate", "threshold"):  # before the checkpoint is exported
        model = [str(tmp_path / "run" / "model.pt"), "--data", str(data), "--fold", f"{folds}:0"]
        assert main([verb, *model, "--out", str(tmp_path / "out")]) == 1
        assert "others (1 went out)" in capsys.readouterr().err and not (tmp_path / "out").exists()


def demo_of(folder: Path, **training: Any) -> Path:
    """The shipped model as if it were trained so."""
    shutil.copytree(Bundle.find("demo").folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "training": training}))
    return folder


def test_whoever_was_trained_on_is_not_scored_unnoticed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = demo_of(tmp_path / "m", people=record(["s1", "s3"], ["s2"]))
    evaluate = ["evaluate", str(model), "--data", str(data), "--out", str(tmp_path / "out")]
    for more, said in (
        ([], "was trained on 2 of the 3 people it is scored on (s1, s3): the scores flatter"),
        (["--subjects", "s2,s3"], "was trained on 1 of the 2 people it is scored on (s3)"),
        (["--subjects", "s2"], ""),
    ):
        assert main([*evaluate, *more]) == 0
        told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
        assert len(told) == bool(said) and said in "".join(told)
    (tmp_path / "people.csv").write_text("file,subject\na.mp4,s3\n")
    alarms = ["false-alarms", str(model), str(data / "a.mp4"), "--people", str(tmp_path / "people.csv")]
    assert main([*alarms, "--out", str(tmp_path / "alarms")]) == 0
    assert "was trained on 1 of the 1 person it is scored on (s3)" in capsys.readouterr().out


def test_a_model_of_other_folds_is_neither_scored_nor_given_a_threshold(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = demo_of(tmp_path / "m", fold=0, people=record(["s1", "s3"], ["s2"]))
    folds, out = tmp_path / "folds.json", ["--out", str(tmp_path / "out")]
    folds.write_text('{"0": ["s1"], "1": ["s2", "s3"]}')
    for arguments, message in (
        (["evaluate", str(model), "--fold", f"{folds}:0"], "expected in fold 0 those whom it was trained without"),
        (["evaluate", str(model), "demo", "--folds", str(folds)], "expected in fold 0 those whom"),
        (["threshold", str(model), "--fold", f"{folds}:0"], "expected in fold 0 those whom it was trained without"),
        (["threshold", str(model), "--fold", f"{folds}:1"], "expected a model that was trained without fold 1"),
        (["threshold", str(model)], "expected only people who are not tested, got s2, without whom it was trained"),
    ):
        assert main([*arguments, "--data", str(data), *out]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    folds.write_text('{"0": ["s2"], "1": ["s1", "s3"]}')
    assert main(["evaluate", str(model), "--fold", f"{folds}:0", "--data", str(data), *out]) == 0
