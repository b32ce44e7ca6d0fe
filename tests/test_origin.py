"""What events say of where they come from: a source's name, and the wall clock where it is live."""

import time
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

import metst_edge
from metst_edge.app.demo import demo_clip
from metst_edge.capture import Interruption, open_source
from metst_edge.events import Gap, MicroExpression
from metst_edge.origin import Origin


class Live:
    """The packaged clip as a camera that has just been plugged in, and is away for a second."""

    live, uri, frame_count, dropped = True, "0", None, 0

    def __init__(self, clip, frames):
        self._frames = iter(clip)
        self.fps, self._left = 30.0, frames
        self._away = False

    def __iter__(self):
        return self

    def __next__(self):
        self._left -= 1
        if self._left < 0:
            raise StopIteration
        if self._left == 5 and not self._away:
            self._away = True
            return Interruption(2.0, 3.0, "camera_lost")
        return next(self._frames)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


@pytest.fixture(scope="module")
def analyzer():
    with metst_edge.Analyzer() as analyzer:
        yield analyzer


def test_events_of_a_live_source_carry_the_wall_clock(analyzer, monkeypatch):
    clip = open_source(demo_clip())
    monkeypatch.setattr("metst_edge.analyzer.open_source", lambda uri: Live(clip, 100))
    began = datetime.now(timezone.utc)
    events = list(analyzer.stream("0"))
    over = datetime.now(timezone.utc)
    assert {type(event) for event in events} == {Gap, MicroExpression}
    for event in events:
        told = event.to_dict()
        assert told["source"] == "0" and told["schema"] == 1
        moment = datetime.fromisoformat(told["time"])
        assert moment.tzinfo is not None
        seconds = event.start if isinstance(event, Gap) else event.onset
        # Its frames come faster than their times say, so its second 0 is where the promptest of them says it is.
        assert moment <= over + timedelta(seconds=0.1) and moment >= began - timedelta(seconds=4) + timedelta(
            seconds=seconds
        )


def test_the_wall_clock_is_that_of_the_promptest_frame(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: now[0] + 1_700_000_000)
    origin = Origin("0", live=True)
    for now[0], timestamp in (1000.2, 0.0), (1000.35, 0.3), (1000.9, 0.6):
        origin.saw(timestamp)
    (gap,) = origin.mark([Gap(0.5, None, "face_lost")])
    assert gap.time.timestamp() == pytest.approx(1_700_001_000.05 + 0.5)
    assert gap.to_dict()["time"] == "2023-11-14T22:30:00.550+00:00" and gap.end is None
    now[0] = 2000.0
    assert origin.mark([Gap(0.5, 9.0, "face_lost")])[0].time == gap.time, "the end is told of the same moment"


def test_events_of_a_file_have_its_name_and_no_clock(analyzer):
    clip = str(demo_clip())
    streamed = list(analyzer.stream(clip))
    assert streamed and all(event.source == clip and event.time is None for event in streamed)
    told = analyzer.analyze(clip).to_dict()
    assert told["events"] and all(event["source"] == clip and "time" not in event for event in told["events"])


def test_pushed_frames_have_neither_and_are_the_same_events(analyzer):
    streamed, pushed = list(analyzer.stream(demo_clip())), []
    for frame in open_source(demo_clip()):
        pushed += analyzer.push(frame)
    pushed += analyzer.flush()
    assert pushed == streamed and all("source" not in event.to_dict() for event in pushed)
    (gap,) = analyzer.push(np.zeros((64, 64), np.uint8), 0.0)
    assert (gap.source, gap.time) == (None, None)
    analyzer.reset()
