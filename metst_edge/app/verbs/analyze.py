"""``metst-edge analyze``: recorded video, whole files at once."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from metst_edge.app import arguments, terminal
from metst_edge.errors import MetstError

if TYPE_CHECKING:
    from metst_edge.report import Report


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser("analyze", help="analyse recorded video offline")
    parser.add_argument("files", metavar="FILE", nargs="+", help="video file, or folder of images or of clips")
    arguments.add_rate(parser)
    arguments.add_analyzer(parser)
    parser.add_argument("--json", metavar="OUT", help="write one JSON object per file, a line each (- for stdout)")
    parser.add_argument("--csv", metavar="OUT", help="write one row per event (- for stdout)")
    parser.add_argument(
        "--plot",
        metavar="PNG",
        type=arguments.picture,
        help="draw the score curve; of several files, PNG-<number>-<file name>",
    )
    parser.add_argument("--scores", action="store_true", help="put the per-frame curve into the JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Analyse files one after the other; one that fails does not stop the others."""
    from metst_edge.capture import clips_of, with_rate

    options.files = [clip for file in options.files for clip in clips_of(file)]
    if options.plot:
        from metst_edge.report.plot import figure_class

        figure_class()  # before the work: without what draws, none of it would give the picture that is asked for
    failed, header = False, True
    with contextlib.ExitStack() as stack:
        # First, so that a model that cannot be loaded costs nobody the results of yesterday.
        analyzer = stack.enter_context(arguments.open_analyzer(options))
        json_out = stack.enter_context(terminal.output(options.json)) if options.json else None
        csv_out = stack.enter_context(terminal.output(options.csv)) if options.csv else None
        table_out = sys.stderr if "-" in (options.json, options.csv) else sys.stdout
        for number, file in enumerate(options.files):
            interrupted = False
            try:
                with terminal.progress(Path(file).name) as advance:
                    report: Report | None = analyzer.analyze(
                        with_rate(file, getattr(options, "fps", None)), progress=advance
                    )
            except MetstError as error:
                terminal.tell(f"error: {error}")
                failed, report = True, error.report
            except KeyboardInterrupt as error:
                terminal.tell("interrupted; what was found so far follows")
                interrupted, report = True, getattr(error, "report", None)
            if report is not None:
                terminal.show_report(terminal.console_on(table_out), report)
                if json_out:
                    print(report.to_json(options.scores), file=json_out, flush=True)
                if csv_out:
                    report.write_csv(csv_out, header=header)
                    csv_out.flush()
                    header = False
                if options.plot:
                    failed |= not _plotted(report, _plot_path(options.plot, file, number, len(options.files)))
            if interrupted:
                return 1
        terminal.tell_missing(analyzer.opinions)
    return 1 if failed else 0


def _plotted(report: Report, path: Path) -> bool:
    """Draw the report; a picture that cannot be written is one line, and the other files go on."""
    try:
        report.plot(path)
    except OSError as error:
        terminal.tell(f"error: {path}: the picture cannot be written: {error.strerror or error}")
        return False
    return True


def _plot_path(plot: str, file: str, number: int, files: int) -> Path:
    path = Path(plot)
    return path if files == 1 else path.with_name(f"{path.stem}-{number + 1}-{Path(file).stem}{path.suffix}")
