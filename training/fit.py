"""Training one model: the loop, its checkpoints, and what it leaves in the run's folder.

    RUN/model.pt        the trained network, for `python -m export bundle` and `python -m training evaluate`
    RUN/state.pt        everything an interrupted run needs to go on
    RUN/metrics.jsonl   one line per step, and one per validation
    RUN/loss.png        the loss curves

Every random choice is a function of (seed, step), so a run can be repeated, and an interrupted one continued, bit for
bit: on the same machine, with as many threads.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from metst_edge.decode.offline import RATIO
from metst_edge.labels import LABELS
from training.data.errors import DataError
from training.data.samples import Batch, MeasuredClip
from training.evaluation.metrics import Scores
from training.evaluation.plots import loss_curves
from training.evaluation.validate import validate
from training.losses import loss as training_loss
from training.models import build, save_checkpoint
from training.models.metst import MeTst
from training.presets import Preset

AUGMENTATION = (0.9, 1.1)
"""A training window is multiplied by one number from this range (ME-TST, arXiv 2409.09707)."""

SAVE_SECONDS = 60.0
"""How much work a kill can cost; Ctrl-C costs none."""

# Gradients of a scan can be steep early on; this is far above their usual norm.
MAX_GRADIENT = 1.0


class Windows(Protocol):
    """Where training windows come from."""

    weights: npt.NDArray[np.float32]
    k_p: int
    batches_per_epoch: int | None

    def batch(self, step: int) -> Batch:
        """Return the windows of a step, counted from 0; always the same ones."""

    def close(self) -> None:
        """Release what the source holds."""


@dataclass(frozen=True, slots=True)
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
        floor: the same.
    """

    preset: Preset
    seed: int
    steps: int
    batch: int
    learning_rate: float
    threads: int
    device: str
    data: str
    ratio: float = RATIO
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run is, for whoever shows it."""

    step: int
    steps: int
    loss: float
    scores: Scores | None


class Interrupted(Exception):
    """Ctrl-C: the run's state is saved, ``step`` steps are done."""

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
    report: Callable[[Point], None] = lambda point: None,
) -> Scores | None:
    """Train and leave the network in ``folder``.

    Args:
        run: what to train.
        windows: training batches.
        clips: held out, scored ``validations`` times on the way, the last time after the last step; may be empty.
        folder: of the run; made if missing.
        resume: go on from the state saved in ``folder``.
        validations: how often the clips are scored.
        report: called after every step.

    Returns:
        The last validation's scores, or None without clips.

    Raises:
        DataError: the folder holds another run, or nothing to resume.
        Interrupted: Ctrl-C; resume to go on.
    """
    settings = _settings(run)
    state = _load_state(folder, settings) if resume else None
    if not resume and (folder / "metrics.jsonl").exists():
        raise DataError(f"{folder} already holds a run; add --resume to go on with it, or name another --out")
    folder.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    device = torch.device(run.device)
    network = build(run.preset.model, channels=run.preset.channels).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=run.learning_rate)
    schedule = OneCycleLR(optimizer, max_lr=run.learning_rate, total_steps=run.steps)
    weights = torch.from_numpy(windows.weights).to(device)
    first = 0
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]

    def save(step: int) -> None:
        content = {
            "settings": settings,
            "step": step,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        partial = folder / "state.pt.part"
        torch.save(content, partial)
        os.replace(partial, folder / "state.pt")

    marks = {round(run.steps * (i + 1) / validations) for i in range(validations)} if clips else set()
    scores: Scores | None = None
    step, saved = first, time.monotonic()
    with _Log(folder / "metrics.jsonl", first) as log:
        with _ctrl_c() as asked:
            while step < run.steps and not asked():
                rate = schedule.get_last_lr()[0]
                parts = _step(network, optimizer, schedule, windows, weights, run.seed, step)
                step += 1
                if not np.isfinite(parts[0]):
                    raise DataError(
                        f"expected a finite loss, got {parts[0]} at step {step}; "
                        f"lower --learning-rate (now {run.learning_rate:g})"
                    )
                values = dict(zip(("loss", "spotting", "emotion"), parts, strict=True))
                log.write({"step": step, **values, "learning_rate": rate})
                if step in marks:
                    scores = validate(network, clips, run.preset.k, windows.k_p, run.ratio, run.floor)
                    log.write({"step": step, "validation": scores.to_dict()})
                report(Point(step, run.steps, parts[0], scores if step in marks else None))
                if time.monotonic() - saved > SAVE_SECONDS:
                    save(step)
                    saved = time.monotonic()
        save(step)
        if step < run.steps:
            raise Interrupted(step)
        if scores is None and clips:
            scores = validate(network, clips, run.preset.k, windows.k_p, run.ratio, run.floor)
        loss_curves(log.records(), folder / "loss.png")
    save_checkpoint(folder / "model.pt", network, checkpoint_meta(run, windows.k_p, scores))
    return scores


def steps_in(minutes: float, run: Run, windows: Windows, probes: int = 12) -> int:
    """Measure how many steps fit into ``minutes`` here and now, on a network that is thrown away.

    The answer differs from time to time; the number of steps, once known, repeats the run.
    """
    torch.set_num_threads(run.threads)
    network = build(run.preset.model, channels=run.preset.channels).to(run.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=run.learning_rate)
    schedule = OneCycleLR(optimizer, max_lr=run.learning_rate, total_steps=probes + 1)
    weights = torch.from_numpy(windows.weights).to(run.device)
    times = []
    for step in range(probes):
        start = time.monotonic()
        _step(network, optimizer, schedule, windows, weights, run.seed, step)
        times.append(time.monotonic() - start)
    # The first steps allocate and wait for the first windows.
    return max(1, int(60 * minutes / float(np.median(times[2:]))))


def saved_steps(folder: Path) -> int:
    """Return how many steps the interrupted run in ``folder`` was begun with.

    Raises:
        DataError: there is none.
    """
    steps: int = _read_state(folder)["settings"]["steps"]
    return steps


def _step(
    network: MeTst,
    optimizer: torch.optim.Optimizer,
    schedule: OneCycleLR,
    windows: Windows,
    weights: Tensor,
    seed: int,
    step: int,
) -> tuple[float, float, float]:
    """Do one optimiser step and return loss, spotting part, emotion part."""
    x, y, classes = windows.batch(step)
    scale = np.random.default_rng((seed, step)).uniform(*AUGMENTATION, (len(x), 1, 1)).astype(np.float32)
    torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))  # what DropPath drops
    network.train()
    device = weights.device
    spot, logits = network(torch.from_numpy(x * scale).to(device))
    parts = training_loss(spot, logits, torch.from_numpy(y).to(device), torch.from_numpy(classes).to(device), weights)
    optimizer.zero_grad(set_to_none=True)
    parts[0].backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT)
    optimizer.step()
    schedule.step()
    total, spotting, emotion = (float(part.detach()) for part in parts)
    return total, spotting, emotion


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C instead of breaking off in the middle of a step; the second one breaks off."""
    asked = False

    def note(signum: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


class _Log:
    """metrics.jsonl, cut back to the step a resumed run goes on from."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [record for record in _read_lines(path) if record["step"] <= step] if step else []
        path.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        self._path = path
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        return _read_lines(self._path)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the last line of a run that was killed
    return records


def _settings(run: Run) -> dict[str, Any]:
    """Everything the network depends on, as plain values."""
    preset = run.preset
    return {
        "model": preset.model,
        "channels": preset.channels,
        "roi_set": preset.roi_set,
        "fps": preset.fps,
        "k": preset.k,
        "seed": run.seed,
        "steps": run.steps,
        "batch": run.batch,
        "learning_rate": run.learning_rate,
        "threads": run.threads,
        "device": run.device,
        "data": run.data,
    }


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / "state.pt"
    if not path.is_file():
        raise DataError(f"expected the state of an interrupted run in {folder}, found none; leave --resume out")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read ({reason}); remove {folder} and start anew") from error
    return state


def _load_state(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Read the state of an interrupted run and check that it is the run that is asked for."""
    state = _read_state(folder)
    before = state["settings"]
    changed = [
        f"{key} was {before.get(key)!r}, is {settings[key]!r}" for key in settings if before.get(key) != settings[key]
    ]
    if changed:
        raise DataError(f"expected the settings {folder} was begun with, got others: {'; '.join(changed)}")
    return state


def checkpoint_meta(run: Run, k_p: int, scores: Scores | None) -> dict[str, Any]:
    """What the exporter writes into the bundle."""
    preset = run.preset
    return {
        "name": preset.model,
        "labels": list(LABELS),
        "fps": preset.fps,
        "k": preset.k,
        "k_p": k_p,
        "roi_set": preset.roi_set,
        "compat": False,
        "decode": {
            "ratio": run.ratio,
            "floor": run.floor,
            "synergy": "spotting_mainly",
            "window_seconds": 60.0,
        },
        "training": {
            "data": run.data,
            "seed": run.seed,
            "steps": run.steps,
            "batch": run.batch,
            "learning_rate": run.learning_rate,
            "threads": run.threads,
            "device": run.device,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
        "licence": "Apache-2.0",
        "metrics": {} if scores is None else {"validation": scores.to_dict()},
    }
