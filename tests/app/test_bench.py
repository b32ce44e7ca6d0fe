"""``metst-edge bench``: what it measures, says and writes."""

import itertools
import json
import time
from collections import Counter

import cv2
import numpy as np
import pytest

import metst_edge
import metst_edge.analyzer
import metst_edge.capture.frames
import metst_edge.scoring.host
from metst_edge.app import cli, machine
from metst_edge.app.bench import comparing, measuring, results, tables
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle, sha256
from metst_edge.capture import Frame, Interruption
from metst_edge.capture.camera import Camera
from metst_edge.choices import MODEL
from metst_edge.decode import OnlineDecoder
from metst_edge.engine.lanes import Lanes
from metst_edge.errors import SourceError
from metst_edge.events import Gap
from metst_edge.face import FaceFinder
from metst_edge.flow import default_threads
from metst_edge.recognise.second import Opinions


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The first 40 frames of the packaged clip, at 30 frames per second."""
    folder = tmp_path_factory.mktemp("frames")
    for number, picture in enumerate(demo_frames(40)):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    (folder / "fps.txt").write_text("30")
    return str(folder)


def demo_frames(count):
    capture = cv2.VideoCapture(str(demo_clip()))
    return [capture.read()[1] for _ in range(count)]


@pytest.fixture(scope="module")
def faceless(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    for number, picture in enumerate(noise(5)):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    (folder / "fps.txt").write_text("30")
    return str(folder)


def noise(count):
    return list(np.random.default_rng(0).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8))


def run(capsys, *arguments):
    """Return exit status, stdout and stderr of ``metst-edge bench``."""
    status = cli.main(["bench", *[str(argument) for argument in arguments]])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


class FakeSource:
    """Yields items, pausing before each; an exception among them is raised."""

    uri, fps, frame_count = "fake", 30.0, None
    dropped = None

    def __init__(self, items, live=False, pause=0.0):
        self._items, self.live, self._pause = iter(items), live, pause

    def __iter__(self):
        return self

    def __next__(self):
        time.sleep(self._pause)
        item = next(self._items)
        if isinstance(item, BaseException):
            raise item
        return item

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class FakeAnalyzer:
    """Takes a set time for a frame, and finds nothing."""

    bundle = Bundle.find("demo")
    threads, flow, face, recognizer = 7, "cpu", "opencv", None

    class engine:
        name, precision = "fake", "fp32"

    def __init__(self, work=0.0):
        self._work, self.flushed = work, 0

    def check_rate(self, source):
        pass

    def push(self, frame):
        time.sleep(self._work)
        return []

    def flush(self):
        self.flushed += 1
        return [Gap(0.0, 1.0, "face_lost")]


def frames(count, first=0):
    return [Frame(i, i / 30, picture) for i, picture in enumerate(noise(count), first)]


def play(monkeypatch, sources, frames, warm_up=0, work=0.0):
    """Measure fake sources, opened one after the other; return the bench and its result."""
    opened = iter(sources)
    monkeypatch.setattr(measuring, "open_source", lambda uri: next(opened))
    run, analyzer = measuring.Bench("fake", frames, warm_up), FakeAnalyzer(work)
    run.play(analyzer)
    return run, run.result(analyzer)


# What the analyzer tells.


def test_every_stage_is_told_once_for_what_it_does(short):
    """40 frames at the model's rate are 40 slots; a window starts on frames 0, 15 and 30."""
    calls = []
    with metst_edge.Analyzer(on_stage=lambda stage, seconds: calls.append((stage, seconds))) as analyzer:
        began = time.perf_counter()
        list(analyzer.stream(short))
        took = time.perf_counter() - began
        told = Counter(stage for stage, _ in calls)
        assert told == {"capture": 40, "prepare": 40, "face": 3, "flow": 40, "network": 40, "decode": 40}
        assert [stage for stage, _ in calls[:5]] == ["capture", "prepare", "face", "flow", "network"]
        assert all(seconds > 0 for _, seconds in calls) and sum(seconds for _, seconds in calls) < took
        calls.clear()
        analyzer.analyze(short)
        told = Counter(stage for stage, _ in calls)
        assert told == {"capture": 40, "prepare": 40, "face": 3, "flow": 40, "network": 40}


@pytest.mark.parametrize("stage", results.STAGES[:-1])
def test_what_takes_longer_is_told_of_its_own_stage(monkeypatch, stage):
    slowed = {
        "capture": (FakeSource, "__next__"),
        "prepare": (metst_edge.capture.frames, "to_gray"),
        "face": (FaceFinder, "find"),
        "flow": (metst_edge.scoring.host, "measure"),
        "network": (Lanes, "push"),
        "decode": (OnlineDecoder, "push"),
    }
    owner, name = slowed[stage]
    whole = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments: (time.sleep(0.15), whole(*arguments))[1])
    source = FakeSource([Frame(i, i / 30, picture) for i, picture in enumerate(demo_frames(4))])
    monkeypatch.setattr(metst_edge.analyzer, "open_source", lambda uri: source)
    times = {}
    with metst_edge.Analyzer(on_stage=lambda stage, seconds: times.setdefault(stage, []).append(seconds)) as analyzer:
        list(analyzer.stream("fake"))
    assert max(times.pop(stage)) >= 0.15
    assert len(times) == 5 and all(min(told) < 0.15 for told in times.values())


def test_being_told_changes_nothing(short):
    reports = []
    for on_stage in None, lambda stage, seconds: None:
        with metst_edge.Analyzer(on_stage=on_stage) as analyzer:
            reports.append(analyzer.analyze(short))
    np.testing.assert_array_equal(reports[0].scores.spot, reports[1].scores.spot)
    np.testing.assert_array_equal(reports[0].scores.emotion, reports[1].scores.emotion)
    assert reports[0].events == reports[1].events


# What is made of it.


def test_percentiles_are_numpys_and_the_slowest_counts():
    seconds = [*np.random.default_rng(1).exponential(0.01, 200), 7.0]
    summary = results.summary(seconds)
    assert summary["n"] == 201 and summary["max"] == pytest.approx(7000.0)
    for percent in 50, 90, 95, 99:
        assert summary[f"p{percent}"] == pytest.approx(1e3 * np.percentile(seconds, percent))
    assert results.summary([]) == {"n": 0, "p50": None, "p90": None, "p95": None, "p99": None, "max": None}


def test_a_file_is_waited_for_end_to_end_and_a_camera_is_not(monkeypatch):
    for live, least, most in (False, 0.16, 10.0), (True, 0.06, 0.159):
        run, result = play(monkeypatch, [FakeSource(frames(3), live, pause=0.1)], 3, work=0.06)
        assert min(run.times["capture"]) >= 0.1
        assert least <= min(run.times["end to end"]) <= most
        assert result["frames_per_second"] == pytest.approx(3 / sum(run.times["end to end"]))
        assert (result["arriving_per_second"] is not None) == live


def test_the_warm_up_does_not_count(monkeypatch):
    run, result = play(monkeypatch, [FakeSource(frames(9))], 5, warm_up=4)
    assert result["warm_up"] == 4 and result["frames"] == len(run.times["capture"]) == 5
    run = measuring.Bench("fake", 2, 1)
    run.on_stage("flow", 1.0)
    assert run.times["flow"] == []


def test_a_deadline_is_missed_by_what_takes_longer(monkeypatch):
    run, _ = play(monkeypatch, [FakeSource(frames(4))], 4)
    run.times["end to end"] = [0.010, 0.041, 0.039, 0.5]
    for rate, misses in (25.0, 2), (None, 3), (1.0, 0):
        deadline = run.result(FakeAnalyzer(), rate)["deadline"]
        assert deadline == {"rate": rate or FakeAnalyzer.bundle.fps, "misses": misses, "share": misses / 4}


def test_flow_on_the_gpu_is_said_and_is_no_run_to_compare_with(monkeypatch):
    run, base = play(monkeypatch, [FakeSource(frames(4))], 4)
    assert base["flow"] == "cpu" and not [note for note in tables.notes(base) if "GPU" in note]
    monkeypatch.setattr(FakeAnalyzer, "flow", "cuda")
    result = run.result(FakeAnalyzer())
    assert [
        note for note in tables.notes(result) if note.startswith("flow was measured on the GPU: its time is in net")
    ]
    assert comparing.compare(result, base)["differences"] == {"flow": ["cpu", "cuda"]}


def test_the_face_stage_is_said_and_another_is_no_run_to_compare_with(monkeypatch):
    run, base = play(monkeypatch, [FakeSource(frames(4))], 4)
    assert ", face by opencv" in next(tables._header(base))
    monkeypatch.setattr(FakeAnalyzer, "face", "mediapipe")
    assert comparing.compare(run.result(FakeAnalyzer()), base)["differences"] == {"face": ["opencv", "mediapipe"]}


def test_a_recogniser_is_said_with_its_opinions_and_is_no_run_to_compare_with(monkeypatch):
    run, base = play(monkeypatch, [FakeSource(frames(4))], 4)
    assert "recognizer" not in base and "opinions" not in base
    monkeypatch.setattr(FakeAnalyzer, "recognizer", "slstt")
    monkeypatch.setattr(FakeAnalyzer, "opinions", Opinions(given=5, skipped=2), raising=False)
    result = run.result(FakeAnalyzer())
    assert result["opinions"] == {"given": 5, "skipped": 2, "unseen": 0, "late": 0, "failed": 0}
    assert [
        note
        for note in tables.notes(result)
        if note == ("no second opinion on 2 of 7 intervals: 2 came while too many were waiting")
    ]
    assert comparing.compare(result, base)["differences"] == {"recognizer": [None, "slstt"]}


def test_half_precision_is_another_engine(monkeypatch):
    run, _ = play(monkeypatch, [FakeSource(frames(4))], 4)
    assert run.result(FakeAnalyzer())["engine"] == "fake"
    monkeypatch.setattr(FakeAnalyzer.engine, "precision", "fp16")
    assert run.result(FakeAnalyzer())["engine"] == "fake fp16"


def test_a_file_shorter_than_the_warm_up_is_played_again(monkeypatch):
    _, result = play(monkeypatch, [FakeSource(frames(4)) for _ in range(4)], 7, warm_up=6)
    assert result["passes"] == 4 and result["frames"] == 7 and result["complete"]
    assert any("played 4 times" in note for note in tables.notes(result))


def test_frames_a_camera_could_not_get_rid_of_are_drops(monkeypatch):
    """A frame every 2 ms, of which one in 20 ms is taken."""
    pictures = itertools.cycle(noise(7))

    class Device:
        fps = 30.0

        def read(self):
            time.sleep(0.002)
            return next(pictures).copy()

        def close(self):
            pass

    with Camera(0, connect=Device) as camera:
        _, result = play(monkeypatch, [camera], 10, warm_up=2, work=0.02)
        assert 10 < result["dropped"] <= camera.dropped
    assert result["source"]["live"] and result["interruptions"] == 0
    _, of_a_file = play(monkeypatch, [FakeSource(frames(2))], 2)
    assert of_a_file["dropped"] is None


def test_an_interruption_is_told_and_is_no_frame(monkeypatch):
    items = [*frames(2), Interruption(1 / 30, 9.0, "camera_lost"), *[Frame(i, 9 + i, noise(1)[0]) for i in range(2)]]
    _, result = play(monkeypatch, [FakeSource(items, live=True)], 4)
    assert result["interruptions"] == 1 and result["frames"] == 4 and result["gaps"]["camera_lost"] == 1


# What people see.


@pytest.fixture(scope="module")
def measured(short, tmp_path_factory):
    """A result file and what was printed with it."""
    path = tmp_path_factory.mktemp("bench") / "base.json"
    assert cli.main(["bench", "--source", short, "--frames", "30", "--warm-up", "5", "--json", str(path)]) == 0
    return path


def test_the_json_holds_everything(measured):
    result = json.loads(measured.read_text())
    folder = Bundle.find(MODEL).folder
    assert result["benchmark"] == "metst-edge bench" and result["format"] == 1 and result["complete"] is True
    assert result["version"] == metst_edge.__version__ and result["engine"] == "native"
    assert result["bundle"] == {"name": MODEL, "manifest_sha256": sha256(folder / "manifest.json")}
    assert {"processor", "cores", "system", "python", "simd"} <= set(result["machine"])
    assert result["threads"] == {"usable cores": machine.usable_cores(), "for flow": default_threads()}
    assert (result["warm_up"], result["frames"], result["passes"]) == (5, 30, 1)
    assert result["source"]["width"] == result["source"]["height"] == 400 and not result["source"]["live"]
    stages = result["stages"]
    assert list(stages) == list(results.STAGES)
    assert {stage: values["n"] for stage, values in stages.items()} == {
        "capture": 30, "prepare": 30, "face": 2, "flow": 30, "network": 30, "decode": 30, "end to end": 30
    }  # fmt: skip
    for values in stages.values():
        assert 0 < values["p50"] <= values["p90"] <= values["p95"] <= values["p99"] <= values["max"]
    assert stages["end to end"]["p50"] > stages["flow"]["p50"] > stages["network"]["p50"]
    assert result["deadline"]["rate"] == 30.0 and result["dropped"] is None
    assert result["memory"]["high_water"] > 50 and 0 <= result["memory"]["growth"] < result["memory"]["high_water"]
    assert str(measured.parent) not in measured.read_text(), "no paths of this machine"


def test_people_see_header_table_and_a_row_to_paste(capsys, short):
    status, out, err = run(capsys, "--source", short, "--frames", 8, "--warm-up", 2, "--rate", 0.5)
    assert (status, err) == (0, "")
    digest = sha256(Bundle.find(MODEL).folder / "manifest.json")
    for words in (metst_edge.__version__, digest[:16], "engine native", machine.processor(), "0 of 8 frames", "MiB"):
        assert words in out
    assert [stage for stage in results.STAGES if f" {stage} " not in out] == []
    heading, rule, row = out.splitlines()[-3:]
    assert heading.count("|") == rule.count("|") == row.count("|") > 10
    assert "end to end p99 ms" in heading and set(rule) <= set("|- ")


def test_a_pipe_character_does_not_break_the_row(monkeypatch):
    _, result = play(monkeypatch, [FakeSource(frames(1))], 1)
    result["source"]["name"] = "a|b"
    heading, _, row = tables.markdown(result)
    assert row.replace("\\|", "").count("|") == heading.count("|")


def test_the_number_of_threads_is_the_analyzers(capsys, monkeypatch, faceless):
    _, result = play(monkeypatch, [FakeSource(frames(1))], 1)
    assert result["threads"] == {"usable cores": machine.usable_cores(), "for flow": FakeAnalyzer.threads}
    monkeypatch.undo()
    threads = default_threads() + 1  # what nobody gets unasked
    arguments = ["--frames", 3, "--warm-up", 0, "--threads", threads, "--json", "-"]
    status, out, err = run(capsys, "--source", faceless, *arguments)
    assert status == 0 and json.loads(out)["threads"]["for flow"] == threads
    assert f"threads: {machine.usable_cores()} usable cores, {threads} for flow;" in err


def test_json_to_stdout_is_nothing_but_json(capsys, faceless):
    status, out, err = run(capsys, "--source", faceless, "--frames", 3, "--warm-up", 0, "--json", "-")
    assert status == 0 and json.loads(out)["frames"] == 3
    assert "end to end" in err


def test_a_source_without_a_face_is_said(capsys, faceless):
    status, out, _ = run(capsys, "--source", faceless, "--frames", 4, "--warm-up", 0)
    assert status == 0 and "no face was found" in out
    (flow,) = [line.split() for line in out.splitlines() if line.split()[:1] == ["flow"]]
    assert flow == ["flow", "0", "-", "-", "-", "-", "-"]


def test_a_run_is_set_beside_another(capsys, faceless, measured, tmp_path):
    new, base = json.loads(measured.read_text()), json.loads(measured.read_text())
    assert comparing.compare(new, base)["differences"] == {}
    base["stages"]["flow"].update(p50=new["stages"]["flow"]["p50"] / 2, p99=new["stages"]["flow"]["p99"] * 4)
    base["stages"]["decode"] = results.summary([])
    del base["stages"]["prepare"]
    ratios = comparing.compare(new, base)["ratios"]
    assert ratios["flow"] == {"p50": pytest.approx(2.0), "p99": pytest.approx(0.25)}
    assert ratios["capture"] == {"p50": 1.0, "p99": 1.0}
    assert ratios["decode"] == ratios["prepare"] == {"p50": None, "p99": None}
    base["engine"], base["machine"]["power mode"] = "abacus", "7W (1)"
    base["bundle"]["manifest_sha256"] = "0" * 64
    base.pop("threads")
    path, out_path = tmp_path / "base.json", tmp_path / "new.json"
    path.write_text(json.dumps(base))
    arguments = ["--frames", 3, "--warm-up", 0, "--compare", path, "--json", out_path]
    status, out, _ = run(capsys, "--source", faceless, *arguments)
    assert status == 0 and "p50 / base" in out
    (line,) = [line for line in out.splitlines() if line.startswith("not comparable")]
    assert "engine abacus -> native" in line and "machine power mode 7W (1) -> unknown" in line
    written = json.loads(out_path.read_text())["comparison"]
    assert {"engine", "bundle manifest_sha256", "threads", "source width"} <= set(written["differences"])
    assert written["ratios"]["flow"] == {"p50": None, "p99": None}


@pytest.mark.parametrize(
    "content, words",
    [
        ("not JSON", "no JSON"),
        ("[]", "other JSON"),
        ('{"benchmark": "another"}', "other JSON"),
        ('{"benchmark": "metst-edge bench", "format": 99, "stages": {}}', "got format 99"),
        ('{"benchmark": "metst-edge bench", "format": 1}', "damaged"),
        ('{"benchmark": "metst-edge bench", "format": 1, "stages": {"flow": {"p50": "fast"}}}', "damaged"),
        (None, "No such file"),
    ],
)
def test_what_is_no_result_is_one_line_before_anything_is_measured(capsys, monkeypatch, tmp_path, content, words):
    monkeypatch.setattr("metst_edge.app.arguments.open_analyzer", lambda *arguments: pytest.fail("measured"))
    path = tmp_path / "base.json"
    if content is not None:
        path.write_text(content)
    status, out, err = run(capsys, "--compare", path)
    assert status == 1 and out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("metst-edge: error: ") and words in line and "base.json" in line


def test_a_folder_that_is_not_there_costs_no_measurement(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("metst_edge.app.arguments.open_analyzer", lambda *arguments: pytest.fail("measured"))
    status, _, err = run(capsys, "--json", tmp_path / "none" / "out.json")
    assert status == 1 and len(err.strip().splitlines()) == 1 and "out.json" in err


@pytest.mark.parametrize(
    "end, words", [(KeyboardInterrupt(), "interrupted"), (SourceError("clip.mp4: broke off"), "error: clip.mp4")]
)
def test_what_was_measured_before_the_end_is_shown_and_written(capsys, monkeypatch, tmp_path, end, words):
    path = tmp_path / "out.json"
    monkeypatch.setattr(measuring, "open_source", lambda uri: FakeSource([*frames(6), end]))
    status, out, err = run(capsys, "--frames", 20, "--warm-up", 2, "--json", path)
    assert status == 1 and words in err and len(err.strip().splitlines()) == 1
    assert "incomplete: it ended after 4 of 20 frames" in out and "4 (incomplete)" in out
    result = json.loads(path.read_text())
    assert result["complete"] is False and result["stages"]["end to end"]["n"] == 4
    path.write_text("yesterday")
    status, out, err = run(capsys, "--frames", 20, "--warm-up", 9, "--json", path)
    assert (status, out) == (1, "") and words in err, "nothing was measured"
    assert path.read_text() == "yesterday"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--frames", "0"],
        ["--frames", "many"],
        ["--warm-up", "-1"],
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--camera", "front"],
        ["--camera", "0", "--source", "clip.mp4"],
        ["--engine", "abacus"],
        ["--threads", "0"],
        ["--threads", "x"],
        ["clip.mp4"],
    ],
)
def test_bad_usage_is_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *arguments])
    assert stop.value.code == 2
    assert "metst-edge bench" in capsys.readouterr().err or arguments == ["clip.mp4"]


def test_a_source_that_is_too_slow_or_missing_is_one_line(capsys, faceless, tmp_path):
    for source, words in (f"folder://{faceless}?fps=5", "15 frames per second"), (tmp_path / "none.mp4", "none.mp4"):
        status, out, err = run(capsys, "--source", source)
        assert status == 1 and out == "" and words in err and len(err.strip().splitlines()) == 1
