"""Flow of the patches of a crop: all of a set's for one frame, and what one costs by its area. One thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.flow.agreement import NO_MOTION, is_still
from benchmarks.inputs import SETS, Clip, Image, K
from benchmarks.peers.opencv_flow import PlainFlow, opencv_flow
from benchmarks.results import Rows, missed, verdict
from benchmarks.timing import alternate, quantiles
from metst_edge.flow import Farneback

SIDES = (32, 48, 64, 96, 128, 192, 256)
"""Of the square patch, pixels."""
EVERY = 3
"""Frames of a window between those whose patches are timed."""
MEAN_PX, P999_PX = 1e-4, 1e-2
"""Agreement of flow; single pixels of a border row may differ, hence no bound on the worst one."""
TIMES_OPENCV = 8.0

Pairs = list[tuple[Image, Image]]
"""(anchor's patch, frame's patch), one for every patch."""


def window_crops(clip: Clip, start: int, roi_set: str) -> list[tuple[PlainFlow, Image]]:
    """Return aligned crops of some frames of a window, each with the window's plain flow."""
    face = clip.face(start)
    plain = PlainFlow(clip.gray[start], face.box, face.crop_landmarks, roi_set)
    crops = [plain.follow(frame)[0] for frame in clip.gray[start + 1 : start + K]]
    return [(plain, crop) for crop in crops[::EVERY]]


def differences(flows: list[Farneback], frames: list[Pairs]) -> list[npt.NDArray[np.float32]]:
    """Return how far our flow of a window's patches is from OpenCV's, pixels; patches that stayed are left out."""
    found = []
    for pairs in frames:
        for flow, (anchor, patch) in zip(flows, pairs, strict=True):
            got = flow.to(patch)
            if not is_still(np.array_equal(anchor, patch), got):
                found.append(np.abs(got - opencv_flow(anchor, patch)).max(axis=2).ravel())
    return found


def agreement(found: list[npt.NDArray[np.float32]]) -> tuple[float, float]:
    """Return the mean difference and that of 99.9 % of the pixels; raise where they are more than agreed."""
    difference = np.concatenate([np.zeros(0), *found])
    if not difference.size:
        raise RuntimeError(NO_MOTION)
    mean, p999 = float(difference.mean()), float(np.quantile(difference, 0.999))
    if not (mean <= MEAN_PX and p999 <= P999_PX):
        raise RuntimeError(f"flow differs from OpenCV's by {mean:.1e} px on average, {p999:.1e} px at 99.9 %")
    return mean, p999


def time_patches(windows: list[list[Pairs]]) -> dict[str, Any]:
    """Time all patches of a frame.

    Args:
        windows: per window and frame, the pairs (anchor's patch, frame's patch).

    Returns:
        What the two tables of patches share: patches and pixels of a frame, milliseconds, ratio, agreement.

    Raises:
        RuntimeError: ours and OpenCV's flow differ, or nothing moves.
    """
    ours: list[float] = []
    theirs: list[float] = []
    anchors: list[float] = []
    found = []
    pixels = []
    for frames in windows:
        start = time.perf_counter()
        flows = [Farneback(anchor) for anchor, _ in frames[0]]
        anchors.append(1e3 * (time.perf_counter() - start))
        found += differences(flows, frames)
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
    mean, p999 = agreement(found)
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


def _middle(anchor: Image, crop: Image, side: int) -> tuple[Image, Image]:
    first = (anchor.shape[0] - side) // 2
    span = slice(first, first + side)
    return anchor[span, span].copy(), crop[span, span].copy()


def judge(rows: Rows) -> list[str]:
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
