"""``metst-edge analyze``: recorded video, whole files at once."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metst_edge.app import arguments, outputs, terminal
from metst_edge.errors import MetstError

if TYPE_CHECKING:
    from metst_edge.report import Report


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser("analyze", help="analyse recorded video offline")
    parser.add_argument(
        "files", metavar="FILE", nargs="+", type=arguments.named, help="video file, or folder of images or of clips"
    )
    arguments.add_rate(parser)
    arguments.add_analyzer(parser)
    parser.add_argument(
        "--json",
        metavar="OUT",
        action=arguments.Once,
        type=arguments.named,
        help="write one JSON object per file, a line each (- for stdout)",
    )
    parser.add_argument(
        "--csv",
        metavar="OUT",
        action=arguments.Once,
        type=arguments.named,
        help="write one row per event (- for stdout)",
    )
    parser.add_argument(
        "--plot",
        metavar="PNG",
        action=arguments.Once,
        type=arguments.picture,
        help="draw the score curve; of several files, PNG-<number>-<file name>",
    )
    parser.add_argument("--scores", action="store_true", help="put the per-frame curve into the JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Analyse files one after the other; one that fails does not stop the others."""
    from metst_edge.capture import clips_of

    given = options.files
    options.files = [clip for file in given for clip in clips_of(file)]
    plots = _plot_paths(options.plot, options.files) if options.plot else []
    outputs.check(
        [(f"--{name}", path) for name in ("json", "csv") if (path := getattr(options, name))]
        + [("--plot", str(path)) for path in plots],
        [*given, *options.files, *arguments.read_beside(options)],
    )
    if plots:
        from metst_edge.report.plot import figure_class

        figure_class()  # before the work: without what draws, none of it would give the picture that is asked for
    failed = False
    with contextlib.ExitStack() as stack:
        # First, so that a model that cannot be loaded costs nobody the results of yesterday.
        analyzer = stack.enter_context(arguments.open_analyzer(options))
        results = _Results(
            stack.enter_context(outputs.opened(options.json)) if options.json else None,
            stack.enter_context(outputs.opened(options.csv)) if options.csv else None,
            options.scores,
        )
        table_out = sys.stderr if outputs.STDOUT in (options.json, options.csv) else sys.stdout
        for number, file in enumerate(options.files):
            interrupted = False
            try:
                with terminal.progress(Path(file).name) as advance:
                    report: Report | None = analyzer.analyze(file, advance, getattr(options, "fps", None))
            except MetstError as error:
                terminal.tell_error(error)
                failed, report = True, error.report
            except KeyboardInterrupt as error:
                terminal.tell("interrupted; what was found so far follows")
                interrupted, report = True, getattr(error, "report", None)
            if report is not None:
                results.write(report)
                if plots:
                    failed |= not _plotted(report, plots[number])
                # Last: a terminal that is gone takes no result with it.
                terminal.show_report(terminal.console_on(table_out), report)
            if interrupted:
                return 1
        terminal.tell_missing(analyzer.opinions)
    return 1 if failed else 0


class _Results:
    """Writes reports to the outputs that are wanted."""

    def __init__(self, json: outputs.Writer | None, csv: outputs.Writer | None, scores: bool) -> None:
        self._json, self._csv, self._scores = json, csv, scores
        self._header = True

    def write(self, report: Report) -> None:
        """Write a line of JSON and the rows of the events.

        Raises:
            OSError: one cannot be written.
        """
        if self._json:
            self._json.write(report.to_json(self._scores) + "\n")
        if self._csv:
            rows = io.StringIO(newline="")
            report.write_csv(rows, header=self._header)
            self._csv.write(rows.getvalue())
            self._header = False


def _plotted(report: Report, path: Path) -> bool:
    """Draw the report; a picture that cannot be written is one line, and the other files go on."""
    try:
        report.plot(path)
    except OSError as error:
        terminal.tell(f"error: {path}: the picture cannot be written: {error.strerror or error}")
        return False
    return True


def _plot_paths(plot: str, files: Sequence[str]) -> list[Path]:
    """Return where each file's curve is drawn."""
    path = Path(plot)
    if len(files) == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{i}-{Path(file).stem}{path.suffix}") for i, file in enumerate(files, 1)]
