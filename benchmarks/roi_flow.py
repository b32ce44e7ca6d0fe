"""Optical flow of facial regions against OpenCV's Farneback, from one patch to the features of a frame.

Usage: python benchmarks/roi_flow.py [CLIP] [--windows 4] [--profile FILE] [--out]

Three tables, one thread unless said:

patches   every patch of a region set for one frame, on crops aligned as in use: `metst_edge.flow.Farneback` against
          cv2.calcOpticalFlowFarneback. The anchor's part (its expansion) is made once a window and not timed on our
          side, as in use; OpenCV's function has no way to keep it. "anchor ms" is that part, due once in 30 frames.
features  the channels of one frame in every lane: crop, alignment by the nose bridge, patches, means; against the same
          done call by call over OpenCV (published.py), by frame size, regions, lanes and threads. On two threads the
          OpenCV path runs a lane on each. "cores used" is the processor time of our calls over the time they took:
          well below the number of threads, the machine was busy with something else.
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
from benchmarks.timing import alternate, quantiles
from metst_edge.flow import Farneback, RoiFlow, measure, thumbnail

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
    return measure(flows, frame, threads=threads)


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


def is_still(same: bool, ours: npt.NDArray[np.float32]) -> bool:
    """Return ``same``: whether a picture is its anchor's; raise where ours sees motion then."""
    if same and np.any(ours):
        raise RuntimeError(f"flow of a picture to itself is {np.abs(ours).max():.1e} px, expected exactly 0")
    return same


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
                got = flow.to(patch)
                if not is_still(np.array_equal(anchor, patch), got):
                    differences.append(np.abs(got - opencv_flow(anchor, patch)).max(axis=2).ravel())
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
    difference = np.concatenate([np.zeros(0), *differences])
    if not difference.size:
        raise RuntimeError("expected frames that differ from their window's first, got none; give another clip")
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
    used = np.zeros(2)  # processor and elapsed seconds of our calls
    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    for start in clip.starts(windows):
        anchors = [start + lane * K // lanes for lane in range(lanes)]
        frames = clip.gray[anchors[-1] + 1 : start + K]
        mine, plain = open_lanes(clip, anchors, roi_set)
        for frame in frames:
            got = measure_lanes(mine, frame, threads)
            for index, flow, one, other in zip(anchors, mine, got, plain_lanes(plain, frame, pool), strict=True):
                same = np.array_equal(frame, clip.gray[index]) and flow.box == clip.face(index).box
                if not is_still(same, one):
                    differences.append(float(np.abs(one - other).max()))
        bridge.append(sum(flow.bridge_flows for flow in plain) / len(frames) / lanes)
        mine, plain = open_lanes(clip, anchors, roi_set)  # the crops have moved

        def ours_of(i: int, mine: list[RoiFlow] = mine, frames: list[Gray] = frames) -> None:
            before = time.process_time(), time.perf_counter()
            measure_lanes(mine, frames[i], threads)
            used[:] += np.subtract((time.process_time(), time.perf_counter()), before)

        calls: dict[str, Callable[[int], object]] = {
            "ours": ours_of,
            "OpenCV path": lambda i, plain=plain, frames=frames: plain_lanes(plain, frames[i], pool),
        }
        times = alternate(calls, len(frames))
        ours += times["ours"]
        theirs += times["OpenCV path"]
    if pool is not None:
        pool.shutdown()
    if not differences:
        raise RuntimeError("expected frames that differ from their window's first, got none; give another clip")
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
        "cores used": round(float(used[0] / used[1]), 2),
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
    """Compare the patches of the large set with what was asked for; say what a pixel costs where it is missed."""
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
    """Compare the features of two lanes at the smallest size with what was asked for; split where one is missed."""
    lines = []
    wanting = []
    for row in rows:
        if row["frame"] == "x".join(map(str, SIZES[0])) and row["lanes"] == 2:
            threads = row["threads"]
            what = f"features of a frame, two lanes, {row['ROIs']} ROIs, {threads} thread{'s' * (threads > 1)}"
            lines.append(verdict(what, row["ours ms"], "ms", most=MOST_MS[threads]))
            if missed(lines[-1]):
                lines[-1] += f"; {row['cores used']:.2f} cores used"
                wanting.append(row["ROIs"])
    clip = Clip(path, SIZES[0], K) if wanting else None
    for roi_set, rois in SETS.items():
        if clip is not None and rois in wanting:
            lines.append(f"{rois} ROIs, two lanes, one thread, where the time goes: {split(clip, roi_set)}")
    return lines


def split(clip: Clip, roi_set: str) -> str:
    """Say where the time of two lanes goes. It is one compiled call; these are its parts that Python can call."""
    anchors = [0, K // 2]
    frames = clip.gray[anchors[-1] + 1 : K]
    mine, plain = open_lanes(clip, anchors, roi_set)
    boxes = [clip.face(index).box for index in anchors]
    # Per frame, what each part is called for: (anchor, patch) and pictures of the face.
    bridges: list[list[tuple[Farneback, Gray]]] = []
    others: list[list[tuple[Farneback, Gray]]] = []
    faces: list[list[Gray]] = []
    kept: dict[int, list[Farneback]] = {}  # by lane: its expanded anchors
    for frame in frames:
        bridges.append([])
        others.append([])
        for lane, flow in enumerate(plain):
            before = flow.bridge_flows
            crop, _ = flow.follow(frame)
            pairs = flow.pairs(crop)
            if lane not in kept:
                kept[lane] = [Farneback(anchor) for anchor, _ in pairs]
            bridge, *patches = zip(kept[lane], [patch for _, patch in pairs], strict=True)
            bridges[-1] += [bridge] * (flow.bridge_flows - before)
            others[-1] += patches
        faces.append([frame[box.top : box.bottom, box.left : box.right].copy() for box in boxes])
    calls: dict[str, Callable[[int], object]] = {
        "whole": lambda i: measure_lanes(mine, frames[i], 1),
        "Farneback.to of the patches": lambda i: [flow.to(patch) for flow, patch in others[i]],
        "of the nose bridge": lambda i: [flow.to(patch) for flow, patch in bridges[i]],
        "thumbnails of the crops": lambda i: [thumbnail(face) for face in faces[i]],
    }
    ms = {name: float(np.median(times)) for name, times in alternate(calls, len(frames)).items()}
    whole = ms.pop("whole")
    parts = "; ".join(f"{name} {value:.2f}" for name, value in ms.items())
    return f"{whole:.2f} ms; {parts}; rest (cropping, means of the regions) {whole - sum(ms.values()):.2f}"


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
    clip = Clip(path, SIZES[0], 300)
    rows = patches(clip, options.windows)
    title = f"Flow of all patches of a frame, {clip.name}, one thread"
    show(title, rows, "roi-flow", options.out, judge_patches(rows), text)
    rows = feature_rows(path, options.windows)
    title = f"Features of a frame, alignment included, {clip.name}"
    show(title, rows, "roi-flow-features", options.out, judge_features(rows, path))
    rows = area(clip, options.windows)
    show(f"Flow by area, {clip.name}, one thread", rows, "roi-flow-area", options.out)


if __name__ == "__main__":
    main()
