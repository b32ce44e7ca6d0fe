"""``python -m training insert``: micro-expressions in real video."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.progress import TextColumn

from metst_edge.counting import how_many
from training.cli import terminal
from training.cli.arguments import Verbs, a_minute, add_drawing, count, positive, whole
from training.data.errors import DataError


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "insert",
        help="put micro-expressions into real video",
        description="Warp micro-expressions into video of real people and write it as a labelled folder of H.264 "
        "files. The video's own motion stays; nothing is put where no face is seen. Stopped, it goes on where it was.",
    )
    parser.add_argument("videos", metavar="VIDEO", nargs="+", help="video files, or folders of them")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to make")
    parser.add_argument("--seeds", metavar="N", type=whole, default=1, help="clips of each video (default: 1)")
    parser.add_argument("--seed", type=count, default=0, help="the first one (default: 0)")
    parser.add_argument("--people", metavar="FILE", type=Path, help="csv with the columns file,subject (default: file)")
    parser.add_argument(
        "--rate",
        type=a_minute,
        default=14.0,
        help="micro-expressions a minute, as far as they fit; 0 puts none in (default: 14)",
    )
    parser.add_argument(
        "--faults",
        metavar="RATE",
        type=a_minute,
        default=0.0,
        help="of the camera, a minute: light that steps, focus, held frames, noise; and coarser coding with key frames "
        "that pop (default: 0, none)",
    )
    parser.add_argument(
        "--pixels",
        metavar=("WEAKEST", "STRONGEST"),
        type=positive,
        nargs=2,
        default=(0.8, 3.0),
        help="displacement of the most moved point, in pixels of the 320 px crop (default: 0.8 3)",
    )
    parser.add_argument("--crf", type=count, default=18, help="of H.264, 0 (lossless) to 51 (default: 18)")
    add_drawing(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make a labelled folder of real video."""
    from dataclasses import replace

    from metst_edge.capture import clips_of
    from training.data.inserted import insert_folder
    from training.data.tables import expect_table, read_people
    from training.synthesis.insert import INSERTED

    if options.crf > 51:
        raise DataError(f"expected --crf 0 to 51, got {options.crf}")
    weakest, strongest = options.pixels
    if weakest > strongest:
        raise DataError(f"expected --pixels WEAKEST STRONGEST, rising, got {weakest:g} {strongest:g}")
    console = terminal.console()
    terminal.expect_place(options.out)
    if options.people is not None:
        expect_table(options.people)
    people = read_people(options.people) if options.people else {}
    videos = [clip for video in options.videos for clip in clips_of(video)]
    seeds = range(options.seed, options.seed + options.seeds)
    rates = replace(INSERTED, micro=options.rate, micro_pixels=(weakest, strongest))
    with terminal.refused_input(), terminal.bar(console, TextColumn("{task.fields[at]}")) as bar:
        task = bar.add_task("inserting", total=len(videos) * len(seeds), at="")

        def report(name: str, clips: int, frames: int) -> None:
            bar.update(task, completed=clips, at=f"{name}, frame {frames}" if frames else name)

        made, left_out = insert_folder(
            options.out, videos, seeds, people, rates, options.crf, options.drawing, report, options.faults
        )
    for name, reason in left_out.items():
        console.print(f"left out {name}: {reason}")
    if not made.clips:
        raise DataError("expected a video with a face in it, got none; what is wrong with each is said above")
    console.print(
        f"{how_many(made.events, 'micro-expression')} in {how_many(made.clips, 'clip')} of "
        f"{how_many(made.people, 'person', 'people')}, labelled in {options.out / 'labels.csv'}"
    )
    return 0
