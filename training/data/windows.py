"""Training batches from the measured windows of a labelled folder, one epoch after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from metst_edge.counting import how_many
from training.data.errors import DataError
from training.data.features import Measured
from training.losses import class_weights
from training.samples import Batch, half_duration, late


class FolderWindows:
    """Batches of measured windows: each epoch all with a positive frame and ``ratio`` times as many without.

    Args:
        videos: the training subjects' videos, measured.
        batch: windows per batch; an epoch's last batch is filled up from its first windows.
        ratio: windows without a positive frame per window with one; fewer where there are not as many.
        seed: of the run; an epoch's draw and order follow from it and the epoch's number.
        delay: of the labels, frames, see `training.samples.late`.

    Attributes:
        weights: float32 (5,), class weights over the frames of the first epoch's windows.
        k_p: half the mean duration of these videos' micro-expressions, in frames of the model.
        batches_per_epoch: how many steps an epoch takes.

    Raises:
        DataError: there is no window, or none holds a positive frame.
    """

    batches_per_epoch: int | None

    def __init__(self, videos: Sequence[Measured], batch: int, ratio: float, seed: int, delay: int = 0) -> None:
        labels = [late(*video.labels(), delay) for video in videos]
        self._x = np.concatenate([video.windows for video in videos])
        self._y = np.concatenate([y for y, _ in labels])
        self._classes = np.concatenate([classes for _, classes in labels])
        inside = np.asarray(self._y.any(axis=1))
        if not len(inside):
            raise DataError(
                f"expected a face in the videos, got none in {how_many(len(videos), 'video')} that is seen for a whole "
                f"window of {self._x.shape[2]} frames; look at what they show"
            )
        self._positive, self._negative = np.flatnonzero(inside), np.flatnonzero(~inside)
        if not len(self._positive):
            raise DataError(
                f"expected windows with a micro-expression in them, got none in {how_many(len(inside), 'window')} of "
                f"{how_many(len(videos), 'video')}; are the frames those of the videos, and is a face seen in them?"
            )
        self._quota = min(len(self._negative), round(ratio * len(self._positive)))
        self._batch, self._seed = batch, seed
        self._steps = self.batches_per_epoch = -(-(len(self._positive) + self._quota) // batch)
        self.weights = class_weights(self._classes[self._order(0)])
        self.k_p = half_duration([event for video in videos for event in video.model_annotations()])

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0 over all epochs."""
        epoch, place = divmod(step, self._steps)
        order = self._order(epoch)
        rows = np.take(order, range(place * self._batch, (place + 1) * self._batch), mode="wrap")
        return self._x[rows], self._y[rows], self._classes[rows]

    def close(self) -> None:
        """Nothing to release; streams of windows have something."""

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        random = np.random.default_rng((self._seed, epoch))
        drawn = random.choice(self._negative, self._quota, replace=False) if self._quota else self._negative[:0]
        return random.permutation(np.concatenate([self._positive, drawn]))
