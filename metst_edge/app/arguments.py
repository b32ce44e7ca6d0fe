"""What the verbs' arguments have in common: types that say what was expected, and groups that several verbs take.

Knows no verb. Imports nothing heavy, so that help comes at once.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from metst_edge.choices import (
    DECODERS,
    ENGINES,
    FACES,
    FLOWS,
    HIGHEST_RATE,
    LOG_LEVELS,
    LOWEST_RATE,
    MODEL,
    MOST_THREADS,
    PLOTS,
    PRECISIONS,
    SYNERGIES,
)

if TYPE_CHECKING:
    from metst_edge.analyzer import Analyzer, OnStage

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where a verb adds its parser."""

THRESHOLDS = {
    "ratio": "height of the threshold between the smoothed curve's mean, 0, and its maximum, 1",
    "floor": "what the smoothed curve must reach in any case, 0 to 1",
    "min_score": "leave out events with a lower score, as events tell it, 0 to 1",
}
"""Decode settings that are a number from 0 to 1."""


class Once(argparse.Action):
    """Stores what may be given once: of two, one would be dropped without a word."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Take a value."""
        before = getattr(namespace, self.dest, None)
        if before is not None:
            raise argparse.ArgumentError(self, f"expected it once, got {before!r} and {values!r}; run it once for each")
        setattr(namespace, self.dest, values)


def count(least: int, most: int = 10**9) -> Callable[[str], int]:
    """Return the type of a whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if not (text.isdecimal() and len(text) <= 20 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text[:40]!r}")
        return int(text)

    return parse


def number(what: str, least: float, most: float) -> Callable[[str], float]:
    """Return the type of a number from ``least`` to ``most``; ``what`` says of what."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {what}, a number from {least:g} to {most:g}, got {text!r}")
        return value

    return parse


rate = number("frames per second", LOWEST_RATE, HIGHEST_RATE)
"""Type of a frame rate."""


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def camera(text: str) -> str:
    """Parse the index of a camera."""
    if not (text.isdecimal() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"expected a camera index such as 0, got {text[:40]!r}; files go to --source")
    return text


def named(text: str) -> str:
    """Parse a name or a path; an empty one would be the current folder, or nothing."""
    if not text:
        raise argparse.ArgumentTypeError("expected a name, got an empty text")
    return text


def picture(text: str) -> str:
    """Parse the name of a picture, whose ending decides its format."""
    if Path(text).suffix.lower() not in PLOTS:
        raise argparse.ArgumentTypeError(f"expected a name ending in {', '.join(PLOTS)}, got {text!r}")
    return text


def class_priors(text: str) -> dict[str, float]:
    """Parse label=number with commas between them."""
    priors: dict[str, float] = {}
    for part in text.split(","):
        label, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (label and equals and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"expected LABEL=NUMBER,... such as positive=0.5,surprise=1, got {text!r}")
        if label in priors:
            raise argparse.ArgumentTypeError(f"expected one number a label, got two for {label!r} in {text!r}")
        priors[label] = value
    return priors


def add_rate(parser: argparse.ArgumentParser) -> None:
    """Add --fps, which is left out of the options where it is not given."""
    parser.add_argument(
        "--fps",
        metavar="N",
        type=rate,
        default=argparse.SUPPRESS,
        help="how many frames a second were taken: of a folder of pictures, and of slow motion (default: what the "
        "file says, or fps.txt in the folder)",
    )


def add_analyzer(parser: argparse.ArgumentParser) -> None:
    """Add what `open_analyzer` takes: the model, and what runs it where."""
    # Verbs share these with the top level; a default set twice would undo what stands before the verb.
    parser.add_argument(
        "--model",
        metavar="NAME",
        type=named,
        default=argparse.SUPPRESS,
        help=f"shipped model or bundle path (default: {MODEL})",
    )
    parser.add_argument(
        "--engine",
        default=argparse.SUPPRESS,
        choices=("auto", *ENGINES),
        help="what runs the network (default: auto, which is tensorrt where it can run, else cuda, else native)",
    )
    add_precision(parser)
    parser.add_argument(
        "--flow",
        default=argparse.SUPPRESS,
        choices=FLOWS,
        help="where optical flow is measured (default: auto, which is cuda with --engine tensorrt or cuda and the "
        "compiled kernels, else cpu)",
    )
    parser.add_argument(
        "--face",
        default=argparse.SUPPRESS,
        choices=FACES,
        help="what finds the face (default: opencv, with the models that come along; mediapipe is an extra)",
    )
    parser.add_argument(
        "--face-model",
        metavar="FILE",
        type=named,
        default=argparse.SUPPRESS,
        help="a face_landmarker.task, which --face mediapipe needs from MediaPipe 0.10.30 on",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=count(1, MOST_THREADS),
        default=argparse.SUPPRESS,
        help="spread a frame's flow on the CPU over at most N threads (default: one per processor, 4 at most)",
    )
    parser.add_argument(
        "--recognizer",
        metavar="BUNDLE",
        type=named,
        default=argparse.SUPPRESS,
        help="a recogniser's bundle that gives a second opinion on every interval; live, an event comes again with it; "
        "runs in onnxruntime, or in TensorRT with that engine (default: none)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="what metst-edge calibrate has written for this model: it sets floor and ratio (default: the model's)",
    )
    add_decoding(parser)


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Add what changes a model's decode settings; each is left out of the options where it is not given."""
    parser.add_argument(
        "--decoder",
        default=argparse.SUPPRESS,
        choices=DECODERS,
        help="how a peak of the score curve becomes an interval: of one length, or fitted to the curve (default: the "
        "model's)",
    )
    parser.add_argument(
        "--synergy",
        default=argparse.SUPPRESS,
        choices=SYNERGIES,
        help="an interval always gets an emotion, is dropped where neutral wins the vote, or is named neutral there "
        "(default: the model's)",
    )
    parser.add_argument(
        "--class-priors",
        metavar="LABEL=NUMBER,...",
        type=class_priors,
        default=argparse.SUPPRESS,
        help="added to the labels' logits before the vote, such as positive=0.5,surprise=1 (default: the model's)",
    )

    for name, what in THRESHOLDS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="SHARE",
            type=share,
            default=argparse.SUPPRESS,
            help=f"{what} (default: the model's)",
        )


def decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was given of `add_decoding`, by the names of `DecodeSettings.changed`."""
    return _given(options, ("decoder", "synergy", "class_priors", *THRESHOLDS))


def add_log_level(parser: argparse.ArgumentParser) -> None:
    """Add --log-level, which is left out of the options where it is not given."""
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default=argparse.SUPPRESS,
        help="what is logged to stderr beside results and errors (default: warning)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add --precision, which is left out of the options where it is not given."""
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=argparse.SUPPRESS, help="of the network (default: fp32)"
    )


def open_analyzer(options: argparse.Namespace, on_stage: OnStage | None = None) -> Analyzer:
    """Make the analyzer that the options of `add_analyzer` ask for; what is not given keeps its own default."""
    from metst_edge.analyzer import Analyzer

    names = ("model", "engine", "precision", "flow", "face", "face_model", "threads", "recognizer", "calibration")
    return Analyzer(**_given(options, names), **decoding(options), on_stage=on_stage)


def read_beside(options: argparse.Namespace) -> list[str]:
    """Return what is read beside the video: paths that `add_analyzer` was given."""
    return [str(path) for path in _given(options, ("model", "face_model", "recognizer", "calibration")).values()]


def _given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if name in options}
