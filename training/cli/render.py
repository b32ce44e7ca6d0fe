"""``python -m training render``: labelled clips of the test identity, of the training identities, or of others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from metst_edge.counting import how_many
from training.cli import terminal
from training.cli.arguments import DRAWINGS, Verbs, add_clips, add_drawing, names
from training.data.errors import DataError


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "render",
        help="render labelled clips of the test identity",
        description="Render clips of a person never trained on, as a labelled folder of H.264 files; with --portraits, "
        "of the persons that are trained on, each clip of another variant; with --people, of others.",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to make")
    parser.add_argument("--portraits", metavar="DIR", type=Path, help="holds the portraits")
    parser.add_argument(
        "--people",
        metavar="NAME,...",
        type=names,
        default=(),
        help="portraits of people who are not trained on, by name without ending; clips are of one after the other",
    )
    add_drawing(parser)
    add_clips(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Render a labelled folder."""
    console = terminal.console()
    terminal.expect_place(options.out)
    if options.people and options.portraits is None:
        raise DataError("expected --portraits DIR beside --people: the folder that holds their pictures")
    render(options.out, options, console, options.portraits, options.people, options.drawing)
    console.print(f"wrote {how_many(options.clips, 'clip')} and {options.out / 'labels.csv'}")
    return 0


def render(
    folder: Path,
    options: argparse.Namespace,
    console: Console,
    portraits: Path | None = None,
    people: Sequence[str] = (),
    drawing: str = DRAWINGS[0],
) -> None:
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
            people,
            drawing,
        )
