"""What several verbs ask for on the command line, and the numbers they take. Says what is typed, not what is done."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TypeAlias

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns."""

SYNTHETIC = "synthetic"
"""What --data says for generated windows or rendered clips; anything else is a labelled folder."""

DRAWINGS = ("fields", "bumps")
"""The names in `training.synthesis.render.DRAWINGS`, which need more imports than a command line should."""


def add_data(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add where labelled video or windows come from; of several folders it is a list."""
    if several:
        parser.add_argument(
            "--data",
            metavar=("synthetic|DIR", "DIR"),
            nargs="+",
            default=[SYNTHETIC],
            help="generated, or labelled folders; whoever has the same name in several is one person (default: "
            "synthetic)",
        )
    else:
        parser.add_argument(
            "--data",
            metavar="synthetic|DIR",
            default=SYNTHETIC,
            help="generated, or a labelled folder (default: synthetic)",
        )
    parser.add_argument(
        "--first-frame",
        type=int,
        choices=(0, 1),
        default=0,
        help="number of a video's first frame in labels.csv",
    )


def add_clips(parser: argparse.ArgumentParser) -> None:
    """Add which clips to render."""
    parser.add_argument("--clips", type=whole, default=20, help="how many clips to render (default: 20)")
    parser.add_argument("--seconds", type=positive, default=30.0, help="length of each (default: 30)")
    parser.add_argument("--seed", type=count, default=1, help="of the rendered clips (default: 1)")


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """Add how action units are drawn."""
    parser.add_argument(
        "--drawing",
        choices=DRAWINGS,
        default=DRAWINGS[0],
        help="how action units are drawn; bumps: a second way, to validate with, never to train on (default: fields)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model that is looked at."""
    parser.add_argument(
        "model", metavar="MODEL", type=Path, help="a shipped model, a bundle, or a model.pt that `fit` left"
    )


def add_fold(parser: argparse._MutuallyExclusiveGroup, does: str) -> None:
    """Add a fold of people, which a verb does something with."""
    parser.add_argument("--fold", metavar="FILE:N", type=fold, help=f"{does} fold N of what `folds` wrote")


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the model that a verb looks at, or one for each fold."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        type=Path,
        nargs="+",
        help="a shipped model, a bundle, or a model.pt that `fit` left; with --folds one for each fold, in order",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add what runs the model."""
    parser.add_argument("--engine", default="auto", help="auto, native or onnxruntime (default: auto)")


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def fold(text: str) -> tuple[Path, int]:
    """A file of folds and the number of one of them."""
    file, colon, number = text.rpartition(":")
    if not (file and colon and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected FILE:N, such as folds.json:0, got {text!r}")
    return Path(file), int(number)


def whole(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """A whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


MOST_A_MINUTE = 600
"""Of what happens in a clip: more could not be told apart."""


def a_minute(text: str) -> float:
    """How often something happens a minute."""
    value = _number(text)
    if not 0 <= value <= MOST_A_MINUTE:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {MOST_A_MINUTE}, got {text!r}")
    return value


def fraction(text: str) -> float:
    """A number of 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number of 0 to 1, got {text!r}")
    return value


def _number(text: str) -> float:
    """Read a number; what is none becomes NaN, which lies in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan
