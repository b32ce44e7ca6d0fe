"""``python -m training false-alarms``: count what a model finds where nothing is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.progress import TextColumn
from rich.table import Table

from training.cli import scores, terminal
from training.cli.arguments import Verbs, add_engine, add_model


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "false-alarms",
        help="count what a model finds in video without micro-expressions",
        description="Analyse video in which no micro-expression is annotated; whatever is found counts as false.",
    )
    add_model(parser)
    parser.add_argument("clips", metavar="CLIP", type=Path, nargs="+", help="video files or folders of images")
    parser.add_argument(
        "--people",
        metavar="FILE",
        type=Path,
        help="who is seen: a table file,subject (default: people.csv beside the clips; else a person for each clip)",
    )
    parser.add_argument(
        "--causes",
        metavar="FILE",
        type=Path,
        help="what happens: a table video,kind,onset,offset, frames from 0 (default: causes.csv beside the clips)",
    )
    add_engine(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="for the results (default: runs/evaluate-MODEL-real)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Count what a model finds where nothing is."""
    from training.cli.model import apart_of, as_bundle, results_folder
    from training.evaluation.causes import Cause
    from training.evaluation.quiet import expect_clips, false_alarms, people_in

    console = terminal.console()
    out = options.out or results_folder(options.model, "real")
    terminal.expect_place(out)
    expect_clips(options.clips)
    people = [person for person in people_in(options.clips, options.people) if person is not None]
    warning = apart_of(options.model).warning(options.model, people)
    if warning:
        console.print(warning, soft_wrap=True)
    with terminal.bar(console, TextColumn("{task.fields[clip]}")) as bar:
        task = bar.add_task("analysing", total=len(options.clips), clip="")
        order = {clip.name: i for i, clip in enumerate(options.clips)}

        def report(clip: str, share: float) -> None:
            bar.update(task, completed=order[clip] + share, clip=clip)

        found = false_alarms(
            as_bundle(options.model, out),
            options.clips,
            out,
            engine=options.engine,
            people=options.people,
            causes=options.causes,
            report=report,
        )
    table = Table("clip", title="Found where nothing is annotated", title_justify="left")
    for name in ("false alarms", "gaps", "minutes of face"):
        table.add_column(name, justify="right")
    for clip, counted in found["clips"].items():
        table.add_row(clip, str(counted["events"]), str(counted["gaps"]), f"{counted['minutes_of_face']:.2f}")
    console.print(table)
    scores.show_causes(console, [Cause(kind, **each) for kind, each in found["causes"].items()])
    console.print(
        f"{found['per_minute']:.2f} false alarms a minute, {_interval(found)}; wrote {out / 'false_alarms.json'}"
    )
    return 0


def _interval(found: dict[str, Any]) -> str:
    if found["interval"] is None:
        return "of one person only: no interval"
    low, high = found["interval"]
    return f"95 % from {low:.2f} to {high:.2f} over {found['people']} people"
