"""The ``metst-edge`` command.

Exit status: 0 done, 1 the job failed (one line says why and what to do), 2 bad usage.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from metst_edge import __version__
from metst_edge.errors import MetstError

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.analyzer import Analyzer, OnStage, Progress
    from metst_edge.events import Event
    from metst_edge.report import Report

PICTURES = (".png", ".pdf", ".svg")
REDRAW_SECONDS = 0.2
LINE_SECONDS = 10.0

EPILOG = """\
examples:
  metst-edge demo                              find the micro-expressions of the packaged clip
  metst-edge --camera 0                        watch a camera, one line per event; Ctrl-C ends it
  metst-edge --source clip.mp4 --json          a file as if it were live, one JSON object per line
  metst-edge analyze clip.mp4 --plot clip.png  a whole file at once, with a picture of the score curve
  metst-edge bench --json base.json            how long every stage takes here; later: --compare base.json
  metst-edge info demo                         what is inside a model
  metst-edge doctor                            what this machine has, what is missing, and what gets it
  metst-edge build demo --precision fp16       TensorRT engines for this device, so that the first start is quick
"""

BENCH_FRAMES, BENCH_WARM_UP = 600, 60
"""Together the 660 frames of the packaged clip. Warm-up is over when libraries are loaded and two windows are open."""
BENCH_EPILOG = """\
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

A frame whose end to end takes longer than 1 / FPS misses its deadline. A file is read as fast as it can be, and from
its start again when it ends; only a camera, which does not wait, can lose frames.

examples:
  metst-edge bench                             the packaged clip
  metst-edge bench --json base.json            keep the figures
  metst-edge bench --compare base.json         what has changed since
  metst-edge bench --camera 0 --rate 25        a camera, live
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.run is None:
        if options.camera is None and options.source is None:
            parser.print_help()
            return 2
        options.run = run_live
    elif options.camera is not None or options.source is not None or options.live_json:
        parser.error("--camera, --source and --json before a verb belong to watching live, without a verb")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may hold what the terminal's encoding does not.
            stream.reconfigure(errors="backslashreplace")
    with contextlib.suppress(ValueError):  # only the main thread may
        # A service manager stops us with SIGTERM: end as with Ctrl-C, with what was found written.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _quiet_native_stderr():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except MetstError as error:
        print(f"metst-edge: error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"metst-edge: error: {error}; metst-edge doctor says what is missing", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (metst-edge ... | head): nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"metst-edge: error: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("metst-edge: interrupted", file=sys.stderr)
        return 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every verb."""
    parser = argparse.ArgumentParser(
        prog="metst-edge",
        description="Spot micro-expressions in live or recorded video of a face and name their emotion.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=None)
    parser.add_argument("--version", action="version", version=f"metst-edge {__version__}")
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument("--camera", metavar="N", type=_camera, help="watch camera N (0 is the first)")
    sources.add_argument("--source", metavar="URI", help="watch a camera index, video file or folder of images")
    _add_model(parser)
    parser.add_argument("--json", dest="live_json", action="store_true", help="print one JSON object per line")

    verbs = parser.add_subparsers(title="verbs", metavar="")
    demo = verbs.add_parser("demo", help="analyse the packaged clip, whose micro-expressions are known")
    _add_model(demo)
    demo.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    demo.add_argument(
        "--plot",
        metavar="PNG",
        type=_picture,
        default="metst-edge-demo.png",
        help="where to draw the curve (default: %(default)s)",
    )
    demo.set_defaults(run=run_demo)

    analyze = verbs.add_parser("analyze", help="analyse recorded video offline")
    analyze.add_argument("files", metavar="FILE", nargs="+", help="video file or folder of images")
    _add_model(analyze)
    analyze.add_argument("--json", metavar="OUT", help="write one JSON object per file, a line each (- for stdout)")
    analyze.add_argument("--csv", metavar="OUT", help="write one row per event (- for stdout)")
    analyze.add_argument(
        "--plot", metavar="PNG", type=_picture, help="draw the score curve; of several files, PNG-<number>-<file name>"
    )
    analyze.add_argument("--scores", action="store_true", help="put the per-frame curve into the JSON")
    analyze.set_defaults(run=run_analyze)

    _add_bench(verbs)

    info = verbs.add_parser("info", help="show what is inside a model bundle")
    info.add_argument("bundle", metavar="BUNDLE", nargs="?", default="demo", help="shipped model or path (demo)")
    info.add_argument("--json", action="store_true", help="print the manifest as it is")
    info.set_defaults(run=run_info)
    _add_build(verbs)
    _add_doctor(verbs)
    return parser


def _add_bench(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bench = verbs.add_parser(
        "bench",
        help="measure how long every stage takes on this machine",
        description="Measure how long every stage of a frame takes on this machine: percentiles of every frame after\n"
        "the warm-up, deadline misses, drops and memory. Without --source or --camera, the packaged clip is played.",
        epilog=BENCH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = bench.add_mutually_exclusive_group()
    # Names of their own: --source and --camera before the verb are something else.
    sources.add_argument("--source", dest="bench_source", metavar="URI", help="video file, folder of images or camera")
    sources.add_argument("--camera", dest="bench_camera", metavar="N", type=_camera, help="camera N (0 is the first)")
    bench.add_argument(
        "--frames", metavar="N", type=_count(1), default=BENCH_FRAMES, help="frames to measure (default: %(default)s)"
    )
    bench.add_argument(
        "--warm-up",
        metavar="N",
        type=_count(0),
        default=BENCH_WARM_UP,
        help="frames before those (default: %(default)s)",
    )
    bench.add_argument(
        "--rate", metavar="FPS", type=_rate, help="frames per second to keep up with (default: the model's)"
    )
    _add_model(bench)
    bench.add_argument("--json", metavar="OUT", help="write everything as one JSON object (- for stdout)")
    bench.add_argument("--compare", metavar="BASE.json", type=Path, help="set beside what --json wrote before")
    bench.set_defaults(run=run_bench)


def _add_build(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    build = verbs.add_parser(
        "build",
        help="build TensorRT engines of a model for this device",
        description="Build TensorRT engines of a model for this device and keep them in the user's cache folder, from\n"
        "where engine 'tensorrt' takes them. What has been built before is not built again.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("bundle", metavar="BUNDLE", help="shipped model or path")
    _add_precision(build)
    build.add_argument(
        "--workspace", metavar="MiB", type=_count(1), help="memory a layer may use for itself, at most (default: 256)"
    )
    build.add_argument("--force", action="store_true", help="build again what has been built before")
    build.add_argument(
        "--target",
        metavar="SM",
        help="build for another GPU, such as sm89; only TensorRT for RTX can (default: this one)",
    )
    build.add_argument("--json", action="store_true", help="print one JSON object")
    build.set_defaults(run=run_build)


def _add_doctor(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = verbs.add_parser(
        "doctor",
        help="say what this machine has, what is missing or wrong, and the command that gets it",
        description="Say what this machine has, what is missing or wrong, and after -> the command that gets it.\n"
        "Nothing is changed. What is missing without need, such as CUDA where there is no GPU, is marked with -.",
        epilog="Exit status: 0 where video can be analysed on the CPU, whatever else is missing; 1 where it cannot.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=run_doctor)


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, {least} or above, got {text!r}")
        return int(text)

    return parse


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"expected frames per second, a number above 0, got {text!r}")
    return rate


def _camera(text: str) -> str:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a camera index such as 0, got {text!r}; files go to --source")
    return text


def _picture(text: str) -> str:
    if Path(text).suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"expected a name ending in {', '.join(PICTURES)}, got {text!r}")
    return text


def _add_model(parser: argparse.ArgumentParser) -> None:
    # Verbs share these with the top level; a default set twice would undo what stands before the verb.
    parser.add_argument(
        "--model", metavar="NAME", default=argparse.SUPPRESS, help="shipped model or bundle path (default: demo)"
    )
    parser.add_argument(
        "--engine",
        default=argparse.SUPPRESS,
        choices=("auto", "native", "onnxruntime", "tensorrt"),
        help="what runs the network (default: auto, which is tensorrt where it can run, else native)",
    )
    _add_precision(parser)
    parser.add_argument(
        "--flow",
        default=argparse.SUPPRESS,
        choices=("auto", "cpu", "cuda"),
        help="where optical flow is measured (default: auto, which is cuda with --engine tensorrt and the plugin's "
        "library, else cpu)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=_threads,
        default=argparse.SUPPRESS,
        help="spread a frame's flow on the CPU over at most N threads (default: one per processor, 4 at most)",
    )


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default=argparse.SUPPRESS, help="of the network (default: fp32)"
    )


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of threads from 1, got {text!r}")
    return int(text)


def _open_analyzer(options: argparse.Namespace, on_stage: OnStage | None = None) -> Analyzer:
    from metst_edge.analyzer import Analyzer

    names = ("model", "engine", "precision", "flow", "threads")
    given = {name: getattr(options, name) for name in names if name in options}
    return Analyzer(**given, on_stage=on_stage)


def run_live(options: argparse.Namespace) -> int:
    """Print events as they are found until the source ends or Ctrl-C."""
    source = options.camera if options.source is None else options.source
    with _open_analyzer(options) as analyzer:
        try:
            for event in analyzer.stream(source):
                _print_event(event, options.live_json)
        except KeyboardInterrupt:
            for event in analyzer.flush():
                _print_event(event, options.live_json)
    return 0


def _print_event(event: Event, as_json: bool) -> None:
    print(event.to_json() if as_json else describe(event), flush=True)


def describe(event: Event) -> str:
    """Return an event as a line for people."""
    from metst_edge.events import Gap

    if isinstance(event, Gap):
        return f"{event.start:8.2f} - {event.end:.2f} s  gap: {event.reason.replace('_', ' ')}"
    line = f"{event.onset:8.2f} - {event.offset:.2f} s  {event.emotion:<9} apex {event.apex:.2f} s"
    line += f"  score {event.score:.2f}"
    if event.emotion in event.probabilities:
        line += f"  p({event.emotion}) {event.probabilities[event.emotion]:.2f}"
    return line


def run_demo(options: argparse.Namespace) -> int:
    """Analyse the packaged clip and compare with its truth."""
    from metst_edge.app.demo import demo_clip, demo_truth
    from metst_edge.app.demo.outcome import compare
    from metst_edge.app.demo.table import show

    clip = demo_clip()
    with _open_analyzer(options) as analyzer, _progress("demo clip", quiet=options.json) as advance:
        report = analyzer.analyze(clip, progress=advance)
    truth = demo_truth()
    outcome = compare(report.micro_expressions, truth)
    console = _console(sys.stdout)
    if options.json:
        print(json.dumps({**report.to_dict(), **outcome.to_dict()}), flush=True)
    else:
        show(console, outcome)
    report.plot(options.plot, truth)
    if not options.json:
        console.print(f"Picture of the score curve: {options.plot}", highlight=False, markup=False)
    return 0


def run_analyze(options: argparse.Namespace) -> int:
    """Analyse files one after the other; one that fails does not stop the others."""
    failed, header = False, True
    with contextlib.ExitStack() as stack:
        # First, so that a model that cannot be loaded costs nobody the results of yesterday.
        analyzer = stack.enter_context(_open_analyzer(options))
        json_out = stack.enter_context(_output(options.json)) if options.json else None
        csv_out = stack.enter_context(_output(options.csv)) if options.csv else None
        table_out = sys.stderr if "-" in (options.json, options.csv) else sys.stdout
        for number, file in enumerate(options.files):
            interrupted = False
            try:
                with _progress(Path(file).name) as advance:
                    report: Report | None = analyzer.analyze(file, progress=advance)
            except MetstError as error:
                print(f"metst-edge: error: {error}", file=sys.stderr)
                failed, report = True, error.report
            except KeyboardInterrupt as error:
                print("metst-edge: interrupted; what was found so far follows", file=sys.stderr)
                interrupted, report = True, getattr(error, "report", None)
            if report is not None:
                _show_report(report, _console(table_out))
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
    return 1 if failed else 0


def _plotted(report: Report, path: Path) -> bool:
    """Draw the report; a picture that cannot be written is one line, and the other files go on."""
    try:
        report.plot(path)
    except OSError as error:
        print(f"metst-edge: error: {path}: the picture cannot be written: {error.strerror or error}", file=sys.stderr)
        return False
    return True


def _show_report(report: Report, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    found, broken = len(report.micro_expressions), "" if report.complete else ", broken off"
    title = f"{report.source}: {found} micro-expressions in {report.duration:.1f} s ({report.frames} frames{broken})"
    if not report.events:
        console.print(title, highlight=False, markup=False)
        return
    table = Table(title=Text(title), title_justify="left")
    for name in ("onset s", "apex s", "offset s", "score", "p"):
        table.add_column(name, justify="right")
    table.add_column("emotion")
    for event in report.events:
        fields = event.to_dict()
        if fields["type"] == "gap":
            reason = f"[dim]gap: {fields['reason'].replace('_', ' ')}[/dim]"
            table.add_row(f"{fields['start']:.2f}", "", f"{fields['end']:.2f}", "", "", reason)
        else:
            times = [f"{fields[name]:.2f}" for name in ("onset", "apex", "offset", "score")]
            probability = fields["probabilities"].get(fields["emotion"])
            table.add_row(*times, "" if probability is None else f"{probability:.2f}", fields["emotion"])
    console.print(table)


def _plot_path(plot: str, file: str, number: int, files: int) -> Path:
    path = Path(plot)
    return path if files == 1 else path.with_name(f"{path.stem}-{number + 1}-{Path(file).stem}{path.suffix}")


def run_bench(options: argparse.Namespace) -> int:
    """Measure; what was measured before a failure or Ctrl-C is shown and written all the same."""
    from metst_edge.app.bench.comparing import compare
    from metst_edge.app.bench.measuring import Bench
    from metst_edge.app.bench.results import load
    from metst_edge.app.bench.tables import show

    # What is mistyped should not cost a measurement.
    base = load(options.compare) if options.compare else None
    if options.json not in (None, "-") and not Path(options.json).parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), options.json)
    source = options.bench_camera if options.bench_source is None else options.bench_source
    bench = Bench(source, options.frames, options.warm_up)
    with _open_analyzer(options, bench.on_stage) as analyzer:
        try:
            with _progress("bench") as advance:
                bench.play(analyzer, advance)
        except (KeyboardInterrupt, MetstError) as error:
            if not bench.measured:
                raise
            what = f"error: {error}" if isinstance(error, MetstError) else "interrupted"
            print(f"metst-edge: {what}; what was measured so far follows", file=sys.stderr)
        result = bench.result(analyzer, options.rate)
    comparison = compare(result, base) if base else None
    show(_console(sys.stderr if options.json == "-" else sys.stdout), result, comparison)
    if options.json:
        with _output(options.json) as file:
            print(json.dumps({**result, "comparison": comparison}, indent=1), file=file)
    return 0 if bench.complete else 1


def run_info(options: argparse.Namespace) -> int:
    """Show a bundle's manifest."""
    from metst_edge.app.info import show
    from metst_edge.bundle import Bundle

    bundle = Bundle.find(options.bundle)
    if options.json:
        print(json.dumps(bundle.manifest, indent=1))
    else:
        show(_console(sys.stdout), bundle)
    return 0


def run_build(options: argparse.Namespace) -> int:
    """Build both engines of a bundle, or find them built."""
    from metst_edge.bundle import Bundle
    from metst_edge.engine.tensorrt.builder import GRAPHS, WORKSPACE_MIB, EngineBuilder

    precision = getattr(options, "precision", "fp32")

    def say(line: str) -> None:
        print(f"metst-edge: {line}", file=sys.stderr, flush=True)

    with _progress("TensorRT", quiet=options.json) as advance:
        builder = EngineBuilder(
            Bundle.find(options.bundle),
            precision=precision,
            workspace_mib=WORKSPACE_MIB if options.workspace is None else options.workspace,
            target=options.target,
            progress=_percent(advance, say),
            say=say,
        )
        plans = [builder.plan(graph, force=options.force) for graph in GRAPHS]
    if options.json:
        engines = [
            {
                "graph": plan.graph,
                "built": plan.built,
                "seconds": round(plan.seconds, 3),
                "bytes": len(plan.content),
                "path": None if plan.path is None else str(plan.path),
                "parts": builder.parts(plan.graph),
            }
            for plan in plans
        ]
        print(json.dumps({"bundle": str(builder.bundle.path), "precision": precision, "engines": engines}))
        return 0
    for plan in plans:
        when = "built" if plan.built else f"in the cache, built {plan.created}"
        where = "not kept" if plan.path is None else plan.path
        print(f"{plan.graph:<6}  {when} in {plan.seconds:.1f} s  {len(plan.content) / 1e6:.1f} MB  {where}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """Say what this machine has; needs none of the libraries that it asks about."""
    from metst_edge.app.doctor import examine, show

    report = examine()
    if options.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        show(report, sys.stdout)
    return 0 if report.blocked is None else 1


def _percent(advance: Progress, say: Callable[[str], None]) -> Callable[[float, str], None]:
    """Show the progress of a build: a bar on a terminal, elsewhere a line now and then."""
    told = time.monotonic()

    def progress(share: float, _: str) -> None:
        nonlocal told
        advance(int(100 * share), 100)
        if not sys.stderr.isatty() and time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            say(f"{share:.0%} done")

    return progress


def _console(file: TextIO) -> Console:
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process; _run knows better

    # A pipe has no width of its own: wide enough that no table cell is cut.
    return PipeConsole(file=file, width=None if file.isatty() else 120)


@contextlib.contextmanager
def _output(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdout
        return
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        yield file


@contextlib.contextmanager
def _progress(name: str, quiet: bool = False) -> Iterator[Progress]:
    """Show a progress bar on a terminal; yield what Analyzer.analyze calls with frames done and in all."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Drawn between frames, not by a thread of its own: that would take its time from the frame being measured.
    bar = Bar(*columns, console=console, transient=True, disable=quiet or not console.is_terminal, auto_refresh=False)
    drawn = -math.inf

    def advance(done: int, total: int | None) -> None:
        nonlocal drawn
        due = time.monotonic() - drawn >= REDRAW_SECONDS
        bar.update(task, completed=done, total=total, refresh=due)
        if due:
            drawn = time.monotonic()

    with bar:
        task = bar.add_task(escape(name), total=None)
        yield advance


@contextlib.contextmanager
def _quiet_native_stderr() -> Iterator[None]:
    """Keep what MediaPipe's and FFmpeg's native code prints off the terminal.

    They log before any setting of theirs is read, so file descriptor 2 is put aside, and what Python prints goes to a
    copy of it. METST_EDGE_VERBOSE=1 shows everything.
    """
    python_stderr = sys.stderr
    if os.environ.get("METST_EDGE_VERBOSE") or python_stderr is None:  # None where a daemon has closed it
        yield
        return
    python_stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, null)
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        stack.callback(setattr, sys, "stderr", python_stderr)
        os.dup2(null, 2)
        if python_stderr is sys.__stderr__:
            sys.stderr = stack.enter_context(open(kept, "w", buffering=1, errors="backslashreplace", closefd=False))
        yield


if __name__ == "__main__":
    sys.exit(main())
