"""The ``metst-edge`` command: builds the parser from the verbs, runs one, and makes an exit status of how it ends.

Exit status: 0 done, 1 the job failed (one line says why and what to do), 2 bad usage: a verb or an option that is not
there, or a value of one that no run could take.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from metst_edge.app.arguments import add_log_level
from metst_edge.app.process import give_up_stdout, keep_standard_descriptors, stopping
from metst_edge.app.terminal import logged, quiet_native_stderr, tell, tell_error
from metst_edge.app.usage import Parser, Version, misplaced
from metst_edge.app.verbs import analyze, bench, build, calibrate, demo, doctor, info, live
from metst_edge.errors import MetstError

VERBS = (demo, analyze, calibrate, bench, info, build, doctor)
"""In the order of the help; `live` is what is done without a verb."""

EPILOG = """\
examples:
  metst-edge demo                              find the micro-expressions of the packaged clip
  metst-edge --camera 0                        watch a camera, one line per event; Ctrl-C ends it
  metst-edge --source clip.mp4 --json          a file as if it were live, one JSON object per line
  metst-edge analyze clip.mp4 --plot clip.png  a whole file at once, with a picture of the score curve
  metst-edge calibrate --false-alarms-per-hour 2 hour-of-faces.mp4
                                               a threshold from footage of your own; later: --calibration
  metst-edge bench --json base.json            how long every stage takes here; later: --compare base.json
  metst-edge info                              what is inside a model
  metst-edge doctor                            what this machine has, what is missing, and what gets it
  metst-edge build demo_plus --precision fp16  TensorRT engines for this device, so that the first start is quick
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    keep_standard_descriptors()
    with stopping():
        try:
            return _main(arguments)
        except KeyboardInterrupt:
            tell("interrupted")
            return 1


def _main(arguments: Sequence[str] | None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    watching = options.camera is not None or options.source is not None
    if options.run is None:
        if not watching:
            parser.print_help()
            return 2
        options.run = live.run
    elif watching or options.live_json:
        parser.error("--camera, --source and --json before a verb belong to watching live, without a verb")
    else:
        option = misplaced(parser, options.parser, options)
        if option is not None:
            options.parser.error(f"argument {option}: this verb has no such option, before it or behind it")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may hold what the terminal's encoding does not.
            stream.reconfigure(errors="backslashreplace")
    with quiet_native_stderr(), logged(getattr(options, "log_level", "warning")):
        return _run(options)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every verb."""
    parser = Parser(
        prog="metst-edge",
        description="Spot micro-expressions in live or recorded video of a face and name their emotion.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=None)
    parser.add_argument("--version", action=Version)
    live.add(parser)
    add_log_level(parser)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", parser_class=Parser)
    for verb in VERBS:
        verb.add(verbs)
    for verb_parser in verbs.choices.values():
        add_log_level(verb_parser)
        verb_parser.set_defaults(parser=verb_parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except MetstError as error:
        tell_error(error)
        return 1
    except ImportError as error:
        tell(f"error: {error}; metst-edge doctor says what is missing")
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (metst-edge ... | head): nothing is wrong, and nobody is left to tell.
        give_up_stdout()
        return 0
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            give_up_stdout()
        where = f": {error.filename}" if error.filename else ""
        tell(f"error: {error.strerror or error}{where}")
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
