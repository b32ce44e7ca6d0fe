"""The training command line: ``python -m training VERB ...`` from a checkout.

Exit status: 0 done, 1 the job failed or was interrupted (one line says why and what to do), 2 bad usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from metst_edge.errors import MetstError
from metst_edge.labels import EMOTIONS
from training.evaluation.metrics import Scores
from training.presets import PRESETS, Preset

if TYPE_CHECKING:
    from metst_edge import Bundle
    from training.data.samples import MeasuredClip
    from training.fit import Windows

SYNTHETIC = "synthetic"
HELD_OUT_CLIPS, HELD_OUT_SECONDS = 30, 30.0

EPILOG = """\
examples:
  the shipped model, under 30 minutes on two cores:
      python -m training fit --preset metst64 --data synthetic
  the same after Ctrl-C:
      python -m training fit --preset metst64 --data synthetic --resume
  scored on rendered video of somebody it was not trained on:
      python -m training evaluate runs/metst64-synthetic-seed0/model.pt
  on a labelled folder, two subjects kept for the evaluation:
      python -m training fit --data DIR --test-subjects s03,s11 --out runs/mine
      python -m training evaluate runs/mine/model.pt --data DIR --subjects s03,s11

labelled folder: DIR/labels.csv with the columns video,subject,onset,apex,offset,emotion[,fps], one row per
micro-expression, beside the video files or folders of images it names. Frames count from 0 (--first-frame 1:
from 1), both ends inclusive. emotion is negative, positive, surprise, others, or a finer name such as anger or
happiness. A video in which nothing happens has one row with the last columns empty. fps is the frame rate of
an image folder.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = build_parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        status: int = options.run(options, console)
    except MetstError as error:
        print(f"training: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # Those that the operating system raises name the file apart from the reason.
        reason = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
        print(f"training: error: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("training: interrupted", file=sys.stderr)
        return 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every verb."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train and evaluate micro-expression models. Results go to runs/, which git ignores.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    fit = verbs.add_parser("fit", help="train a model", description="Train a model.")
    fit.set_defaults(run=run_fit)
    fit.add_argument("--preset", choices=sorted(PRESETS), default="metst64", help="what to train (default: metst64)")
    _add_data(fit)
    fit.add_argument("--test-subjects", metavar="A,B", type=_names, default=(), help="subjects kept out of training")
    fit.add_argument(
        "--cache", metavar="DIR", type=Path, help="where measured windows are kept (default: DATA/.windows)"
    )
    fit.add_argument("--ratio", type=_positive, help="windows without a micro-expression per window with one")
    fit.add_argument("--seed", type=_count, default=0, help="of every random choice (default: 0)")
    fit.add_argument("--out", metavar="DIR", type=Path, help="the run's folder (default: runs/PRESET-DATA-seedN)")
    length = fit.add_mutually_exclusive_group()
    length.add_argument("--steps", type=_whole, help="optimiser steps (default: the preset's)")
    length.add_argument("--epochs", type=_whole, help="passes over a labelled folder (default: the preset's)")
    length.add_argument("--minutes", type=_positive, help="as many steps as fit into this time, measured here first")
    fit.add_argument("--batch", type=_whole, help="windows per step (default: the preset's)")
    fit.add_argument("--learning-rate", type=_positive, help="highest of the OneCycle schedule (default: the preset's)")
    fit.add_argument(
        "--threads", type=_whole, default=1, help="of torch; another number rounds differently (default: 1)"
    )
    fit.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    fit.add_argument("--resume", action="store_true", help="go on with the interrupted run in --out")

    evaluate = verbs.add_parser("evaluate", help="score a model", description="Score a model on labelled video.")
    evaluate.set_defaults(run=run_evaluate)
    evaluate.add_argument("model", metavar="MODEL", type=Path, help="a bundle, or a model.pt that `fit` left")
    _add_data(evaluate)
    evaluate.add_argument("--subjects", metavar="A,B", type=_names, default=(), help="only these (default: all)")
    _add_clips(evaluate)
    evaluate.add_argument("--engine", default="auto", help="auto, native or onnxruntime (default: auto)")
    evaluate.add_argument("--out", metavar="DIR", type=Path, help="for the results (default: runs/evaluate-MODEL-DATA)")

    alarms = verbs.add_parser(
        "false-alarms",
        help="count what a model finds in video without micro-expressions",
        description="Analyse video in which no micro-expression is annotated; whatever is found counts as false.",
    )
    alarms.set_defaults(run=run_false_alarms)
    alarms.add_argument("model", metavar="MODEL", type=Path, help="a bundle, or a model.pt that `fit` left")
    alarms.add_argument("clips", metavar="CLIP", type=Path, nargs="+", help="video files or folders of images")
    alarms.add_argument("--engine", default="auto", help="auto, native or onnxruntime (default: auto)")
    alarms.add_argument("--out", metavar="DIR", type=Path, help="for the results (default: runs/evaluate-MODEL-real)")

    render = verbs.add_parser(
        "render",
        help="render labelled clips of the test identity",
        description="Render clips of a person never trained on, as a labelled folder of H.264 files.",
    )
    render.set_defaults(run=run_render)
    render.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to make")
    _add_clips(render)

    calibrate = verbs.add_parser(
        "calibrate",
        help="measure what the generator imitates",
        description="Render action units on the training portraits, measure them with the real front end, and write "
        "what the feature generator is calibrated with.",
    )
    calibrate.set_defaults(run=run_calibrate)
    calibrate.add_argument("--portraits", metavar="DIR", type=Path, required=True, help="holds the training portraits")
    calibrate.add_argument("--out", metavar="FILE", type=Path, help="where to write (default: the packaged place)")

    demo = verbs.add_parser(
        "demo-clip",
        help="render the packaged demo clip",
        description="Render the clip that `metst-edge demo` shows.",
    )
    demo.set_defaults(run=run_demo_clip)
    demo.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for clip.mp4 and truth.json")
    return parser


def run_fit(options: argparse.Namespace, console: Console) -> int:
    """Train one model."""
    from training.fit import Interrupted, Point, Run, fit, saved_steps, steps_in

    preset = PRESETS[options.preset]
    synthetic = options.data == SYNTHETIC
    schedule = preset.synthetic if synthetic else preset.folder
    batch = options.batch or schedule.batch
    out = options.out or Path("runs") / f"{options.preset}-{Path(options.data).name}-seed{options.seed}"
    if synthetic:
        windows, clips, data = _synthetic(preset, batch, options)
    else:
        windows, clips, data = _labelled(preset, batch, options, console)
    rate = options.learning_rate or schedule.learning_rate
    steps = options.steps or schedule.steps or 1
    if windows.batches_per_epoch is not None and not options.steps:
        steps = (options.epochs or schedule.epochs or 1) * windows.batches_per_epoch
    run = Run(
        preset,
        options.seed,
        steps,
        batch,
        rate,
        options.threads,
        options.device,
        data,
        schedule.ratio,
        schedule.floor,
    )
    try:
        if options.minutes:
            # Measured again, the number would be another and the run not the one to go on with.
            measured = saved_steps(out) if options.resume else steps_in(options.minutes, run, windows)
            run = replace(run, steps=measured)
        console.print(
            f"{preset.model} on {options.data}: {run.steps} steps of {batch} windows, learning rate {rate:g}, "
            f"k_p {windows.k_p}, seed {options.seed}, {options.threads} thread(s); results in {out}"
        )
        with _bar(console, TextColumn("loss {task.fields[loss]:.4f}")) as bar:
            task = bar.add_task("training", total=run.steps, loss=float("nan"))

            def report(point: Point) -> None:
                bar.update(task, completed=point.step, loss=point.loss)
                if point.scores is not None:
                    bar.console.print(f"step {point.step}: held-out clips: {_in_short(point.scores)}")

            try:
                scores = fit(run, windows, clips, out, resume=options.resume, report=report)
            except Interrupted as stop:
                print(f"training: interrupted after {stop.step} steps; go on with --resume", file=sys.stderr)
                return 1
    finally:
        windows.close()
    if scores is not None:
        show(console, scores, "Held-out clips, measured features")
    console.print(f"wrote {out / 'model.pt'}; next: python -m export bundle {out / 'model.pt'} --out DIR")
    return 0


def _synthetic(preset: Preset, batch: int, options: argparse.Namespace) -> tuple[Windows, list[MeasuredClip], str]:
    from training.data.synthetic import SyntheticWindows

    windows = SyntheticWindows(preset, batch, options.seed)
    return windows, windows.clips(HELD_OUT_CLIPS, HELD_OUT_SECONDS), windows.description


def _labelled(
    preset: Preset, batch: int, options: argparse.Namespace, console: Console
) -> tuple[Windows, list[MeasuredClip], str]:
    from metst_edge.face import FaceFinder
    from training.data.features import measure
    from training.data.folder import read_folder, split_subjects
    from training.data.windows import FolderWindows

    folder = Path(options.data)
    # Nothing is chosen by looking at the test subjects: they are scored by `evaluate` alone.
    videos, _ = split_subjects(read_folder(folder, options.first_frame), options.test_subjects)
    finder, measured = FaceFinder(), []
    with _bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("measuring", total=len(videos), video="")
        for i, video in enumerate(videos):
            bar.update(task, completed=i, video=video.name)
            cache = options.cache or folder / ".windows"
            progress = partial(_advance, bar, task, i)
            measured.append(measure(video, preset, cache, finder, progress))
    windows = FolderWindows(measured, batch, options.ratio or preset.ratio, options.seed)
    subjects = sorted({video.subject for video in videos})
    events = sum(len(video.annotations) for video in videos)
    return windows, [], f"{folder.name}: {events} micro-expressions, {len(videos)} videos, {len(subjects)} subjects"


def _advance(bar: Progress, task: TaskID, before: int, share: float) -> None:
    bar.update(task, completed=before + share)


def run_evaluate(options: argparse.Namespace, console: Console) -> int:
    """Score one model on labelled video."""
    from training.data.folder import read_folder, split_subjects
    from training.evaluation.evaluate import evaluate

    if options.data == SYNTHETIC:
        folder = Path("runs") / f"rendered-seed{options.seed}-{options.seconds:g}s"
        _render(folder, options, console)
        videos = read_folder(folder)[: options.clips]
    else:
        videos = read_folder(Path(options.data), options.first_frame)
        if options.subjects:
            _, videos = split_subjects(videos, options.subjects)
    out = options.out or Path("runs") / f"evaluate-{_model_name(options.model)}-{Path(options.data).name}"
    with _bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("analysing", total=len(videos), video="")
        order = {video.name: i for i, video in enumerate(videos)}

        def report(video: str, share: float) -> None:
            bar.update(task, completed=order[video] + share, video=video)

        scores = evaluate(_bundle(options.model, out), videos, out, engine=options.engine, report=report)
    show(console, scores, f"{options.model} on {options.data}")
    console.print(f"wrote {out / 'metrics.json'} and {out / 'confusion.png'}")
    return 0


def _bundle(model: Path, out: Path) -> Bundle:
    """Load ``model`` if it is a bundle; export it to one in ``out`` if it is a checkpoint."""
    from metst_edge import Bundle

    if model.is_dir() or model.suffix == ".zip":
        return Bundle.load(model)
    from export.bundle import write
    from export.description import Description
    from training.models import load_checkpoint

    checkpoint = load_checkpoint(model)
    description = Description.from_meta(checkpoint.meta, name=model.parent.name)
    return write(checkpoint.network, description, out / "bundle", force=True, console=Console(quiet=True))


def _model_name(model: Path) -> str:
    return model.parent.name if model.suffix == ".pt" else model.stem


def run_false_alarms(options: argparse.Namespace, console: Console) -> int:
    """Count what a model finds where nothing is."""
    from training.evaluation.evaluate import false_alarms

    out = options.out or Path("runs") / f"evaluate-{_model_name(options.model)}-real"
    with _bar(console, TextColumn("{task.fields[clip]}")) as bar:
        task = bar.add_task("analysing", total=len(options.clips), clip="")
        order = {clip.name: i for i, clip in enumerate(options.clips)}

        def report(clip: str, share: float) -> None:
            bar.update(task, completed=order[clip] + share, clip=clip)

        found = false_alarms(_bundle(options.model, out), options.clips, out, engine=options.engine, report=report)
    table = Table("clip", title="Found where nothing is annotated", title_justify="left")
    for name in ("false alarms", "gaps", "minutes of face"):
        table.add_column(name, justify="right")
    for clip, count in found["clips"].items():
        table.add_row(clip, str(count["events"]), str(count["gaps"]), f"{count['minutes_of_face']:.2f}")
    console.print(table)
    console.print(f"{found['per_minute']:.2f} false alarms a minute; wrote {out / 'false_alarms.json'}")
    return 0


def run_render(options: argparse.Namespace, console: Console) -> int:
    """Render the test identity as a labelled folder."""
    _render(options.out, options, console)
    console.print(f"wrote {options.clips} clips and {options.out / 'labels.csv'}")
    return 0


def run_calibrate(options: argparse.Namespace, console: Console) -> int:
    """Measure the training portraits for the feature generator."""
    from training.synthesis.calibration import CALIBRATION_FILE, calibrate_folder

    out = options.out or CALIBRATION_FILE
    with _refused_input(), _bar(console) as bar:
        task = bar.add_task("measuring persons", total=None)
        calibrate_folder(
            options.portraits, out, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(f"wrote {out}")
    return 0


def run_demo_clip(options: argparse.Namespace, console: Console) -> int:
    """Render the packaged demo clip."""
    from training.synthesis.demo import write_demo

    with _refused_input():
        clip, truth = write_demo(options.out)
    console.print(f"wrote {clip} ({clip.stat().st_size / 1e6:.2f} MB) and {truth}")
    return 0


def _render(folder: Path, options: argparse.Namespace, console: Console) -> None:
    from training.data.rendered import render_folder

    with _refused_input(), _bar(console) as bar:
        task = bar.add_task("rendering", total=options.clips)
        render_folder(
            folder, options.seed, options.clips, options.seconds, lambda done: bar.update(task, completed=done)
        )


@contextmanager
def _refused_input() -> Iterator[None]:
    """Turn what the synthesis says about its input into an error of one line."""
    from training.data.errors import DataError

    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise DataError(str(error)) from error


def show(console: Console, scores: Scores, title: str) -> None:
    """Print all scores as tables."""
    spotting, three = scores.spotting, scores.recognition_without_others
    table = Table(title=title, title_justify="left")
    for name in ("videos", "found", "false", "missed", "precision", "recall", "spotting F1"):
        table.add_column(name, justify="right")
    counts = (scores.videos, spotting.tp, spotting.fp, spotting.fn)
    table.add_row(*map(str, counts), *(f"{x:.3f}" for x in (spotting.precision, spotting.recall, spotting.f1)))
    console.print(table)
    table = Table(title="Emotion of the true positives", title_justify="left")
    for name in ("classes", "count", "UF1", "UAR", "F1", "STRS"):
        table.add_column(name, justify="left" if name == "classes" else "right")
    rows = (("four", scores.recognition, scores.strs), ("without others", three, scores.strs_without_others))
    for name, recognition, strs in rows:
        values = (recognition.uf1, recognition.uar, recognition.f1, strs)
        table.add_row(name, str(recognition.count), *(f"{x:.3f}" for x in values))
    console.print(table)
    table = Table(title="Confusion (rows: true, columns: predicted)", title_justify="left")
    table.add_column("")
    for name in EMOTIONS:
        table.add_column(name, justify="right")
    for name, row in zip(EMOTIONS, scores.confusion.tolist(), strict=True):
        table.add_row(name, *map(str, row))
    console.print(table)


def _in_short(scores: Scores) -> str:
    spotting = scores.spotting
    return (
        f"spotting F1 {spotting.f1:.3f} (P {spotting.precision:.3f}, R {spotting.recall:.3f}), "
        f"UF1 {scores.recognition.uf1:.3f} on {spotting.tp}"
    )


def _bar(console: Console, *columns: TextColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *columns,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="synthetic|DIR",
        default=SYNTHETIC,
        help="generated, or a labelled folder (default: synthetic)",
    )
    parser.add_argument(
        "--first-frame",
        type=int,
        choices=(0, 1),
        default=0,
        help="number of a video's first frame in labels.csv",
    )


def _add_clips(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=_whole, default=20, help="how many clips to render (default: 20)")
    parser.add_argument("--seconds", type=_positive, default=30.0, help="length of each (default: 30)")
    parser.add_argument("--seed", type=_count, default=1, help="of the rendered clips (default: 1)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
