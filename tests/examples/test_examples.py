"""Every example runs as its first lines say, on the packaged clip, and prints what it promises."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import metst_edge

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DEMO = Path(metst_edge.__file__).with_name("app") / "demo_clip" / "clip.mp4"


def run(name: str, *arguments: object) -> str:
    """Run an example as a newcomer would, from another folder, and return what it prints."""
    # This checkout may not be installed.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)],
        cwd=EXAMPLES,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def streamed() -> list[dict[str, Any]]:
    """The events of the packaged clip."""
    with metst_edge.Analyzer() as analyzer:
        return [event.to_dict() for event in analyzer.stream(DEMO)]


def test_every_example_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = [path.stem for path in EXAMPLES.iterdir() if path.suffix == ".py" or path.is_dir()]
    assert [name for name in names if not re.search(rf"\b{name}\b", text) and name != "__pycache__"] == []


def test_pushed_frames_give_the_events_of_the_stream(streamed: list[dict[str, Any]]) -> None:
    lines = run("push_frames").splitlines()
    found = [re.fullmatch(r" *([\d.]+) s: (\w+), score ([\d.]+)", line).groups() for line in lines]
    # Its frames are colours, of which gray is made again: nearly what the decoder had.
    assert [emotion for _, emotion, _ in found] == [event["emotion"] for event in streamed]
    assert [float(apex) for apex, _, _ in found] == pytest.approx([event["apex"] for event in streamed], abs=0.1)
    assert [float(score) for *_, score in found] == pytest.approx([event["score"] for event in streamed], abs=0.05)


def test_json_lines_are_the_events_of_the_stream(streamed: list[dict[str, Any]]) -> None:
    lines = [json.loads(line) for line in run("json_lines").splitlines()]
    assert all(line.pop("received") for line in lines)
    assert lines == streamed


def test_a_source_of_ones_own_tells_where_it_was_away(streamed: list[dict[str, Any]]) -> None:
    events = [json.loads(line) for line in run("own_source").splitlines()]
    gaps = [event for event in events if event["type"] == "gap"]
    assert [(gap["start"], gap["end"], gap["reason"]) for gap in gaps] == [(9.9667, 11.0, "cable_out")]
    # It plays the clip in gray, so nearly the same is found: none of it lies in the second that was lost.
    found = [event for event in events if event["type"] == "micro_expression"]
    assert [event["emotion"] for event in found] == [event["emotion"] for event in streamed]
    assert [event["apex"] for event in found] == pytest.approx([event["apex"] for event in streamed], abs=0.1)


def test_an_engine_alone_scores_a_window_as_a_stream_does() -> None:
    text = run("engine_on_features")
    assert "features: float32 (10, 30)" in text
    assert "surprise" in text  # the first micro-expression of the clip
    difference = re.search(r"30 scores, at most (\S+) from", text)
    assert difference and float(difference[1]) < 1e-4


def test_a_labelled_folder_is_trained_on(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    text = run("labelled_folder", "--steps", 2, "--out", tmp_path / "run")
    assert text.startswith("video,subject,onset,apex,offset,emotion\nclip.mp4,s01,57,62,69,surprise\n")
    assert (tmp_path / "run" / "model.pt").is_file()


def test_cpp_scan_builds_and_carries_its_state(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no CMake or no C++ compiler")
    # Not optimised: the example needs no speed, and compiling takes a third of the time.
    configure = ["cmake", "-S", EXAMPLES / "cpp_scan", "-B", tmp_path, "-DCMAKE_BUILD_TYPE=Debug"]
    for command in (configure, ["cmake", "--build", tmp_path, "--parallel", "2"], [tmp_path / "cpp_scan"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"in two parts: at most \S+ from that", done.stdout)
