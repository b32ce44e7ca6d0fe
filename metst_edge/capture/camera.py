"""A camera as a source of frames: read in a thread, watched, and reopened when it fails.

Knows a `Device` (what it takes to read one camera), so that another kind of camera, or a test's, needs no second
watchdog.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from metst_edge.capture.frames import Frame, Image, Interruption
from metst_edge.capture.processes import OfOneProcess
from metst_edge.capture.quiet import quiet
from metst_edge.errors import SourceError

WAITING = 2
"""Frames kept for a reader that is late; older ones are dropped."""
STUCK = 4
"""Threads that hang in a driver cannot be ended; with so many of them, reopening waits for one to return."""


class Device(Protocol):
    """One opened camera.

    Attributes:
        fps: nominal frames per second, None when unknown.
    """

    fps: float | None

    def read(self) -> Image | None:
        """Wait for the next picture; None when the camera is gone. May block for ever."""

    def close(self) -> None:
        """Let the camera go."""


Connect = Callable[[], "Device | None"]
"""Opens the device; None when there is none."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a camera may misbehave, seconds.

    Attributes:
        opening: until the device is open.
        stalled: without a frame.
        frozen: with the same picture, byte for byte; a sensor always has noise.
        first_delay: before reopening; doubled from try to try until a frame comes.
        longest_delay: before reopening, however often it was tried.
    """

    opening: float = 10.0
    stalled: float = 3.0
    frozen: float = 5.0
    first_delay: float = 0.5
    longest_delay: float = 30.0


class Camera(OfOneProcess):
    """Yields a camera's frames as they come, and an `Interruption` as soon as it is away and another when it is back.

    Timestamps are seconds on the monotonic clock since the camera was opened, taken when the driver hands a frame over.
    A reader that is late gets the newest frames. A picture equal to the one before, byte for byte, is not a new frame
    and is left out. When the camera stalls, freezes, is lost or changes size it is reopened, for as long as it takes;
    the second Interruption comes before the first frame after.

    Args:
        index: the camera's number.
        patience: time limits.
        connect: opens the device; OpenCV by default.
        uri: what messages and `uri` say; by default the index.

    Raises:
        SourceError: no such camera, or it does not open in time.
    """

    live = True

    def __init__(
        self,
        index: int,
        patience: Patience | None = None,
        connect: Connect | None = None,
        uri: str | None = None,
    ) -> None:
        super().__init__()
        self.uri = str(index) if uri is None else uri
        self.frame_count: int | None = None
        self._patience = Patience() if patience is None else patience
        self._connect = connect if connect is not None else lambda: _open_with_opencv(index)
        self._changed = threading.Condition()
        self._closed = False
        self._opened = time.monotonic()
        self._index = 0
        self._time = -math.inf  # of the last frame yielded
        self._fresh = 0.0  # when the picture last changed
        self._last: Image | None = None
        self._shape: tuple[int, ...] | None = None
        self._trouble: tuple[float, str] | None = None  # where the interruption under way began, and why
        self._told = False  # whether it was
        self._delay = self._patience.first_delay  # before the next reopening
        self._held: Frame | None = None  # the frame that ends an interruption, after it was told
        self._retired: list[_Reader] = []  # stopped, but perhaps hanging in the driver
        self._dropped = 0  # by readers before this one
        self._reader = self._start(0.0)
        with self._changed:
            self._changed.wait_for(lambda: self._reader.frames or self._reader.ended, self._patience.opening)
            alive, opened, ended = bool(self._reader.frames), self._reader.opened, self._reader.ended
        if not alive:
            self.close()
            what = "gives no picture" if opened else "cannot be opened"
            limit = "" if ended else f" within {self._patience.opening:g} s"
            raise SourceError(f"{self.uri}: expected a camera of this index; it {what}{limit}; {_cameras_here()}")
        self.fps: float | None = self._reader.fps

    @property
    def dropped(self) -> int:
        """Frames nobody fetched in time."""
        return self._dropped + self._reader.dropped

    def __iter__(self) -> Camera:
        return self

    def __next__(self) -> Frame | Interruption:
        self._check_process()
        if self._held is not None:
            frame, self._held = self._held, None
            return self._give(frame)
        while True:
            if self._trouble is not None and not self._told:
                self._told = True
                start, reason = self._trouble
                return Interruption(start, None, reason)
            reader = self._reader
            arrived, late = self._wait(reader)
            if self._closed:
                raise StopIteration
            if arrived is not None:
                given = self._take(*arrived)
                if given is not None:
                    return given
            elif reader.ended:
                self._reopen("camera_lost")
            elif late:
                self._reopen("camera_stalled")

    def close(self) -> None:
        """Let the camera go, a driver that hangs notwithstanding; iterating ends, in other threads too."""
        if self.forked:
            return  # it is the parent's
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._held = None
        self._reader.stop()
        # A healthy reader lets the device go within a frame; then the caller can open it again at once.
        self._reader.join(timeout=0.5)

    def _wait(self, reader: _Reader) -> tuple[tuple[float, Image] | None, bool]:
        """Wait for the reader's next picture; without one, say whether its time is up."""
        with self._changed:
            if not (self._closed or reader.frames or reader.ended):
                # Once only: the deadline moves when the device opens.
                self._changed.wait(max(0.0, reader.deadline - time.monotonic()))
            arrived = reader.frames.popleft() if reader.frames else None
            return arrived, time.monotonic() >= reader.deadline

    def _take(self, arrived: float, image: Image) -> Frame | Interruption | None:
        """Judge a picture: a frame or the end of an interruption, or None where it is neither."""
        moment = max(arrived - self._opened, math.nextafter(self._time, math.inf))
        if self._shape is not None and image.shape != self._shape:
            self._reopen("size_changed")
            return None
        if self._last is not None and np.array_equal(image, self._last):
            if moment - self._fresh >= self._patience.frozen:
                self._reopen("camera_frozen")
            return None
        # A copy, because the caller may draw on what it is given.
        self._last, self._shape, self._fresh = image.copy(), image.shape, moment
        frame = Frame(self._index, moment, image)
        if self._trouble is None:
            return self._give(frame)
        (start, reason), self._trouble = self._trouble, None
        self._held = frame
        return Interruption(start, moment, reason)

    def _give(self, frame: Frame) -> Frame:
        self._index, self._time = frame.index + 1, frame.timestamp
        self._delay = self._patience.first_delay
        return frame

    def _reopen(self, reason: str) -> None:
        if self._trouble is None:
            self._told = False
            self._trouble = (max(self._time, 0.0), reason)
        self._shape = None
        delay, self._delay = self._delay, min(2 * self._delay, self._patience.longest_delay)
        self._reader.stop()
        self._dropped += self._reader.dropped
        self._retired = [reader for reader in [*self._retired, self._reader] if reader.is_alive()]
        self._reader = self._start(delay)
        self._fresh = time.monotonic() + delay - self._opened

    def _start(self, delay: float) -> _Reader:
        blocker = self._retired[0] if len(self._retired) >= STUCK else None
        reader = _Reader(self._connect, self._patience, self._changed, delay, blocker)
        reader.start()
        return reader


class _Reader(threading.Thread):
    """Opens the device once and reads it until it ends or is stopped.

    Its attributes are guarded by the condition, which is notified when they change.

    Attributes:
        frames: (arrival, picture), the newest ones.
        dropped: how many were pushed out.
        opened: whether the device was opened.
        ended: whether nothing more will come of it.
        fps: the device's.
        deadline: on the monotonic clock; when it is reached without a change, the device hangs.
    """

    def __init__(
        self,
        connect: Connect,
        patience: Patience,
        changed: threading.Condition,
        delay: float,
        blocker: threading.Thread | None,
    ) -> None:
        super().__init__(name="metst-edge camera", daemon=True)
        self.frames: deque[tuple[float, Image]] = deque(maxlen=WAITING)
        self.dropped = 0
        self.opened = self.ended = False
        self.fps: float | None = None
        self.deadline = time.monotonic() + delay + patience.opening
        self._connect, self._patience, self._changed = connect, patience, changed
        self._delay, self._blocker = delay, blocker
        self._stop_asked = threading.Event()

    def stop(self) -> None:
        """Ask the thread to end after its present call into the driver."""
        self._stop_asked.set()

    def run(self) -> None:
        device: Device | None = None
        # A driver may raise anything; whatever it is, the camera is gone and the watchdog goes on.
        with suppress(Exception):
            self._wait()
            if not self._stop_asked.is_set():
                device = self._connect()
            if device is not None:
                self._read(device)
        if device is not None:
            with suppress(Exception):
                device.close()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _wait(self) -> None:
        self._stop_asked.wait(self._delay)
        while self._blocker is not None and self._blocker.is_alive() and not self._stop_asked.wait(0.1):
            pass

    def _read(self, device: Device) -> None:
        with self._changed:
            self.opened, self.fps = True, device.fps
            self.deadline = time.monotonic() + self._patience.stalled
            self._changed.notify_all()
        while not self._stop_asked.is_set():
            image = device.read()
            if image is None:
                return
            with self._changed:
                arrived = time.monotonic()
                self.dropped += len(self.frames) == WAITING
                self.frames.append((arrived, image))
                self.deadline = arrived + self._patience.stalled
                self._changed.notify_all()


class _OpenCvDevice:
    """A camera of this machine by its index."""

    def __init__(self, capture: Any, fps: float | None) -> None:
        self._capture = capture
        self.fps = fps

    def read(self) -> Image | None:
        ok, image = self._capture.read()
        return image if ok else None

    def close(self) -> None:
        self._capture.release()


def _open_with_opencv(index: int) -> Device | None:
    with quiet():
        import cv2

        capture = cv2.VideoCapture(index)
    if not capture.isOpened():
        return None
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the driver's queue only adds delay
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return _OpenCvDevice(capture, fps if 0.0 < fps < math.inf else None)


def _cameras_here() -> str:
    found = sorted(str(path) for path in Path("/dev").glob("video*"))
    if not found:
        return "no camera is connected (there is no /dev/video*); connect one and check its permissions"
    return f"there are {', '.join(found)}; give the number of one of them, and check its permissions"
