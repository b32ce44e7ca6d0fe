"""A camera that stalls, freezes, vanishes or changes size is reopened and reported; closing never hangs."""

import itertools
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from metst_edge.capture import Frame, Interruption, open_source
from metst_edge.capture.camera import STUCK, Camera, Patience
from metst_edge.errors import SourceError

QUICK = Patience(opening=2.0, stalled=0.5, frozen=0.4, first_delay=0.01, longest_delay=0.05)
PACE = 0.005
UNHURRIED = 0.05
"""Seconds between frames where the first one must not be missed: a busy machine may wake its reader late."""


def noise(seed, shape=(48, 64, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


class FakeDevice:
    """Plays a list of pictures, then does what `then` says: "lose", "block", "freeze" or "raise"."""

    fps = 30.0

    def __init__(self, pictures, then, pace=PACE):
        self.pictures, self.then, self.pace = list(pictures), then, pace
        self.blocked, self.closed, self.spent = threading.Event(), threading.Event(), threading.Event()
        self.last = None

    def read(self):
        time.sleep(self.pace)
        if self.pictures:
            self.last = self.pictures.pop(0)
            return self.last.copy()
        self.spent.set()
        if self.then == "block":
            self.blocked.wait()
        if self.then == "raise":
            raise RuntimeError("driver fault")
        return self.last.copy() if self.then == "freeze" else None

    def close(self):
        self.closed.set()


class FakePort:
    """Gives one device after the other; None stands for a camera that is not there."""

    def __init__(self, *devices):
        self.devices = list(devices)
        self.given, self.tries = [], []

    def __call__(self):
        self.tries.append(time.monotonic())
        device = self.devices.pop(0) if self.devices else None
        if isinstance(device, Exception):
            raise device
        if device is not None:
            self.given.append(device)
        return device

    def release(self):
        for device in self.given:
            device.blocked.set()


@pytest.fixture
def camera():
    opened = []

    def open_camera(*devices, patience=QUICK):
        port = FakePort(*devices)
        opened.append((port, Camera(0, patience, port)))
        return opened[-1][1], port

    yield open_camera
    for port, camera in opened:
        camera.close()
        port.release()


def take(camera, n):
    """Frames and whole interruptions; that one has begun is told just before."""
    items, begun = [], None
    while len(items) < n:
        item = next(camera)
        if isinstance(item, Interruption) and item.end is None:
            assert begun is None, "it is told once that one has begun"
            begun = item
            continue
        if isinstance(item, Interruption):
            assert (begun.start, begun.reason) == (item.start, item.reason)
            begun = None
        assert begun is None, "no frame comes while it lasts"
        items.append(item)
    return items


def test_trouble_is_told_when_it_begins_though_the_camera_never_comes_back(camera):
    cam, _ = camera(steady(3, then="lose"), *[None] * 500)
    *_, last = take(cam, 3)
    began = time.monotonic()
    assert next(cam) == Interruption(last.timestamp, None, "camera_lost")
    assert time.monotonic() - began < 1


def steady(n, first=0, shape=(48, 64, 3), then="block", pace=PACE):
    return FakeDevice([noise(first + i, shape) for i in range(n)], then, pace)


def test_frames_come_in_order_with_rising_times(camera):
    cam, _ = camera(steady(200))
    items = take(cam, 20)
    assert all(isinstance(item, Frame) for item in items)
    assert [item.index for item in items] == list(range(20))
    times = [item.timestamp for item in items]
    assert times[0] >= 0 and all(b > a for a, b in itertools.pairwise(times))
    assert cam.live and cam.frame_count is None and cam.fps == 30.0 and cam.uri == "0"


def test_a_late_reader_gets_the_newest_frames_and_the_rest_is_counted(camera):
    cam, port = camera(steady(40))
    assert port.given[0].spent.wait(10)
    seen = [item.image for item in take(cam, 2)]
    np.testing.assert_array_equal(seen, [noise(38), noise(39)])
    assert cam.dropped == 38


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("block", "camera_stalled"),
        ("freeze", "camera_frozen"),
        ("lose", "camera_lost"),
        ("raise", "camera_lost"),
    ],
)
def test_trouble_is_reported_once_and_the_camera_reopened(camera, trouble, reason):
    cam, port = camera(steady(10, then=trouble), steady(200, first=1000, pace=UNHURRIED))
    items = take(cam, 14)
    told = [item for item in items if isinstance(item, Interruption)]
    frames = [item for item in items if isinstance(item, Frame)]
    (interruption,) = told
    at = items.index(interruption)
    assert interruption.reason == reason
    assert (interruption.start, interruption.end) == (items[at - 1].timestamp, items[at + 1].timestamp)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    np.testing.assert_array_equal(items[at - 1].image, noise(9))
    np.testing.assert_array_equal(items[at + 1].image, noise(1000))
    if trouble != "block":
        assert port.given[0].closed.wait(1)


def test_a_change_of_size_is_reported_and_the_new_size_taken(camera):
    changing = FakeDevice([noise(i) for i in range(5)] + [noise(i, (60, 80, 3)) for i in range(9)], "block")
    cam, _ = camera(changing, steady(200, first=1000, shape=(60, 80, 3), pace=UNHURRIED))
    items = take(cam, 8)
    (interruption,) = [item for item in items if isinstance(item, Interruption)]
    assert interruption.reason == "size_changed"
    at = items.index(interruption)
    assert {item.image.shape for item in items[:at]} == {(48, 64, 3)}
    assert {item.image.shape for item in items[at + 1 :]} == {(60, 80, 3)}


def test_a_picture_repeated_is_not_a_new_frame(camera):
    # Enough of them for a reader that a busy machine wakes late.
    tripled = FakeDevice([noise(i // 3) for i in range(3000)], "block")
    cam, _ = camera(tripled)
    images = [item.image for item in take(cam, 8)]
    assert all((a != b).any() for a, b in itertools.pairwise(images))


def test_drawing_on_a_frame_does_not_hide_that_the_camera_froze(camera):
    cam, _ = camera(steady(1, then="freeze"), steady(50, first=1000))
    (first,) = take(cam, 1)
    first.image[:] = 0
    assert [getattr(item, "reason", None) for item in take(cam, 2)] == ["camera_frozen", None]


def test_a_camera_still_frozen_after_reopening_stays_away(camera):
    frozen = [FakeDevice([noise(7)], "freeze") for _ in range(3)]
    cam, port = camera(*frozen, steady(50, first=1000))
    items = take(cam, 3)
    assert [type(item) for item in items] == [Frame, Interruption, Frame]
    assert len(port.given) == 4
    assert items[1].end - items[1].start > 3 * QUICK.frozen


def test_reopening_is_tried_ever_more_slowly_up_to_a_limit_and_then_anew(camera):
    patience = Patience(opening=2.0, stalled=0.5, frozen=5.0, first_delay=0.03, longest_delay=0.24)
    away = [None, None, RuntimeError("no such device"), None, None, None]
    cam, port = camera(steady(3, then="lose"), *away, steady(3, 500, then="lose"), steady(99, 900), patience=patience)
    items = take(cam, 9)
    assert [item.reason for item in items if isinstance(item, Interruption)] == ["camera_lost"] * 2
    waits = np.diff(port.tries)
    least = [0.03, 0.06, 0.12, 0.24, 0.24, 0.24, 0.24, 0.03]
    assert len(waits) == len(least)
    assert (waits >= np.array(least) - 1e-3).all()
    assert waits[-1] < 0.24  # frames had come, so the wait began anew


def test_a_camera_away_for_a_thousand_tries_is_taken_back(camera):
    patience = Patience(opening=5.0, stalled=5.0, first_delay=1e-6, longest_delay=1e-5)
    cam, port = camera(steady(1, then="lose"), *[None] * 1100, steady(9, 500), patience=patience)
    assert [type(item) for item in take(cam, 3)] == [Frame, Interruption, Frame]
    assert len(port.tries) == 1102


def test_the_first_reason_is_the_one_told(camera):
    cam, _ = camera(steady(2, then="freeze"), steady(0, then="block"), steady(0, then="lose"), None, steady(50, 1000))
    items = take(cam, 4)
    reasons = [item.reason for item in items if isinstance(item, Interruption)]
    assert reasons == ["camera_frozen"]


def test_drivers_that_hang_for_ever_do_not_pile_up_threads(camera):
    before = threading.active_count()
    hanging = [steady(1, first=i, then="block") for i in range(STUCK + 6)]
    cam, port = camera(*hanging, patience=Patience(2.0, 0.05, 5.0, 0.001, 0.002))
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(cam))
    reader.start()
    deadline = time.monotonic() + 10
    while len(port.given) < STUCK and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    assert threading.active_count() - before <= STUCK + 3
    assert len(port.given) == STUCK
    port.release()  # they come back, are let go, and reopening goes on
    deadline = time.monotonic() + 10
    while len(port.given) <= STUCK and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(port.given) > STUCK
    cam.close()
    reader.join(5)
    assert not reader.is_alive()


def test_closing_does_not_wait_for_a_read_that_hangs(camera):
    cam, _ = camera(steady(3, then="block"), patience=Patience(stalled=60.0))
    take(cam, 1)
    time.sleep(0.1)
    began = time.monotonic()
    cam.close()
    cam.close()
    assert time.monotonic() - began < 2
    assert list(cam) == []


def test_closing_ends_a_reader_that_waits_in_another_thread(camera):
    cam, _ = camera(steady(2, then="block"), patience=Patience(stalled=60.0))
    ended = threading.Event()
    threading.Thread(target=lambda: (list(cam), ended.set()), daemon=True).start()
    time.sleep(0.1)
    assert not ended.is_set()
    cam.close()
    assert ended.wait(2)


def test_closing_lets_a_healthy_device_go(camera):
    cam, port = camera(steady(500))
    with cam:
        take(cam, 2)
    assert port.given[0].closed.is_set()


@pytest.mark.parametrize("device", [None, RuntimeError("no such device")])
def test_a_camera_that_is_not_there_is_refused_at_once(device):
    began = time.monotonic()
    with pytest.raises(SourceError, match="0: expected a camera of this index; it cannot be opened; "):
        Camera(0, QUICK, FakePort(device))
    assert time.monotonic() - began < QUICK.opening


def test_a_camera_that_gives_no_picture_is_refused():
    silent = steady(0, then="block")
    with pytest.raises(SourceError, match=r"it gives no picture within 0\.2 s; "):
        Camera(0, Patience(opening=0.2), FakePort(silent))
    silent.blocked.set()
    with pytest.raises(SourceError, match="it gives no picture; "):
        Camera(0, QUICK, FakePort(steady(0, then="lose")))


def test_the_cameras_there_are_are_listed(monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [Path("/dev/video2"), Path("/dev/video0")])
    with pytest.raises(SourceError, match="there are /dev/video0, /dev/video2; give the number of one"):
        Camera(1, QUICK, FakePort(None))


@pytest.mark.parametrize("uri", [987, "987", "camera://987"])
def test_an_index_without_a_camera_is_refused_by_opencv(uri):
    with pytest.raises(SourceError, match=f"{uri}: expected a camera of this index; it cannot be opened"):
        open_source(uri)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process")
def test_a_camera_opened_before_a_fork_is_the_parents(camera):
    """The child has no thread that reads it, and may hold a lock that nobody gives back."""
    source, _ = camera(FakeDevice([noise(i) for i in range(200)], "block"))
    next(source)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        status = 1
        try:
            next(source)
        except SourceError:
            source.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert isinstance(next(source), Frame)
