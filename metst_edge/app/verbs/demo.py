"""``metst-edge demo``: the packaged clip, whose micro-expressions are known."""

from __future__ import annotations

import argparse
import json
import sys

from metst_edge.app import arguments, terminal


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser("demo", help="analyse the packaged clip, whose micro-expressions are known")
    arguments.add_analyzer(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--plot",
        metavar="PNG",
        type=arguments.picture,
        default="metst-edge-demo.png",
        help="where to draw the curve (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Analyse the packaged clip and compare with its truth."""
    from metst_edge.app.demo import demo_clip, demo_truth
    from metst_edge.app.demo.outcome import compare
    from metst_edge.app.demo.table import show

    clip = demo_clip()
    with (
        arguments.open_analyzer(options) as analyzer,
        terminal.progress("demo clip", quiet=options.json) as advance,
    ):
        report = analyzer.analyze(clip, progress=advance)
    truth = demo_truth()
    outcome = compare(report.micro_expressions, truth)
    console = terminal.console_on(sys.stdout)
    if options.json:
        print(json.dumps({**report.to_dict(), **outcome.to_dict()}), flush=True)
    else:
        show(console, outcome)
    report.plot(options.plot, truth)
    if not options.json:
        console.print(f"Picture of the score curve: {options.plot}", highlight=False, markup=False)
    return 0
