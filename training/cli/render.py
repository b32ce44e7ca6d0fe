"""``python -m training render``: labelled clips of the test identity, or of the training identities."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from training.cli import terminal
from training.cli.arguments import Verbs, add_clips


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "render",
        help="render labelled clips of the test identity",
        description="Render clips of a person never trained on, as a labelled folder of H.264 files; with --portraits, "
        "of the persons that are trained on, each clip of another variant.",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to make")
    parser.add_argument("--portraits", metavar="DIR", type=Path, help="holds the training portraits")
    add_clips(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Render a labelled folder."""
    console = terminal.console()
    terminal.expect_place(options.out)
    render(options.out, options, console, options.portraits)
    console.print(f"wrote {options.clips} clips and {options.out / 'labels.csv'}")
    return 0


def render(folder: Path, options: argparse.Namespace, console: Console, portraits: Path | None = None) -> None:
    """Render the clips that ``options`` ask for into ``folder``."""
    from training.data.rendered import render_folder

    with terminal.refused_input(), terminal.bar(console) as bar:
        task = bar.add_task("rendering", total=options.clips)
        render_folder(
            folder,
            options.seed,
            options.clips,
            options.seconds,
            lambda done: bar.update(task, completed=done),
            portraits,
        )
