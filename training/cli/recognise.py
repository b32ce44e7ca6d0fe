"""``python -m training recognise``: train a recogniser on given intervals, and score one."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from metst_edge.counting import how_many
from training.cli import render, terminal
from training.cli.arguments import SYNTHETIC, Verbs, add_clips, add_data, count, names, positive, whole
from training.recognition.presets import PRESETS

if TYPE_CHECKING:
    from metst_edge.recognise.images import ImageSettings
    from training.data.folder import Video
    from training.recognition.intervals import Interval


def add(verbs: Verbs) -> None:
    """Add the verb's parser, which has verbs of its own."""
    parser = verbs.add_parser(
        "recognise",
        help="train or score a recogniser, which names the emotion of a known interval",
        description="Train a recogniser on the intervals of a labelled folder, or score one on them.",
    )
    own = parser.add_subparsers(required=True, metavar="VERB")
    _add_fit(own)
    _add_evaluate(own)


def _add_fit(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "fit",
        help="train a recogniser",
        description="Train a recogniser on given intervals. With --data synthetic, on clips that are rendered first, "
        "of the training portraits in --portraits.",
    )
    parser.add_argument(
        "--preset", choices=sorted(PRESETS), default="slstt_small", help="what to train (default: slstt_small)"
    )
    add_data(parser)
    parser.add_argument("--portraits", metavar="DIR", type=Path, help="holds the training portraits")
    add_clips(parser)
    parser.add_argument("--test-subjects", metavar="A,B", type=names, default=(), help="subjects kept out of training")
    _add_cache(parser)
    parser.add_argument(
        "--imagenet",
        metavar="FILE",
        type=Path,
        help="ImageNet weights of ViT-B/16 to begin with: a state dict of the published code or of torchvision",
    )
    parser.add_argument(
        "--phases",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show intervals also as two dynamic images, onset to apex and apex to offset (default)",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="the run's folder (default: runs/PRESET-DATA-seedN)")
    parser.add_argument("--epochs", type=whole, help="passes over the intervals (default: the preset's)")
    parser.add_argument("--batch", type=whole, help="intervals per step (default: the preset's)")
    parser.add_argument("--learning-rate", type=positive, help="at first (default: the preset's)")
    parser.add_argument("--threads", type=whole, default=1, help="of torch (default: 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--run-seed", metavar="N", type=count, default=0, help="of every random choice (default: 0)")
    parser.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")
    parser.set_defaults(run=run_fit)


def _add_evaluate(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "evaluate", help="score a recogniser", description="Score a recogniser on the intervals of labelled video."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="a bundle, or a model.pt that `recognise fit` left")
    add_data(parser)
    add_clips(parser)
    parser.add_argument("--subjects", metavar="A,B", type=names, default=(), help="only these (default: all)")
    _add_cache(parser)
    parser.add_argument("--engine", default="auto", help="auto, onnxruntime or tensorrt (default: auto)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="for the results (default: runs/evaluate-MODEL-DATA)")
    parser.set_defaults(run=run_evaluate)


def _add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, help="where drawn intervals are kept (default: DATA/.intervals)"
    )


def run_fit(options: argparse.Namespace) -> int:
    """Train one recogniser."""
    import torch

    from metst_edge.recognise.images import ImageSettings
    from training.data.errors import DataError
    from training.data.folder import expect_events, split_subjects
    from training.fit import Interrupted
    from training.models.slstt import RECOGNISERS
    from training.recognition.fit import RecognitionRun, fit
    from training.state import expect_run

    console = terminal.console()
    preset = PRESETS[options.preset]
    preset = replace(
        preset,
        epochs=options.epochs or preset.epochs,
        batch=options.batch or preset.batch,
        learning_rate=options.learning_rate or preset.learning_rate,
    )
    out = options.out or Path("runs") / f"{options.preset}-{Path(options.data).name}-seed{options.run_seed}"
    if options.data == SYNTHETIC and options.portraits is None:
        raise DataError("expected --portraits DIR with --data synthetic: the clips are of the training portraits")
    terminal.expect_device(options.device)
    terminal.expect_place(out)
    expect_run(out, resume=options.resume)
    folder, all_videos = _videos(options, console, options.portraits)
    videos, _ = split_subjects(all_videos, options.test_subjects)
    expect_events(videos, "those who are trained on")
    sizes = RECOGNISERS[preset.model]
    intervals = _drawn(videos, ImageSettings(input_size=sizes.input_size), sizes.frames, folder, options, console)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(options.threads)
    subjects = len({interval.subject for interval in intervals})
    job = RecognitionRun(
        preset=preset,
        seed=options.run_seed,
        threads=options.threads,
        device=options.device,
        data=f"{folder.name}: {how_many(len(intervals), 'interval')} of {how_many(subjects, 'subject')}",
        imagenet=None if options.imagenet is None else str(options.imagenet),
        phases=options.phases,
        # Rendered clips are of portraits, and what they are called says nothing of people.
        trained_on=() if options.data == SYNTHETIC else tuple({video.subject for video in videos}),
        kept_out=options.test_subjects,
    )
    console.print(f"{preset.model} on {job.data}: {how_many(preset.epochs, 'epoch')}; results in {out}")
    with terminal.bar(console, TextColumn("loss {task.fields[loss]:.4f}")) as bar:
        task = bar.add_task("training", total=None, loss=float("nan"))

        def report(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, loss=loss)

        try:
            with terminal.ctrl_c() as asked:
                fit(job, intervals, out, resume=options.resume, stop=asked, report=report)
        except Interrupted as stop:
            print(f"training: interrupted after {how_many(stop.step, 'step')}; go on with --resume", file=sys.stderr)
            return 1
    model = out / "model.pt"
    console.print(f"wrote {model}; next: python -m export bundle {model} --out DIR --licence TERMS")
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
    """Score one recogniser on given intervals."""
    from metst_edge.recognise.images import ImageSettings
    from training.cli.model import as_recogniser, results_folder
    from training.data.folder import expect_events, split_subjects
    from training.kept_apart import Apart
    from training.recognition.evaluate import evaluate

    console = terminal.console()
    out = options.out or results_folder(options.model, Path(options.data).name)
    terminal.expect_place(out)
    folder, videos = _videos(options, console)
    if options.subjects:
        _, videos = split_subjects(videos, options.subjects)
    expect_events(videos, "those who are scored")
    bundle = as_recogniser(options.model, out)
    warning = Apart.of(bundle.manifest).warning(options.model, [video.subject for video in videos])
    if warning:
        console.print(warning, soft_wrap=True)
    settings = ImageSettings.from_dict(bundle.images)
    intervals = _drawn(videos, settings, bundle.frames, folder, options, console)
    with terminal.bar(console) as bar:
        task = bar.add_task("naming", total=len(intervals))
        scores = evaluate(
            bundle, intervals, out, engine=options.engine, report=lambda done: bar.update(task, completed=done)
        )
    console.print(
        f"{how_many(scores.recognition.count, 'interval')}: UF1 {scores.recognition.uf1:.3f}, "
        f"UAR {scores.recognition.uar:.3f}"
        + (f"; {scores.left_out} of emotions that it does not know left out" if scores.left_out else "")
    )
    console.print(f"wrote {out / 'metrics.json'} and {out / 'confusion.png'}")
    return 0


def _videos(options: argparse.Namespace, console: Console, portraits: Path | None = None) -> tuple[Path, list[Video]]:
    """Return the labelled folder that the options ask for, rendered first if it is to be, and its videos."""
    from training.data.folder import read_folder

    if options.data != SYNTHETIC:
        folder = Path(options.data)
        return folder, read_folder(folder, options.first_frame)
    kind = "rendered" if portraits is None else "rendered-training"
    folder = Path("runs") / f"{kind}-seed{options.seed}-{options.seconds:g}s"
    render.render(folder, options, console, portraits)
    return folder, read_folder(folder)[: options.clips]


def _drawn(
    videos: list[Video],
    settings: ImageSettings,
    frames: int,
    folder: Path,
    options: argparse.Namespace,
    console: Console,
) -> list[Interval]:
    """Draw all intervals of the videos, and say how many could not be."""
    from metst_edge.face import FaceFinder
    from training.recognition.intervals import draw

    cache = options.cache or folder / ".intervals"
    terminal.expect_place(cache)
    finder, drawn = FaceFinder(), []
    with terminal.bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("drawing", total=len(videos), video="")
        for i, video in enumerate(videos):
            bar.update(task, completed=i, video=video.name)
            drawn += draw(video, settings, frames, cache, finder, partial(_advance, bar, task, i))
        bar.update(task, completed=len(videos))
    missing = sum(len(video.annotations) for video in videos) - len(drawn)
    if missing:
        console.print(
            f"{how_many(missing, 'interval')} left out: no face is seen at the onset, or it is one frame long"
        )
    return drawn


def _advance(bar: Progress, task: TaskID, before: int, share: float) -> None:
    bar.update(task, completed=before + share)
