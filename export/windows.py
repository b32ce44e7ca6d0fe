"""Feature windows to try a bundle on: random ones, and those of video, measured as the SDK does."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.capture import Interruption, open_source
from metst_edge.face import FaceFinder
from metst_edge.scoring import HostLanes, Scorer, WholeWindows

Array = npt.NDArray[np.float32]

SEED = 20
WINDOWS = 3


def random_windows(bundle: Bundle) -> list[Array]:
    """Return batches (B, C, T): whole windows, and one cut off as at the end of a clip."""
    rng = np.random.default_rng(SEED)
    shapes = ((WINDOWS, bundle.channels, bundle.k), (1, bundle.channels, bundle.k // 2 + 1))
    windows = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    for x in windows:
        x[..., 0] = 0.0  # as in every real window: the first frame against itself
    return windows


def clip_windows(clip: Path, bundle: Bundle) -> Array:
    """Return the whole windows that the bundle would score in a video, (n, C, k); n may be 0.

    Raises:
        SourceError: the video cannot be read.
        FrameError: its frames are too small, or not of one size.
    """
    return _measured(clip.resolve(), bundle.roi_set, bundle.fps, bundle.k, bundle.compat)


@lru_cache(maxsize=64)
def _measured(clip: Path, roi_set: str, fps: float, k: int, compat: bool) -> Array:
    windows = WholeWindows(roi_set, k)
    finder = FaceFinder()
    try:
        scorer = Scorer(fps, finder, HostLanes(windows, k, roi_set, compat))
        with open_source(clip) as source:
            for frame in source:
                assert not isinstance(frame, Interruption), "only live sources are interrupted"
                scorer.push(frame)
        scorer.flush()
    finally:
        finder.close()
    found = [window for _, window in windows.whole]
    return np.stack(found) if found else np.zeros((0, windows.channels, k), np.float32)
