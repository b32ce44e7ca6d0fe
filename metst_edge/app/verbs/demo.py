"""``metst-edge demo``: the packaged clip, whose micro-expressions are known."""

from __future__ import annotations

import argparse
import json
import sys

from metst_edge.app import arguments, outputs, terminal
from metst_edge.errors import OutputError, PlotError

PICTURE = "metst-edge-demo.png"


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser("demo", help="analyse the packaged clip, whose micro-expressions are known")
    arguments.add_analyzer(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--plot",
        metavar="PNG",
        action=arguments.Once,
        type=arguments.picture,
        help=f"where to draw the curve (default: {PICTURE}, where matplotlib is installed)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Analyse the packaged clip and compare with its truth."""
    from metst_edge.app.demo import demo_clip, demo_truth
    from metst_edge.app.demo.outcome import compare
    from metst_edge.app.demo.table import show
    from metst_edge.report.plot import figure_class

    picture = options.plot or PICTURE
    try:
        outputs.check([("--plot", picture)], [demo_clip(), *arguments.read_beside(options)])
    except OutputError as error:
        if options.plot:
            raise
        terminal.tell(f"no picture: {error}")
        picture = None
    if options.plot:
        figure_class()  # before the work: a picture that is asked for is not left out
    clip = demo_clip()
    with (
        arguments.open_analyzer(options) as analyzer,
        terminal.progress("demo clip", quiet=options.json) as advance,
    ):
        report = analyzer.analyze(clip, progress=advance)
        opinions = analyzer.opinions
    terminal.tell_missing(opinions)
    truth = demo_truth()
    outcome = compare(report.micro_expressions, truth)
    console = terminal.console_on(sys.stdout)
    if options.json:
        print(json.dumps({**report.to_dict(), **outcome.to_dict()}), flush=True)
    else:
        show(console, outcome, report.recognizer)
    if picture is None:
        return 0
    try:
        report.plot(picture, truth)
    except PlotError as error:
        terminal.tell(f"no picture: {error}")
        return 0
    if not options.json:
        console.print(f"Picture of the score curve: {picture}", highlight=False, markup=False)
    return 0
