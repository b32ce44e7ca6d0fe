"""``metst-edge calibrate``: the threshold that keeps false alarms rare, from the operator's own neutral footage."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from metst_edge.app import arguments, outputs, terminal
from metst_edge.errors import CalibrationError, MetstError, SourceError
from metst_edge.events import MicroExpression

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metst_edge.analyzer import Analyzer, Progress
    from metst_edge.calibration import Calibration
    from metst_edge.events import Event

REFUSED = ("floor", "min_score", "calibration", "recognizer")
"""Options of an analyzer that have no place here."""


def add(verbs: arguments.Verbs) -> None:
    """Add the verb's parser."""
    parser = verbs.add_parser(
        "calibrate",
        help="find the threshold that keeps false alarms rare on footage of your own",
        description="Watch faces that show no micro-expression, where the model is to be used, and find the lowest "
        "threshold that gives no more than so many false alarms an hour. Everything found counts as false. Ctrl-C ends "
        "the watching; what was seen until then is used.",
    )
    parser.add_argument(
        "sources", metavar="SOURCE", nargs="+", help="video file, folder of images or of clips, or camera (--minutes)"
    )
    parser.add_argument(
        "--false-alarms-per-hour",
        metavar="R",
        type=arguments.number("false alarms an hour", 1e-3, 1e5),
        required=True,
        help="how many are tolerable",
    )
    parser.add_argument(
        "--minutes",
        metavar="N",
        type=arguments.number("minutes", 1e-3, 1e6),
        help="watch each source for so long (default: to its end, which a camera has not)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default="calibration.json",
        help="write the calibration here, for --calibration (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print what is written as one JSON object")
    arguments.add_rate(parser)
    arguments.add_analyzer(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Watch all sources, and write what they say together; one that fails does not stop the others."""
    from metst_edge.calibration import LOWEST, calibrated
    from metst_edge.capture import clips_of, with_rate

    for name in REFUSED:
        if name in options:
            raise CalibrationError(
                f"--{name.replace('_', '-')} has no place where the floor is looked for; leave it out"
            )
    clips = [clip for source in options.sources for clip in clips_of(source)]
    outputs.check([("--out", options.out)], [*options.sources, *clips, *arguments.read_beside(options)])
    options.floor, options.min_score = LOWEST, 0.0
    footage, failed = Footage(), False
    seconds = None if options.minutes is None else 60 * options.minutes
    with arguments.open_analyzer(options, footage.on_stage) as analyzer:
        for clip in clips:
            try:
                with terminal.progress(clip, quiet=options.json) as advance:
                    footage.watch(analyzer, with_rate(clip, getattr(options, "fps", None)), seconds, advance)
            except MetstError as error:
                terminal.tell(f"error: {error}")
                failed = True
            except KeyboardInterrupt:
                terminal.tell("interrupted; what was seen until then is used")
                break
        bundle = analyzer.bundle
        if footage.slots == 0:
            raise CalibrationError(
                f"expected footage of a face, none was seen in {', '.join(clips)[:200]}; nothing is written"
            )
        found = calibrated(
            footage.heights,
            footage.slots / bundle.fps / 3600,
            options.false_alarms_per_hour,
            model=bundle.name,
            model_sha256=bundle.manifest_sha256,
            ratio=analyzer.decode_settings.ratio,
            own_floor=bundle.decode_settings.floor,
        )
    with outputs.opened(options.out) as out:
        out.write(found.to_text())
    _tell(found, options)
    return 1 if failed else 0


class Footage:
    """What was seen of faces without micro-expressions.

    Attributes:
        heights: of the peaks that were found.
        slots: of the model's time grid that were scored.
    """

    def __init__(self) -> None:
        self.heights: list[float] = []
        self.slots = 0

    def on_stage(self, stage: str, seconds: float) -> None:
        """Count slots; see `metst_edge.scoring.stages.OnStage`."""
        self.slots += stage == "network"

    def watch(self, analyzer: Analyzer, source: str, seconds: float | None, advance: Progress) -> None:
        """Collect the peaks of a source as a stream finds them.

        Args:
            analyzer: with the lowest floor.
            source: as `metst_edge.capture.open_source` takes it.
            seconds: to watch it for; None to its end.
            advance: told how far it is: in frames, or in seconds where they are limited.

        Raises:
            SourceError: it cannot be opened, or breaks off, or is live without a limit. What was seen is kept.
        """
        from metst_edge.capture import Interruption, open_source

        with open_source(source) as frames:
            if frames.live and seconds is None:
                raise SourceError(f"{source}: expected --minutes N with a live source, which has no end of its own")
            analyzer.check_rate(frames)
            first: float | None = None
            try:
                for done, frame in enumerate(frames, 1):
                    if isinstance(frame, Interruption):
                        self._take(analyzer.flush())
                        continue
                    self._take(analyzer.push(frame))
                    first = frame.timestamp if first is None else first
                    if seconds is None:
                        advance(done, frames.frame_count)
                        continue
                    advance(int(frame.timestamp - first), int(seconds))
                    if frame.timestamp - first >= seconds:
                        break
            finally:
                self._take(analyzer.flush())

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, MicroExpression):
                self.heights.append(event.score if event.height is None else event.height)


def _tell(found: Calibration, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(found.to_dict()))
    for line in found.in_words():
        if options.json:
            terminal.tell(line)
        else:
            print(line)
    if not options.json:
        print(f"wrote {options.out}; use it with --calibration {options.out}")
