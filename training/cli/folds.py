"""``python -m training folds``: part people into folds."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from training.cli import terminal
from training.cli.arguments import Verbs, whole


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "folds",
        help="part people into folds",
        description="Part the subjects of labelled folders into folds of about as many micro-expressions. Whoever has "
        "the same name in several folders is one person and in one fold.",
    )
    parser.add_argument("--data", metavar="DIR", type=Path, nargs="+", required=True, help="labelled folders")
    parser.add_argument("--folds", type=whole, default=3, help="how many (default: 3)")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="to write")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Part people into folds and write them."""
    from training.data.folder import read_folder
    from training.evaluation.folds import events_of, split, write_folds

    console = terminal.console()
    terminal.expect_file(options.out)
    events = events_of([video for folder in options.data for video in read_folder(folder)])
    folds = split(events, options.folds)
    there = options.out.exists()
    write_folds(folds, options.out)
    table = Table("fold", title="People in folds", title_justify="left")
    for name in ("people", "micro-expressions"):
        table.add_column(name, justify="right")
    for i, fold in enumerate(folds):
        table.add_row(str(i), str(len(fold)), str(sum(events[name] for name in fold)))
    console.print(table)
    for i, fold in enumerate(folds):
        if sum(events.values()) == sum(events[name] for name in fold) > 0:
            console.print(f"warning: fold {i} holds all micro-expressions: without it none are left to train on")
    console.print(f"{options.out} holds these folds already" if there else f"wrote {options.out}")
    return 0
