"""Turns overlapping windows into one score a frame: live with two lanes of a stream, offline by stitching.

Windows of k frames start every h = k/2 frames, each measured from its own first frame and scored from a zero state. The
first window of a segment is kept whole, of later ones the second half; at the segment's end windows are cut off. Live,
window w runs in lane w % 2: when it ends, window w + 2 begins in the same lane.

A network may have been trained to say of each frame what was so `delay` frames before, for what follows a movement
tells what it was. Its score of frame n is then kept of frame n - delay, and at the segment's end it is shown `delay`
frames in which nothing moves: the last ones again, as far as features are measured from a window's first frame
(anchored).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge.engine.types import Array, DeviceStream, Engine, StepScores, Stream
from metst_edge.errors import EngineError

LANES = 2


@dataclass(frozen=True, slots=True)
class FrameScore:
    """The kept score of one frame.

    Attributes:
        frame: index within the segment, from 0.
        spot: 0 to 1.
        emotion: float32 (E,), logits.
        features: float32 (2, C), what was fed of it in either lane.
    """

    frame: int
    spot: float
    emotion: Array
    features: Array


class Lanes:
    """Feeds a two-lane stream frame by frame and picks each frame's score from the lane that is kept.

    Args:
        stream: with two lanes; it is reset, and must not be fed by anyone else.
        k: frames in a window, even.
        delay: frames by which the network's scores lag behind what they are of.
        anchored: whether features are measured from a window's first frame; else a face at rest has zeros.

    Example:
        >>> import metst_edge
        >>> engine = metst_edge.load_engine("demo")
        >>> lanes = Lanes(engine.open_stream(lanes=2), engine.bundle.k, engine.bundle.delay)
        >>> lanes.starting
        0
    """

    _before: Array
    _last: Array

    def __init__(self, stream: Stream, k: int, delay: int = 0, anchored: bool = True) -> None:
        if stream.lanes != LANES:
            raise EngineError(f"expected a stream of {LANES} lanes, got {stream.lanes}; use open_stream(lanes={LANES})")
        self._stream, self._half, self._delay, self._anchored = stream, _half(k), delay, anchored
        self._device = stream if isinstance(stream, DeviceStream) else None
        self.reset()

    @property
    def starting(self) -> int | None:
        """The lane whose window starts with the next frame, or None; its features for that frame are zero."""
        window, frame = divmod(self._fed, self._half)
        return window % LANES if frame == 0 else None

    def push(self, features: Array | None) -> list[FrameScore]:
        """Feed the next frame of the segment.

        Args:
            features: float32 (2, C), each lane's measured from the first frame of its own window. Before lane 1's first
                window its row is read but decides nothing. None: those that a `DeviceStream` has.

        Returns:
            The score that became known: of the frame `look_ahead` and `delay` earlier; nothing at the segment's
            beginning.

        Raises:
            EngineError: as `Stream.step`.
        """
        known = self._step(features, self._starts())
        fed = features.copy() if features is not None else self._on_device().fed()
        self._fed += 1
        self._before = self._last
        self._last = fed
        self._features.append(fed)
        return self._kept(known)

    def take_back(self, scores: Sequence[FrameScore]) -> None:
        """Undo the last push, which has given these scores, as if its frame had never been fed.

        Raises:
            EngineError: the stream keeps nothing to go back to; or it has been taken back before.
        """
        if self._device is None:
            raise EngineError("expected a stream whose steps can be taken back, got one that keeps its last state only")
        self._device.take_back()
        self._fed -= 1
        self._given -= self._came
        self._last = self._before
        self._features.extendleft(score.features for score in reversed(scores))
        self._features.pop()

    def flush(self) -> list[FrameScore]:
        """End the segment: return the scores still under way, and begin a new one."""
        scores = []
        if self._fed:
            nothing = np.zeros((LANES, self._stream.channels), np.float32)
            rest = self._last.copy() if self._anchored else nothing
            for _ in range(self._delay):
                starts = self._starts()
                rest[starts] = 0
                scores += self._kept(self._step(rest, starts))
                self._fed += 1
            for _ in range(self._stream.look_ahead):
                scores += self._kept(self._step(nothing, np.ones(LANES, bool)))
        self.reset()
        return scores

    def reset(self) -> None:
        """Drop the segment and begin a new one."""
        self._stream.reset()
        self._fed = 0  # frames of this segment
        self._given = 0  # scores that the network has given of it
        self._came = 0  # of them in the last push
        # Features of the last two frames.
        self._before = self._last = np.zeros((LANES, self._stream.channels), np.float32)
        self._features: deque[Array] = deque()  # of the frames whose scores are under way

    def _starts(self) -> npt.NDArray[np.bool_]:
        """Say in which lanes a window starts with the next frame."""
        reset = np.zeros(LANES, bool)
        if self.starting is not None:
            reset[self.starting] = True
        return reset

    def _step(self, features: Array | None, reset: npt.NDArray[np.bool_]) -> StepScores | None:
        if features is not None:
            return self._stream.step(features, reset)
        return self._on_device().step_device(reset)

    def _on_device(self) -> DeviceStream:
        if self._device is None:
            raise EngineError("expected features, got None, for a stream that has none on a device")
        return self._device

    def _kept(self, scores: StepScores | None) -> list[FrameScore]:
        """Return the score of the next frame from the lane that is kept of it, if a step gave scores."""
        self._came = int(scores is not None)
        if scores is None:
            return []
        given = self._given
        self._given += 1
        lane, frame = window_of(given, self._half) % LANES, given - self._delay
        if frame < 0:
            return []
        return [FrameScore(frame, float(scores.spot[lane]), scores.emotion[lane], self._features.popleft())]


def stitch(
    engine: Engine, windows: Sequence[Array], k: int, delay: int = 0, anchored: bool = True
) -> tuple[Array, Array]:
    """Score a segment's windows from scratch: what a stream of `Lanes` must equal.

    Args:
        engine: any.
        windows: float32 (C, T_w) in order, all that start inside the segment; k frames each, but the last ones are cut
            off where the segment ends.
        k: frames in a window, even.
        delay: as for `Lanes`.
        anchored: likewise.

    Returns:
        spot float32 (n,) and emotion float32 (n, E) of the segment's n frames.

    Raises:
        EngineError: no window, or a window's length does not fit the segment.
    """
    half = _half(k)
    if not windows:
        raise EngineError("expected at least one window, got none")
    frames = max(w * half + window.shape[-1] for w, window in enumerate(windows))
    for w, window in enumerate(windows):
        expected = min(k, frames - w * half)
        if window.ndim != 2 or window.shape[1] != expected:
            raise EngineError(
                f"expected window {w} as (C, {expected}) in a segment of {frames} frames, got {window.shape}"
            )
    shown = _extended(windows, k, frames + delay, anchored) if delay else list(windows)
    spot = np.empty(frames + delay, np.float32)
    emotion = np.empty((frames + delay, len(engine.bundle.labels)), np.float32)
    whole = [w for w, window in enumerate(shown) if window.shape[1] == k]
    groups = ([whole] if whole else []) + [[w] for w in range(len(whole), len(shown))]
    for group in groups:
        scores = engine.infer(np.stack([shown[w] for w in group]))
        for row, w in enumerate(group):
            kept = 0 if w == 0 else half
            span = slice(w * half + kept, w * half + shown[w].shape[1])
            spot[span], emotion[span] = scores.spot[row, kept:], scores.emotion[row, kept:]
    return spot[delay:], emotion[delay:]


def _extended(windows: Sequence[Array], k: int, frames: int, anchored: bool) -> list[Array]:
    """Return a segment's windows with frames at its end in which nothing moves."""
    out = []
    for w, start in enumerate(range(0, frames, _half(k))):
        window = np.zeros((windows[0].shape[0], min(k, frames - start)), np.float32)
        if w < len(windows):
            known = windows[w].shape[1]
            window[:, :known] = windows[w]
            window[:, known:] = windows[w][:, -1:] if anchored else 0
        out.append(window)
    return out


def _half(k: int) -> int:
    if not isinstance(k, (int, np.integer)) or k < 2 or k % 2:
        raise EngineError(f"expected an even number of frames in a window, at least 2, got {k!r}")
    return int(k) // 2


def window_of(frame: int, half: int) -> int:
    """Return the window whose score is kept for a frame, both counted from 0; windows start every ``half`` frames."""
    return max(frame // half - 1, 0)
