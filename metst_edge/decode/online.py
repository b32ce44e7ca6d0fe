"""Decode a stream: the offline rule with a sliding minute in place of the clip, one frame at a time.

Knows the scores of one unbroken run of frames. Where the run breaks (a gap), the caller flushes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metst_edge.decode.adaptive import REACH
from metst_edge.decode.fitting import StreamFitter
from metst_edge.decode.interval import Interval, check_finite, check_priors, read_interval
from metst_edge.decode.offline import check_k_p, fixed_span
from metst_edge.decode.settings import DEFAULTS, DecodeSettings, Method, Synergy
from metst_edge.decode.sliding import SlidingStatistics
from metst_edge.labels import LABELS

_Peak = tuple[int, float]
"""Frame and height of an accepted peak of the smoothed curve."""


class OnlineDecoder:
    """Finds intervals as the scores come in.

    The rule, which looks at nothing but the frames so far:

    - The curve is smoothed as offline, so its value at frame i is known once frame i + k_p - 1 has come.
    - A candidate is a local maximum (a flat top counts at its middle; one longer than the window is none). It is final
      at the first smoothed frame that is k_p after it and past its flat top, unless a higher value came within those
      k_p frames, or a peak was already accepted less than k_p before it (of equals, the first stays).
    - It is accepted if it reaches mean + ratio * (maximum - mean) of the last `window_seconds` of the smoothed curve up
      to that moment, and the floor.

    A fixed interval is returned by the `push` that accepts its peak, that of frame peak + 2 k_p - 1 (later only for a
    flat top of 2 k_p frames or more).

    An adaptive interval is fitted to the raw curve, as offline, against the mean of the last `window_seconds` of it up
    to the moment at which its peak is accepted. Its onset is known then; its offset is where the curve falls below that
    mean for two frames, if it does so within 5 k_p. It is returned by the push of the second of those two frames; where
    there are none, by that of frame peak + 5 k_p if the curve is not below the mean there, else of the frame after. It
    never comes before its peak is accepted, nor before the interval of an earlier peak is settled, which may rule it
    out. So it comes 2 k_p - 1 to 5 k_p + 1 frames after its peak (but for such flat tops): as soon as no frame to
    come can change it.

    While the stream is younger than the window, the statistics are those of what there is: in the first seconds even
    noise stands out from itself, and the floor is what holds it back. No frame is ignored; set the floor.

    Frames count from 0 at the start, after `reset` and after `flush`. Work per frame is constant on average and memory
    is bounded by the window.

    Args:
        k_p: half the typical duration, frames; peaks are at least this far apart.
        fps: frames per second of the scores.
        ratio: see `DecodeSettings`.
        floor: see `DecodeSettings`.
        synergy: see `DecodeSettings`.
        window_seconds: see `DecodeSettings`; at least 2 k_p + 1 frames.
        method: "fixed" or "adaptive"; see `DecodeSettings.decoder`.
        class_priors: as of `decode`.
        min_score: see `DecodeSettings`.

    Attributes:
        reach: an interval returned by `push` or `flush` lies within so many latest frames; what the caller keeps about
            frames (their times) it may forget beyond.

    Raises:
        ValueError: an unknown mode, or a window too short to hold a peak and its surroundings.
    """

    def __init__(
        self,
        k_p: int,
        fps: float,
        ratio: float = DEFAULTS.ratio,
        floor: float = DEFAULTS.floor,
        synergy: Synergy = DEFAULTS.synergy,
        window_seconds: float = DEFAULTS.window_seconds,
        method: Method = DEFAULTS.decoder,
        class_priors: Sequence[float] = (),
        min_score: float = DEFAULTS.min_score,
    ) -> None:
        check_k_p(k_p)
        self._settings = DecodeSettings(ratio, floor, synergy, window_seconds, method, min_score=min_score)
        self._class_priors = tuple(class_priors)
        if not (math.isfinite(fps) and fps > 0 and math.isfinite(window_seconds)):
            raise ValueError(f"expected fps > 0 and a finite window; got {fps} and {window_seconds} s")
        self._window = round(window_seconds * fps)
        if self._window < 2 * k_p + 1:
            raise ValueError(
                f"expected a window of at least 2 k_p + 1 = {2 * k_p + 1} frames; got {window_seconds} s at {fps} fps"
            )
        self._k_p = int(k_p)
        # An accepted peak lies at most half a window, of which a flat top may be, and 2 k_p back.
        self._behind = self._window // 2 + 2 * self._k_p
        self.reach = self._behind + self._k_p + 1
        if method == "adaptive":
            self.reach = max(self._behind, REACH * self._k_p + 1) + REACH * self._k_p + 1
        self.reset()

    @classmethod
    def of(cls, settings: DecodeSettings, k_p: int, fps: float, labels: Sequence[str] = LABELS) -> OnlineDecoder:
        """Set up an empty stream with the settings of a bundle and the labels of its logits."""
        s = settings
        priors = s.priors(labels)
        return cls(k_p, fps, s.ratio, s.floor, s.synergy, s.window_seconds, s.decoder, priors, s.min_score)

    def reset(self) -> None:
        """Forget everything; the next frame is frame 0."""
        self._frames = 0
        # The surroundings of the next smoothed value; zeros stand for what lies before the start.
        self._spot: deque[float] = deque([0.0] * (2 * self._k_p), maxlen=2 * self._k_p)
        self._next = 1 - self._k_p  # the frame they surround
        self._logits: deque[NDArray[np.float64]] = deque(maxlen=self.reach)
        self._priors: NDArray[np.float64] | None = None  # known with the first frame's labels
        self._statistics = SlidingStatistics(self._window)
        adaptive = self._settings.decoder == "adaptive"
        self._fitter = StreamFitter(self._k_p, self._window, self._behind) if adaptive else None
        self._value = math.inf  # the latest smoothed value; from here it can only fall: no peak at frame 0
        self._top: int | None = None  # the frame to which the curve last rose, until it falls
        self._candidates: deque[tuple[int, float]] = deque()  # frame and value, values never rising
        self._accepted = -self._k_p  # the latest accepted peak; so far none that is near

    def push(self, spot: float, logits: NDArray[Any]) -> list[Interval]:
        """Take the scores of the next frame and return the intervals that are final with it, by time of their peaks.

        Args:
            spot: spotting score after the sigmoid.
            logits: (E,) emotion logits, neutral last.

        Raises:
            ValueError: a score that is not finite, or logits of another shape, or not as many as class priors; the
                frame is then not taken.
        """
        spot, row = float(spot), np.array(logits, dtype=np.float64)
        if row.ndim != 1 or len(row) < 2 or (self._logits and len(row) != len(self._logits[-1])):
            raise ValueError(
                "expected logits (E,) with the same E >= 2 for every frame, neutral last; "
                f"got shape {row.shape} at frame {self._frames}"
            )
        check_finite(f"spotting score at frame {self._frames}", [spot])
        check_finite(f"emotion logits at frame {self._frames}", row)
        if self._priors is None:
            self._priors = check_priors(self._class_priors, len(row))
        self._frames += 1
        self._logits.append(row)
        if self._fitter:
            self._fitter.push(spot)
        return self._intervals(self._advance(spot))

    def flush(self) -> list[Interval]:
        """End the stream and return the intervals it still held; the decoder is then as new.

        The end is that of a clip: the smoothed curve is completed with zeros, a candidate needs no frames beyond its
        end, and those still waiting there are judged by the window that ends with it.
        """
        accepted: list[_Peak] = []
        if self._frames:
            for _ in range(self._k_p - 1):
                accepted += self._advance(0.0)
        while self._candidates:
            accepted += self._judge(*self._candidates.popleft())
        intervals = self._intervals(accepted, ended=True)
        self.reset()
        return intervals

    def _advance(self, spot: float) -> list[_Peak]:
        """Smooth the next frame that can be smoothed and return the peaks that are accepted with it."""
        self._spot.append(spot)
        frame = self._next
        self._next += 1
        if frame < 0:
            return []
        value = math.fsum(self._spot) / len(self._spot)
        self._statistics.push(value)
        while self._candidates and self._candidates[-1][1] < value:
            self._candidates.pop()
        if value > self._value:
            self._top = frame
        elif value < self._value and self._top is not None:
            if frame - self._top <= self._window:
                self._candidates.append(((self._top + frame - 1) // 2, self._value))
            self._top = None
        self._value = value
        accepted: list[_Peak] = []
        while self._candidates and self._candidates[0][0] + self._k_p <= frame:
            accepted += self._judge(*self._candidates.popleft())
        return accepted

    def _judge(self, peak: int, value: float) -> list[_Peak]:
        """Accept the peak or not by the statistics of now; a list of one peak or none."""
        mean, maximum = self._statistics.mean, self._statistics.maximum
        height = max(self._settings.floor, mean + self._settings.ratio * (maximum - mean))
        if peak - self._accepted < self._k_p or value < height:
            return []
        self._accepted = peak
        if self._fitter:
            self._fitter.accept(peak, value)  # now: it is fitted by the statistics of now
        return [(peak, value)]

    def _intervals(self, accepted: list[_Peak], ended: bool = False) -> list[Interval]:
        """Return the intervals that are final: those of the peaks accepted now, or those that fit by now."""
        if self._fitter:
            spans = [(span[:3], score) for span, score in self._fitter.settled(ended)]
        else:
            spans = [(fixed_span(peak, self._k_p), score) for peak, score in accepted]
        read = (self._read(span, score) for span, score in spans)
        least = self._settings.min_score
        return [interval for interval in read if interval is not None and interval.score >= least]

    def _read(self, span: tuple[int, int, int], score: float) -> Interval | None:
        """Let the frames of a span vote."""
        assert self._priors is not None, "a peak takes frames"
        first, held = max(span[0], 0), self._frames - len(self._logits)
        rows = np.stack(list(islice(self._logits, first - held, span[2] + 1 - held)))
        return read_interval(span, score, rows, first, self._frames, self._settings.synergy, self._priors)
