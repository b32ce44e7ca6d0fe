"""``metst-edge --camera 0``: events as they are found. What is done without a verb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from metst_edge.app import arguments, terminal
from metst_edge.events import MicroExpression

if TYPE_CHECKING:
    from metst_edge.app.status import StatusLine
    from metst_edge.events import Event


def add(parser: argparse.ArgumentParser) -> None:
    """Add to the top level what is watched, and how it is told."""
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument(
        "--camera",
        metavar="N",
        action=arguments.Once,
        type=arguments.camera,
        help="watch camera N (0 is the first)",
    )
    sources.add_argument(
        "--source", metavar="URI", action=arguments.Once, help="watch a camera index, video file or folder of images"
    )
    arguments.add_rate(parser)
    arguments.add_analyzer(parser)
    parser.add_argument("--json", dest="live_json", action="store_true", help="print one JSON object per line")


def run(options: argparse.Namespace) -> int:
    """Print events as they are found until the source ends or Ctrl-C."""
    from metst_edge.app.status import StatusLine
    from metst_edge.capture import with_rate

    source = options.camera if options.source is None else options.source
    name = Path(source).name
    source = with_rate(source, getattr(options, "fps", None))
    with (
        arguments.open_analyzer(options) as analyzer,
        StatusLine(sys.stderr, lambda: analyzer.status, name) as line,
    ):
        try:
            for event in analyzer.stream(source):
                _print(event, options.live_json, line)
        except KeyboardInterrupt:
            for event in analyzer.flush():
                _print(event, options.live_json, line)
        line.close()
        terminal.tell_missing(analyzer.opinions)
    return 0


def _print(event: Event, as_json: bool, line: StatusLine) -> None:
    # An event that comes again, revised, was counted.
    with line.aside(found=isinstance(event, MicroExpression) and not event.revision):
        print(event.to_json() if as_json else terminal.describe(event), flush=True)
