"""What training reads, wherever it comes from: true micro-expressions, labelled frames, batches, measured clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge.labels import LABELS, NEUTRAL

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Windows (B, C, k) float32 in pixels of the crop, y (B, k) float32, classes (B, k) int64."""

NEUTRAL_CLASS = LABELS.index(NEUTRAL)
"""Of a frame outside every micro-expression; below it are the emotions."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One true micro-expression.

    Attributes:
        onset: its first frame, counted from 0.
        apex: the frame in which most is seen of it.
        offset: its last frame.
        emotion: index into `metst_edge.labels.EMOTIONS`.
    """

    onset: int
    apex: int
    offset: int
    emotion: int


@dataclass(frozen=True, slots=True, eq=False)
class MeasuredClip:
    """One clip's features and what is truly in it.

    Attributes:
        windows: float32 (C, T) each, in order, the first k frames wide; k/2 apart, the last ones cut off at the clip's
            end.
        annotations: in frames of the clip.
    """

    windows: Sequence[npt.NDArray[np.float32]]
    annotations: Sequence[Annotation]


def frame_labels(
    annotations: Sequence[Annotation], frames: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Label every frame: 1 and the emotion's class on onset+1 .. offset-1, else 0 and neutral.

    Returns:
        float32 (frames,) and int64 (frames,).
    """
    y = np.zeros(frames, np.float32)
    classes = np.full(frames, NEUTRAL_CLASS, np.int64)
    for each in annotations:
        inside = slice(max(0, each.onset + 1), max(0, each.offset))
        y[inside] = 1
        classes[inside] = each.emotion
    return y, classes


def late(
    y: npt.NDArray[np.float32], classes: npt.NDArray[np.int64], delay: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Label every frame of windows as the one ``delay`` before; the first ones, before which nothing is seen, as quiet.

    Args:
        y: float32 (n, k), as of `frame_labels`.
        classes: int64 (n, k), likewise.
        delay: frames, below k.
    """
    if not delay:
        return y, classes
    later, of_later = np.zeros_like(y), np.full_like(classes, NEUTRAL_CLASS)
    later[:, delay:], of_later[:, delay:] = y[:, :-delay], classes[:, :-delay]
    return later, of_later


def half_duration(annotations: Sequence[Annotation]) -> int:
    """Return k_p, half the mean time from onset to offset, in frames, at least 1.

    Pass training annotations only, never those of the test subjects.

    Raises:
        ValueError: there are none.
    """
    if not annotations:
        raise ValueError("expected at least one micro-expression to measure durations on, got none")
    mean = sum(each.offset - each.onset for each in annotations) / len(annotations)
    return max(1, math.floor(mean / 2 + 0.5))
