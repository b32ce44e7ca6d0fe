"""Optical flow of facial regions against OpenCV's Farneback, from one patch to the features of a frame.

Usage: python benchmarks/roi_flow.py [CLIP] [--windows 4] [--out]

Three tables, one thread unless said:

patches   every patch of a region set for one frame, on crops aligned as in use: `metst_edge.flow.Farneback` against
          cv2.calcOpticalFlowFarneback. The anchor's part (its expansion) is made once a window and not timed on our
          side, as in use; OpenCV's function has no way to keep it. "anchor ms" is that part, due once in 30 frames.
features  the channels of one frame in every lane: crop, alignment by the nose bridge, patches, means; against the same
          done call by call over OpenCV (published.py), by frame size, regions, lanes and threads. On two threads the
          OpenCV path runs a lane on each.
area      the cost of one square patch by its side, and of a set's patches one after the other.

Contenders take turns within each frame, and must agree before they are timed. Without CLIP, METST_EDGE_TEST_DATA's real
clip is used, or the packaged one.
"""

from __future__ import annotations

import os

# Before numpy is loaded: its BLAS reads this once.
os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.inputs import Clip, K, default_clip
from benchmarks.published import PlainFlow, opencv_flow
from benchmarks.results import missed, show, verdict
from benchmarks.timing import alternate, profile, quantiles
from metst_edge.flow import Farneback, RoiFlow

SETS = {"metst": 5, "metst_plus": 18}
SIZES = ((640, 360), (1280, 720), (1920, 1080))
SIDES = (32, 48, 64, 96, 128, 192, 256)
EVERY = 3
"""Frames of a window between those whose patches are timed."""
MEAN_PX, P999_PX = 1e-4, 1e-2
"""Agreement of flow; single pixels of a border row may differ, hence no bound on the worst one."""
FEATURE_PX = 0.01
"""Agreement of features on 95 % of the frames: head motion of half a pixel may be rounded either way, and the crop with
it, by flows that differ by nothing to speak of."""
TIMES_OPENCV = 8.0
MOST_MS = {1: 3.0, 2: 2.0}

Gray = npt.NDArray[np.uint8]
Pairs = list[tuple[Gray, Gray]]
Rows = list[dict[str, Any]]


def measure_lanes(flows: Sequence[RoiFlow], frame: Gray, threads: int) -> list[npt.NDArray[np.float32]]:
    """Measure a frame in every lane, the SDK's way."""
    return [flow.measure(frame) for flow in flows]


def plain_lanes(
    flows: Sequence[PlainFlow], frame: Gray, pool: ThreadPoolExecutor | None
) -> list[npt.NDArray[np.float32]]:
    """Measure a frame in every lane over OpenCV, one lane after the other or a lane on each thread."""
    if pool is None:
        return [flow.measure(frame) for flow in flows]
    return list(pool.map(lambda flow: flow.measure(frame), flows))


def window_crops(clip: Clip, start: int, roi_set: str) -> list[tuple[PlainFlow, Gray]]:
    """Return aligned crops of some frames of a window, each with the window's plain flow."""
    face = clip.face(start)
    plain = PlainFlow(clip.gray[start], face.box, face.crop_landmarks, roi_set)
    crops = [plain.follow(frame)[0] for frame in clip.gray[start + 1 : start + K]]
    return [(plain, crop) for crop in crops[::EVERY]]


def time_patches(windows: list[list[Pairs]]) -> dict[str, Any]:
    """Time all patches of a frame.

    Args:
        windows: per window and frame, the pairs (anchor's patch, frame's patch).

    Returns:
        What the two tables of patches share: patches and pixels of a frame, milliseconds, ratio, agreement.
    """
    ours: list[float] = []
    theirs: list[float] = []
    anchors: list[float] = []
    differences = []
    pixels = []
    for frames in windows:
        start = time.perf_counter()
        flows = [Farneback(anchor) for anchor, _ in frames[0]]
        anchors.append(1e3 * (time.perf_counter() - start))
        for pairs in frames:
            for flow, (anchor, patch) in zip(flows, pairs, strict=True):
                differences.append(np.abs(flow.to(patch) - opencv_flow(anchor, patch)).max(axis=2).ravel())
        pixels.append(sum(anchor.size for anchor, _ in frames[0]))

        def mine(i: int, flows: list[Farneback] = flows, frames: list[Pairs] = frames) -> None:
            for flow, (_, patch) in zip(flows, frames[i], strict=True):
                flow.to(patch)

        def opencv(i: int, frames: list[Pairs] = frames) -> None:
            for anchor, patch in frames[i]:
                opencv_flow(anchor, patch)

        times = alternate({"ours": mine, "OpenCV": opencv}, len(frames))
        ours += times["ours"]
        theirs += times["OpenCV"]
    difference = np.concatenate(differences)
    mean, p999 = float(difference.mean()), float(np.quantile(difference, 0.999))
    if not (mean <= MEAN_PX and p999 <= P999_PX):
        raise RuntimeError(f"flow differs from OpenCV's by {mean:.1e} px on average, {p999:.1e} px at 99.9 %")
    low, median, _ = quantiles(ours)
    other = quantiles(theirs)[1]
    area = float(np.mean(pixels))
    return {
        "patches": len(windows[0][0]),
        "pixels": round(area),
        "ours ms": median,
        "ours 5 % ms": low,
        "OpenCV ms": other,
        "ratio": other / median,
        "ours ns/px": 1e6 * median / area,
        "OpenCV ns/px": 1e6 * other / area,
        "anchor ms": float(np.median(anchors)),
        "mean diff px": mean,
        "99.9 % diff px": p999,
    }


def patches(clip: Clip, windows: int) -> Rows:
    """All patches of both region sets, nose bridge included."""
    rows: Rows = []
    for roi_set, rois in SETS.items():
        frames = [
            [plain.pairs(crop) for plain, crop in window_crops(clip, start, roi_set)] for start in clip.starts(windows)
        ]
        rows.append({"ROIs": rois, **time_patches(frames)})
    return rows


def area(clip: Clip, windows: int, sides: Sequence[int] = SIDES) -> Rows:
    """One square patch in the middle of the crop by its side, then a set's patches added up one by one."""
    rows: Rows = []
    crops = [window_crops(clip, start, "metst_plus") for start in clip.starts(windows)]
    for side in sides:
        squares = [[[_middle(*plain.whole(crop), side)] for plain, crop in window] for window in crops]
        rows.append({"sweep": "square side", "value": side, **_without_anchor(time_patches(squares))})
    most = len(crops[0][0][0].pairs(crops[0][0][1]))
    for count in range(1, most + 1):
        some = [[plain.pairs(crop)[:count] for plain, crop in window] for window in crops]
        rows.append({"sweep": "patches", "value": count, **_without_anchor(time_patches(some))})
    return rows


def _without_anchor(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("patches", "anchor ms", "ours 5 % ms")}


def _middle(anchor: Gray, crop: Gray, side: int) -> tuple[Gray, Gray]:
    first = (anchor.shape[0] - side) // 2
    span = slice(first, first + side)
    return anchor[span, span].copy(), crop[span, span].copy()


def features(clip: Clip, roi_set: str, lanes: int, threads: int, windows: int) -> dict[str, Any]:
    """Time the features of a frame in every lane.

    Lanes' anchors are spread evenly over a window; the frames timed are those that all lanes measure.
    """
    cv2.setNumThreads(1)
    ours: list[float] = []
    theirs: list[float] = []
    differences, bridge = [], []
    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    for start in clip.starts(windows):
        anchors = [start + lane * K // lanes for lane in range(lanes)]
        frames = clip.gray[anchors[-1] + 1 : start + K]
        mine, plain = open_lanes(clip, anchors, roi_set)
        for frame in frames:
            pairs = zip(measure_lanes(mine, frame, threads), plain_lanes(plain, frame, pool), strict=True)
            differences.append(max(float(np.abs(one - other).max()) for one, other in pairs))
        bridge.append(sum(flow.bridge_flows for flow in plain) / len(frames) / lanes)
        mine, plain = open_lanes(clip, anchors, roi_set)  # the crops have moved
        calls: dict[str, Callable[[int], object]] = {
            "ours": lambda i, mine=mine, frames=frames: measure_lanes(mine, frames[i], threads),
            "OpenCV path": lambda i, plain=plain, frames=frames: plain_lanes(plain, frames[i], pool),
        }
        times = alternate(calls, len(frames))
        ours += times["ours"]
        theirs += times["OpenCV path"]
    if pool is not None:
        pool.shutdown()
    usual = float(np.quantile(differences, 0.95))
    if not usual <= FEATURE_PX:
        raise RuntimeError(f"features differ from those over OpenCV by {usual:.1e} px on one frame in 20")
    low, median, high = quantiles(ours)
    other = quantiles(theirs)[1]
    return {
        "frame": clip.size,
        "ROIs": SETS[roi_set],
        "lanes": lanes,
        "threads": threads,
        "ours 5 % ms": low,
        "ours ms": median,
        "ours 95 % ms": high,
        "OpenCV path ms": other,
        "ratio": other / median,
        "nose bridge flows": float(np.mean(bridge)),
        "95 % diff px": usual,
        "largest diff px": max(differences),
    }


def open_lanes(clip: Clip, anchors: Sequence[int], roi_set: str) -> tuple[list[RoiFlow], list[PlainFlow]]:
    """Return the flow of every lane, ours and over OpenCV."""
    faces = [(clip.gray[index], clip.face(index)) for index in anchors]
    return (
        [RoiFlow(gray, face.box, face.crop_landmarks, roi_set) for gray, face in faces],
        [PlainFlow(gray, face.box, face.crop_landmarks, roi_set) for gray, face in faces],
    )


def feature_rows(path: Path, windows: int) -> Rows:
    """Every frame size, region set and number of threads with two lanes; one and four lanes at the smallest size."""
    rows: Rows = []
    for size in SIZES:
        clip = Clip(path, size, 300)
        for roi_set in SETS:
            rows += [features(clip, roi_set, 2, threads, windows) for threads in (1, 2)]
            if size == SIZES[0]:
                rows += [features(clip, roi_set, lanes, 1, windows) for lanes in (1, 4)]
    return rows


def judge_patches(rows: Rows) -> list[str]:
    """Compare the patches of the large set with what was asked for."""
    what = "all patches of 18 ROIs for one frame, against OpenCV's Farneback"
    lines = [verdict(what, row["ratio"], "times as fast", least=TIMES_OPENCV) for row in rows if row["ROIs"] == 18]
    if any(map(missed, lines)):
        row = rows[-1]
        lines.append(
            f"where the time goes: {row['ours ns/px']:.0f} ns per pixel on {row['patches']} patches; the table "
            "'area' tells the cost per pixel from the cost per call"
        )
    return lines


def judge_features(rows: Rows, path: Path) -> list[str]:
    """Compare the features of two lanes at the smallest size with what was asked for; profile where one is missed."""
    lines = []
    for row in rows:
        if row["frame"] == "x".join(map(str, SIZES[0])) and row["lanes"] == 2:
            threads = row["threads"]
            what = f"features of a frame, two lanes, {row['ROIs']} ROIs, {threads} thread{'s' * (threads > 1)}"
            lines.append(verdict(what, row["ours ms"], "ms", most=MOST_MS[threads]))
    if any(map(missed, lines)):
        clip = Clip(path, SIZES[0], K)
        mine, _ = open_lanes(clip, [0, K // 2], "metst_plus")
        frames = clip.gray[K // 2 + 1 : K]
        shares = profile(lambda: [measure_lanes(mine, frame, 1) for frame in frames])
        lines.append("18 ROIs, one thread, where the time goes: " + "; ".join(shares))
    return lines


def main() -> None:
    """Run the benchmark, print the tables, write dated results where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, metavar="CLIP")
    parser.add_argument("--windows", type=int, default=4, help="windows of the clip that frames are taken from")
    parser.add_argument("--out", action="store_true", help="write benchmarks/results/DATE-roi-flow*.json and .md")
    options = parser.parse_args()
    path = options.clip or default_clip()
    cv2.setNumThreads(1)
    clip = Clip(path, SIZES[0], 300)
    rows = patches(clip, options.windows)
    title = f"Flow of all patches of a frame, {clip.name}, one thread"
    show(title, rows, "roi-flow", options.out, judge_patches(rows))
    rows = feature_rows(path, options.windows)
    title = f"Features of a frame, alignment included, {clip.name}"
    show(title, rows, "roi-flow-features", options.out, judge_features(rows, path))
    rows = area(clip, options.windows)
    show(f"Flow by area, {clip.name}, one thread", rows, "roi-flow-area", options.out)


if __name__ == "__main__":
    main()
