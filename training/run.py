"""What a training run is: the values it depends on, where it stands, and what its checkpoint says.

Plain values; knows nothing of networks, files or terminals.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import numpy as np

from metst_edge.decode.settings import DEFAULTS, DecodeSettings
from metst_edge.labels import LABELS
from training.evaluation.metrics import Scores
from training.kept_apart import record
from training.presets import Preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one training run is; two runs with equal values give equal networks.

    Attributes:
        preset: what is trained.
        seed: of every random choice.
        steps: optimiser steps.
        batch: windows per step.
        learning_rate: the highest of the OneCycle schedule.
        threads: torch's; sums are rounded differently with another number.
        device: torch's name.
        data: a description of the training data, for the checkpoint.
        ratio: decode default, for the checkpoint and the scores on held-out clips.
        floor: decode default, for the same.
        licence: of weights trained on that data, for the checkpoint; None where only who owns the data knows.
        fold: number of the fold of people that was kept out, so that nobody scores it on another; None without folds.
        trained_on: names of the people whose video it is trained on; empty where it is of nobody who is named.
        kept_out: names of those who are kept out: all of that fold, or the test subjects.
    """

    preset: Preset
    seed: int
    steps: int
    batch: int
    learning_rate: float
    threads: int
    device: str
    data: str
    ratio: float = DEFAULTS.ratio
    floor: float = DEFAULTS.floor
    licence: str | None = None
    fold: int | None = None
    trained_on: tuple[str, ...] = ()
    kept_out: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return everything the network depends on, as plain values."""
        preset = self.preset
        return {
            "model": preset.model,
            "channels": preset.channels,
            "roi_set": preset.roi_set,
            "fps": preset.fps,
            "k": preset.k,
            **self._late(),
            **self._optimisation(),
            "data": self.data,
            **self._left_out(),
        }

    def _late(self) -> dict[str, int]:
        return {"delay": self.preset.delay} if self.preset.delay else {}

    def _left_out(self) -> dict[str, Any]:
        fold = {} if self.fold is None else {"fold": self.fold}
        return {**fold, **({"people": record(self.trained_on, self.kept_out)} if self.trained_on else {})}

    def _optimisation(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "steps": self.steps,
            "batch": self.batch,
            "learning_rate": self.learning_rate,
            "threads": self.threads,
            "device": self.device,
        }

    def checkpoint_meta(self, k_p: int, scores: Scores | None) -> dict[str, Any]:
        """Return what a checkpoint says beside its weights, and the exporter writes into the bundle.

        Args:
            k_p: half the typical duration in the training data, frames.
            scores: on held-out clips, or None where there were none.

        Returns:
            Plain JSON values.
        """
        import torch  # for its version only: a Run is made and read without it

        preset = self.preset
        return {
            "name": preset.model,
            "labels": list(LABELS),
            "fps": preset.fps,
            "k": preset.k,
            "k_p": k_p,
            "roi_set": preset.roi_set,
            "compat": False,
            **self._late(),
            "decode": DecodeSettings(self.ratio, self.floor).to_dict(),
            "training": {
                "data": self.data,
                **self._left_out(),
                **self._optimisation(),
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
            **({} if self.licence is None else {"licence": self.licence}),
            "metrics": {} if scores is None else {"validation": scores.to_dict()},
        }


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run is, for whoever shows it.

    Attributes:
        step: optimiser steps done.
        steps: of the whole run.
        loss: of the last step.
        scores: on held-out clips, if they were scored after this step.
    """

    step: int
    steps: int
    loss: float
    scores: Scores | None
