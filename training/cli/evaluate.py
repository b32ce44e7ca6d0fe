"""``python -m training evaluate``: score a model on labelled video."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import TextColumn

from metst_edge.app.arguments import add_decoding, decoding
from training.cli import render, scores, terminal
from training.cli.arguments import SYNTHETIC, Verbs, add_clips, add_data, add_engine, add_model, names


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser("evaluate", help="score a model", description="Score a model on labelled video.")
    add_model(parser)
    add_data(parser)
    parser.add_argument("--subjects", metavar="A,B", type=names, default=(), help="only these (default: all)")
    add_clips(parser)
    add_engine(parser)
    add_decoding(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="for the results (default: runs/evaluate-MODEL-DATA)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score one model on labelled video."""
    from training.cli.model import as_bundle, results_folder
    from training.data.folder import read_folder, split_subjects
    from training.evaluation.evaluate import compare_decoders, evaluate

    console = terminal.console()
    out = options.out or results_folder(options.model, Path(options.data).name)
    terminal.expect_place(out)
    if options.data == SYNTHETIC:
        folder = Path("runs") / f"rendered-seed{options.seed}-{options.seconds:g}s"
        render.render(folder, options, console)
        videos = read_folder(folder)[: options.clips]
    else:
        videos = read_folder(Path(options.data), options.first_frame)
        if options.subjects:
            _, videos = split_subjects(videos, options.subjects)
    with terminal.bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("analysing", total=len(videos), video="")
        order = {video.name: i for i, video in enumerate(videos)}

        def report(video: str, share: float) -> None:
            bar.update(task, completed=order[video] + share, video=video)

        bundle = as_bundle(options.model, out)
        reached = evaluate(bundle, videos, out, engine=options.engine, decoding=decoding(options), report=report)
    scores.show(console, reached, f"{options.model} on {options.data}")
    scores.show_decoders(console, compare_decoders(bundle, videos, out), bundle.fps)
    console.print(f"wrote {out / 'metrics.json'} and {out / 'confusion.png'}")
    return 0
