"""Which frames of an interval a recogniser is shown (SLSTT, arXiv 2112.05851). Knows frame numbers only."""

from __future__ import annotations

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
