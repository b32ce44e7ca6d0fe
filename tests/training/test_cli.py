"""The command line trains, goes on and renders; what goes wrong is one line and a status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.cli import fit as command_line  # noqa: E402
from training.cli import main  # noqa: E402
from training.cli.model import as_bundle  # noqa: E402
from training.kept_apart import record  # noqa: E402
from training.models import load_checkpoint  # noqa: E402
from training.presets import PRESETS  # noqa: E402


def test_bad_usage_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in (
        ([], "required: VERB"),
        (["fit", "--preset", "resnet"], "invalid choice: 'resnet'"),
        (["fit", "--steps", "0"], "expected a whole number from 1, got '0'"),
        (["insert", "x.mp4", "--out", "y", "--faults", "1e9"], "expected a number from 0 to 600, got '1e9'"),
        (["fit", "--calibrated", "1.1"], "expected a number of 0 to 1, got '1.1'"),
        (["fit", "--minutes", "-3"], "expected a number above 0, got '-3'"),
        (["fit", "--steps", "3", "--minutes", "3"], "not allowed with argument"),
        (["evaluate"], "required: MODEL"),
        (["fit", "--fold", "folds.json"], "expected FILE:N, such as folds.json:0, got 'folds.json'"),
        (["evaluate", "m.pt", "--fold", "f:0", "--folds", "f"], "not allowed with argument"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert reason in capsys.readouterr().err


def test_a_failed_job_is_one_line_and_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text("video,subject,onset,apex,offset,emotion\nx.mp4,s1,1,2,3,sad\n")
    for arguments, reason in (
        (["fit", "--data", str(tmp_path), "--out", str(tmp_path / "run")], "line 2, column video"),
        (["fit", "--calibrated", "0.5"], "expected --calibrated with --backgrounds, got it alone"),
        (["fit", "--data", str(tmp_path / "none")], "expected a labelled folder with labels.csv"),
        (["evaluate", str(tmp_path / "none.pt"), "--data", str(tmp_path)], "line 2, column video"),
        (["calibrate", "--portraits", str(tmp_path)], "expected a portrait"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err.splitlines()
        assert [line for line in error if line.startswith("training: error: ")] == error[-1:]
        assert reason in error[-1]


def test_a_missing_model_is_said(test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = labelled_folder(tmp_path / "data", test_data)
    assert main(["evaluate", str(tmp_path / "none.pt"), "--data", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert "none.pt: expected a checkpoint file, found none" in capsys.readouterr().err


def test_synthetic_training_runs_from_the_command_line_and_repeats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "HELD_OUT_CLIPS", 1)
    arguments = ["fit", "--data", "synthetic", "--steps", "2", "--batch", "4", "--seed", "5", "--out"]
    for name in ("a", "b"):
        assert main([*arguments, str(tmp_path / name)]) == 0
    output = capsys.readouterr().out
    assert "spotting F1" in output and "UF1" in output
    a, b = (load_checkpoint(tmp_path / name / "model.pt") for name in ("a", "b"))
    state = b.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in a.network.state_dict().items())
    assert a.meta["licence"] == "Apache-2.0"  # the generator's windows are ours
    schedule = PRESETS["metst64"].synthetic  # not that of a labelled folder
    assert (a.meta["training"]["learning_rate"], a.meta["decode"]["floor"]) == (schedule.learning_rate, schedule.floor)
    assert a.meta == b.meta and "rendered micro-expressions" in a.meta["training"]["data"]
    assert main([*arguments, str(tmp_path / "a")]) == 1
    assert "already holds a run" in capsys.readouterr().err


def test_training_on_backgrounds_keeps_people_apart_and_assumes_no_licence(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "HELD_OUT_CLIPS", 1)
    folders = []
    for name, subject in (("single_face.mp4", "one"), ("face_noface.mov", "other")):
        folders.append(tmp_path / subject)
        folders[-1].mkdir()
        (folders[-1] / name).symlink_to(test_data / name)
        (folders[-1] / "labels.csv").write_text(f"video,subject,onset,apex,offset,emotion\n{name},{subject},,,,\n")
    arguments = ["fit", "--preset", "metst64", "--backgrounds", *map(str, folders), "--steps", "1", "--batch", "2"]
    assert main([*arguments, "--test-subjects", "other", "--out", str(tmp_path / "a")]) == 0
    assert "export bundle" in capsys.readouterr().out
    assert [(folder / ".backgrounds").is_dir() for folder in folders] == [True, False]
    meta = load_checkpoint(tmp_path / "a" / "model.pt").meta
    assert "licence" not in meta
    assert "windows, people: 1 (one); share on calibrated faces: 0.33" in meta["training"]["data"]
    assert meta["training"]["learning_rate"] == PRESETS["metst64"].synthetic.learning_rate
    assert meta["training"]["people"] == record(["one"], ["other"])
    for more, reason in (
        (["--test-subjects", "nobody"], "expected test subjects that labels.csv names"),
        (["--test-subjects", "one,other"], "at least one subject to train on"),
        (["--data", str(folders[0])], "expected --backgrounds with --data synthetic"),
    ):
        assert main([*arguments, *more, "--out", str(tmp_path / "b")]) == 1
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cuda:99", "banana", "meta"])
@pytest.mark.parametrize("verb", [["fit"], ["recognise", "fit"]])
def test_a_device_that_is_not_there_is_one_line(
    verb: list[str], device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.csv").write_text("video,subject,onset,apex,offset,emotion\n")
    assert main([*verb, "--device", device, "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"expected --device cpu, or one that torch can use here, got '{device}'" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--data", "synthetic", "--out"],
        ["evaluate", "none.pt", "--out"],
        ["false-alarms", "none.pt", "none.mp4", "--out"],
        ["recognise", "fit", "--data", "none", "--out"],
        ["recognise", "evaluate", "none.pt", "--data", "none", "--out"],
        ["render", "--out"],
        ["insert", "none.mp4", "--out"],
        ["demo-clip", "--out"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_where_results_go_is_looked_at_before_the_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        assert main([*arguments, str(out)]) == 1
        assert f"expected a folder that can be written to, got {out}" in capsys.readouterr().err


def test_a_calibration_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--portraits", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "expected a file to write, got the folder" in capsys.readouterr().err


def test_a_run_that_is_there_is_said_before_the_videos_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    for verb in (["fit"], ["recognise", "fit"]):
        assert main([*verb, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run")]) == 1
        assert "already holds a run" in capsys.readouterr().err
        assert main([*verb, "--data", str(tmp_path / "none"), "--out", str(tmp_path / "new"), "--resume"]) == 1
        assert "found none; leave --resume out" in capsys.readouterr().err


def test_a_shipped_model_is_evaluated_by_its_name(tmp_path: Path) -> None:
    assert as_bundle(Path("demo"), tmp_path).name == "demo"


@pytest.mark.parametrize("command", ["training", "export"])
@pytest.mark.parametrize("package", ["torch", "rich"])
def test_without_a_package_one_line_says_which(command: str, package: str) -> None:
    code = f"import sys; sys.modules['{package}'] = None; import runpy; sys.argv = ['x', *sys.argv[1:]]"
    code += f"; runpy.run_module('{command}', run_name='__main__')"
    arguments = {"training": ["fit", "--steps", "1"], "export": ["bundle", "none.pt", "--out", "none"]}[command]
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1 and ran.stderr.count("\n") == 1, ran.stderr
    assert f"error: expected {package}, which cannot be imported here" in ran.stderr and "pip install" in ran.stderr


def labelled_folder(folder: Path, test_data: Path) -> Path:
    folder.mkdir()
    (folder / "face.mp4").write_bytes((test_data / "single_face.mp4").read_bytes())
    (folder / "other.mp4").write_bytes((test_data / "single_face.mp4").read_bytes())
    rows = ["face.mp4,s1,20,25,34,happy", "other.mp4,s2,30,35,44,surprise"]
    (folder / "labels.csv").write_text("\n".join(["video,subject,onset,apex,offset,emotion", *rows]) + "\n")
    return folder


def test_several_folders_are_trained_on_as_one(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (labelled_folder(tmp_path / name, test_data) for name in ("one", "two"))
    (two / "labels.csv").write_text((one / "labels.csv").read_text().replace(",s2,", ",s3,"))
    fit = ["fit", "--steps", "1", "--batch", "2", "--test-subjects", "s2", "--out", str(tmp_path / "run"), "--data"]
    assert main([*fit, str(one), str(two), str(one)]) == 0
    assert "1 step of 2 windows" in " ".join(capsys.readouterr().out.split())
    training = load_checkpoint(tmp_path / "run" / "model.pt").meta["training"]
    # s1 of both folders is one person, and nobody counts twice.
    assert training["data"] == "one, two: 3 micro-expressions, 3 videos, 2 subjects"
    assert training["people"] == record(["s1", "s3"], ["s2"])
    assert [len([*(folder / ".windows").iterdir()]) for folder in (one, two)] == [1, 2]
    assert main([*fit, str(one), "synthetic"]) == 1
    assert "expected --data synthetic or labelled folders, got both" in capsys.readouterr().err


def test_a_labelled_folder_is_trained_on_and_evaluated(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run, out = labelled_folder(tmp_path / "data", test_data), tmp_path / "run", tmp_path / "out"
    fit = ["fit", "--data", str(folder), "--test-subjects", "s2", "--epochs", "2", "--out", str(run)]
    assert main(fit) == 0
    meta = load_checkpoint(run / "model.pt").meta
    # From the training subject only: 14 frames from onset to offset.
    assert "licence" not in meta  # the folder's owner knows the terms
    assert meta["k_p"] == 7 and "1 micro-expression, 1 video, 1 subject" in meta["training"]["data"]
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]

    evaluate = ["evaluate", str(run / "model.pt"), "--data", str(folder), "--subjects", "s2", "--out", str(out)]
    assert main(evaluate) == 0
    assert "spotting F1" in capsys.readouterr().out
    assert json.loads((out / "metrics.json").read_text())["videos"] == 1
    assert [path.name for path in (out / "videos").iterdir()] == ["other.mp4.json"]

    folds = tmp_path / "folds.json"
    folds.write_text('{"0": ["s2"], "1": ["s1"], "2": ["elsewhere"]}')
    of_fold = tmp_path / "f0"
    fit = ["fit", "--data", str(folder), "--fold", f"{folds}:0", "--steps", "1", "--batch", "2", "--out", str(of_fold)]
    assert main(fit) == 0
    training = load_checkpoint(of_fold / "model.pt").meta["training"]
    assert training["fold"] == 0 and "1 video, 1 subject" in training["data"]
    by_fold = [*evaluate[:4], "--fold", f"{folds}:0", "--subjects", "s2", "--out", str(out)]
    assert main(by_fold) == 0
    models = ["demo", str(run / "model.pt"), "demo"]
    together = ["evaluate", *models, "--data", str(folder), "--folds", str(folds), "--out", str(tmp_path / "all")]
    assert main(together) == 0
    assert "How sure the figures are" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "all" / "metrics.json").read_text())
    assert [each["people"] for each in metrics["models"]] == [["s2"], ["s1"], []]
    for wrong, message in (
        (["evaluate", "demo", "demo", "--data", str(folder)], "expected one MODEL, or --folds FILE"),
        (["evaluate", "demo", "--data", str(folder), "--folds", str(folds)], "a MODEL for each of 3 folds, got 1"),
        (["evaluate", "demo", "--data", str(folder), "--fold", f"{folds}:2"], "expected somebody of fold 2"),
        (
            ["evaluate", str(of_fold / "model.pt"), "--data", str(folder), "--fold", f"{folds}:1"],
            "expected a model that was trained without fold 1, got one without fold 0",
        ),
        (["evaluate", "demo", "--fold", f"{folds}:2"], "expected folds with a labelled folder"),
    ):
        assert main([*wrong, "--out", str(tmp_path / "wrong")]) == 1
        assert message in capsys.readouterr().err
