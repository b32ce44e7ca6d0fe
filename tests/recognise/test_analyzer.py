"""The second opinion where people meet it: in an Analyzer's events, its reports, and on the command line."""

import csv
import io
import json
import threading
from dataclasses import asdict

import cv2
import numpy as np
import pytest

import metst_edge
from metst_edge.app import cli, opinions
from metst_edge.app.demo import demo_clip
from metst_edge.capture import open_source
from metst_edge.errors import BundleError, EngineError, ModelNotFoundError, SourceError
from metst_edge.events import MicroExpression
from metst_edge.recognise.second import Opinions
from tests.recognise.fakes import FakeRecognizer


@pytest.fixture
def fake(monkeypatch):
    """What is opened whatever bundle is named."""
    fake = FakeRecognizer()
    monkeypatch.setattr("metst_edge.recognise.engine.load_recognizer", lambda path, engine: fake)
    yield fake
    fake.gate.set()


@pytest.fixture
def analyzer(fake):
    with metst_edge.Analyzer(recognizer="any") as analyzer:
        yield analyzer


@pytest.fixture(scope="module")
def frames():
    """The first 240 of the packaged clip, which hold a few events."""
    return [frame for frame, _ in zip(open_source(demo_clip()), range(240), strict=False)]


class Recorded:
    """A file of those frames, decoded before."""

    uri, fps, frame_count, live, dropped = "clip", 30.0, 240, False, None

    def __init__(self, frames):
        self._frames = frames

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def __iter__(self):
        return iter(self._frames)


@pytest.fixture(scope="module", autouse=True)
def shortened(frames):
    """Whoever opens the packaged clip gets those frames only: the rest would make these tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "metst_edge.analyzer.open_source",
            lambda uri: Recorded(frames) if str(uri) == str(demo_clip()) else open_source(uri),
        )
        yield


@pytest.fixture(scope="module")
def plain(shortened):
    """What is found in them without a recogniser."""
    with metst_edge.Analyzer() as analyzer:
        events = list(analyzer.stream(demo_clip()))
        report = analyzer.analyze(demo_clip())
        assert analyzer.recognizer is None and analyzer.opinions == Opinions()
        return events, report


def play(analyzer, frames):
    return [event for frame in frames for event in analyzer.push(frame)]


def _span(event):
    return event.onset_frame, event.apex_frame, event.offset_frame


def revisions(events, revision):
    return [event for event in events if isinstance(event, MicroExpression) and event.revision == revision]


def test_without_a_recogniser_nothing_is_new_in_the_json(plain):
    for event in plain[0]:
        assert not {"recognizer", "revision"} & json.loads(event.to_json()).keys()
    assert "recognizer" not in json.loads(plain[1].to_json())


def test_a_stream_tells_every_event_at_once_and_again_with_the_opinion(analyzer, plain):
    assert analyzer.recognizer == "fake"
    events = list(analyzer.stream(demo_clip()))
    firsts, refined = revisions(events, 0), revisions(events, 1)
    found = [event for event in plain[0] if isinstance(event, MicroExpression)]
    as_json = [event.to_dict() for event in firsts]
    assert [{**event.to_dict(), "recognizer": None, "revision": 0} for event in found] == as_json
    assert analyzer.opinions.given == len(refined) > 0
    for event in refined:
        (first,) = [first for first in firsts if first.onset_frame == event.onset_frame]
        assert events.index(first) < events.index(event)
        told = event.to_dict()
        assert list(told)[-2:] == ["recognizer", "revision"] and told["revision"] == 1
        assert set(told["recognizer"]) == {"name", "probabilities"}
        assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_a_hanging_recogniser_delays_no_frame(analyzer, fake, frames, plain):
    """It hangs from the first opinion on, and every event of the stream is told all the same, with its own frame."""
    fake.gate.clear()
    analyzer.reset()
    events = play(analyzer, frames)
    assert fake.entered.wait(10) and revisions(events, 1) == [] and len(revisions(events, 0)) >= 2
    known = {event.onset_frame for event in plain[0] if isinstance(event, MicroExpression)}
    assert {event.onset_frame for event in revisions(events, 0)} <= known
    fake.gate.set()
    assert len(revisions(analyzer.flush(), 1)) == len(revisions(events, 0))


def test_opinions_are_those_of_the_frames_of_the_interval(analyzer, fake, frames):
    """Live from what was remembered, offline from the file's second reading: the very same of the same interval."""
    analyzer.reset()
    live = revisions(play(analyzer, frames) + analyzer.flush(), 1)
    assert len(fake.seen) == len(live)
    offline = {_span(event): event.recognizer for event in analyzer.analyze(demo_clip()).micro_expressions}
    same = [event for event in live if _span(event) in offline]
    assert len(same) >= 2
    assert [event.recognizer for event in same] == [offline[_span(event)] for event in same]


def test_a_report_holds_refined_events_only_and_is_the_same_every_time(analyzer, fake, plain, monkeypatch):
    done = []
    once = analyzer.analyze(demo_clip(), progress=lambda frames, total: done.append(frames))
    assert done[:240] == list(range(1, 241)) and 0 < len(done) - 240 <= once.micro_expressions[-1].offset_frame
    infer = fake.infer
    monkeypatch.setattr(fake, "infer", lambda images: threading.Event().wait(0.02) or infer(images))
    again = analyzer.analyze(demo_clip())
    assert once.to_json() == again.to_json()
    spans = [_span(event) for event in once.micro_expressions]
    assert spans == [_span(event) for event in plain[1].micro_expressions]
    assert {event.revision for event in once.micro_expressions} == {1}
    assert json.loads(once.to_json())["recognizer"] == "fake"
    assert analyzer.opinions == Opinions(given=2 * len(spans))


def test_the_rows_and_the_picture_tell_of_the_opinion(analyzer, tmp_path):
    report = analyzer.analyze(demo_clip())
    file = io.StringIO(newline="")
    report.write_csv(file)
    row, *_ = csv.DictReader(io.StringIO(file.getvalue()))
    event = report.micro_expressions[0]
    assert row["revision"] == "1" and float(row["r_positive"]) == round(event.recognizer.probabilities["positive"], 4)
    assert list(row)[-5:] == ["revision", "r_negative", "r_positive", "r_surprise", "r_others"]
    report.plot(tmp_path / "curve.png")
    assert cv2.imread(str(tmp_path / "curve.png")) is not None


def test_ctrl_c_while_opinions_are_asked_for_keeps_every_event(analyzer, fake, plain, monkeypatch):
    wait = analyzer._second._worker.wait

    def interrupted(seconds):
        if len(fake.seen) == 2:
            raise KeyboardInterrupt
        wait(seconds)

    monkeypatch.setattr(analyzer._second._worker, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        analyzer.analyze(demo_clip())
    report = stopped.value.report
    assert report.complete and len(report.micro_expressions) == len(plain[1].micro_expressions)
    assert len(revisions(report.events, 1)) in (1, 2) and revisions(report.events, 0)


def test_a_recogniser_that_fails_leaves_the_report_of_what_was_found(analyzer, fake, plain):
    fake.error = RuntimeError("out of memory")
    with pytest.raises(EngineError, match="the recogniser 'fake' failed") as failed:
        analyzer.analyze(demo_clip())
    assert len(revisions(failed.value.report.events, 0)) == len(plain[1].micro_expressions)


def test_a_file_that_breaks_off_has_opinions_on_what_was_read(analyzer, tmp_path):
    whole = demo_clip().read_bytes()
    clip = tmp_path / "cut.mp4"
    clip.write_bytes(whole[: len(whole) * 2 // 3] + bytes(len(whole) // 3))
    with pytest.raises(SourceError) as broken:
        analyzer.analyze(clip)
    report = broken.value.report
    assert not report.complete and revisions(report.events, 1) and not revisions(report.events, 0)


def test_a_slower_camera_has_opinions_too(analyzer, frames):
    """At 15 frames a second two slots share a frame."""
    analyzer.reset()
    events = play(analyzer, frames[::2]) + analyzer.flush()
    assert revisions(events, 0) and len(revisions(events, 1)) == len(revisions(events, 0))


def test_memory_of_frames_is_bounded(analyzer, frames):
    analyzer.reset()
    play(analyzer, frames)
    memory = analyzer._second._memory
    bundle = analyzer.bundle
    slots = 12 * bundle.k_p + bundle.look_ahead + bundle.delay + 4
    assert len(memory) == slots and 0 < memory.nbytes < slots * 400 * 400
    analyzer.flush()
    assert len(memory) == 0
    analyzer.analyze(demo_clip())
    assert len(memory) == 0


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_beside_an_engine_on_the_cpu_the_recogniser_runs_in_onnx_runtime(monkeypatch, engine):
    asked = []
    monkeypatch.setattr(
        "metst_edge.recognise.engine.load_recognizer", lambda *choice: (asked.append(choice), FakeRecognizer())[1]
    )
    with metst_edge.Analyzer(engine=engine, recognizer="mine"):
        assert asked == [("mine", "onnxruntime")]


def test_no_bundle_a_model_that_spots_and_other_emotions_are_refused(monkeypatch):
    with pytest.raises(ModelNotFoundError, match="nonsense"):
        metst_edge.Analyzer(recognizer="nonsense")
    with pytest.raises(BundleError, match="expected a recogniser, got a model that spots"):
        metst_edge.Analyzer(recognizer="demo")
    fake = FakeRecognizer(("happiness", "disgust"))
    monkeypatch.setattr("metst_edge.recognise.engine.load_recognizer", lambda path, engine: fake)
    with pytest.raises(BundleError, match="expected a recogniser of two at least of the model's emotions"):
        metst_edge.Analyzer(recognizer="any")
    assert fake.closed


def run(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_live_prints_a_second_line_marked_as_such(capsys, fake):
    status, out, err = run(capsys, "--source", demo_clip(), "--recognizer", "any")
    lines = out.splitlines()
    revised = [line for line in lines if "revised: fake says " in line]
    assert status == 0 and revised and len(lines) >= 2 * len(revised)
    for line in revised:
        assert any(line.split("s  ")[0] in other for other in lines if "revised" not in other)
    closing, *more = err.splitlines()
    found = len(lines) - len(revised)
    assert closing.startswith(f"metst-edge: {demo_clip()}: {found} micro-expressions in "), "each counts once"
    assert more == [] or "no second opinion on" in more[0]


def test_live_json_has_both_revisions(capsys, fake):
    status, out, _ = run(capsys, "--source", demo_clip(), "--recognizer", "any", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and {event["revision"] for event in events if event["type"] == "micro_expression"} == {0, 1}


@pytest.mark.filterwarnings("ignore:constrained_layout")  # the whole clip's truth beside a part of it
def test_analyze_and_demo_show_the_opinion(capsys, fake, tmp_path):
    out = tmp_path / "out.json"
    status, table, _ = run(capsys, "analyze", demo_clip(), "--recognizer", "any", "--json", out)
    assert status == 0 and "fake" in table
    report = json.loads(out.read_text())
    assert report["recognizer"] == "fake" and {event["revision"] for event in report["events"]} == {1}
    status, table, _ = run(capsys, "demo", "--recognizer", "any", "--plot", tmp_path / "a.png")
    assert status == 0 and "2nd opinion" in table
    assert all(opinions.said(event["recognizer"]["probabilities"]) in table for event in report["events"])
    assert (
        "The recogniser fake says the true emotion of " in table
        and f" of {len(report['events'])} that it was asked about" in table
    )
    status, text, _ = run(capsys, "demo", "--recognizer", "any", "--json", "--plot", tmp_path / "a.png")
    assert status == 0 and {event["revision"] for event in json.loads(text)["found"]} == {1}


def test_a_failing_recogniser_is_one_line_and_the_results_are_written(capsys, fake, tmp_path):
    fake.error = RuntimeError("out of memory")
    out = tmp_path / "out.json"
    status, _, err = run(capsys, "analyze", demo_clip(), "--recognizer", "any", "--json", out)
    assert status == 1 and "metst-edge: error: the recogniser 'fake' failed: " in err
    assert {event["revision"] for event in json.loads(out.read_text())["events"]} == {0}


def test_intervals_without_an_opinion_are_one_line_at_the_end():
    assert opinions.missing(asdict(Opinions(given=9))) is None
    assert opinions.missing(asdict(Opinions(late=1))) == (
        "no second opinion on 1 of 1 interval: 1 was waited for until the end"
    )
    assert opinions.missing(asdict(Opinions(given=5, skipped=2, failed=1))) == (
        "no second opinion on 3 of 8 intervals: 2 came while too many were waiting, 1 made the recogniser fail"
    )


def test_the_opinions_on_the_packaged_clip_differ(analyzer):
    """The images do reach the recogniser: no two intervals look alike."""
    report = analyzer.analyze(demo_clip())
    told = [tuple(event.recognizer.probabilities.values()) for event in report.micro_expressions]
    assert len(set(told)) == len(told) >= 3 and np.isfinite(told).all()
