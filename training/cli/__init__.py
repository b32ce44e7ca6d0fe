"""The training command line: ``python -m training VERB ...`` from a checkout; one file a verb.

Exit status: 0 done, 1 the job failed or was interrupted (one line says why and what to do), 2 bad usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from metst_edge.errors import MetstError
from training.cli import (
    calibrate,
    causes,
    demo_clip,
    evaluate,
    false_alarms,
    fit,
    folds,
    insert,
    recognise,
    render,
    score_table,
    threshold,
)
from training.missing import missing

VERBS = (
    folds,
    fit,
    threshold,
    evaluate,
    score_table,
    false_alarms,
    recognise,
    render,
    insert,
    causes,
    calibrate,
    demo_clip,
)
"""In the order of the help; each has ``add(verbs)``, which adds its parser, and ``run(options)``, the exit status."""

EPILOG = """\
examples:
  the shipped model, under 30 minutes on two cores:
      python -m training fit --preset metst64 --data synthetic
  the same after Ctrl-C:
      python -m training fit --preset metst64 --data synthetic --resume
  scored on rendered video of somebody it was not trained on:
      python -m training evaluate runs/metst64-synthetic-seed0/model.pt
  on a labelled folder, two subjects kept for the evaluation:
      python -m training fit --data DIR --test-subjects s03,s11 --out runs/mine
      python -m training evaluate runs/mine/model.pt --data DIR --subjects s03,s11
  in three folds, so that everybody is scored once, by a model that never saw them:
      python -m training folds --data DIR --folds 3 --out runs/folds.json
      python -m training fit --data DIR --fold runs/folds.json:0 --out runs/f0     (and 1, 2)
      python -m training evaluate runs/f0/model.pt runs/f1/model.pt runs/f2/model.pt --data DIR --folds runs/folds.json
  a recogniser, which names the emotion of intervals that are known:
      python -m training recognise fit --data DIR --test-subjects s03,s11 --out runs/names
      python -m training recognise evaluate runs/names/model.pt --data DIR --subjects s03,s11

labelled folder: DIR/labels.csv with the columns video,subject,onset,apex,offset,emotion[,fps], one row per
micro-expression, beside the video files or folders of images it names. Frames count from 0 (--first-frame 1:
from 1), both ends inclusive. emotion is negative, positive, surprise, others, or a finer name such as anger or
happiness. A video in which nothing happens has one row with the last columns empty. fps is the frame rate of
an image folder.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except MetstError as error:  # first: one of them is an ImportError too
        print(f"training: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        # Those that the operating system raises name the file apart from the reason.
        reason = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
        print(f"training: error: {reason}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"training: error: {missing(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("training: interrupted", file=sys.stderr)
        return 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every verb."""
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train and evaluate micro-expression models. Results go to runs/, which git ignores.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser
