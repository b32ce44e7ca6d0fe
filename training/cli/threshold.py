"""``python -m training threshold``: choose a model's decode threshold on training people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table

from training.cli import terminal
from training.cli.arguments import Verbs, add_engine, add_fold, add_model, names, positive
from training.data.errors import DataError

if TYPE_CHECKING:
    from training.evaluation.threshold import Setting, Source

FLOORS_APART = 5
"""Of so many floors that are tried one is printed; all are written."""


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "threshold",
        help="choose a model's decode threshold on training people",
        description="Try every ratio and floor on the scores of labelled video; choose the pair of the highest "
        "spotting F1 that keeps a bound on false alarms in quiet video.",
    )
    add_model(parser)
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="a labelled folder")
    parser.add_argument(
        "--first-frame", type=int, choices=(0, 1), default=0, help="number of a video's first frame in labels.csv"
    )
    tested = parser.add_mutually_exclusive_group()
    tested.add_argument("--test-subjects", metavar="A,B", type=names, default=(), help="subjects not to be looked at")
    add_fold(tested, "do not look at the people of")
    parser.add_argument(
        "--quiet",
        metavar="CLIP",
        type=Path,
        nargs="+",
        default=[],
        help="video without micro-expressions (default: the videos of --data that have none)",
    )
    parser.add_argument(
        "--people", metavar="FILE", type=Path, help="who is seen in them, file,subject (default: people.csv beside)"
    )
    parser.add_argument(
        "--false-alarms", metavar="N", type=positive, default=0.5, help="a minute of those, at most (default: 0.5)"
    )
    add_engine(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="for the results (default: runs/threshold-MODEL-DATA)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Choose ratio and floor and write them."""
    from training.cli.model import as_bundle, results_folder
    from training.evaluation.threshold import best, score_all, search

    console = terminal.console()
    out = options.out or results_folder(options.model, options.data.name, "threshold")
    terminal.expect_place(out)
    sources = _sources(options)
    bundle = as_bundle(options.model, out)
    with terminal.bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("analysing", total=len(sources), video="")
        order = {source.name: i for i, source in enumerate(sources)}

        def report(video: str, share: float) -> None:
            bar.update(task, completed=order[video] + share, video=video)

        videos = score_all(bundle, sources, out, engine=options.engine, report=report)
        task = bar.add_task("decoding", total=1.0, video="")
        settings = search(bundle, videos, report=lambda share: bar.update(task, completed=share))
    quiet = sum(video.minutes for video in videos if video.quiet)
    console.print(f"{quiet:.1f} minutes of quiet video" + ("" if quiet else ": without any, no bound is held"))
    chosen = best(settings, options.false_alarms)
    _show(console, settings, chosen, options.false_alarms)
    people = sorted({source.subject for source in sources})
    written = {
        "ratio": chosen.ratio,
        "floor": chosen.floor,
        "chosen": chosen.to_dict(),
        "false_alarms_at_most": options.false_alarms,
        "quiet_minutes": quiet,
        "people": people,
        "tried": [setting.to_dict() for setting in settings],
    }
    path = out / "decode.json"
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    console.print(
        f"ratio {chosen.ratio:g}, floor {chosen.floor:g}, on {len(people)} people; wrote {path}; next: "
        f"python -m export bundle {options.model} --decode {path} --out DIR"
    )
    return 0


def _sources(options: argparse.Namespace) -> list[Source]:
    """Return the videos to choose on, none of them of a test subject."""
    from training.data.folder import read_folder, split_subjects
    from training.evaluation.folds import read_folds, split_fold
    from training.evaluation.metrics import Labelled
    from training.evaluation.quiet import people_in
    from training.evaluation.threshold import Source

    videos = read_folder(options.data, options.first_frame)
    if options.fold:
        videos, _ = split_fold(videos, *options.fold)
        tested: Sequence[str] = read_folds(options.fold[0])[options.fold[1]]
    else:
        videos, _ = split_subjects(videos, options.test_subjects)
        tested = options.test_subjects
    sources = [
        Source(
            video.name,
            video.uri,
            video.subject,
            tuple(Labelled(a.onset, a.offset, a.emotion) for a in video.annotations),
            labelled=True,
            quiet=not (video.annotations or options.quiet),
        )
        for video in videos
    ]
    for clip, person in zip(options.quiet, people_in(options.quiet, options.people), strict=True):
        if person is None and tested:
            raise DataError(
                f"expected who is seen in {clip}, lest the threshold be chosen on a test subject, got nobody; write "
                "people.csv (file,subject) beside it, or name one by --people"
            )
        if person not in tested:
            sources.append(Source(str(clip), clip, person or clip.name, (), labelled=False, quiet=True))
    return sources


def _show(console: Console, settings: Sequence[Setting], chosen: Setting, bound: float) -> None:
    """Print what the chosen ratio comes to at every fifth floor, and the chosen one."""
    of_ratio = [setting for setting in settings if setting.ratio == chosen.ratio]
    shown = [setting for i, setting in enumerate(of_ratio) if i % FLOORS_APART == 0 or setting == chosen]
    table = Table(title=f"Ratio {chosen.ratio:g}; at most {bound:g} false alarms a minute", title_justify="left")
    for name in ("floor", "found", "false", "missed", "spotting F1", "quiet: false a minute", ""):
        table.add_column(name, justify="right")
    for row in shown:
        counts = (row.spotting.tp, row.spotting.fp, row.spotting.fn)
        shares = (f"{row.spotting.f1:.3f}", f"{row.false_alarms:.2f}")
        table.add_row(f"{row.floor:g}", *map(str, counts), *shares, "chosen" if row == chosen else "")
    console.print(table)
