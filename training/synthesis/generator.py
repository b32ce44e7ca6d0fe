"""Training data in volume: feature windows drawn from timelines, a calibration and backgrounds, without a picture.

A window is what `metst_edge.flow.window_features` would give for a rendered clip, to within the calibration: flow at
points is the sum of every movement's response, less that of the window's first frame; channels are its largest vectors'
mean, less the head's motion, plus noise. A thousand times faster than rendering.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge.face import ROI_SETS
from metst_edge.flow.steady import lag_of
from metst_edge.labels import EMOTIONS
from training.samples import Annotation, frame_labels
from training.synthesis.backgrounds import BackgroundFaces, Backgrounds
from training.synthesis.calibration import (
    ALL_POINTS,
    BASIS,
    SLOW,
    Calibration,
    channel_values,
    expand,
    since,
    window_starts,
)
from training.synthesis.timeline import HEAD, Rates, Timeline, TruthEvent, draw_rate, draw_timeline

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

LEFT_OF_HEAD = 0.1
"""Of what the head's motion leaves in the published channels, on a face held steady: no more on portraits that move
rigidly, as those of the calibration do."""
_OF_HEAD = [row for row, (track, _) in enumerate(BASIS) if track in HEAD]
PER_TIMELINE = 40
"""Windows that share one person and one course of movements: about as many as half a minute holds."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureClip:
    """One clip as the network sees it.

    Attributes:
        windows: float32 (C, T_w) each, starting at 0, h, 2h, ... (h = k // 2), the last ones shorter than k.
        frames: length of the clip.
        fps: frames per second.
        truth: its micro-expressions, in order.
    """

    windows: list[FloatArray]
    frames: int
    fps: float
    truth: tuple[TruthEvent, ...]


def as_annotations(truth: Iterable[TruthEvent]) -> list[Annotation]:
    """Return what was put in as annotations of the same frames."""
    return [Annotation(event.onset, event.apex, event.offset, EMOTIONS.index(event.emotion)) for event in truth]


class FeatureGenerator:
    """Draws labelled windows without end; the same seed gives the same ones.

    Args:
        seed: of everything.
        roi_set: one of `metst_edge.face.ROI_SETS`.
        fps: frames per second of the model.
        k: frames of a window.
        calibration: the committed one if not given.
        backgrounds: measured windows that the micro-expressions are put into.
        calibrated: share of the courses of movements that are shown on faces drawn from the calibration nevertheless;
            without backgrounds all of them are.

    Example:
        >>> features, y, label = FeatureGenerator(0).windows(256)
        >>> features.shape, y.shape, label.shape
        ((256, 10, 30), (256, 30), (256, 30))
    """

    def __init__(
        self,
        seed: int,
        roi_set: str = "metst",
        fps: float = 30.0,
        k: int = 30,
        calibration: Calibration | None = None,
        backgrounds: Backgrounds | None = None,
        calibrated: float = 0.0,
    ) -> None:
        self.fps = fps
        self.k = k
        self._rng = np.random.default_rng(seed)
        self._faces: list[CalibratedFaces | BackgroundFaces] = []
        self._shares: list[float] = []
        if backgrounds is not None:
            self._faces.append(BackgroundFaces(backgrounds, roi_set, fps))
            self._shares.append(1 - calibrated)
        if backgrounds is None or calibrated:
            self._faces.append(CalibratedFaces(calibration or Calibration.load(), roi_set, fps))
            self._shares.append(1 - sum(self._shares))

    def windows(self, n: int, positive_fraction: float | None = 0.5) -> tuple[FloatArray, FloatArray, IntArray]:
        """Draw ``n`` windows that begin anywhere, in the midst of a movement too.

        Args:
            n: how many.
            positive_fraction: share of windows with at least one frame of a micro-expression; None takes them as they
                come.

        Returns:
            features float32 (n, C, k), pixels of the 320 px crop, column 0 zero; y float32 (n, k), 1 on onset+1 ..
            offset-1; label int64 (n, k), index into `metst_edge.labels.LABELS`.

        Raises:
            ValueError: ``n`` below 1 or a fraction outside 0 to 1.
        """
        if n < 1 or (positive_fraction is not None and not 0 <= positive_fraction <= 1):
            raise ValueError(f"expected n >= 1 and a fraction of 0 to 1, got {n} and {positive_fraction}")
        positives = None if positive_fraction is None else round(n * positive_fraction)
        quota = [0, n] if positives is None else [positives, n - positives]
        features, ys, labels = [], [], []
        while sum(quota) > 0:
            faces = self._draw_faces()
            rates = faces.draw_rates(self._rng)
            timeline = draw_timeline(self._rng, max(round(30 * self.fps), 3 * self.k), self.fps, rates)
            y, label = frame_labels(as_annotations(timeline.truth), timeline.frames)
            starts = self._rng.permutation(timeline.frames - self.k)
            if positives is None:
                taken = starts[: min(quota[1], PER_TIMELINE)]
                quota[1] -= len(taken)
            else:
                counts = np.concatenate(((0,), np.cumsum(y)))
                has = counts[starts + self.k] > counts[starts]
                share = PER_TIMELINE * positives / n
                # One at least of either kind, or a rare kind would never be complete.
                with_one = starts[has][: min(quota[0], max(1, round(share)))]
                without = starts[~has][: min(quota[1], max(1, round(PER_TIMELINE - share)))]
                quota[0] -= len(with_one)
                quota[1] -= len(without)
                taken = np.concatenate((with_one, without))
            if len(taken):
                span = taken[:, None] + np.arange(self.k)
                features.append(faces.features(self._rng, timeline, span))
                ys.append(y[span])
                labels.append(label[span])
        order = self._rng.permutation(n)
        return np.concatenate(features)[order], np.concatenate(ys)[order], np.concatenate(labels)[order]

    def clip(self, seconds: float, rates: Rates | None = None) -> FeatureClip:
        """Draw the windows of one clip, in order and overlapping by half, for decoding."""
        timeline = draw_timeline(self._rng, round(seconds * self.fps), self.fps, rates or Rates())
        starts = np.array(window_starts(timeline.frames, self.k))
        # Beyond the end nothing moves any more; those frames are cut off again.
        span = np.minimum(starts[:, None] + np.arange(self.k), timeline.frames - 1)
        whole = self._draw_faces().features(self._rng, timeline, span)
        windows = [w[:, : timeline.frames - s] for w, s in zip(whole, starts, strict=True)]
        return FeatureClip(windows, timeline.frames, self.fps, timeline.truth)

    def _draw_faces(self) -> CalibratedFaces | BackgroundFaces:
        """Draw on what sort of face the next course of movements is shown."""
        if len(self._faces) == 1:
            return self._faces[0]
        return self._faces[self._rng.choice(len(self._faces), p=self._shares)]


class CalibratedFaces:
    """Shows timelines on faces drawn between the calibrated ones.

    Args:
        calibration: of the real front end.
        roi_set: of the features.
        fps: slots a second.
    """

    def __init__(self, calibration: Calibration, roi_set: str, fps: float = 30.0) -> None:
        self._calibration, self._roi_set = calibration, roi_set
        self._lag = lag_of(roi_set, fps)
        everything = ROI_SETS["metst_plus"]
        rows = np.array([everything.index(roi) for roi in ROI_SETS[roi_set]])
        self._channels = (2 * rows[:, None] + (0, 1)).reshape(-1)
        picked = calibration.correlation[:, self._channels][:, :, self._channels]
        # Made positive definite after rounding; the diagonal is 1.
        self._mixing = np.linalg.cholesky(picked + 0.02 * np.eye(len(self._channels))).astype(np.float32)

    def features(self, rng: np.random.Generator, timeline: Timeline, span: IntArray) -> FloatArray:
        """Measure windows of one timeline on a person drawn at random: frames (n, k) to float32 (n, C, k)."""
        responses, deviations = self._person(rng)
        if self._lag is not None:
            responses = _held_steady(responses)
        flow = np.tensordot(responses, expand(timeline.tracks), ((0,), (0,)))
        anchored = since(flow[..., span] - flow[..., span[:, :1]], self._lag, axis=-1)
        values = np.moveaxis(channel_values(anchored, self._roi_set), 0, 1)
        noise = since(self._noise(rng, deviations, span.shape), self._lag, axis=-1)
        out: FloatArray = (values + noise).astype(np.float32)
        out[..., 0] = 0
        return out

    def draw_rates(self, rng: np.random.Generator) -> Rates:
        """Draw what kind of half minute it is: from a resting face to a busy one."""
        return Rates(
            micro=float(rng.uniform(15, 40)),
            blinks=draw_rate(rng, 40, 0.1),
            speech=draw_rate(rng, 8, 0.4),
            macros=draw_rate(rng, 14, 0.25),
            head_moves=draw_rate(rng, 10, 0.3),
            drift=draw_rate(rng, 2.0, 0.1),
            micro_pixels=(0.35, 3.2),
        )

    def _person(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw responses (len(BASIS), ALL_POINTS, 2) and noise (3, C) between two calibrated persons."""
        known = self._calibration
        one, other = rng.integers(known.persons, size=2)
        share = rng.uniform(0, 0.5)
        responses = (1 - share) * known.responses[one] + share * known.responses[other]
        # No two faces move alike: every movement, and every place, follows a little more or less.
        responses *= np.exp(rng.normal(0, 0.15, (len(BASIS), 1, 1))).astype(np.float32)
        responses *= np.exp(rng.normal(0, 0.12, (1, ALL_POINTS, 1))).astype(np.float32)
        noise = np.sqrt((1 - share) * known.noise[one] ** 2 + share * known.noise[other] ** 2)
        return responses.astype(np.float32), (noise * np.exp(rng.normal(0, 0.3)))[:, self._channels]

    def _noise(self, rng: np.random.Generator, deviations: FloatArray, size: tuple[int, int]) -> FloatArray:
        """Draw noise for n windows of k frames: (n, k) to float32 (n, C, k)."""
        n, k = size
        shape = (n, len(self._channels))
        anchor = rng.standard_normal((*shape, 1), np.float32)
        quick = rng.standard_normal((*shape, k), np.float32)
        slow = rng.standard_normal((*shape, k), np.float32)
        slow[..., 1:] *= np.float32(np.sqrt(1 - SLOW**2))
        for t in range(1, k):
            slow[..., t] += SLOW * slow[..., t - 1]
        total = np.zeros((*shape, k), np.float32)
        for kind, deviation, mixing in zip((anchor, slow, quick), deviations, self._mixing, strict=True):
            total += deviation[:, None] * np.einsum("cd,ndt->nct", mixing, kind)
        # Some windows begin on a worse frame than others.
        out: FloatArray = total * np.exp(rng.normal(0, 0.3, (n, 1, 1))).astype(np.float32)
        return out


def _held_steady(responses: FloatArray) -> FloatArray:
    """Return responses (len(BASIS), ALL_POINTS, 2) as a face held steady shows them: little of the head's motion."""
    out: FloatArray = responses.copy()
    out[_OF_HEAD] = LEFT_OF_HEAD * (responses[_OF_HEAD] - responses[_OF_HEAD, -1:])
    out[:, -1] = 0
    return out
