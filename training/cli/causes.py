"""``python -m training causes``: what happens in real video, for false alarms to be set against."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import TextColumn

from metst_edge.counting import how_many
from training.cli import terminal
from training.cli.arguments import Verbs
from training.data.errors import DataError


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "causes",
        help="label what happens in real video",
        description="Watch the face in every frame of real video and write a table of what happens in it: blinks, "
        "lids, mouth, brows, head, and where the face is lost. `evaluate` and `false-alarms` count false alarms by it. "
        "Videos that the table names are left as they are; stopped, it goes on where it was.",
    )
    parser.add_argument("videos", metavar="VIDEO", nargs="+", help="video files, or folders of them")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="the table video,kind,onset,offset (default: causes.csv beside them)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write a table of what happens in real video."""
    from metst_edge.capture import clips_of, path_of
    from training.evaluation.watching import label_causes

    console = terminal.console()
    videos = [clip for video in options.videos for clip in clips_of(video)]
    if options.out is not None:
        terminal.expect_file(options.out)
    for folder in {path_of(video).parent for video in videos} if options.out is None else ():
        terminal.expect_place(folder)
    with terminal.bar(console, TextColumn("{task.fields[at]}")) as bar:
        task = bar.add_task("watching", total=len(videos), at="")

        def report(name: str, done: int, frames: int) -> None:
            bar.update(task, completed=done, at=f"{name}, frame {frames}" if frames else name)

        counts, left_out = label_causes(videos, options.out, report)
    for name, reason in left_out.items():
        console.print(f"left out {name}: {reason}")
    if len(left_out) == len(videos):
        raise DataError("expected a video that can be watched, got none; what is wrong with each is said above")
    for table, (count, before) in counts.items():
        kept = f"; {before} of them named there before and left as they were" if before else ""
        console.print(f"{how_many(count, 'video')} in {table}{kept}")
    return 0
