"""``metst-edge --camera 0``: events as they are found. What is done without a verb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from metst_edge.app import arguments, terminal
from metst_edge.counting import how_many
from metst_edge.errors import MetstError
from metst_edge.events import Gap, MicroExpression

if TYPE_CHECKING:
    from metst_edge.app.status import StatusLine
    from metst_edge.events import Event
    from metst_edge.status import Status


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
        "--source",
        metavar="URI",
        action=arguments.Once,
        type=arguments.named,
        help="watch a camera index, video file or folder of images",
    )
    arguments.add_rate(parser)
    arguments.add_analyzer(parser)
    parser.add_argument("--json", dest="live_json", action="store_true", help="print one JSON object per line")


def run(options: argparse.Namespace) -> int:
    """Print events as they are found until the source ends or Ctrl-C, and then what it all was."""
    from metst_edge.app.status import StatusLine

    source = options.camera if options.source is None else options.source
    with (
        arguments.open_analyzer(options) as analyzer,
        StatusLine(sys.stderr, lambda: analyzer.status, Path(source).name) as line,
    ):
        told = _Told(options.live_json, line)
        try:
            for event in analyzer.stream(source, getattr(options, "fps", None)):
                told.take(event)
        except KeyboardInterrupt:
            for event in analyzer.flush():
                told.take(event)
        except MetstError:
            told.end(source, analyzer.ended, ", broken off")
            raise
        told.end(source, analyzer.ended)
        terminal.tell_missing(analyzer.opinions)
    return 0


class _Told:
    """Prints events, and counts them.

    Args:
        as_json: or as lines for people.
        line: that is taken away meanwhile.
    """

    def __init__(self, as_json: bool, line: StatusLine) -> None:
        self._as_json, self._line = as_json, line
        self._found = self._gaps = 0

    def take(self, event: Event) -> None:
        """Print an event; one that comes again, revised, or as its end, was counted."""
        found = isinstance(event, MicroExpression) and not event.revision
        self._found += found
        self._gaps += isinstance(event, Gap) and event.end is not None
        with self._line.aside(found):
            print(event.to_json() if self._as_json else terminal.describe(event), flush=True)

    def end(self, source: str, status: Status, broken: str = "") -> None:
        """Tell what it all was: a stream that found nothing has printed nothing else."""
        self._line.close()
        if status.frames:
            frames = f"{how_many(status.frames, 'frame')}, a face in {status.faces}"
            terminal.tell(
                f"{source}: {how_many(self._found, 'micro-expression')} in {status.seconds:.1f} s ({frames}{broken}), "
                f"{how_many(self._gaps, 'gap')}, blind for {status.blind:.1f} s"
            )
