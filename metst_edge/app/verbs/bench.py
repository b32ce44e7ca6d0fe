"""``metst-edge bench``: how long every stage of a frame takes here, and how that compares with another run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metst_edge.app import arguments, outputs, terminal
from metst_edge.errors import EngineError, MetstError

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.app.bench.interval import IntervalBench
    from metst_edge.app.bench.measuring import Bench

FRAMES, WARM_UP = 600, 60
"""Together the 660 frames of the packaged clip. Warm-up is over when libraries are loaded and two windows are open."""
INTERVALS, INTERVAL_WARM_UP = 20, 2
"""Of a recogniser."""
OF_A_STREAM = frozenset(
    [
        *("bench_source", "bench_camera", "rate", "precision", "flow", "face", "face_model", "threads"),
        *("recognizer", "decoder", "synergy", "class_priors", *arguments.THRESHOLDS),
    ]
)
"""Options that would say nothing of a recogniser on its own."""

EPILOG = """\
what is timed, in milliseconds a call:
  capture     reading and decoding a frame; of a camera, waiting for the next one
  prepare     making it gray, and its thumbnail
  face        looking for the face: where a window starts, and ten times a second while there is none
  flow        measuring one slot of the model's time grid, in both windows; with --flow cuda only asking for it
  network     scoring that slot; with --flow cuda waiting for its flow, too
  decode      finding the events that are final with that score
  end to end  of a file: from asking for a frame until the events that are final with it are there, so capture and all
              stages after it; of a camera: from having the frame, since waiting for it is no work. That events come
              about half a second of video after what they tell of is not in it.

Of a recogniser (--model), one interval of the packaged clip is timed again and again instead:
  pictures    drawing the flow of its frames
  network     naming the emotion

A frame whose end to end takes longer than 1 / FPS misses its deadline. A file is read as fast as it can be, and from
its start again when it ends; only a camera, which does not wait, can lose frames.

examples:
  metst-edge bench                             the packaged clip
  metst-edge bench --json base.json            keep the figures
  metst-edge bench --compare base.json         what has changed since
  metst-edge bench --camera 0 --rate 25        a camera, live
"""


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "bench",
        help="measure how long every stage takes on this machine",
        description="Measure how long every stage of a frame takes on this machine: percentiles of every frame after\n"
        "the warm-up, deadline misses, drops and memory. Without --source or --camera, the packaged clip is played.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = parser.add_mutually_exclusive_group()
    # Names of their own: --source and --camera before the verb are something else.
    sources.add_argument(
        "--source",
        dest="bench_source",
        metavar="URI",
        action=arguments.Once,
        type=arguments.named,
        help="video file, folder of images or camera",
    )
    sources.add_argument(
        "--camera",
        dest="bench_camera",
        metavar="N",
        action=arguments.Once,
        type=arguments.camera,
        help="camera N (0 is the first)",
    )
    parser.add_argument(
        "--frames",
        metavar="N",
        type=arguments.count(1),
        help=f"frames to measure (default: {FRAMES}); of a recogniser, intervals (default: {INTERVALS})",
    )
    parser.add_argument(
        "--warm-up",
        metavar="N",
        type=arguments.count(0),
        help=f"frames before those (default: {WARM_UP}); of a recogniser, intervals (default: {INTERVAL_WARM_UP})",
    )
    parser.add_argument(
        "--rate", metavar="FPS", type=arguments.rate, help="frames per second to keep up with (default: the model's)"
    )
    arguments.add_analyzer(parser)
    parser.add_argument(
        "--json",
        metavar="OUT",
        action=arguments.Once,
        type=arguments.named,
        help="write everything as one JSON object (- for stdout)",
    )
    parser.add_argument(
        "--compare",
        metavar="BASE.json",
        action=arguments.Once,
        type=arguments.named,
        help="set beside what --json wrote before",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure; what was measured before a failure or Ctrl-C is shown and written all the same."""
    from metst_edge.app.bench.results import load

    # What is mistyped should not cost a measurement.
    base = load(Path(options.compare)) if options.compare else None
    read = [options.bench_source, options.compare]
    outputs.check(
        [("--json", options.json)] if options.json else [],
        [*filter(None, read), *arguments.read_beside(options)],
    )
    with outputs.opened(options.json) if options.json else nullcontext() as file:
        return _measured(options, base, file)


def _measured(options: argparse.Namespace, base: dict[str, Any] | None, file: outputs.Writer | None) -> int:
    """Measure, show and write."""
    from metst_edge.app.bench.comparing import compare

    measure = _recogniser if _names_recogniser(options) else _stream
    result, show = measure(options)
    comparison = compare(result, base) if base else None
    if file:
        file.write(json.dumps({**result, "comparison": comparison}, indent=1) + "\n")
    show(terminal.console_on(sys.stderr if options.json == "-" else sys.stdout), result, comparison)
    return 0 if result["complete"] else 1


Show = Callable[["Console", "dict[str, Any]", "dict[str, Any] | None"], None]


def _names_recogniser(options: argparse.Namespace) -> bool:
    from metst_edge.bundle import RecognizerBundle, open_bundle

    try:
        return "model" in options and isinstance(open_bundle(options.model), RecognizerBundle)
    except MetstError:  # whatever is wrong with it, the analyzer will tell
        return False


def _stream(options: argparse.Namespace) -> tuple[dict[str, Any], Show]:
    """Measure the stages of a frame."""
    from metst_edge.app.bench.measuring import Bench
    from metst_edge.app.bench.tables import show

    source = options.bench_camera if options.bench_source is None else options.bench_source
    frames = FRAMES if options.frames is None else options.frames
    bench = Bench(source, frames, WARM_UP if options.warm_up is None else options.warm_up)
    with arguments.open_analyzer(options, bench.on_stage) as analyzer:
        with _kept(bench), terminal.progress("bench") as advance:
            bench.play(analyzer, advance)
        return bench.result(analyzer, options.rate), show


def _recogniser(options: argparse.Namespace) -> tuple[dict[str, Any], Show]:
    """Measure the stages of an interval."""
    from metst_edge.app.bench.interval import IntervalBench, show
    from metst_edge.recognise.engine import load_recognizer

    ignored = [name for name, value in vars(options).items() if value is not None and name in OF_A_STREAM]
    if ignored:
        names = ", ".join(f"--{name.removeprefix('bench_').replace('_', '-')}" for name in ignored)
        raise EngineError(
            "expected no more of a recogniser's benchmark than --engine, --frames and --warm-up, since it is timed "
            f"alone on the packaged clip, got {names}"
        )
    intervals = INTERVALS if options.frames is None else options.frames
    bench = IntervalBench(intervals, INTERVAL_WARM_UP if options.warm_up is None else options.warm_up)
    recognizer = load_recognizer(options.model, getattr(options, "engine", "auto"))
    try:
        with _kept(bench), terminal.progress("bench") as advance:
            bench.play(recognizer, advance)
        return bench.result(recognizer), show
    finally:
        recognizer.close()


@contextmanager
def _kept(bench: Bench | IntervalBench) -> Iterator[None]:
    """Go on after a failure or Ctrl-C with what was measured until then, where something was."""
    try:
        yield
    except (KeyboardInterrupt, MetstError) as error:
        if not bench.measured:
            raise
        more = "; what was measured so far follows"
        if isinstance(error, MetstError):
            terminal.tell_error(error, more)
        else:
            terminal.tell(f"interrupted{more}")
