"""Optical flow of facial regions against OpenCV's Farneback, from one patch to the features of a frame.

Usage: python benchmarks/roi_flow.py [CLIP] [--windows 4] [--profile FILE] [--out]

Three tables, one thread unless said:

patches   every patch of a region set for one frame, on crops aligned as in use: `metst_edge.flow.Farneback` against
          cv2.calcOpticalFlowFarneback. The anchor's part (its expansion) is made once a window and not timed on our
          side, as in use; OpenCV's function has no way to keep it. "anchor ms" is that part, due once in 30 frames.
features  the channels of one frame in every lane: crop, alignment by the nose bridge, patches, means; against the same
          done call by call over OpenCV (peers/opencv_flow.py), by frame size, regions, lanes and threads. On two
          threads the OpenCV path runs a lane on each. "cores used" is the processor time of our calls over the time
          they took: well below the number of threads, the machine was busy with something else.
area      the cost of one square patch by its side, and of a set's patches one after the other.

Contenders take turns within each frame, and must agree before they are timed; but where a picture is its anchor over
again ours must be zero, while OpenCV's is up to a pixel there, at borders. Without CLIP, METST_EDGE_TEST_DATA's real
clip is used, or the packaged one.

--profile FILE adds a text to the results of the patches, under its own heading: a profile of the compiled code, made
beforehand with a tool of the machine's.
"""

from __future__ import annotations

import os

# Before numpy is loaded: its BLAS reads this once.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import sys
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.flow import features, patches
from benchmarks.inputs import Clip, default_clip
from benchmarks.results import show


def main() -> None:
    """Run the benchmark, print the tables, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, metavar="CLIP")
    parser.add_argument("--windows", type=int, default=4, help="windows of the clip that frames are taken from")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-roi-flow*.json and .md")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="a text to add to the results of the patches")
    options = parser.parse_args()
    if options.profile is not None and not options.profile.is_file():
        parser.error(f"--profile {options.profile}: expected a text file, found none")
    text = "" if options.profile is None else options.profile.read_text()
    path = options.clip or default_clip()
    cv2.setNumThreads(1)
    clip = Clip(path, features.SIZES[0], 300)
    rows = patches.patches(clip, options.windows)
    title = f"Flow of all patches of a frame, {clip.name}, one thread"
    show(title, rows, "roi-flow", options.out, patches.judge(rows), text)
    rows = features.rows(path, options.windows)
    title = f"Features of a frame, alignment included, {clip.name}"
    show(title, rows, "roi-flow-features", options.out, features.judge(rows, path))
    rows = patches.area(clip, options.windows)
    show(f"Flow by area, {clip.name}, one thread", rows, "roi-flow-area", options.out)


if __name__ == "__main__":
    main()
