"""``python -m training evaluate``: score a model, or one for each fold of people, on labelled video."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import TextColumn

from metst_edge.app.arguments import add_decoding, decoding
from metst_edge.counting import how_many
from training.cli import render, scores, terminal
from training.cli.arguments import SYNTHETIC, Verbs, add_clips, add_data, add_engine, add_fold, add_models, names
from training.data.errors import DataError

if TYPE_CHECKING:
    from training.data.folder import Video


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "evaluate",
        help="score a model",
        description="Score a model on labelled video, or with --folds one for each fold on the people of that fold, "
        "so that everybody counts once.",
    )
    add_models(parser)
    add_data(parser)
    parser.add_argument("--subjects", metavar="A,B", type=names, default=(), help="only these (default: all)")
    tested = parser.add_mutually_exclusive_group()
    add_fold(tested, "only the people of")
    tested.add_argument("--folds", metavar="FILE", type=Path, help="what `folds` wrote: MODEL i scores fold i")
    add_clips(parser)
    add_engine(parser)
    add_decoding(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="for the results (default: runs/evaluate-MODEL-DATA)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score models on labelled video."""
    from training.cli.model import as_bundle, results_folder
    from training.evaluation.evaluate import Part, evaluate_parts

    console = terminal.console()
    out = options.out or results_folder(options.models[0], Path(options.data).name)
    terminal.expect_place(out)
    shares = _shares(options, console)
    _expect_strangers(options, shares, console)
    videos = [video for share in shares for video in share]
    with terminal.bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("analysing", total=len(videos), video="")
        order = {video.name: i for i, video in enumerate(videos)}

        def report(video: str, share: float) -> None:
            bar.update(task, completed=order[video] + share, video=video)

        places = [out] if len(shares) == 1 else [out / f"fold{i}" for i in range(len(shares))]
        parts = [
            Part(as_bundle(model, place), share)
            for model, place, share in zip(options.models, places, shares, strict=True)
        ]
        reached = evaluate_parts(parts, out, engine=options.engine, decoding=decoding(options), report=report)
    scores.show(console, reached.scores, f"{', '.join(map(str, options.models))} on {options.data}")
    scores.show_figures(console, reached.figures, reached.people)
    scores.show_breakdown(console, reached.breakdown)
    scores.show_causes(console, reached.causes)
    scores.show_decoders(console, reached.decoders, parts[0].bundle.fps)
    pictures = ", ".join(name for name in ("confusion.png", "failures.png") if (out / name).is_file())
    console.print(f"wrote {out / 'metrics.json'}; beside it: {pictures}")
    return 0


def _expect_strangers(options: argparse.Namespace, shares: Sequence[Sequence[Video]], console: Console) -> None:
    """Check that models that were trained without a fold are scored on that one; say who else is no stranger.

    Raises:
        DataError: one was trained without another fold, so that it may know whom it is scored on.
    """
    from training.cli.model import apart_of
    from training.evaluation.folds import read_folds

    file = options.fold[0] if options.fold else options.folds
    folds = read_folds(file) if file else ()
    for i, (model, videos) in enumerate(zip(options.models, shares, strict=True)):
        apart = apart_of(model)
        if file:
            number = options.fold[1] if options.fold else i
            apart.expect_fold(model, number, folds[number])
        warning = apart.warning(model, [video.subject for video in videos])
        if warning:
            console.print(warning, soft_wrap=True)


def _shares(options: argparse.Namespace, console: Console) -> list[Sequence[Video]]:
    """Return the videos that each model is scored on."""
    from training.data.folder import read_folder, split_subjects
    from training.evaluation.folds import in_fold, read_folds

    if options.folds is None and len(options.models) > 1:
        raise DataError("expected one MODEL, or --folds FILE and one for each fold")
    if options.data == SYNTHETIC:
        if options.fold or options.folds:
            raise DataError("expected folds with a labelled folder, got them with rendered clips; name one by --data")
        folder = Path("runs") / f"rendered-seed{options.seed}-{options.seconds:g}s"
        render.render(folder, options, console)
        return [read_folder(folder)[: options.clips]]
    videos = read_folder(Path(options.data), options.first_frame)
    if options.subjects:
        _, videos = split_subjects(videos, options.subjects)
    if options.folds:
        count = len(read_folds(options.folds))
        if count != len(options.models):
            raise DataError(
                f"{options.folds}: expected a MODEL for each of {how_many(count, 'fold')}, got {len(options.models)}"
            )
        return [in_fold(videos, options.folds, i) for i in range(count)]
    if options.fold:
        videos = in_fold(videos, *options.fold)
        if not videos:
            raise DataError(f"expected somebody of fold {options.fold[1]} in {options.data}, got nobody")
    return [videos]
