"""What is told of a stream while it runs: its status, the last line of a terminal, and what is logged."""

import io
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import metst_edge
from metst_edge.app import cli, status
from metst_edge.app.demo import demo_clip
from metst_edge.events import Gap
from metst_edge.status import Status, Watch

ALL_OF_IT = "8 micro-expressions in 22.0 s (660 frames, a face in 660), 0 gaps, blind for 0.0 s"
"""What is said of the demo clip at the end of a live run."""


def test_the_status_counts_what_went_unseen(test_data):
    """Of a face that leaves: the seconds of the gaps, the one under way too."""
    with metst_edge.Analyzer() as analyzer:
        assert analyzer.status == Status()
        events, seen = [], []
        for event in analyzer.stream(test_data / "face_noface.mov"):
            events.append(event)
            seen.append(analyzer.status)
        (*_, last) = seen
        assert last.frames == 169 and not last.face
        gaps = [event for event in events if isinstance(event, Gap) and event.end is not None]
        assert last.blind == pytest.approx(sum(gap.end - gap.start for gap in gaps), abs=0.05)
        assert 0 < last.blind < last.seconds
        assert analyzer.status == Status(), "as new after a stream"


def test_a_gap_counts_while_it_lasts_and_once():
    watch = Watch()
    moments = [
        (0.0, [], True, 0.0),
        (1.0, [], True, 0.0),
        (2.0, [], False, 0.0),
        (3.0, [Gap(1.0, None, "face_lost")], False, 1.0),
        (4.0, [Gap(1.0, 4.0, "face_lost")], True, 3.0),
        (9.0, [Gap(4.0, 9.0, "camera_lost")], False, 8.0),
        (9.5, [], True, 8.0),
    ]
    for time_, items, face, blind in moments:
        watch.saw(time_, items, face)
        assert (watch.status.blind, watch.status.seconds, watch.status.face) == (blind, time_, face)
    assert watch.status.frames == len(moments)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((Status(), None, 0.0, 0), "waiting for the first frame"),
        (
            (Status(90, 3.0, 0.0, True), 29.96, 0.1, 1),
            "following a face, 30.0 frames/s, blind 0.0 of 3.0 s (0%), 1 found",
        ),
        (
            (Status(90, 4.0, 1.0, False), 30.0, 0.1, 0),
            "looking for a face, 30.0 frames/s, blind 1.0 of 4.0 s (25%), 0 found",
        ),
        (
            (Status(90, 4.0, 1.0, True), 0.0, 12.4, 0),
            "no frames for 12 s, 0.0 frames/s, blind 1.0 of 4.0 s (25%), 0 found",
        ),
        ((Status(1, 0.0, 0.0, True), None, 0.1, 0), "following a face, blind 0.0 of 0.0 s (0%), 0 found"),
    ],
)
def test_a_status_in_words(arguments, words):
    assert status.describe(*arguments) == words


def test_the_rate_is_that_of_the_last_seconds():
    rate = status.Rate()
    assert rate.of(0, 0.0) == (None, 0.0) and rate.of(0, 5.0) == (None, 5.0)
    for i in range(1, 200):
        fps, still = rate.of(15 * i, 5.0 + i / 2)
    assert (fps, still) == (pytest.approx(30.0), 0.0)
    for i in range(200, 220):
        fps, still = rate.of(15 * 199, 5.0 + i / 2)
    assert (fps, still) == (0.0, pytest.approx(10.0))


def test_without_a_terminal_there_is_no_line():
    file = io.StringIO()
    before = threading.active_count()
    with status.StatusLine(file, Status, "0") as line, line.aside():
        assert threading.active_count() == before
    assert file.getvalue() == ""


def on_terminal(*arguments, stop_after=None):
    """Run a command whose stderr is a terminal; return its status, stdout and what the terminal got."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "metst_edge", *map(str, arguments)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True)
    os.close(theirs)
    shown = []

    def read():
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                return
            if not part:
                return
            shown.append(part.decode())

    reader = threading.Thread(target=read)
    reader.start()
    if stop_after is not None:
        time.sleep(stop_after)
        job.send_signal(signal.SIGINT)
    out, _ = job.communicate(timeout=120)
    reader.join(timeout=10)
    os.close(ours)
    return job.returncode, out, "".join(shown)


def test_a_live_run_tells_what_it_does_and_leaves_nothing_behind():
    returned, out, shown = on_terminal("--source", demo_clip(), "--json")
    lines = shown.split(status.CLEAR)
    assert returned == 0 and len(out.splitlines()) == 8
    assert lines[0] == "" and lines.pop() == f"metst-edge: {demo_clip()}: {ALL_OF_IT}\r\n", "cleared at the end"
    told = [line for line in lines if line]
    assert told and all(line.startswith("clip.mp4: ") and len(line) < 100 and "\n" not in line for line in told)
    assert any(re.search(r"following a face, .*blind \d+\.\d of \d+\.\d s \(\d+%\), \d found", line) for line in told)


def test_dumb_terminals_and_pipes_get_no_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert cli.main(["--source", str(demo_clip())]) == 0
    assert capsys.readouterr().err == f"metst-edge: {demo_clip()}: {ALL_OF_IT}\n"


@pytest.mark.parametrize("before", [True, False])
def test_the_level_of_what_is_logged(capsys, tmp_path, before):
    clip = str(demo_clip())
    for level in "debug", "info", "warning", "error":
        option = ["--log-level", level]
        arguments = [*option, "analyze", clip] if before else ["analyze", clip, *option]
        assert cli.main(arguments) == 0
        err = capsys.readouterr().err
        assert ("metst-edge: info: engine 'auto' is" in err) == (level in ("debug", "info"))
    logger = logging.getLogger("metst_edge")
    assert not logger.handlers and logger.level == logging.NOTSET, "as before"


def test_a_warning_is_a_line_of_ours(capsys, monkeypatch):
    def warn(options):
        logging.getLogger("metst_edge.recognise").warning("slow: %s", "a")
        return 0

    monkeypatch.setattr("metst_edge.app.verbs.info.run", warn)
    assert cli.main(["info"]) == 0
    assert capsys.readouterr().err == "metst-edge: warning: slow: a\n"


@pytest.mark.parametrize(
    "name, columns, line",
    [
        ("clip.mp4", 80, "clip.mp4: looking, 30.0 frames/s, 0 found"),
        ("a" * 100, 45, "aaaaaaaaa...: looking, 30.0 frames/s, 0 found"),
        ("a" * 100, 30, "aaaaaaaaa...: looking"),
        ("顔" * 60, 45, "顔顔顔顔...: looking, 30.0 frames/s, 0 found"),
        ("a\nb\x1b[2J.mp4", 80, "a?b?[2J.mp4: looking, 30.0 frames/s, 0 found"),
        ("e\u0301.mp4", 41, "e\u0301.mp4: looking, 30.0 frames/s, 0 found"),
        ("clip.mp4", 9, "c...: loo"),
        ("clip.mp4", 3, "..."),
    ],
)
def test_a_line_fits_whatever_the_source_is_called(name, columns, line):
    """What fills the last column wraps, and the part above it is never taken away."""
    assert status.fitted(name, "looking, 30.0 frames/s, 0 found", columns) == line
    wide = sum(2 if char == "顔" else 0 if char == "\u0301" else 1 for char in line)
    assert wide <= columns


def test_the_status_of_the_video_before_is_kept(test_data):
    with metst_edge.Analyzer() as analyzer:
        assert analyzer.ended == Status()
        list(analyzer.stream(test_data / "face_noface.mov"))
        ended = analyzer.ended
        assert ended.frames == 169 and 0 < ended.faces < 169 and 0 < ended.blind < ended.seconds
        next(analyzer.stream(demo_clip()))
        assert analyzer.ended == Status(), "another began"
        analyzer.flush()
        assert analyzer.ended.frames > 0 and analyzer.ended.faces == analyzer.ended.frames
        analyzer.reset()
        assert analyzer.ended == Status()


def test_interruptions_are_no_frames():
    watch = Watch()
    for at, frame in (0.0, True), (1.0, True), (1.0, False), (5.0, False), (5.1, True):
        watch.saw(at, [], face=frame, frame=frame)
    assert (watch.status.frames, watch.status.faces) == (3, 3)
