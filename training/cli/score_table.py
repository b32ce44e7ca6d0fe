"""``python -m training score-table``: what a model's scores mean, from an evaluation of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.table import Table

from metst_edge.counting import how_many
from metst_edge.writing import write_whole
from training.cli import terminal
from training.cli.arguments import Verbs, names
from training.data.errors import DataError


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "score-table",
        help="fit what a model's scores mean",
        description="From what `evaluate` found, fit the share of events that are true to their height (isotonic "
        "regression), for `python -m export bundle --calibration FILE`. Evaluate with a low --floor, so that there are "
        "low events to fit on, and on people that the model has not seen.",
    )
    parser.add_argument("results", metavar="RESULTS", type=Path, help="the folder that `evaluate --out` has written")
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="the labelled folder it was run on")
    parser.add_argument(
        "--first-frame", type=int, choices=(0, 1), default=0, help="number of a video's first frame in labels.csv"
    )
    parser.add_argument("--subjects", metavar="A,B", type=names, default=(), help="only these (default: all)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="where to write (default: calibration.json in RESULTS)"
    )
    parser.set_defaults(run=run)


def _expect_table(out: Path) -> None:
    """Check that a file that is there is a table, which a new one may replace."""
    from metst_edge.decode.table import ScoreTable
    from metst_edge.errors import SettingsError
    from training.data.tables import read_json

    try:
        ScoreTable.from_dict(read_json(out, "nothing, or a table by `score-table` to replace; name another --out"))
    except SettingsError as error:
        raise DataError(f"{out} holds something else than a table by `score-table`; name another --out") from error


def run(options: argparse.Namespace) -> int:
    """Fit one table and write it."""
    from training.data.folder import read_folder, split_subjects
    from training.evaluation.calibration import events_of, fit_table, model_of

    console = terminal.console()
    videos = read_folder(options.data, options.first_frame)
    if options.subjects:
        _, videos = split_subjects(videos, options.subjects)
    out = options.out or options.results / "calibration.json"
    terminal.expect_file(out)
    if out.exists():
        _expect_table(out)
    fitted = fit_table(events_of(videos, options.results))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, (json.dumps({**model_of(options.results), **fitted.to_dict()}, indent=1) + "\n").encode())
    title = f"{how_many(fitted.events, 'event')}, {fitted.base_rate:.0%} of them true"
    table = Table("height", "share that is true", title=title, title_justify="left")
    for height, share in fitted.points:
        table.add_row(f"{height:.3f}", f"{share:.3f}")
    console.print(table)
    console.print(f"wrote {out}")
    return 0
