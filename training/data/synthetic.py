"""A stream of generated training windows that never repeats and can be entered anywhere.

Windows come in chunks. Chunk i of a seed is always the same, whatever was asked for before, so an interrupted run goes
on where it stopped and a repeated run sees what the first one saw.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from training.losses import class_weights
from training.models.checkpoint import GENERATED
from training.presets import Preset
from training.samples import Batch, MeasuredClip, half_duration, late
from training.synthesis.backgrounds import Backgrounds
from training.synthesis.calibration import Calibration
from training.synthesis.generator import FeatureGenerator, as_annotations

CHUNK_BATCHES = 32
STATISTICS_WINDOWS = 4096
STATISTICS_SECONDS = 600.0

# Streams of one run's seed: what one gives, no other does.
_TRAINING, _STATISTICS, _VALIDATION = range(3)


class SyntheticWindows:
    """Batches of generated windows for one preset.

    Args:
        preset: what windows to make.
        batch: windows per batch.
        seed: of the run.
        backgrounds: what the micro-expressions are put into; by default faces are drawn from the calibration.
        calibrated: share of the windows with such a face where there are backgrounds.

    Attributes:
        weights: float32 (5,), class weights measured on windows of their own.
        k_p: half the mean duration, in frames, measured on clips of their own.
    """

    description = GENERATED
    batches_per_epoch: int | None = None

    def __init__(
        self, preset: Preset, batch: int, seed: int, backgrounds: Backgrounds | None = None, calibrated: float = 0.0
    ) -> None:
        self._preset, self._batch, self._seed = preset, batch, seed
        self._backgrounds, self._calibrated = backgrounds, calibrated
        self._calibration = Calibration.load()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="windows")
        self._chunks: dict[int, Future[Batch]] = {}
        statistics = self._generator(_STATISTICS, 0)
        _, y, classes = statistics.windows(STATISTICS_WINDOWS)
        self.weights = class_weights(late(y, classes, preset.delay)[1])
        self.k_p = half_duration(as_annotations(statistics.clip(STATISTICS_SECONDS).truth))

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        index, place = divmod(step, CHUNK_BATCHES)
        for wanted in (index, index + 1):
            if wanted not in self._chunks:
                self._chunks[wanted] = self._pool.submit(self._chunk, wanted)
        for stale in [i for i in self._chunks if i not in (index, index + 1)]:
            self._chunks.pop(stale).cancel()
        x, y, classes = self._chunks[index].result()
        rows = slice(place * self._batch, (place + 1) * self._batch)
        return x[rows], y[rows], classes[rows]

    def clips(self, count: int, seconds: float) -> list[MeasuredClip]:
        """Generate held-out clips, from streams that no batch comes from."""
        made = (self._generator(_VALIDATION, i).clip(seconds) for i in range(count))
        return [MeasuredClip(clip.windows, as_annotations(clip.truth)) for clip in made]

    def close(self) -> None:
        """Stop making windows ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _chunk(self, index: int) -> Batch:
        x, y, classes = self._generator(_TRAINING, index).windows(CHUNK_BATCHES * self._batch)
        return (x, *late(y, classes, self._preset.delay))

    def _generator(self, stream: int, index: int) -> FeatureGenerator:
        seed = int(np.random.SeedSequence((self._seed, stream, index)).generate_state(1)[0])
        preset = self._preset
        return FeatureGenerator(
            seed, preset.roi_set, preset.fps, preset.k, self._calibration, self._backgrounds, self._calibrated
        )
