"""The windows that would be scored, kept instead: what a network is trained and tried on is what the SDK feeds it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metst_edge.engine.lanes import LANES
from metst_edge.engine.types import StepScores, check_reset, check_step
from metst_edge.flow import channels


class WholeWindows:
    """Stands where a network's stream stands and keeps the whole windows that it is fed, in order of their ends.

    Its look-ahead is 0, so the score of a step, which says nothing, comes with the step: the n-th step of a video is
    the n-th slot that the SDK scores.

    Args:
        roi_set: one of `metst_edge.face.ROI_SETS`.
        k: slots in a window, even.

    Attributes:
        whole: for each window the number of its first step, and float32 (C, k).
    """

    lanes = LANES
    look_ahead = 0

    def __init__(self, roi_set: str, k: int) -> None:
        self.channels, self._k = channels(roi_set), k
        self.whole: list[tuple[int, npt.NDArray[np.float32]]] = []
        self._steps = 0
        self.reset()

    def reset(self) -> None:
        """Cut off the windows that are open."""
        self._open: list[list[npt.NDArray[np.float32]]] = [[] for _ in range(self.lanes)]

    def step(self, features: npt.NDArray[np.float32], reset: npt.ArrayLike | None = None) -> StepScores:
        """Take a slot's features, float32 (lanes, C); ``reset`` says in which lanes a window starts."""
        features = check_step(features, self.lanes, self.channels)
        self._steps += 1
        for lane, starts in enumerate(check_reset(reset, self.lanes)):
            if starts:
                self._open[lane] = [features[lane]]
            elif self._open[lane]:  # else no window of this run has started in it
                self._open[lane].append(features[lane])
            if len(self._open[lane]) == self._k:
                self.whole.append((self._steps - self._k, np.stack(self._open[lane], 1)))
        return StepScores(np.zeros(self.lanes, np.float32), np.zeros((self.lanes, 1), np.float32))
