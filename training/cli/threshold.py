"""``python -m training threshold``: choose a model's decode threshold on training people."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table

from metst_edge.counting import how_many
from training.cli import terminal
from training.cli.arguments import Verbs, add_engine, add_fold, add_models, count, names, positive
from training.data.errors import DataError

if TYPE_CHECKING:
    from training.data.folder import Video
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
        "spotting F1 that keeps a bound on false alarms in quiet video. A model is surer of people whom it was trained "
        "on than of others, so give one for each fold where you can (--folds).",
    )
    add_models(parser)
    parser.add_argument(
        "--data", metavar="DIR", type=Path, nargs="+", required=True, help="labelled folders, all of which count"
    )
    parser.add_argument(
        "--first-frame", type=int, choices=(0, 1), default=0, help="number of a video's first frame in labels.csv"
    )
    tested = parser.add_mutually_exclusive_group()
    tested.add_argument("--test-subjects", metavar="A,B", type=names, default=(), help="subjects not to be looked at")
    add_fold(tested, "do not look at the people of")
    tested.add_argument(
        "--folds", metavar="FILE", type=Path, help="what `folds` wrote: MODEL i looks at fold i, whom it does not know"
    )
    parser.add_argument(
        "--without", metavar="N", type=count, help="with --folds: the fold that is to be tested, not to be looked at"
    )
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
    from training.evaluation.kept import identity, write
    from training.evaluation.threshold import best, score_all, search

    console = terminal.console()
    out = options.out or results_folder(options.models[0], options.data[0].name, "threshold")
    terminal.expect_place(out)
    parts = _parts(options, out)
    sources = [source for part in parts for source in part.sources]
    for part in parts:
        _expect_training_people(options, part)
    bundles = [as_bundle(part.model, part.out) for part in parts]
    with terminal.bar(console, TextColumn("{task.fields[video]}")) as bar:
        task = bar.add_task("analysing", total=len(sources), video="")
        order = {source.name: i for i, source in enumerate(sources)}

        def report(video: str, share: float) -> None:
            bar.update(task, completed=order[video] + share, video=video)

        videos = [
            scored
            for part, bundle in zip(parts, bundles, strict=True)
            for scored in score_all(bundle, part.sources, part.out, engine=options.engine, report=report)
        ]
        task = bar.add_task("decoding", total=1.0, video="")
        settings = search(videos, report=lambda share: bar.update(task, completed=share))
    quiet = [video.minutes for video in videos if video.quiet]
    bound = options.false_alarms if sum(quiet) else None
    console.print(_of_quiet(quiet))
    chosen = best(settings, bound)
    own = bundles[0].decode_settings
    (before,) = search(videos, [own.ratio], [own.floor])
    people = sorted({source.subject for source in sources})
    _show(console, settings, chosen, bound)
    _compare(console, {"the model's own": before, "chosen": chosen}, bound, len(people))
    written = {
        # What is chosen with models of folds is for another one.
        **({} if options.folds else identity(bundles[0])),
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
    console.print(
        f"ratio {chosen.ratio:g}, floor {chosen.floor:g}, on {how_many(len(people), 'person', 'people')}; "
        f"wrote {path}; next: {_use(options, chosen, path)}",
        soft_wrap=True,  # a command that is to be copied
    )
    return 0


def _use(options: argparse.Namespace, chosen: Setting, path: Path) -> str:
    """Return the command that the choice is for."""
    from training.cli.model import is_bundle

    model = options.models[0]
    if options.folds:
        model = "MODEL" if options.without is None else options.models[options.without]
    elif is_bundle(model):  # a bundle is not exported, so it is told at each use
        return f"metst-edge SOURCE --model {model} --ratio {chosen.ratio:g} --floor {chosen.floor:g}"
    return f"python -m export bundle {model} --decode {path} --out DIR"


def _expect_training_people(options: argparse.Namespace, part: _Part) -> None:
    """Check that whoever is to be tested is not looked at, and whoever a model of a fold looks at is new to it."""
    from training.cli.model import apart_of
    from training.evaluation.folds import read_folds

    apart = apart_of(part.model)
    if options.fold:
        file, number = options.fold
        apart.expect_fold(part.model, number, read_folds(file)[number])
    if part.fold is None:
        apart.expect_unseen(part.model, [source.subject for source in part.sources])
    else:
        apart.expect_fold(part.model, part.fold, read_folds(options.folds)[part.fold])


def _of_quiet(minutes: Sequence[float]) -> str:
    """Say in how much quiet video false alarms are counted, given the minutes of face in each."""
    if not minutes:
        return "no quiet video, so false alarms a minute are not counted and no bound is held; name some with --quiet"
    if not sum(minutes):
        return f"no face in {how_many(len(minutes), 'quiet video')}, so no bound on false alarms is held"
    long = f"{sum(minutes):.1f} minutes" if sum(minutes) >= 1 else f"{60 * sum(minutes):.0f} seconds"
    return f"{how_many(len(minutes), 'quiet video')}, {long} of face"


@dataclass(frozen=True, slots=True)
class _Part:
    """A model and what it looks at.

    Attributes:
        model: as it was named.
        out: where its results go.
        sources: videos.
        fold: number of the fold that it was trained without; None where it looks at people whom it knows.
    """

    model: Path
    out: Path
    sources: Sequence[Source]
    fold: int | None = None


def _parts(options: argparse.Namespace, out: Path) -> list[_Part]:
    """Return what each model looks at, none of it of a test subject."""
    from training.data.folder import expect_events, read_folder, split_subjects
    from training.evaluation.folds import in_fold, read_folds, split_fold

    videos = [video for folder in options.data for video in read_folder(folder, options.first_frame)]
    if options.folds is None:
        if len(options.models) > 1 or options.without is not None:
            raise DataError("expected one MODEL, or --folds FILE and one for each fold")
        tested: Sequence[str]
        if options.fold:
            videos, _ = split_fold(videos, *options.fold)
            tested = read_folds(options.fold[0])[options.fold[1]]
        else:
            videos, _ = split_subjects(videos, options.test_subjects)
            tested = options.test_subjects
        expect_events(videos, "those whom the threshold is chosen on")
        return [_Part(options.models[0], out, _sources(options, videos, lambda person: person not in tested, tested))]
    folds = read_folds(options.folds)
    if len(folds) != len(options.models):
        raise DataError(f"{options.folds}: expected a MODEL for each of {len(folds)} folds, got {len(options.models)}")
    if options.without is not None and options.without >= len(folds):
        raise DataError(
            f"--without: expected one of folds 0 to {len(folds) - 1} of {options.folds}, got {options.without}"
        )
    everybody = [person for fold in folds for person in fold]
    parts = []
    for i, model in enumerate(options.models):
        if i != options.without:
            own = in_fold(videos, options.folds, i)
            sources = _sources(options, own, folds[i].__contains__, everybody)
            parts.append(_Part(model, out / f"fold{i}", sources, i))
    return parts


def _sources(
    options: argparse.Namespace, videos: Sequence[Video], looked_at: Callable[[str | None], bool], known: Sequence[str]
) -> list[Source]:
    """Return labelled videos, and the quiet clips of those who are looked at.

    Args:
        options: of the verb.
        videos: labelled.
        looked_at: tells whether somebody's quiet clips count here.
        known: where there are such, it matters who is seen.
    """
    from training.evaluation.metrics import Labelled
    from training.evaluation.quiet import expect_clips, people_in
    from training.evaluation.threshold import Source

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
        if person is None and known:
            raise DataError(
                f"expected who is seen in {clip}, lest the threshold be chosen on a test subject, got nobody; write "
                "people.csv (file,subject) beside it, or name one by --people"
            )
        if looked_at(person):
            sources.append(Source(str(clip), clip, person or clip.name, (), labelled=False, quiet=True))
    return sources


def _compare(console: Console, settings: Mapping[str, Setting], bound: float | None, people: int) -> None:
    """Print what the model found with its own settings beside what it finds with the chosen ones."""
    table = Table(
        "", title=f"Before and after, on the same {how_many(people, 'person', 'people')}", title_justify="left"
    )
    columns = []
    for name, each in settings.items():
        table.add_column(name, justify="right")
        spotting = each.spotting
        cells = (f"{each.ratio:g}", f"{each.floor:g}", *map(str, (spotting.tp, spotting.fp, spotting.fn)))
        shares = (f"{share:.3f}" for share in (spotting.precision, spotting.recall, spotting.f1))
        columns.append((*cells, *shares, _a_minute(each, bound)))
    for row in zip(("ratio", "floor", *COUNTED, "precision", "recall", "spotting F1", QUIET), *columns, strict=True):
        table.add_row(*row)
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
