"""Training one model: the loop, and what it leaves in the run's folder.

    RUN/model.pt        the trained network, for `python -m export bundle` and `python -m training evaluate`
    RUN/state.pt        everything an interrupted run needs to go on
    RUN/metrics.jsonl   one line per step, and one per validation
    RUN/loss.png        the loss curves

Every random choice is a function of (seed, step), so a run can be repeated, and an interrupted one continued, bit for
bit: on the same machine, with as many threads. How many torch has, whether its operations are deterministic, and what
Ctrl-C does are the process's, and are set by whoever owns it, such as the command line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.lr_scheduler import OneCycleLR

from training.evaluation.metrics import Scores
from training.evaluation.plots import loss_curves
from training.evaluation.validate import validate
from training.losses import loss as training_loss
from training.models import build, save_checkpoint
from training.run import Point, Run
from training.samples import Batch, MeasuredClip
from training.state import Log, expect_finite, expect_run, load_state, save_state

AUGMENTATION = (0.9, 1.1)
"""A training window is multiplied by one number from this range (ME-TST, arXiv 2409.09707)."""

SAVE_SECONDS = 60.0
"""How much work a kill can cost; being asked to stop costs none."""

# Gradients of a scan can be steep early on; this is far above their usual norm.
MAX_GRADIENT = 1.0


class Windows(Protocol):
    """Where training windows come from.

    Attributes:
        weights: float32 (E,), of the classes in the loss.
        k_p: half the typical duration, frames of the model.
        batches_per_epoch: how many steps a pass takes; None for data that never repeats.
    """

    weights: npt.NDArray[np.float32]
    k_p: int
    batches_per_epoch: int | None

    def batch(self, step: int) -> Batch:
        """Return the windows of a step, counted from 0; always the same ones."""

    def close(self) -> None:
        """Release what the source holds."""


class Interrupted(Exception):
    """The run was asked to stop: its state is saved, ``step`` steps are done."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


def fit(
    run: Run,
    windows: Windows,
    clips: Sequence[MeasuredClip],
    folder: Path,
    *,
    resume: bool = False,
    validations: int = 4,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[Point], None] = lambda point: None,
) -> Scores | None:
    """Train and leave the network in ``folder``.

    Args:
        run: what to train. That torch has ``run.threads`` threads and is deterministic is up to the caller.
        windows: training batches.
        clips: held out, scored ``validations`` times on the way, the last time after the last step; may be empty.
        folder: of the run; made if missing.
        resume: go on from the state saved in ``folder``.
        validations: how often the clips are scored.
        stop: asked before every step; once it says yes, the state is saved and the run ends.
        report: called after every step.

    Returns:
        The last validation's scores, or None without clips.

    Raises:
        DataError: the folder holds another run, or nothing to resume; or the loss is not finite any more.
        Interrupted: it was asked to stop; resume to go on.
    """
    learner, step = _begin(run, windows, folder, resume)

    def save() -> None:
        save_state(folder, {"settings": run.settings(), "step": step, **learner.state()})

    def score() -> Scores:
        return validate(learner.network, clips, run.preset.k, windows.k_p, run.ratio, run.floor, run.preset.delay)

    marks = {round(run.steps * (i + 1) / validations) for i in range(validations)} if clips else set()
    scores: Scores | None = None
    saved = time.monotonic()
    with Log(folder, step) as log:
        while step < run.steps and not stop():
            line = learner.step(step)
            step += 1
            expect_finite(line["loss"], step, run.learning_rate)
            log.write({"step": step, **line})
            if step in marks:
                scores = score()
                log.write({"step": step, "validation": scores.to_dict()})
            report(Point(step, run.steps, line["loss"], scores if step in marks else None))
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
        save()
        if step < run.steps:
            raise Interrupted(step)
        if scores is None and clips:
            scores = score()
        loss_curves(log.records(), folder / "loss.png")
    save_checkpoint(folder / "model.pt", learner.network, run.checkpoint_meta(windows.k_p, scores))
    return scores


def _begin(run: Run, windows: Windows, folder: Path, resume: bool) -> tuple[_Learner, int]:
    """Return a fresh network in a fresh folder, or one that is where the run stopped, and the steps done."""
    if not resume:
        expect_run(folder, resume=False)
    state = load_state(folder, run.settings()) if resume else None
    folder.mkdir(parents=True, exist_ok=True)
    learner = _Learner(run, windows, run.steps)
    if state is None:
        return learner, 0
    learner.restore(state)
    return learner, state["step"]


def steps_in(minutes: float, run: Run, windows: Windows, probes: int = 12) -> int:
    """Measure how many steps fit into ``minutes`` here and now, on a network that is thrown away.

    The answer differs from time to time; the number of steps, once known, repeats the run.
    """
    learner = _Learner(run, windows, probes + 1)
    times = []
    for step in range(probes):
        start = time.monotonic()
        learner.step(step)
        times.append(time.monotonic() - start)
    # The first steps allocate and wait for the first windows.
    return max(1, int(60 * minutes / float(np.median(times[2:]))))


class _Learner:
    """A network with what moves it: optimiser and schedule.

    Args:
        run: what is trained.
        windows: training batches.
        steps: length of the schedule.
    """

    def __init__(self, run: Run, windows: Windows, steps: int) -> None:
        torch.manual_seed(run.seed)
        self.network = build(run.preset.model, channels=run.preset.channels).to(run.device)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=run.learning_rate)
        self._schedule = OneCycleLR(self._optimizer, max_lr=run.learning_rate, total_steps=steps)
        self._windows = windows
        self._weights = torch.from_numpy(windows.weights).to(run.device)
        self._seed = run.seed

    def state(self) -> dict[str, Any]:
        """Return all that changes from step to step."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def step(self, step: int) -> dict[str, float]:
        """Do one optimiser step, counted from 0.

        Returns:
            "loss", its parts "spotting" and "emotion", and the "learning_rate" it was done with.
        """
        rate = self._schedule.get_last_lr()[0]
        x, y, classes = self._windows.batch(step)
        scale = np.random.default_rng((self._seed, step)).uniform(*AUGMENTATION, (len(x), 1, 1)).astype(np.float32)
        # What DropPath drops.
        torch.manual_seed(int(np.random.SeedSequence((self._seed, step)).generate_state(1)[0]))
        self.network.train()
        weights, device = self._weights, self._weights.device
        spot, logits = self.network(torch.from_numpy(x * scale).to(device))
        truth, labels = torch.from_numpy(y).to(device), torch.from_numpy(classes).to(device)
        total, spotting, emotion = training_loss(spot, logits, truth, labels, weights)
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self._optimizer.step()
        self._schedule.step()
        parts = {"loss": total, "spotting": spotting, "emotion": emotion}
        return {name: float(part.detach()) for name, part in parts.items()} | {"learning_rate": rate}
