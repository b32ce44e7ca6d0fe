"""The command line as people meet it: what it prints, writes and returns."""

import argparse
import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from metst_edge import _native
from metst_edge.app import cli, terminal
from metst_edge.app.demo import demo_clip, demo_truth
from metst_edge.app.demo.outcome import compare
from metst_edge.bundle import Bundle
from metst_edge.choices import MODEL
from metst_edge.errors import EngineError
from metst_edge.events import MicroExpression


@pytest.fixture(scope="module")
def clip(test_data):
    return str(test_data / "face_noface.mov")


def run(capsys, *arguments):
    """Return exit status, stdout and stderr."""
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


NO_VERB = "metst-edge: error: expected a verb (demo, analyze, calibrate, bench, info, build, doctor), got"


def event(onset, offset, emotion="positive"):
    apex = (onset + offset) // 2
    return MicroExpression(onset / 30, apex / 30, offset / 30, onset, apex, offset, emotion, {emotion: 1.0}, 0.9)


def test_no_arguments_show_help_and_are_bad_usage(capsys):
    status, out, _ = run(capsys)
    assert status == 2
    assert "metst-edge demo" in out and "--camera" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["clip.mp4"],
        ["--camera", "front"],
        ["analyze"],
        ["--engine", "abacus", "demo"],
        ["--threads", "0", "demo"],
        ["demo", "--threads", "x"],
        ["demo", "--face", "mine"],
        ["analyze", "clip.mp4", "--threads", "-1"],
        ["analyze", "clip.mp4", "--plot", "clip.xyz"],
        ["demo", "--decoder", "best"],
        ["demo", "--synergy", "both"],
        ["demo", "--class-priors", "positive"],
        ["demo", "--class-priors", "positive=much"],
        ["demo", "--class-priors", "positive=inf"],
        ["demo", "--class-priors", "=1"],
        ["demo", "--class-priors", ""],
        ["demo", "--class-priors", "positive=1,positive=2"],
        ["--json", "info"],
        ["--camera", "0", "demo"],
        ["--source", "a.mp4", "--source", "b.mp4"],
        ["--camera", "0", "--camera", "1"],
        ["bench", "--source", "a.mp4", "--source", "a.mp4"],
        ["analyze", "a.mp4", "--json", "a.json", "--json", "b.json"],
        ["analyze", "a.mp4", "--csv", "a.csv", "--csv", "b.csv"],
        ["analyze", "a.mp4", "--plot", "a.png", "--plot", "b.png"],
        ["demo", "--threads", "99999999999"],
        ["demo", "--ratio", "1.1"],
        ["demo", "--floor", "-0.1"],
        ["demo", "--min-score", "nan"],
        ["analyze", "a.mp4", "--min-score", "high"],
        ["demo", "--threads", "9" * 5000],
        ["bench", "--frames", "9" * 30],
        ["--fps", "1e9", "--source", "a.mp4"],
        ["analyze", "a.mp4", "--fps", "0"],
        ["bench", "--rate", "1e9"],
        ["--camera", "99999999999"],
        ["--source", ""],
        ["analyze", ""],
        ["analyze", "a.mp4", "--json", ""],
        ["analyze", "a.mp4", "--csv", ""],
        ["--model", "", "demo"],
        ["demo", "--recognizer", ""],
        ["demo", "--face-model", ""],
        ["info", ""],
        ["build", ""],
        ["bench", "--source", ""],
        ["bench", "--json", ""],
        ["bench", "--compare", ""],
    ],
)
def test_bad_usage_is_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("metst-edge") and ": error: " in line
    assert "argument : " not in line, "what is wrong has a name"


@pytest.mark.parametrize(
    "arguments, line",
    [
        ("clip.mp4", f"{NO_VERB} 'clip.mp4'; did you mean: metst-edge analyze clip.mp4"),
        ("my~clip.mov", f"{NO_VERB} 'my~clip.mov'; did you mean: metst-edge analyze 'my~clip.mov'"),
        ("analzye clip.mp4", f"{NO_VERB} 'analzye'; did you mean: metst-edge analyze"),
        (
            "--source clip.mp4 --json out.json",
            f"{NO_VERB} 'out.json'; watching live, --json takes no file and prints: metst-edge --source FILE --json > "
            "out.json; see metst-edge --help",
        ),
        ("nonsense", f"{NO_VERB} 'nonsense'; see metst-edge --help"),
        ("info a b", "metst-edge: error: unrecognized arguments: b; see metst-edge --help"),
        (
            "analyze clip.mp4 --threads 2.5",
            "metst-edge analyze: error: argument --threads: expected a whole number from 1 to 1024, got '2.5'; see "
            "metst-edge analyze --help",
        ),
    ],
)
def test_bad_usage_is_one_line_that_says_what_was_meant(capsys, tmp_path, monkeypatch, arguments, line):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments.split())
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", f"{line}\n")


VERB_LINES = (
    "demo",
    "analyze clip.mp4",
    "calibrate hours.mp4 --false-alarms-per-hour 2",
    "bench",
    "info",
    "build demo",
    "doctor",
)


@pytest.mark.parametrize("verb", VERB_LINES)
def test_an_option_before_a_verb_that_has_no_such_option_is_an_error(capsys, monkeypatch, verb):
    """Of every option that may stand there; where the verb has it, it is taken."""
    name, *files = verb.split()
    for module in cli.VERBS:
        monkeypatch.setattr(module, "run", lambda options: 0)
    parser = cli.build_parser()
    (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    has = {option for action in verbs.choices[name]._actions for option in action.option_strings}
    values = {"--class-priors": "positive=1", "--ratio": "0.5", "--floor": "0.5", "--min-score": "0.5", "--fps": "30"}
    seen = 0
    for action in parser._actions:
        if action.default is not argparse.SUPPRESS or action.dest in ("help", "version"):
            continue
        (option,) = action.option_strings
        given = [option, values.get(option, next(iter(action.choices)) if action.choices else "1"), name, *files]
        if option in has:
            assert cli.main(given) == 0
            continue
        with pytest.raises(SystemExit) as stop:
            cli.main(given)
        assert stop.value.code == 2
        assert f"{name}: error: argument {option}: this verb has no such option" in capsys.readouterr().err
        seen += 1
    assert seen == {"demo": 1, "analyze": 0, "calibrate": 0, "bench": 1, "info": 16, "build": 15, "doctor": 16}[name]


@pytest.mark.parametrize(
    "option",
    [
        ("threads", 3),
        ("engine", "tensorrt"),
        ("precision", "fp16"),
        ("flow", "cuda"),
        ("face", "mediapipe"),
        ("face-model", "a.task"),
        ("model", "demo"),  # one that is there: `bench` looks at its kind first
        ("decoder", "adaptive"),
        ("synergy", "none"),
        ("class-priors", "positive=0.5, surprise=-1"),
        ("recognizer", "named"),
        ("ratio", 0.25),
        ("floor", 0.0),
        ("min-score", 1.0),
        ("calibration", "mine.json"),
    ],
)
@pytest.mark.parametrize("arguments", [["--source", "clip.mp4"], ["demo"], ["analyze", "clip.mp4"], ["bench"]])
def test_options_of_the_analyzer_reach_it_from_before_and_after_the_verb(capsys, monkeypatch, arguments, option):
    asked = []

    def analyzer(**options):
        del options["on_stage"]
        asked.append(options)
        raise EngineError("that is all")

    monkeypatch.setattr("metst_edge.analyzer.Analyzer", analyzer)
    name, value = option
    for given in ([f"--{name}", value, *arguments], [*arguments, f"--{name}", value], arguments):
        assert run(capsys, *given)[0] == 1
    if name == "class-priors":
        value = {"positive": 0.5, "surprise": -1.0}
    expected = {name.replace("-", "_"): value}
    assert asked == [expected, expected, {}]


@pytest.mark.parametrize("arguments", [["--source", "clip.mp4"], ["demo"], ["analyze", "clip.mp4"], ["bench"]])
@pytest.mark.parametrize("path", [next(name for name in ("neon", "avx2") if name not in _native.simd_paths()), "sse9"])
def test_a_vector_path_this_processor_lacks_is_one_line(capsys, monkeypatch, arguments, path):
    monkeypatch.setenv("METST_EDGE_SIMD", path)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("metst-edge: error: ") and f"got '{path}'" in line
    assert "METST_EDGE_SIMD: expected one of auto" in line and all(name in line for name in _native.simd_paths())


@pytest.mark.parametrize("arguments", [["--source", "clip.mp4"], ["demo"], ["analyze", "clip.mp4"], ["bench"]])
def test_priors_of_a_label_that_the_model_lacks_are_one_line(capsys, arguments):
    status, out, err = run(capsys, *arguments, "--class-priors", "glee=1")
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line == (
        "metst-edge: error: expected class_priors of the labels negative, positive, surprise, others, neutral; got glee"
    )


def test_live_prints_one_json_object_per_line(capsys, clip):
    status, out, _ = run(capsys, "--source", clip, "--json")
    assert status == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["type"] == "gap" and events[-1]["reason"] == "face_lost"


def test_live_prints_lines_for_people(capsys, clip):
    status, out, _ = run(capsys, "--source", clip)
    assert status == 0 and "gap: face lost" in out.splitlines()[-1]


def test_analyze_writes_json_csv_and_a_picture(capsys, clip, tmp_path):
    outs = [tmp_path / name for name in ("out.json", "out.csv", "out.png")]
    status, out, _ = run(capsys, "analyze", clip, "--json", outs[0], "--csv", outs[1], "--plot", outs[2], "--scores")
    assert status == 0 and "face lost" in out
    report = json.loads(outs[0].read_text())
    assert report["source"] == clip and report["engine"] == "native" and report["frames"] == 169
    assert len(report["spot"]["score"]) == len(report["spot"]["time"]) > 30
    rows = list(csv.DictReader(outs[1].open()))
    assert [row["type"] for row in rows] == [event["type"] for event in report["events"]]
    assert rows[-1]["reason"] == "face_lost"
    assert cv2.imread(str(outs[2])).std() > 10


def test_one_bad_file_does_not_stop_the_others(capsys, clip, tmp_path):
    out = tmp_path / "out.json"
    table = tmp_path / "out.csv"
    status, _, err = run(capsys, "analyze", tmp_path / "missing.mp4", clip, "--json", out, "--csv", table)
    assert status == 1
    assert len(err.strip().splitlines()) == 1 and "missing.mp4" in err
    assert [json.loads(line)["source"] for line in out.read_text().splitlines()] == [clip]
    assert next(csv.DictReader(table.open()))["source"] == clip


def test_a_folder_of_clips_is_analysed_clip_by_clip(capsys, clip, tmp_path):
    for name in "b10.mov", "b9.mov":
        (tmp_path / name).symlink_to(clip)
    status, out, err = run(capsys, "analyze", tmp_path, "--fps", 60, "--json", "-", "--scores")
    reports = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [Path(report["source"]).name for report in reports] == [
        "b9.mov",
        "b10.mov",
    ]
    # Shown at 30 frames a second, the clip lasts 6.39 s.
    for report in reports:
        assert report["frames"] == 169 and report["duration"] == pytest.approx(6.39 / 2, abs=0.02)
    (tmp_path / "poster.jpg").write_bytes(b"")
    status, _, err = run(capsys, "analyze", tmp_path)
    assert status == 1
    assert "found both, 1 picture (poster.jpg) and 2 clips (b9.mov, b10.mov)" in err and len(err.splitlines()) == 1


def test_a_camera_has_no_rate_to_be_given(capsys):
    status, _, err = run(capsys, "--camera", 0, "--fps", 30)
    assert status == 1 and "expected no fps of a camera" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "verb, option",
    [("analyze", "--json"), ("analyze", "--csv"), ("analyze", "--plot"), ("demo", "--plot"), ("bench", "--json")],
)
def test_an_output_that_cannot_be_is_told_before_the_work(capsys, clip, tmp_path, monkeypatch, verb, option):
    """And named: whatever is wrong with it."""
    monkeypatch.setattr("metst_edge.analyzer.Analyzer", None)
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("here.png").mkdir()
    Path("locked").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: "locked" not in str(path))
    in_a_folder = "expected a file in a folder that is there, but"
    for output, words in (
        ("none/out.png", f"{in_a_folder} {tmp_path / 'none'} does not exist; make it first"),
        ("file/out.png", f"{in_a_folder} {tmp_path / 'file'} is no folder"),
        ("here.png", "expected a file to write, got a folder; give a name in it"),
        ("locked/out.png", "expected a file that may be written, got none that this user may write"),
    ):
        status, out, err = run(capsys, verb, *([clip] if verb == "analyze" else []), option, output)
        assert (status, out, err) == (1, "", f"metst-edge: error: {option} {output}: {words}\n")


def test_the_demos_own_picture_is_left_out_where_it_cannot_be(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("metst-edge-demo.png").mkdir()
    status, out, err = run(capsys, "demo")
    assert status == 0 and "8 of 8 found" in out
    why = "expected a file to write, got a folder; give a name in it"
    assert err == f"metst-edge: no picture: --plot metst-edge-demo.png: {why}\n"


def test_a_live_run_tells_what_it_all_was(capsys, clip, tmp_path):
    """On stderr, so that a run which finds nothing says so; broken off or not."""
    still = tmp_path / "still"
    still.mkdir()
    for i in range(20):
        cv2.imwrite(str(still / f"{i}.png"), np.full((64, 64), 128, np.uint8))
    for json_ in [], ["--json"]:
        status, _, err = run(capsys, "--source", still, "--fps", 30, *json_)
        assert status == 0 and err.splitlines() == [
            f"metst-edge: {still}: 0 micro-expressions in 0.6 s (20 frames, a face in 0), 1 gap, blind for 0.6 s"
        ]
    (still / "9.png").write_bytes(b"")
    status, _, err = run(capsys, "--source", still, "--fps", 30)
    told, error = err.splitlines()
    assert status == 1 and "(9 frames, a face in 0, broken off)" in told and error.startswith("metst-edge: error: ")


def test_messages_speak_of_options_and_remarks_are_no_warnings(capsys, tmp_path):
    for words, options in (
        ("or use engine='native'", "or use --engine native"),
        (
            "use face='opencv', or precision='fp32'; got engine 'cuda'",
            "use --face opencv, or --precision fp32; got engine 'cuda'",
        ),
        ("name='engine' stays", "name='engine' stays"),
    ):
        assert terminal.as_options(words) == options
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((64, 64), 128, np.uint8))
    (tmp_path / "fps.txt").write_text("30")
    _, _, err = run(capsys, "analyze", tmp_path)
    assert err == f"metst-edge: {tmp_path}: 3 pictures, 30 a second as fps.txt says\n"


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_is_not_taken_for_a_broken_bundle(capsys, tmp_path, old):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=not old)
    for arguments in ["info", path], ["demo", "--model", path]:
        status, _, err = run(capsys, *arguments)
        assert status == 1 and err == (
            f"metst-edge: error: {path}: expected a bundle, got a checkpoint of torch; make a bundle of it, in a "
            "checkout: python -m export bundle CHECKPOINT --out DIR, or of one of the published code: python -m export "
            "upstream\n"
        )


def test_files_of_one_name_get_a_picture_each(capsys, clip, tmp_path):
    names = []
    for folder in "s01", "s$02$":  # two dollar signs would be a formula in a title
        (tmp_path / folder).mkdir()
        names.append(shutil.copy(clip, tmp_path / folder / "day$1$.mov"))
    status, _, _ = run(capsys, "analyze", *names, "--plot", tmp_path / "out.png")
    assert status == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["out-1-day$1$.png", "out-2-day$1$.png"]


def test_a_picture_that_cannot_be_written_stops_nothing_else(capsys, clip, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("metst_edge.report.plot.write_whole", full)
    out = tmp_path / "out.json"
    status, _, err = run(capsys, "analyze", clip, clip, "--json", out, "--plot", tmp_path / "out.png")
    assert status == 1
    assert len(err.strip().splitlines()) == 2 and "picture cannot be written" in err
    assert len(out.read_text().splitlines()) == 2


def test_results_of_yesterday_survive_a_mistyped_model(capsys, clip, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("yesterday")
    status, _, err = run(capsys, "analyze", clip, "--json", out, "--model", "nonsense")
    assert status == 1 and "'nonsense'" in err
    assert out.read_text() == "yesterday"


@pytest.mark.parametrize("name", ["clip[draft].mov", "clip[/x].mov", "~clip.mov"])
def test_odd_file_names_are_shown_as_they_are(capsys, clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    shutil.copy(clip, name)
    status, out, err = run(capsys, "analyze", name)
    assert status == 0 and err == ""
    assert name in out


def test_a_name_that_is_no_utf8_is_refused(capsys, clip, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mov")
    shutil.copy(clip, name)
    status, _, err = run(capsys, "analyze", name)
    assert status == 1 and "expected a name in UTF-8" in err


def test_json_to_stdout_is_nothing_but_json(capsys, test_data):
    status, out, err = run(capsys, "analyze", test_data / "no_face.mp4", "--json", "-")
    assert status == 0
    assert json.loads(out)["events"][0]["type"] == "gap"
    assert "face lost" in err


def broken_file(tmp_path, test_data):
    whole = demo_clip().read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
    return path


def test_what_was_found_before_a_failure_is_written(capsys, test_data, tmp_path):
    path, out = broken_file(tmp_path, test_data), tmp_path / "out.json"
    status, _, err = run(capsys, "analyze", path, "--json", out)
    assert status == 1 and "cut.mp4" in err
    report = json.loads(out.read_text())
    assert report["complete"] is False and report["frames"] > 50 and report["events"]
    status, live, err = run(capsys, "--source", path, "--json")
    assert status == 1 and "cut.mp4" in err
    assert live.splitlines(), "what was found is printed"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: folder / "missing.mp4", "missing.mp4"),
        (lambda folder: (folder / "text.mp4", (folder / "text.mp4").write_text("no video"))[0], "text.mp4"),
        (lambda folder: (folder / "zero.mp4", (folder / "zero.mp4").touch())[0], "zero.mp4"),
        (lambda folder: (folder / "empty", (folder / "empty").mkdir())[0], "empty"),
        (lambda folder: 97, "camera"),
        (lambda folder: "rtsp://nowhere/stream", "rtsp"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_line_and_status_1(capsys, tmp_path, make, words):
    status, out, err = run(capsys, "--source", make(tmp_path))
    assert status == 1 and out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("metst-edge: error: ") and words in line


def test_a_frame_size_that_changes_in_a_folder_is_one_line(capsys, tmp_path):
    for i in range(6):
        size = 64 if i < 5 else 96
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((size, size, 3), 90, np.uint8))
    status, out, err = run(capsys, "--source", tmp_path, "--fps", 30, "--json")
    assert status == 1
    assert "5.png" in err and "64" in err and "96" in err
    told = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in told] == ["gap"] * 2, "what was known before is printed"
    assert told[0]["end"] is None and told[1]["end"] == round(4 / 30, 4)


def damaged(tmp_path, name, change):
    folder = tmp_path / "bundle"
    shutil.copytree(Bundle.find("demo").folder, folder)
    change(folder / name)
    return folder


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("step.onnx", lambda path: path.unlink(), "step.onnx is missing"),
        ("weights.bin", lambda path: path.write_bytes(path.read_bytes()[:-4] + b"\0\1\2\3"), "expected sha256"),
        (
            "manifest.json",
            lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99})),
            "bundle format 1 or older, got 99",
        ),
    ],
)
def test_a_bundle_that_cannot_be_trusted_is_one_line(capsys, tmp_path, name, change, words):
    for arguments in (["info", damaged(tmp_path, name, change)], ["--source", "0", "--model", tmp_path / "bundle"]):
        status, _, err = run(capsys, *arguments)
        assert status == 1
        (line,) = err.strip().splitlines()
        assert words in line


def test_an_unknown_model_is_one_line(capsys):
    status, _, err = run(capsys, "info", "nonsense")
    assert status == 1 and "'nonsense'" in err and "demo" in err


def test_an_output_that_cannot_be_written_is_one_line(capsys, tmp_path, clip):
    status, _, err = run(capsys, "analyze", clip, "--json", tmp_path / "no" / "such" / "out.json")
    assert status == 1 and len(err.strip().splitlines()) == 1 and "out.json" in err


def test_info_shows_the_manifest(capsys):
    status, out, _ = run(capsys, "info", "demo")
    assert status == 0 and "metst64" in out and "sha256" in out
    status, out, _ = run(capsys, "info", "--json")
    assert status == 0 and json.loads(out)["name"] == MODEL
    status, out, _ = run(capsys, "info")
    assert "real video without any, three folds: 5 false alarms, 0.42 a minute" in out  # of nothing true, no F1


def test_info_shows_what_matters_first_and_the_rest_when_asked(capsys):
    _, page, _ = run(capsys, "info", "demo")
    assert len(page.splitlines()) <= 24
    for words in (
        "rendered micro-expressions",
        "Apache-2.0",
        "spotting F1 0.814",
        "fp32, fp16",
        "the same with --all",
    ):
        assert words in page
    _, whole, _ = run(capsys, "info", "demo", "--all")
    for name, entry in Bundle.find("demo").manifest["files"].items():
        assert name in page and name in whole and entry["sha256"] in whole and entry["sha256"] not in page
    assert "confusion" in whole and "tolerance" in whole and "confusion" not in page


def test_info_shows_what_scores_are_decoded_with(capsys, tmp_path):
    folder = Path(shutil.copytree(Bundle.find("demo").path, tmp_path / "copy"))
    _, out, _ = run(capsys, "info", folder)
    assert "peak -+ 6 frames" in out and "class priors" not in out
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["decode"].update(decoder="adaptive", class_priors={"positive": 0.5, "surprise": -1})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _, out, _ = run(capsys, "info", folder)
    assert "fitted to the curve around a peak, k_p 6 frames" in out
    assert "decoder: adaptive" in out and "positive +0.5, surprise -1" in out


def test_the_demo_finds_what_is_there(capsys, tmp_path):
    """At least 80 % of the clip's micro-expressions, at most one false."""
    picture = tmp_path / "demo.png"
    status, out, _ = run(capsys, "demo", "--json", "--plot", picture)
    assert status == 0
    report = json.loads(out)
    assert len(report["found"]) >= 0.8 * len(report["truth"])
    assert len(report["false_alarms"]) <= 1
    assert len(report["found"]) + len(report["missed"]) == len(report["truth"]) == len(demo_truth())
    assert cv2.imread(str(picture)).std() > 10


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


MISSING = "expected matplotlib to draw a picture, got: "


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_the_demo_does_its_job_without_a_picture(capsys, tmp_path, monkeypatch, no_matplotlib, json_option):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "demo", *json_option)
    assert status == 0 and ("found" in out) and "Picture" not in out
    (line,) = err.splitlines()
    assert line.startswith(f"metst-edge: no picture: {MISSING}") and line.endswith("with: pip install matplotlib")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["demo"], ["analyze", "missing.mp4"]])
def test_a_picture_that_is_asked_for_and_cannot_be_drawn_is_told_before_the_work(capsys, no_matplotlib, arguments):
    status, out, err = run(capsys, *arguments, "--plot", "a.png")
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith(f"metst-edge: error: {MISSING}") and line.endswith("pip install matplotlib")


def test_a_face_stage_that_is_not_there_is_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe.python.solutions.face_mesh", None)
    status, out, err = run(capsys, "demo", "--face", "mediapipe")
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("metst-edge: error: expected MediaPipe")
    assert line.endswith("or use --face opencv") and "face='" not in line, "in the words of the command line"


def test_the_demos_clip_and_model_are_small():
    folder = Path(cli.__file__).parent / "demo_clip"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 1_050_000
    assert sum(file.stat().st_size for file in Bundle.find("demo").folder.iterdir()) <= 10_000_000


def test_a_true_interval_is_found_once_only():
    truth = [event(10, 19), event(50, 59)]
    found = [event(10, 19), event(11, 20), event(80, 90)]
    outcome = compare(found, truth)
    assert outcome.pairs == ((truth[0], found[0]),)
    assert outcome.missed == (truth[1],)
    assert outcome.false_alarms == (found[1], found[2])


def test_the_command_is_quiet_and_survives_a_closed_pipe(test_data):
    """Run as a newcomer would: nothing but events on stdout, nothing but what it all was on stderr."""
    command = [sys.executable, "-m", "metst_edge", "--source", str(test_data / "no_face.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("gap: face lost")
    assert done.returncode == 0 and done.stderr == (
        f"metst-edge: {test_data / 'no_face.mp4'}: 0 micro-expressions in 3.9 s (95 frames, a face in 0), 1 gap, "
        "blind for 3.9 s\n"
    )
    for arguments in "info demo", f"analyze {test_data / 'no_face.mp4'}":
        piped = f"set -o pipefail; {sys.executable} -m metst_edge {arguments} | true"
        done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopping_writes_what_was_found(stop, tmp_path):
    """Ten demo clips in a row, stopped in the midst of one of them."""
    clip, out = str(demo_clip()), tmp_path / "out.json"
    command = [sys.executable, "-m", "metst_edge", "analyze", *[clip] * 10, "--json", str(out)]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    # Results lie beside the file until all are there.
    while time.monotonic() < until and not any(path.stat().st_size for path in tmp_path.glob(".out.json.*")):
        time.sleep(0.1)
    time.sleep(1.5)
    job.send_signal(stop)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "interrupted" in err and "Traceback" not in err
    *whole, last = [json.loads(line) for line in out.read_text().splitlines()]
    assert all(report["complete"] for report in whole) and not last["complete"]
    assert 0 < last["frames"] < 660
