"""Which frames of an interval a recogniser is shown (SLSTT, arXiv 2112.05851). Knows frame numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence

FRAMES = 11
"""Of a clip, as published: five to each side of the apex."""


def frame_indices(onset: int, apex: int, offset: int, frames: int = FRAMES) -> list[float]:
    """Return the frames of an interval's clip, in order of time; a fraction lies between two frames.

    The clip begins half its length before the apex, and after the onset, from which flow is measured; it ends with the
    interval, or when it is full. Where the interval holds fewer frames than the clip, the clip is spread evenly over
    them. An interval that is its onset alone is that frame, many times over.

    Args:
        onset: the interval's first frame.
        apex: of the interval.
        offset: the interval's last frame.
        frames: in the clip.

    Raises:
        ValueError: the apex does not lie in the interval, or no frames are wanted.
    """
    if not onset <= apex <= offset:
        raise ValueError(f"expected onset <= apex <= offset, got {onset}, {apex}, {offset}")
    if frames < 1:
        raise ValueError(f"expected a clip of at least 1 frame, got {frames}")
    start = min(max(apex - frames // 2, onset + 1), offset)
    end = min(start + frames - 1, offset)
    steps = max(frames - 1, 1)
    return [start + i * (end - start) / steps for i in range(frames)]


def span(indices: Sequence[float]) -> tuple[int, int]:
    """Return the first and the last whole frame that the frames of a clip are made of."""
    return math.floor(indices[0]), math.ceil(indices[-1])


def positions_among(
    slots: Sequence[int], onset: int, apex: int, offset: int, frames: int = FRAMES
) -> list[float] | None:
    """Return the clip of an interval that is known by source frames, in slots of the model's grid, the onset's as 0.

    Args:
        slots: the source frames nearest to the slots from onset to offset, as far as they are known, rising; two slots
            share a frame where the camera is slower than the model.
        onset: source frame.
        apex: source frame.
        offset: source frame.
        frames: in the clip.

    Returns:
        As `frame_indices`; None where the interval's ends or its apex are not among the slots, or it has only one.
    """
    if len(slots) < 2 or (slots[0], slots[-1]) != (onset, offset) or apex not in slots:
        return None
    return frame_indices(0, slots.index(apex), len(slots) - 1, frames)
