"""``metst-edge doctor``: what this machine has, what is missing or wrong, and the command that gets it."""

from __future__ import annotations

import argparse
import json
import sys

from metst_edge.app import arguments


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "doctor",
        help="say what this machine has, what is missing or wrong, and the command that gets it",
        description="Say what this machine has, what is missing or wrong, and after -> the command that gets it.\n"
        "Nothing is changed. What is missing without need, such as CUDA where there is no GPU, is marked with -.",
        epilog="Exit status: 0 where video can be analysed on the CPU, whatever else is missing; 1 where it cannot.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Say what this machine has; needs none of the libraries that it asks about."""
    from metst_edge.app.doctor.examination import examine
    from metst_edge.app.doctor.lines import show

    diagnosis = examine()
    if options.json:
        print(json.dumps(diagnosis.to_dict(), indent=1))
    else:
        show(diagnosis, sys.stdout)
    return 0 if diagnosis.blocked is None else 1
