"""The second opinion: events at once and refined ones later, whatever the recogniser does; and for recorded sources."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from metst_edge.errors import BundleError, EngineError
from metst_edge.events import Gap, MicroExpression
from metst_edge.labels import EMOTIONS, NEUTRAL
from metst_edge.recognise import ImageSettings, combine, interval_images, view_of
from metst_edge.recognise import second as second_module
from metst_edge.recognise import worker as worker_module
from metst_edge.recognise.second import Opinions, SecondOpinion
from tests.recognise.fakes import FakeRecognizer
from tests.recognise.test_memory import landmarks, pictures

ROOT = Path(__file__).resolve().parents[2]
FACE = landmarks(160, 120, 100)
VOTE = {"negative": 0.1, "positive": 0.2, "surprise": 0.3, "others": 0.4}


def event(onset, emotion="others"):
    """An interval of 13 frames."""
    frames = onset, onset + 6, onset + 12
    return MicroExpression(*(i / 30 for i in frames), *frames, emotion, VOTE, 0.9)


@pytest.fixture
def fake():
    return FakeRecognizer()


@pytest.fixture
def second(fake):
    with SecondOpinion(lambda: fake, EMOTIONS, slots=200) as second:
        yield second
        fake.gate.set()


def show(second, count=100):
    frames = pictures(count)
    for i, frame in enumerate(frames):
        second.saw(i, frame, FACE if i == 0 else None)
    return frames


def test_an_event_comes_at_once_and_once_more_with_the_opinion(second, fake):
    frames = show(second)
    gap = Gap(0.1, 0.2, "no_frames")
    first, told = second.take([event(10), gap])
    assert told is gap and (first.recognizer, first.revision) == (None, 0) and first.probabilities == VOTE
    (refined,) = second.finish()
    assert refined.revision == 1 and refined.recognizer.name == "fake"
    assert refined.probabilities == combine(VOTE, refined.recognizer.probabilities, 0.5)
    assert refined.emotion == max(refined.probabilities, key=refined.probabilities.__getitem__)
    same = ("onset", "apex", "offset", "onset_frame", "apex_frame", "offset_frame", "score", "face")
    assert all(getattr(refined, name) == getattr(first, name) for name in same)
    assert second.opinions == Opinions(given=1)
    settings = ImageSettings.from_dict(fake.bundle.images)
    np.testing.assert_array_equal(fake.seen[0][0], interval_images(frames[10:23], 6, view_of(FACE, 240, 320), settings))


def test_refined_events_come_back_with_a_later_call_before_newer_ones(second, fake):
    show(second)
    second.take([event(10)])
    second._worker.wait(10)
    refined, first = second.take([event(30)])
    assert (refined.onset_frame, refined.revision, first.onset_frame, first.revision) == (10, 1, 30, 0)


def test_nothing_waits_for_a_recogniser_that_hangs(second, fake):
    fake.gate.clear()
    show(second)
    second.take([event(10)])
    assert fake.entered.wait(10)
    for i in range(100):
        second.saw(100 + i, pictures(1)[0], None)
        assert second.take([]) == []
    assert second.opinions == Opinions()


def test_where_too_many_wait_an_opinion_is_skipped_and_counted(second, fake):
    fake.gate.clear()
    show(second)
    second.take([event(0)])
    assert fake.entered.wait(10), "that one is under way, and does not wait"
    firsts = second.take([event(i) for i in range(1, worker_module.WAITING + 4)])
    assert [first.revision for first in firsts] == [0] * len(firsts)
    assert second.opinions == Opinions(skipped=3)
    fake.gate.set()
    refined = second.finish()
    assert [event.onset_frame for event in refined] == list(range(worker_module.WAITING + 1))
    assert second.opinions == Opinions(given=worker_module.WAITING + 1, skipped=3)


def test_an_interval_whose_frames_are_gone_has_no_opinion_and_is_counted(fake):
    with SecondOpinion(lambda: fake, EMOTIONS, slots=20) as second:
        show(second)
        (first,) = second.take([event(70)])
        assert first.revision == 0 and second.finish() == []
        assert second.opinions == Opinions(unseen=1) and not fake.seen


def test_the_end_waits_so_long_and_no_longer(second, fake, monkeypatch):
    monkeypatch.setattr(second_module, "FINISH_SECONDS", 0.05)
    fake.gate.clear()
    show(second)
    second.take([event(10), event(20)])
    assert second.finish() == [] and second.opinions == Opinions(late=2)
    fake.gate.set()
    second.take([event(30)])
    second._worker.wait(10)
    assert [event.onset_frame for event in second.take([])] == [30], "none of the ended video comes after it"


def test_ctrl_c_ends_the_wait_and_loses_nothing(second, fake, monkeypatch):
    show(second)
    second.take([event(10)])
    second._worker.wait(10)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(second._worker, "wait", interrupted)
    assert [event.onset_frame for event in second.finish()] == [10]


def test_a_reset_drops_the_opinion_under_way(second, fake):
    fake.gate.clear()
    show(second)
    second.take([event(10)])
    second.reset()
    fake.gate.set()
    show(second)
    second.take([event(40)])
    assert [event.onset_frame for event in second.finish()] == [40]
    assert second.opinions == Opinions(given=1, late=1)


def test_a_recogniser_that_fails_is_one_warning_and_no_event_less(second, fake, caplog):
    fake.error = RuntimeError("out of memory")
    show(second)
    with caplog.at_level(logging.WARNING):
        assert len(second.take([event(10), event(20)])) == 2
        assert second.finish() == []
    (record,) = caplog.records
    assert "the recogniser 'fake' failed: out of memory" in record.getMessage()
    fake.error = None
    second.take([event(30)])
    assert len(second.finish()) == 1, "it is asked again"
    assert second.opinions == Opinions(given=1, failed=2)


def test_logits_that_are_no_numbers_are_a_failure(second, fake, caplog, monkeypatch):
    monkeypatch.setattr(fake, "infer", lambda images: np.full((1, 4), np.nan, np.float32))
    show(second)
    second.take([event(10)])
    assert second.finish() == [] and second.opinions == Opinions(failed=1)
    assert "expected finite logits of the recogniser 'fake'" in caplog.text


def test_it_is_opened_asked_and_closed_in_one_thread_of_its_own(fake):
    opened, priorities = [], []

    def open_it():
        opened.append(threading.current_thread().name)
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return fake

    with SecondOpinion(open_it, EMOTIONS, 200) as second:
        show(second)
        second.take([event(10)])
        second.finish()
    assert fake.closed and fake.threads == set(opened) == {"metst-edge recognizer"}
    ours = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert priorities[0] > ours or ours >= worker_module.NICE, "what measures the next frame goes first"
    second.close()


def test_closing_does_not_wait_for_ever_and_a_late_recogniser_closes_itself(fake, monkeypatch):
    monkeypatch.setattr(worker_module, "CLOSE_SECONDS", 0.05)
    second = SecondOpinion(lambda: fake, EMOTIONS, 200)
    fake.gate.clear()
    show(second)
    second.take([event(10)])
    assert fake.entered.wait(10)
    second.close()
    assert not fake.closed
    fake.gate.set()
    second._worker._thread.join(10)
    assert fake.closed


def test_who_forgets_to_close_it_ends_all_the_same():
    """Compiled code must not be under way in the thread when Python ends: that would abort the process."""
    code = """
from metst_edge.labels import EMOTIONS
from metst_edge.recognise.second import SecondOpinion
from tests.recognise.fakes import FakeRecognizer

fake = FakeRecognizer()
fake.close = lambda: print("closed")
second = SecondOpinion(lambda: fake, EMOTIONS, 200)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "closed\n"


def test_what_opening_raises_is_raised():
    def broken():
        raise EngineError("expected onnxruntime")

    with pytest.raises(EngineError, match="expected onnxruntime"):
        SecondOpinion(broken, EMOTIONS, 200)


@pytest.mark.parametrize("labels", [("happiness", "disgust"), ("positive", "disgust")])
def test_a_recogniser_of_other_emotions_is_refused(labels):
    fake = FakeRecognizer(labels)
    words = "expected a recogniser of two at least of the model's emotions negative, .*got one of "
    with pytest.raises(BundleError, match=words):
        SecondOpinion(lambda: fake, EMOTIONS, 200)
    assert fake.closed


def test_what_was_voted_neutral_stays_neutral_and_no_weight_changes_no_emotion():
    opinion = SimpleNamespace(
        name="fake", probabilities={"negative": 0.97, "positive": 0.01, "surprise": 0.01, "others": 0.01}
    )
    kept = worker_module.refined(event(0, NEUTRAL), opinion, FakeRecognizer())
    assert kept.emotion == NEUTRAL and kept.probabilities["negative"] > 0.5
    voted = worker_module.refined(event(0, "positive"), opinion, FakeRecognizer(weight=0.0))
    assert voted.emotion == "positive" and voted.probabilities == pytest.approx(VOTE)
    assert worker_module.refined(event(0), opinion, FakeRecognizer(weight=1.0)).emotion == "negative"


def recorded(second, frames, events):
    """Refine events of frames that are all scored, one slot each."""
    second.record()
    for i, frame in enumerate(frames):
        second.saw(i, frame, FACE if i == 0 else None)
    source = (SimpleNamespace(index=i, gray=frame) for i, frame in enumerate(frames))
    second.refine(events, np.arange(len(frames)), source)
    return list(source)


def test_a_recorded_sources_events_are_those_of_a_stream(second, fake):
    frames = show(second)
    asked = [event(10), event(15), event(60)]
    second.take(asked)
    live = second.finish()
    second.reset()
    offline = [asked[0], Gap(0.5, 0.6, "no_frames"), *asked[1:]]
    recorded(second, frames, offline)
    assert [e for e in offline if isinstance(e, MicroExpression)] == live and len(live) == 3
    assert isinstance(offline[1], Gap) and second.opinions == Opinions(given=6)


def test_a_recorded_source_is_read_no_further_than_its_last_interval(second):
    rest = recorded(second, pictures(100), [event(10), event(40)])
    assert [frame.index for frame in rest] == list(range(52, 100))
    assert len(recorded(second, pictures(100), [Gap(0, 1, "no_frames")])) == 100


def test_a_slow_recogniser_skips_nothing_of_a_recorded_source(second, fake, monkeypatch):
    infer = fake.infer
    monkeypatch.setattr(fake, "infer", lambda images: time.sleep(0.01) or infer(images))
    events = [event(i) for i in range(0, 80, 4)]
    recorded(second, pictures(100), events)
    assert all(event.revision == 1 for event in events) and second.opinions == Opinions(given=20)


def test_a_failure_leaves_what_was_refined_of_a_recorded_source(second, fake, monkeypatch):
    infer = fake.infer

    def fails_second(images):
        if fake.seen:
            raise RuntimeError("out of memory")
        return infer(images)

    monkeypatch.setattr(fake, "infer", fails_second)
    events = [event(10), event(30), event(50)]
    with pytest.raises(EngineError, match="the recogniser 'fake' failed: RuntimeError"):
        recorded(second, pictures(100), events)
    assert [event.revision for event in events] == [1, None, None]


def test_frames_that_do_not_come_again_are_counted(second):
    frames = pictures(100)
    second.record()
    for i, frame in enumerate(frames):
        second.saw(i, frame, FACE if i == 0 else None)
    events = [event(10), event(60)]
    second.refine(events, np.arange(100), (SimpleNamespace(index=i, gray=frames[i]) for i in range(65)))
    assert [event.revision for event in events] == [1, None] and second.opinions == Opinions(given=1, unseen=1)
