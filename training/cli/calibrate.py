"""``python -m training calibrate``: measure what the feature generator imitates."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.cli import terminal
from training.cli.arguments import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "calibrate",
        help="measure what the generator imitates",
        description="Render action units on the training portraits, measure them with the real front end, and write "
        "what the feature generator is calibrated with.",
    )
    parser.add_argument("--portraits", metavar="DIR", type=Path, required=True, help="holds the training portraits")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to write (default: the packaged place)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure the training portraits for the feature generator."""
    from training.synthesis.calibration import CALIBRATION_FILE
    from training.synthesis.measuring import calibrate_folder

    console = terminal.console()
    out = options.out or CALIBRATION_FILE
    terminal.expect_file(out)
    with terminal.refused_input(), terminal.bar(console) as bar:
        task = bar.add_task("measuring persons", total=None)
        calibrate_folder(
            options.portraits, out, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(f"wrote {out}")
    return 0
