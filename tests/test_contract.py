"""Who may use an Analyzer, and what it is after something went wrong: no crash, no hang, nothing silently wrong."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import cv2
import numpy as np
import pytest

import metst_edge
import metst_edge.analyzer
from metst_edge.app.demo import demo_clip
from metst_edge.capture import Frame, Interruption
from metst_edge.engine.lanes import Lanes
from metst_edge.errors import OptionError, StateError
from metst_edge.events import Gap
from metst_edge.face import FaceFinder


@pytest.fixture(scope="module")
def pictures():
    """The first 60 frames of the packaged clip, uint8 (H, W, 3)."""
    capture = cv2.VideoCapture(str(demo_clip()))
    return [capture.read()[1] for _ in range(60)]


@pytest.fixture
def analyzer():
    with metst_edge.Analyzer(threads=1) as analyzer:
        yield analyzer


def state_of(call):
    with pytest.raises(metst_edge.MetstError) as refused:
        call()
    assert isinstance(refused.value, StateError)
    return refused.value.state


def calls_of(analyzer, picture):
    return (
        lambda: analyzer.push(picture, 9.0),
        analyzer.flush,
        analyzer.reset,
        lambda: next(analyzer.stream(demo_clip())),
        lambda: analyzer.analyze(demo_clip()),
    )


def test_the_errors_are_reachable_from_the_package():
    assert metst_edge.MetstError is metst_edge.errors.MetstError and metst_edge.errors.StateError is StateError


def test_two_threads_at_once_are_refused_and_the_first_goes_on(analyzer, pictures):
    refused = []
    scored = []
    push, inside = analyzer._scorer.push, threading.Event()

    def slow(frame):
        inside.set()
        scored.extend(items := push(frame))
        time.sleep(0.01)
        return items

    analyzer._scorer.push = slow
    for i, picture in enumerate(pictures[:20]):
        inside.clear()
        thread = threading.Thread(target=lambda: (inside.wait(5), refused.append(state_of(analyzer.flush))))
        thread.start()
        analyzer.push(picture, i / 30)
        thread.join()
    assert refused == ["busy"] * 20
    del analyzer._scorer.push
    late = analyzer.bundle.look_ahead + analyzer.bundle.delay
    assert [item.frame for item in scored if hasattr(item, "spot")] == list(range(20 - late))


def test_threads_that_hammer_an_analyzer_see_documented_errors_only(analyzer, pictures):
    strange = []

    def hammer(number):
        for i in range(30):
            try:
                (analyzer.flush if i % 10 == 9 else lambda i=i: analyzer.push(pictures[i], number + i / 30))()
            except metst_edge.MetstError:
                pass
            except BaseException as error:
                strange.append(error)

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not strange
    analyzer.reset()
    assert analyzer.push(pictures[0], 0.0) == []


def test_a_callback_that_calls_the_analyzer_is_refused(pictures):
    states = []
    with metst_edge.Analyzer(threads=1, on_stage=lambda *told: states.append(state_of(analyzer.flush))) as analyzer:
        analyzer.push(pictures[0], 0.0)
    assert set(states) == {"busy"}


def test_after_close_every_call_says_so(pictures):
    analyzer = metst_edge.Analyzer(threads=1)
    analyzer.push(pictures[0], 0.0)
    analyzer.close()
    analyzer.close()
    assert [state_of(call) for call in calls_of(analyzer, pictures[0])] == ["closed"] * 5


def test_a_face_finder_that_was_closed_says_so(pictures):
    finder = FaceFinder()
    finder.close()
    assert state_of(lambda: finder.find(pictures[0])) == "closed"


class Endless:
    """A live source that gives some frames and then none any more, until it is closed."""

    uri, fps, frame_count, live, dropped = "fake", None, None, True, None

    def __init__(self, pictures, lost=False):
        self._items = [Frame(i, i / 30, picture) for i, picture in enumerate(pictures)]
        if lost:
            self._items.append(Interruption(self._items[-1].timestamp, None, "camera_lost"))
        self._closed = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __iter__(self):
        return self

    def __next__(self):
        if self._items:
            return self._items.pop(0)
        if not self._closed.wait(20):
            raise AssertionError("nobody closed it")
        raise StopIteration

    def close(self):
        self._closed.set()


def test_close_from_another_thread_ends_a_stream_that_waits_for_a_frame(analyzer, pictures, monkeypatch):
    """And what was found until then is given."""
    nobody = np.full_like(pictures[0], 128)
    monkeypatch.setattr(metst_edge.analyzer, "open_source", lambda uri: Endless([*pictures[:20], nobody, nobody]))
    events, ended = [], []

    def read():
        events.extend(analyzer.stream("fake"))
        ended.append(time.monotonic())

    thread = threading.Thread(target=read)
    thread.start()
    while not events:
        time.sleep(0.01)
    time.sleep(0.1)
    began = time.monotonic()
    analyzer.close()
    thread.join(5)
    assert not thread.is_alive() and ended[0] - began < 1
    assert [(event.reason, event.end is None) for event in events][-2:] == [("face_lost", True), ("face_lost", False)]
    assert state_of(analyzer.flush) == "closed"


def test_close_from_another_thread_ends_the_analysis_of_a_file_with_what_was_found():
    analyzer, closed = metst_edge.Analyzer(threads=1), []

    def progress(done, total):
        if done == 30:
            closed.append(threading.Thread(target=analyzer.close))
            closed[0].start()
            while not analyzer._guard.closed():
                time.sleep(0.001)

    with pytest.raises(StateError) as broken:
        analyzer.analyze(demo_clip(), progress=progress)
    closed[0].join(5)
    assert broken.value.state == "closed" and broken.value.report.frames == 30 and not broken.value.report.complete


def test_a_camera_gone_for_good_is_told_at_once_and_ctrl_c_closes_the_gap(analyzer, pictures, monkeypatch):
    monkeypatch.setattr(metst_edge.analyzer, "open_source", lambda uri: Endless(pictures[:10], lost=True))
    stream = analyzer.stream("fake")
    begun = next(stream)
    assert begun == Gap(9 / 30, None, "camera_lost")
    time.sleep(0.2)
    (ended,) = analyzer.flush()
    assert (ended.start, ended.reason) == (begun.start, begun.reason) and 0.2 <= ended.end - ended.start < 5
    assert list(stream) == [], "it ended"


def test_no_frame_may_be_pushed_into_a_stream(analyzer, pictures):
    stream = analyzer.stream(demo_clip())
    next(stream)
    assert state_of(lambda: analyzer.push(pictures[0], 1e6)) == "busy"
    stream.close()
    analyzer.flush()
    assert analyzer.push(pictures[0], 0.0) == []


def test_what_a_stage_callback_raises_changes_nothing(analyzer, pictures, caplog):
    def fail(stage, seconds):
        raise ZeroDivisionError(stage)

    times = [i / 30 for i in range(len(pictures))]
    with metst_edge.Analyzer(threads=1, on_stage=fail) as failing:
        pair = [[*map(one.push, pictures, times), one.flush()] for one in (analyzer, failing)]
    assert pair[0] == pair[1]
    assert [record.levelname for record in caplog.records] == ["ERROR"], "it is logged once"


@pytest.mark.parametrize(
    "owner, name", [(FaceFinder, "find"), (Lanes, "push"), (metst_edge.scoring.LiveEvents, "_decode")]
)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_push_that_was_broken_off_is_followed_by_flush_or_reset(analyzer, pictures, monkeypatch, owner, name, error):
    whole, calls = getattr(owner, name), []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return whole(*arguments)

    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(error):
        for i, picture in enumerate(pictures):
            analyzer.push(picture, i / 30)
    monkeypatch.undo()
    assert state_of(lambda: analyzer.push(pictures[-1], 5.0)) == "broken"
    assert all(isinstance(event, Gap) for event in analyzer.flush())
    again = [event for i in range(60) for event in analyzer.push(pictures[i], i / 30)] + analyzer.flush()
    analyzer.reset()
    assert again == [event for i in range(60) for event in analyzer.push(pictures[i], i / 30)] + analyzer.flush()


def test_ctrl_c_in_the_middle_of_a_stream_loses_no_event(analyzer, monkeypatch):
    """Every event whose interval was decoded is in what flush returns."""
    undisturbed = list(analyzer.stream(demo_clip()))
    push, calls = Lanes.push, []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == undisturbed[2].offset_frame + 12:
            raise KeyboardInterrupt
        return push(*arguments)

    monkeypatch.setattr(Lanes, "push", broken)
    found = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(analyzer.stream(demo_clip()))
    found = []
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        for event in analyzer.stream(demo_clip()):
            found.append(event)
    found += analyzer.flush()
    assert found[:3] == undisturbed[:3]


def _in_child(analyzer, picture, results):
    results.put([state_of(call) for call in calls_of(analyzer, picture)])
    analyzer.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_a_forked_process_is_refused_and_the_parent_goes_on(pictures, engine):
    context = multiprocessing.get_context("fork")
    with metst_edge.Analyzer(engine=engine) as analyzer:
        for i in range(5):
            analyzer.push(pictures[i], i / 30)
        results = context.SimpleQueue()
        child = context.Process(target=_in_child, args=(analyzer, pictures[0], results))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        assert results.get() == ["forked"] * 5
        assert analyzer.push(pictures[5], 5 / 30) == []


FORK = """
import os, sys, cv2, metst_edge
from metst_edge.app.demo import demo_clip
picture = cv2.VideoCapture(str(demo_clip())).read()[1]
analyzer = metst_edge.Analyzer(engine=sys.argv[1])
analyzer.push(picture, 0.0)
child = os.fork()
if child == 0:
    del analyzer  # a child that ends as programs do, finalizers and all
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
analyzer.push(picture, 0.1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_ends_as_it_likes():
    """Not one that has imported onnxruntime: of such, any forked process hangs as it ends, but by os._exit."""
    subprocess.run([sys.executable, "-c", FORK, "native"], check=True, timeout=60)


def test_an_analyzer_that_is_forgotten_releases_what_it_held(pictures):
    analyzer = metst_edge.Analyzer(threads=1)
    analyzer.push(pictures[0], 0.0)
    gone, finder = weakref.ref(analyzer), analyzer._finder
    gc.disable()
    try:
        del analyzer
        assert gone() is None, "nothing in it refers back to it"
        assert state_of(lambda: finder.find(pictures[0])) == "closed"
    finally:
        gc.enable()


def test_a_real_ctrl_c_anywhere_in_a_push_leaves_a_usable_analyzer(analyzer, pictures):
    """Signals at random moments: whatever comes of a push, flush works, and the next video is as ever."""
    expected = [event for i, p in enumerate(pictures) for event in analyzer.push(p, i / 30)] + analyzer.flush()
    random = np.random.default_rng(5)
    for _ in range(12):
        timer = threading.Timer(random.uniform(0, 0.15), lambda: signal.raise_signal(signal.SIGINT))
        try:
            timer.start()
            for i, picture in enumerate(pictures):
                analyzer.push(picture, i / 30)
            timer.join()
        except KeyboardInterrupt:
            pass
        timer.join()
        assert all(isinstance(event, Gap) or event.emotion for event in analyzer.flush())
    again = [event for i, p in enumerate(pictures) for event in analyzer.push(p, i / 30)] + analyzer.flush()
    assert again == expected


@pytest.mark.parametrize("other", ["stream", "analyze"])
def test_no_other_video_may_begin_while_a_stream_is_under_way(analyzer, test_data, other):
    """It would end the first one without a word."""
    first = analyzer.stream(demo_clip())
    found = [next(first)]
    video = test_data / "no_face.mp4"
    with pytest.raises(
        StateError, match=f"stream is under way, which reads {demo_clip()}; let it end or close"
    ) as busy:
        next(analyzer.stream(video)) if other == "stream" else analyzer.analyze(video)
    assert busy.value.state == "busy"
    found += first
    assert len(found) == 8, "the first one goes on as if nothing had been"
    again = analyzer.stream(demo_clip())
    next(again)
    again.close()
    assert analyzer.analyze(video).frames == 95, "closed, it is under way no more"


@pytest.mark.parametrize("end", ["flush", "reset"])
def test_flush_and_reset_end_a_stream_and_another_video_may_begin(analyzer, test_data, end):
    first = analyzer.stream(demo_clip())
    next(first)
    getattr(analyzer, end)()
    begun = analyzer.stream(test_data / "no_face.mp4")
    assert isinstance(next(begun), Gap)
    assert list(first) == [] and isinstance(next(begun), Gap), "the first has ended, and ends no other"


ODD = (3, 2.5, True, b"x", [], object(), float("nan"), np.array([1, 2]), ("a",), {1: 1})
"""No text, no path and no function."""


@pytest.mark.parametrize(
    "name, values, expected",
    [
        (
            "model",
            (None, "", *ODD),
            "expected the model to be the name of a shipped model or the path of a bundle, got",
        ),
        ("engine", (None, *ODD), "expected engine as a text, one of 'auto', 'native', 'onnxruntime'"),
        ("precision", (None, *ODD), "expected precision as a text, one of 'fp32', 'fp16', got"),
        ("flow", (None, *ODD), "expected flow as a text, one of 'auto', 'cpu', 'cuda', got"),
        ("face", (None, *ODD), "expected face as a text, one of 'opencv', 'mediapipe', got"),
        ("face_model", ("", *ODD), "expected face_model to be a path or None, got"),
        ("recognizer", ("", *ODD), "expected recognizer to be a path or None, got"),
        ("calibration", ("", *ODD), "expected calibration to be a path or None, got"),
        (
            "on_stage",
            ("print", *ODD),
            "expected on_stage to be a function, called with a stage and seconds, or None; got",
        ),
        ("threads", ("2", 2.0, True, *ODD[3:]), "expected threads as a whole number from 1 to 1024, got"),
        ("threads", (0, -1, np.int64(0)), "expected at least 1 thread, got .*; leave it out for one per processor"),
        ("threads", (1025, 10**30), "expected at most 1024 threads, got"),
        ("decoder", ODD, "expected decoder to be one of"),
        ("synergy", ODD, "expected synergy to be one of"),
        ("class_priors", ODD, "expected class_priors to be a finite number for each label"),
        ("ratio", ("x", *ODD[2:]), "expected ratio to be a number from 0 to 1"),
        ("floor", ("x", *ODD[2:]), "expected floor to be a number from 0 to 1"),
        ("min_score", ("x", *ODD[2:]), "expected min_score to be a number from 0 to 1"),
    ],
)
def test_arguments_of_the_wrong_kind_are_told_by_name(name, values, expected):
    for value in values:
        with pytest.raises(metst_edge.MetstError, match=expected) as refused:
            metst_edge.Analyzer(**{name: value})
        assert isinstance(refused.value, ValueError), "as before there were errors of our own"


def test_arguments_of_other_calls_too(analyzer):
    for progress in "print", 3, []:
        with pytest.raises(OptionError, match="expected progress to be a function, called with the frames done and in"):
            analyzer.analyze(demo_clip(), progress)
    for fps in 0, -1, "fast", [], float("nan"), np.array([1, 2]), 1e9:
        for call in (
            lambda fps=fps: next(analyzer.stream(demo_clip(), fps)),
            lambda fps=fps: analyzer.analyze(demo_clip(), fps=fps),
        ):
            with pytest.raises(metst_edge.errors.SourceError, match="expected fps"):
                call()
    for value in (None, "", *ODD):
        for call in metst_edge.Bundle.find, metst_edge.Bundle.load, metst_edge.load_engine:
            with pytest.raises(OptionError, match="the path of a bundle, got"):
                call(value)
    for value in (None, *ODD):
        with pytest.raises(OptionError, match="expected engine as a text"):
            metst_edge.load_engine("demo", value)
        with pytest.raises(OptionError, match="expected precision as a text"):
            metst_edge.load_engine("demo", "native", value)


def test_the_source_is_named_as_it_was_given(analyzer):
    """A rate that stands beside it is no part of its name."""
    report = analyzer.analyze(demo_clip(), fps=60)
    assert report.source == str(demo_clip()) and report.fps == pytest.approx(60) and report.frames == 660
    assert {event.source for event in report.events} <= {str(demo_clip())}
    event = next(analyzer.stream(demo_clip(), 29.0))
    assert event.source == str(demo_clip())
    assert next(analyzer.stream(f"{demo_clip()}?fps=29")).source == f"{demo_clip()}?fps=29", "as given"
