"""Train on a labelled folder: python examples/labelled_folder.py [DIR] [--steps N] [--out RUN]

DIR holds labels.csv beside the videos it names. Without DIR, a small one is made: the packaged clip, whose
micro-expressions are known because they were rendered. A few steps on one clip show the way, they train nothing.

Run it from a checkout with pip install -e '.[train]'.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import metst_edge

CHECKOUT = Path(__file__).resolve().parents[1]
DEMO = Path(metst_edge.__file__).with_name("app") / "demo_clip"


def write_folder(folder: Path) -> None:
    """Write a labelled folder of one video: labels.csv has a row per micro-expression, frames counted from 0."""
    folder.mkdir(parents=True)
    shutil.copy(DEMO / "clip.mp4", folder / "clip.mp4")
    truth = json.loads((DEMO / "truth.json").read_text(encoding="utf-8"))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["video", "subject", "onset", "apex", "offset", "emotion"])
        for event in truth["events"]:
            table.writerow(["clip.mp4", "s01", event["onset"], event["apex"], event["offset"], event["emotion"]])


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a few steps on a labelled folder.")
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", help="default: one made of the packaged clip")
    parser.add_argument("--steps", type=int, default=5, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--out", metavar="RUN", type=Path, help="where the run goes (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder
        if folder is None:
            folder = Path(temporary) / "labelled"
            write_folder(folder)
            print((folder / "labels.csv").read_text(encoding="utf-8"), flush=True)  # before what the training prints
        out = options.out or Path(temporary) / "run"
        command = ["fit", "--preset", "metst64", "--data", folder.resolve(), "--steps", options.steps, "--batch", 8]
        command += ["--out", out.resolve()]
        # Measures every window of every video first, with the front end that runs on the device, and keeps that.
        return subprocess.call([sys.executable, "-m", "training", *map(str, command)], cwd=CHECKOUT)


if __name__ == "__main__":
    sys.exit(main())
