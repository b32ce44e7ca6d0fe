"""Training one recogniser on intervals: the values a run depends on, the loop, and what it leaves in its folder.

    RUN/model.pt        the trained network, for `python -m export bundle` and `python -m training recognise evaluate`
    RUN/state.pt        everything an interrupted run needs to go on
    RUN/metrics.jsonl   one line per step

As in `training.fit`, every random choice is a function of (seed, step), so a run can be repeated and continued bit for
bit; threads and determinism are the caller's.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from metst_edge.labels import EMOTIONS
from metst_edge.manifest import DEFAULT_WEIGHT
from metst_edge.recognise.images import ImageSettings
from training.data.errors import DataError
from training.fit import MAX_GRADIENT, SAVE_SECONDS, Interrupted
from training.kept_apart import record
from training.models.checkpoint import save_checkpoint
from training.models.imagenet import load_imagenet
from training.models.slstt import Slstt, build_recogniser
from training.recognition.dynamic import Levels
from training.recognition.intervals import Interval, scaled
from training.recognition.presets import MOMENTUM, WEIGHT_DECAY, RecognitionPreset
from training.state import Log, expect_finite, expect_run, load_state, save_state


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionRun:
    """What one training run is; two runs with equal values, on equal intervals, give equal networks.

    Attributes:
        preset: what is trained, and how.
        seed: of every random choice.
        threads: torch's; sums are rounded differently with another number.
        device: torch's name.
        data: a description of the training data, for the checkpoint.
        imagenet: file of ImageNet weights to begin with, or None.
        phases: whether intervals are also shown as two dynamic images.
        trained_on: names of the people whose video it is trained on; empty where they are not known.
        kept_out: names of the test subjects.
    """

    preset: RecognitionPreset
    seed: int
    threads: int
    device: str
    data: str
    imagenet: str | None = None
    phases: bool = True
    trained_on: tuple[str, ...] = ()
    kept_out: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return everything the network depends on, as plain values."""
        values = asdict(self)
        trained_on, kept_out = values.pop("trained_on"), values.pop("kept_out")
        people = {"people": record(trained_on, kept_out)} if trained_on else {}
        return {**values.pop("preset"), **values, **people}

    def checkpoint_meta(self, labels: Sequence[str], intervals: int) -> dict[str, Any]:
        """Return what a checkpoint says beside its weights, and the exporter writes into the bundle."""
        training = self.settings()
        if self.imagenet is not None:
            training["imagenet"] = Path(self.imagenet).name
        return {
            "name": training.pop("model"),
            "labels": list(labels),
            "weight": DEFAULT_WEIGHT,
            "training": {
                **training,
                "intervals": intervals,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
                "numpy": np.__version__,
            },
            "metrics": {},
        }


def labels_of(intervals: Sequence[Interval]) -> list[str]:
    """Return the emotions that occur, in the order of EMOTIONS: those that a recogniser learns to tell apart.

    Raises:
        DataError: fewer than two.
    """
    present = {interval.emotion for interval in intervals}
    labels = [name for i, name in enumerate(EMOTIONS) if i in present]
    if len(labels) < 2:
        raise DataError(
            f"expected intervals of at least two emotions to tell apart, got {len(intervals)} of "
            f"{', '.join(labels) or 'none'}; is a face seen at their onsets?"
        )
    return labels


def fit(
    run: RecognitionRun,
    intervals: Sequence[Interval],
    folder: Path,
    *,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> None:
    """Train and leave the network in ``folder``.

    Args:
        run: what to train.
        intervals: of the training subjects.
        folder: of the run; made if missing.
        resume: go on from the state saved in ``folder``.
        stop: asked before every step; once it says yes, the state is saved and the run ends.
        report: called after every step with the steps done, those in all, and the loss.

    Raises:
        DataError: the folder holds another run, or nothing to resume; too few emotions; or the loss is not finite.
        CheckpointError: the ImageNet weights cannot be used.
        Interrupted: it was asked to stop; resume to go on.
    """
    labels = labels_of(intervals)
    settings = {**run.settings(), "labels": labels, "intervals": len(intervals)}
    if not resume:
        expect_run(folder, resume=False)
    state = load_state(folder, settings) if resume else None
    folder.mkdir(parents=True, exist_ok=True)
    learner = _Learner(run, intervals, labels)
    step = 0 if state is None else learner.restore(state)
    steps = run.preset.epochs * learner.steps_per_epoch
    saved = time.monotonic()
    with Log(folder, step) as log:
        while step < steps and not stop():
            line = learner.step(step)
            step += 1
            expect_finite(line["loss"], step, run.preset.learning_rate)
            log.write({"step": step, **line})
            report(step, steps, line["loss"])
            if time.monotonic() - saved > SAVE_SECONDS:
                save_state(folder, {"settings": settings, "step": step, **learner.state()})
                saved = time.monotonic()
        save_state(folder, {"settings": settings, "step": step, **learner.state()})
    if step < steps:
        raise Interrupted(step)
    save_checkpoint(folder / "model.pt", learner.network, run.checkpoint_meta(labels, len(intervals)))


class _Learner:
    """A network with what moves it.

    Args:
        run: what is trained.
        intervals: to train on.
        labels: in the order of the logits.
    """

    def __init__(self, run: RecognitionRun, intervals: Sequence[Interval], labels: Sequence[str]) -> None:
        torch.manual_seed(run.seed)
        self._run, self._intervals, preset = run, intervals, run.preset
        made = build_recogniser(preset.model, classes=len(labels))
        if run.imagenet is not None:
            load_imagenet(made, run.imagenet)
        self.network: Slstt = made.to(run.device)
        self._settings = ImageSettings(input_size=made.sizes.input_size)
        classes = [labels.index(EMOTIONS[interval.emotion]) for interval in intervals]
        self._classes = np.array(classes, np.int64)
        self._optimizer = torch.optim.SGD(
            self.network.parameters(), lr=preset.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )
        self.steps_per_epoch = -(-len(intervals) // preset.batch)

    def state(self) -> dict[str, Any]:
        """Return all that changes from step to step."""
        return {"network": self.network.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> int:
        """Take over what `state` returned; return the steps done."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        done: int = state["step"]
        return done

    def step(self, step: int) -> dict[str, float]:
        """Do one optimiser step, counted from 0; return "loss" and the "learning_rate" it was done with."""
        run, preset = self._run, self._run.preset
        epoch, place = divmod(step, self.steps_per_epoch)
        rate = preset.learning_rate * 0.1 ** (epoch // preset.decay_every)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        order = np.random.default_rng((run.seed, epoch)).permutation(len(self._intervals))
        rows = order[place * preset.batch : (place + 1) * preset.batch]
        self.network.train()
        logits = self.network(self._tensor(np.stack([self._intervals[i].whole for i in rows])))
        classes = self._classes[rows]
        if run.phases:
            # Each dynamic image is a clip of one picture, beside the whole one.
            parts = np.concatenate([self._intervals[i].phases for i in rows])
            logits = torch.cat((logits, self.network(self._tensor(parts[:, None]))))
            classes = np.concatenate((classes, np.repeat(classes, 2)))
        loss = functional.cross_entropy(logits, torch.from_numpy(classes).to(run.device))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self._optimizer.step()
        return {"loss": float(loss.detach()), "learning_rate": rate}

    def _tensor(self, levels: Levels) -> torch.Tensor:
        images: npt.NDArray[np.float32] = scaled(levels, self._settings)
        return torch.from_numpy(images).to(self._run.device)
