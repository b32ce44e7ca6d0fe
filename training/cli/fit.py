"""``python -m training fit``: train a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from metst_edge.counting import how_many
from training.cli import scores, terminal
from training.cli.arguments import SYNTHETIC, Verbs, add_data, add_fold, count, fraction, names, positive, whole
from training.data.errors import DataError
from training.presets import PRESETS, Preset, Schedule

if TYPE_CHECKING:
    from training.data.features import Measured
    from training.data.folder import Video
    from training.fit import Windows
    from training.run import Run
    from training.samples import MeasuredClip
    from training.synthesis.backgrounds import Backgrounds

T = TypeVar("T")
Progressed = Callable[[float], None]
"""Called with the share of a video that is done."""

CALIBRATED = 0.33
"""Beside none and all what keeps most of either: docs/decisions/0006-backgrounds.md."""
HELD_OUT_CLIPS, HELD_OUT_SECONDS = 30, 30.0


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser("fit", help="train a model", description="Train a model.")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="metst64", help="what to train (default: metst64)")
    add_data(parser, several=True)
    tested = parser.add_mutually_exclusive_group()
    tested.add_argument("--test-subjects", metavar="A,B", type=names, default=(), help="subjects kept out of training")
    add_fold(tested, "keep out of training")
    parser.add_argument(
        "--backgrounds",
        metavar="DIR",
        type=Path,
        nargs="+",
        default=(),
        help="labelled folders; generated micro-expressions are put into what their people do without any, into each "
        "folder's as often",
    )
    parser.add_argument(
        "--calibrated",
        metavar="SHARE",
        type=fraction,
        help="share of the windows that show, beside backgrounds, faces drawn from the calibration (default: "
        f"{CALIBRATED})",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="where measured windows are kept (default: DATA/.windows, and .backgrounds in each folder of those)",
    )
    parser.add_argument("--ratio", type=positive, help="windows without a micro-expression per window with one")
    parser.add_argument("--seed", type=count, default=0, help="of every random choice (default: 0)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="the run's folder (default: runs/PRESET-DATA-seedN)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=whole, help="optimiser steps (default: the preset's)")
    length.add_argument("--epochs", type=whole, help="passes over a labelled folder (default: the preset's)")
    length.add_argument("--minutes", type=positive, help="as many steps as fit into this time, measured here first")
    parser.add_argument("--batch", type=whole, help="windows per step (default: the preset's)")
    parser.add_argument(
        "--learning-rate", type=positive, help="highest of the OneCycle schedule (default: the preset's)"
    )
    parser.add_argument(
        "--threads", type=whole, default=1, help="of torch; another number rounds differently (default: 1)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train one model."""
    import torch

    from training.fit import Interrupted, fit
    from training.run import Point
    from training.state import expect_run

    console = terminal.console()
    preset = PRESETS[options.preset]
    options.folders = _folders(options.data)
    schedule = _schedule(options, preset)
    data_names = [folder.name for folder in options.folders] or [SYNTHETIC]
    out = options.out or Path("runs") / f"{options.preset}-{'-'.join(data_names)}-seed{options.seed}"
    if options.fold and not options.folders and not options.backgrounds:
        raise DataError(
            "expected --fold with people, got it with generated windows; name a labelled folder by --data or "
            "--backgrounds"
        )
    if options.calibrated is not None and not options.backgrounds:
        raise DataError("expected --calibrated with --backgrounds, got it alone; generated faces are all calibrated")
    if options.backgrounds and options.folders:
        raise DataError(
            f"expected --backgrounds with --data {SYNTHETIC}, got it with --data {' '.join(map(str, options.folders))}"
        )
    terminal.expect_device(options.device)
    terminal.expect_place(out)
    expect_run(out, resume=options.resume)
    measured = _labelled if options.folders else _synthetic
    windows, clips, data = measured(preset, schedule.batch, options, console)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(options.threads)
    try:
        job = _job(options, preset, schedule, windows, data, out)
        console.print(
            f"{preset.model} on {', '.join(options.data)}: {how_many(job.steps, 'step')} of "
            f"{how_many(job.batch, 'window')}, learning rate {job.learning_rate:g}, k_p {windows.k_p}, "
            f"seed {job.seed}, {how_many(job.threads, 'thread')}; results in {out}"
        )
        with terminal.bar(console, TextColumn("loss {task.fields[loss]:.4f}")) as bar:
            task = bar.add_task("training", total=job.steps, loss=float("nan"))

            def report(point: Point) -> None:
                bar.update(task, completed=point.step, loss=point.loss)
                if point.scores is not None:
                    bar.console.print(f"step {point.step}: held-out clips: {scores.in_short(point.scores)}")

            try:
                with terminal.ctrl_c() as asked:
                    reached = fit(job, windows, clips, out, resume=options.resume, stop=asked, report=report)
            except Interrupted as stop:
                done = how_many(stop.step, "step")
                print(f"training: interrupted after {done}; go on with --resume", file=sys.stderr)
                return 1
    finally:
        windows.close()
    if reached is not None:
        scores.show(console, reached, "Held-out clips, measured features")
    terms = "" if job.licence else " --licence TERMS"
    console.print(f"wrote {out / 'model.pt'}; next: python -m export bundle {out / 'model.pt'} --out DIR{terms}")
    return 0


def _folders(given: Sequence[str]) -> list[Path]:
    """Return the labelled folders that --data names; none stands for generated windows."""
    folders = [Path(each) for each in dict.fromkeys(given) if each != SYNTHETIC]
    if folders and SYNTHETIC in given:
        raise DataError(f"expected --data {SYNTHETIC} or labelled folders, got both; leave one out")
    return folders


def _schedule(options: argparse.Namespace, preset: Preset) -> Schedule:
    """Return the preset's schedule for the data, with what was asked for instead."""
    schedule = preset.folder if options.folders else preset.synthetic
    return replace(
        schedule,
        batch=options.batch or schedule.batch,
        learning_rate=options.learning_rate or schedule.learning_rate,
    )


def _job(
    options: argparse.Namespace, preset: Preset, schedule: Schedule, windows: Windows, data: str, out: Path
) -> Run:
    """Put together what is trained, for how many steps in any case."""
    from training.fit import steps_in
    from training.models.checkpoint import LICENCE
    from training.run import Run
    from training.state import saved_steps

    steps = options.steps or schedule.steps or 1
    if windows.batches_per_epoch is not None and not options.steps:
        steps = (options.epochs or schedule.epochs or 1) * windows.batches_per_epoch
    job = Run(
        preset=preset,
        seed=options.seed,
        steps=steps,
        batch=schedule.batch,
        learning_rate=schedule.learning_rate,
        threads=options.threads,
        device=options.device,
        data=data,
        ratio=schedule.ratio,
        floor=schedule.floor,
        licence=None if options.folders or options.backgrounds else LICENCE,
        fold=options.fold[1] if options.fold else None,
        **_people(options),
    )
    if not options.minutes:
        return job
    # Measured again, the number would be another and the run not the one to go on with.
    return replace(job, steps=saved_steps(out) if options.resume else steps_in(options.minutes, job, windows))


def _people(options: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """Say who is trained on and who is kept out, for the checkpoint; nothing of generated windows."""
    from training.evaluation.folds import read_folds

    folders = options.backgrounds or options.folders
    if not folders:
        return {}
    kept_out = read_folds(options.fold[0])[options.fold[1]] if options.fold else options.test_subjects
    trained_on = {video.subject for _, video in _training_videos(folders, options)}
    return {"trained_on": tuple(sorted(trained_on)), "kept_out": tuple(kept_out)}


def _synthetic(
    preset: Preset, batch: int, options: argparse.Namespace, console: Console
) -> tuple[Windows, list[MeasuredClip], str]:
    from training.data.synthetic import SyntheticWindows

    if options.backgrounds:
        backgrounds, description = _backgrounds(preset, options, console)
        windows = SyntheticWindows(preset, batch, options.seed, backgrounds, _calibrated(options))
    else:
        windows = SyntheticWindows(preset, batch, options.seed)
        description = windows.description
    return windows, windows.clips(HELD_OUT_CLIPS, HELD_OUT_SECONDS), description


def _backgrounds(preset: Preset, options: argparse.Namespace, console: Console) -> tuple[Backgrounds, str]:
    """Measure what people do without a micro-expression, and say who they are."""
    from metst_edge.face import FaceFinder
    from training.data.backgrounds import measure_backgrounds
    from training.synthesis.backgrounds import together

    videos, finder = _training_videos(options.backgrounds, options), FaceFinder()
    caches = {folder: options.cache or folder / ".backgrounds" for folder, _ in videos}
    for cache in caches.values():
        terminal.expect_place(cache)

    def measured(folder: Path, video: Video, progress: Progressed) -> Backgrounds:
        return measure_backgrounds(video, preset, caches[folder], finder, progress, str(folder))

    backgrounds = together(_each(videos, measured, console))
    if not len(backgrounds):
        raise DataError(
            f"expected windows of {preset.k} frames with a face and without a micro-expression, got none in "
            f"{how_many(len(videos), 'video')} of {', '.join(map(str, options.backgrounds))}"
        )
    people = len(set(backgrounds.subject.tolist()))
    folders = ", ".join(sorted({folder.name for folder, _ in videos}))
    share = f"share on calibrated faces: {_calibrated(options)}"
    return (
        backgrounds,
        f"micro-expressions drawn into {len(backgrounds)} windows, people: {people} ({folders}); {share}",
    )


def _calibrated(options: argparse.Namespace) -> float:
    return CALIBRATED if options.calibrated is None else float(options.calibrated)


def _labelled(
    preset: Preset, batch: int, options: argparse.Namespace, console: Console
) -> tuple[Windows, list[MeasuredClip], str]:
    from metst_edge.face import FaceFinder
    from training.data.features import measure
    from training.data.folder import expect_events
    from training.data.windows import FolderWindows

    found, finder = _training_videos(options.folders, options), FaceFinder()
    expect_events([video for _, video in found], "those who are trained on")
    caches = {folder: options.cache or folder / ".windows" for folder, _ in found}
    for cache in caches.values():
        terminal.expect_place(cache)

    def measured(folder: Path, video: Video, progress: Progressed) -> Measured:
        return measure(video, preset, caches[folder], finder, progress)

    ratio = options.ratio or preset.ratio
    windows = FolderWindows(_each(found, measured, console), batch, ratio, options.seed, preset.delay)
    videos = [video for _, video in found]
    subjects = sorted({video.subject for video in videos})
    events = sum(len(video.annotations) for video in videos)
    return (
        windows,
        [],
        (
            f"{', '.join(folder.name for folder in caches)}: {how_many(events, 'micro-expression')}, "
            f"{how_many(len(videos), 'video')}, "
            f"{how_many(len(subjects), 'subject')}"
        ),
    )


def _training_videos(folders: Sequence[Path], options: argparse.Namespace) -> list[tuple[Path, Video]]:
    """Read labelled folders but for the test subjects, who are scored by `evaluate` alone and choose nothing."""
    from training.data.folder import read_folder, split_subjects
    from training.evaluation.folds import split_fold

    found = [(folder, video) for folder in dict.fromkeys(folders) for video in read_folder(folder, options.first_frame)]
    videos = [video for _, video in found]
    if options.fold:
        kept, _ = split_fold(videos, *options.fold)
    else:
        kept, _ = split_subjects(videos, options.test_subjects)
    return [(folder, video) for folder, video in found if video in kept]


def _each(
    videos: Sequence[tuple[Path, Video]], measured: Callable[[Path, Video, Progressed], T], console: Console
) -> list[T]:
    """Measure every video of folders, and show how far that is."""
    out = []
    with terminal.bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("measuring", total=len(videos), video="")
        for i, (folder, video) in enumerate(videos):
            bar.update(task, completed=i, video=video.name)
            out.append(measured(folder, video, partial(_advance, bar, task, i)))
    return out


def _advance(bar: Progress, task: TaskID, before: int, share: float) -> None:
    bar.update(task, completed=before + share)
