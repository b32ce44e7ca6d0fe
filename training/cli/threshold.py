"""``python -m training threshold``: choose a model's decode threshold on training people."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table

from metst_edge.counting import how_many
from training.cli import terminal
from training.cli.arguments import Verbs, add_engine, add_fold, add_model, names, positive
from training.data.errors import DataError

if TYPE_CHECKING:
    from training.evaluation.threshold import Setting, Source

FLOORS_APART = 5
"""Of so many floors that are tried one is printed; all are written."""
COUNTED = ("found", "false", "missed")
QUIET = "quiet: false a minute"
"""Columns of tables."""


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
    from training.cli.model import as_bundle, is_bundle, results_folder
    from training.evaluation.kept import identity, write
    from training.evaluation.threshold import best, score_all, search

    console = terminal.console()
    out = options.out or results_folder(options.model, options.data.name, "threshold")
    terminal.expect_place(out)
    sources = _sources(options)
    _expect_training_people(options, sources)
    bundle = as_bundle(options.model, out)
    with terminal.bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("analysing", total=len(sources), video="")
        order = {source.name: i for i, source in enumerate(sources)}

        def report(video: str, share: float) -> None:
            bar.update(task, completed=order[video] + share, video=video)

        videos = score_all(bundle, sources, out, engine=options.engine, report=report)
        task = bar.add_task("decoding", total=1.0, video="")
        settings = search(bundle, videos, report=lambda share: bar.update(task, completed=share))
    quiet = [video.minutes for video in videos if video.quiet]
    bound = options.false_alarms if sum(quiet) else None
    console.print(_of_quiet(quiet))
    chosen = best(settings, bound)
    own = bundle.decode_settings
    (before,) = search(bundle, videos, [own.ratio], [own.floor])
    people = sorted({source.subject for source in sources})
    _show(console, settings, chosen, bound)
    _compare(console, {"the model's own": before, "chosen": chosen}, bound, len(people))
    written = {
        **identity(bundle),
        "ratio": chosen.ratio,
        "floor": chosen.floor,
        "chosen": chosen.to_dict(),
        "before": before.to_dict(),
        "false_alarms_at_most": bound,
        "quiet_minutes": sum(quiet),
        "people": people,
        "tried": [setting.to_dict() for setting in settings],
    }
    path = out / "decode.json"
    write(path, written)
    use = f"python -m export bundle {options.model} --decode {path} --out DIR"
    if is_bundle(options.model):  # a bundle is not exported, so it is told at each use
        use = f"metst-edge SOURCE --model {options.model} --ratio {chosen.ratio:g} --floor {chosen.floor:g}"
    console.print(
        f"ratio {chosen.ratio:g}, floor {chosen.floor:g}, on {how_many(len(people), 'person', 'people')}; "
        f"wrote {path}; next: {use}",
        soft_wrap=True,  # a command that is to be copied
    )
    return 0


def _expect_training_people(options: argparse.Namespace, sources: Sequence[Source]) -> None:
    """Check that whoever the model was trained without is not looked at."""
    from training.cli.model import apart_of
    from training.evaluation.folds import read_folds

    apart = apart_of(options.model)
    if options.fold:
        file, number = options.fold
        apart.expect_fold(options.model, number, read_folds(file)[number])
    apart.expect_unseen(options.model, [source.subject for source in sources])


def _of_quiet(minutes: Sequence[float]) -> str:
    """Say in how much quiet video false alarms are counted, given the minutes of face in each."""
    if not minutes:
        return "no quiet video, so false alarms a minute are not counted and no bound is held; name some with --quiet"
    if not sum(minutes):
        return f"no face in {how_many(len(minutes), 'quiet video')}, so no bound on false alarms is held"
    long = f"{sum(minutes):.1f} minutes" if sum(minutes) >= 1 else f"{60 * sum(minutes):.0f} seconds"
    return f"{how_many(len(minutes), 'quiet video')}, {long} of face"


def _sources(options: argparse.Namespace) -> list[Source]:
    """Return the videos to choose on, none of them of a test subject."""
    from training.data.folder import expect_events, read_folder, split_subjects
    from training.evaluation.folds import read_folds, split_fold
    from training.evaluation.metrics import Labelled
    from training.evaluation.quiet import expect_clips, people_in
    from training.evaluation.threshold import Source

    videos = read_folder(options.data, options.first_frame)
    if options.fold:
        videos, _ = split_fold(videos, *options.fold)
        tested: Sequence[str] = read_folds(options.fold[0])[options.fold[1]]
    else:
        videos, _ = split_subjects(videos, options.test_subjects)
        tested = options.test_subjects
    expect_events(videos, "those whom the threshold is chosen on")
    expect_clips(options.quiet)
    sources = [
        Source(
            video.name,
            video.uri,
            video.subject,
            tuple(Labelled(a.onset, a.offset, a.emotion) for a in video.annotations),
            labelled=True,
            quiet=not (video.annotations or options.quiet),
            path=video.path,
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


def _compare(console: Console, settings: Mapping[str, Setting], bound: float | None, people: int) -> None:
    """Print what the model found with its own settings beside what it finds with the chosen ones."""
    title = f"Before and after, on the same {how_many(people, 'person', 'people')}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("ratio", "floor", *COUNTED, "precision", "recall", "spotting F1", QUIET):
        table.add_column(column, justify="right")
    for name, each in settings.items():
        spotting = each.spotting
        cells = (f"{each.ratio:g}", f"{each.floor:g}", *map(str, (spotting.tp, spotting.fp, spotting.fn)))
        shares = (f"{share:.3f}" for share in (spotting.precision, spotting.recall, spotting.f1))
        table.add_row(name, *cells, *shares, _a_minute(each, bound))
    console.print(table)


def _a_minute(setting: Setting, bound: float | None) -> str:
    return "-" if bound is None else f"{setting.false_alarms:.2f}"


def _show(console: Console, settings: Sequence[Setting], chosen: Setting, bound: float | None) -> None:
    """Print what the chosen ratio comes to at every fifth floor, and the chosen one."""
    of_ratio = [setting for setting in settings if setting.ratio == chosen.ratio]
    shown = [setting for i, setting in enumerate(of_ratio) if i % FLOORS_APART == 0 or setting == chosen]
    held = "no bound on false alarms" if bound is None else f"at most {bound:g} false alarms a minute"
    table = Table(title=f"Ratio {chosen.ratio:g}; {held}", title_justify="left")
    for name in ("floor", *COUNTED, "spotting F1", QUIET, ""):
        table.add_column(name, justify="right")
    for row in shown:
        counts = (row.spotting.tp, row.spotting.fp, row.spotting.fn)
        shares = (f"{row.spotting.f1:.3f}", _a_minute(row, bound))
        table.add_row(f"{row.floor:g}", *map(str, counts), *shares, "chosen" if row == chosen else "")
    console.print(table)
