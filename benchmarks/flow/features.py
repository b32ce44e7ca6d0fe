"""Features of a frame in every lane: crop, alignment by the nose bridge, patches, means."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.flow.agreement import NO_MOTION, is_still
from benchmarks.inputs import SETS, Clip, Image, K
from benchmarks.peers.opencv_flow import PlainFlow
from benchmarks.results import Rows, missed, verdict
from benchmarks.timing import alternate, quantiles
from metst_edge.flow import Farneback, RoiFlow, measure, thumbnail

SIZES = ((640, 360), (1280, 720), (1920, 1080))
"""Of the frames, width and height."""
FEATURE_PX = 0.01
"""Agreement of features on 95 % of the frames: head motion of half a pixel may be rounded either way, and the crop with
it, by flows that differ by nothing to speak of."""
MOST_MS = {1: 3.0, 2: 2.0}
"""Bound on a frame's features in two lanes at the smallest size, by the number of threads."""


def plain_lanes(
    flows: Sequence[PlainFlow], frame: Image, pool: ThreadPoolExecutor | None
) -> list[npt.NDArray[np.float32]]:
    """Measure a frame in every lane over OpenCV, one lane after the other or a lane on each thread."""
    if pool is None:
        return [flow.measure(frame) for flow in flows]
    return list(pool.map(lambda flow: flow.measure(frame), flows))


def shared_frames(clip: Clip, anchors: Sequence[int]) -> list[Image]:
    """Return the frames that every lane of the window which begins at the first anchor measures."""
    return clip.gray[anchors[-1] + 1 : anchors[0] + K]


def open_lanes(clip: Clip, anchors: Sequence[int], roi_set: str) -> tuple[list[RoiFlow], list[PlainFlow]]:
    """Return the flow of every lane, ours and over OpenCV."""
    faces = [(clip.gray[index], clip.face(index)) for index in anchors]
    return (
        [RoiFlow(gray, face.box, face.crop_landmarks, roi_set) for gray, face in faces],
        [PlainFlow(gray, face.box, face.crop_landmarks, roi_set) for gray, face in faces],
    )


def differences(
    clip: Clip, anchors: Sequence[int], roi_set: str, threads: int, pool: ThreadPoolExecutor | None
) -> tuple[list[float], float]:
    """Measure one window's frames in every lane both ways.

    Returns:
        The largest difference of each frame and lane, pixels, those that stayed left out; how often the nose bridge
        was measured per frame and lane.
    """
    mine, plain = open_lanes(clip, anchors, roi_set)
    frames = shared_frames(clip, anchors)
    found = []
    for frame in frames:
        got = measure(mine, frame, threads=threads)
        for index, flow, one, other in zip(anchors, mine, got, plain_lanes(plain, frame, pool), strict=True):
            same = np.array_equal(frame, clip.gray[index]) and flow.box == clip.face(index).box
            if not is_still(same, one):
                found.append(float(np.abs(one - other).max()))
    return found, sum(flow.bridge_flows for flow in plain) / len(frames) / len(anchors)


def agreement(found: list[float]) -> float:
    """Return the difference of 95 % of the frames; raise where it is more than agreed."""
    if not found:
        raise RuntimeError(NO_MOTION)
    usual = float(np.quantile(found, 0.95))
    if not usual <= FEATURE_PX:
        raise RuntimeError(f"features differ from those over OpenCV by {usual:.1e} px on one frame in 20")
    return usual


def features(clip: Clip, roi_set: str, lanes: int, threads: int, windows: int) -> dict[str, Any]:
    """Time the features of a frame in every lane.

    Lanes' anchors are spread evenly over a window; the frames timed are those that all lanes measure.

    Args:
        clip: where the frames are from.
        roi_set: a key of SETS.
        lanes: windows that are open at once.
        threads: of our call, and of the OpenCV path, a lane on each.
        windows: of the clip.

    Returns:
        A row of the table.

    Raises:
        RuntimeError: the two ways differ, or nothing moves.
    """
    cv2.setNumThreads(1)
    ours: list[float] = []
    theirs: list[float] = []
    found: list[float] = []
    bridge = []
    used = np.zeros(2)  # processor and elapsed seconds of our calls
    pool = ThreadPoolExecutor(threads) if threads > 1 else None
    for start in clip.starts(windows):
        anchors = [start + lane * K // lanes for lane in range(lanes)]
        frames = shared_frames(clip, anchors)
        some, flows = differences(clip, anchors, roi_set, threads, pool)
        found += some
        bridge.append(flows)
        mine, plain = open_lanes(clip, anchors, roi_set)  # the crops of those that were compared have moved

        def ours_of(i: int, mine: list[RoiFlow] = mine, frames: list[Image] = frames) -> None:
            before = time.process_time(), time.perf_counter()
            measure(mine, frames[i], threads=threads)
            used[:] += np.subtract((time.process_time(), time.perf_counter()), before)

        def opencv(i: int, plain: list[PlainFlow] = plain, frames: list[Image] = frames) -> None:
            plain_lanes(plain, frames[i], pool)

        times = alternate({"ours": ours_of, "OpenCV path": opencv}, len(frames))
        ours += times["ours"]
        theirs += times["OpenCV path"]
    if pool is not None:
        pool.shutdown()
    usual = agreement(found)
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
        "largest diff px": max(found),
    }


def rows(path: Path, windows: int) -> Rows:
    """Every frame size, region set and number of threads with two lanes; one and four lanes at the smallest size."""
    made: Rows = []
    for size in SIZES:
        clip = Clip(path, size, 300)
        for roi_set in SETS:
            made += [features(clip, roi_set, 2, threads, windows) for threads in (1, 2)]
            if size == SIZES[0]:
                made += [features(clip, roi_set, lanes, 1, windows) for lanes in (1, 4)]
    return made


def judge(rows: Rows, path: Path) -> list[str]:
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
    frames = shared_frames(clip, anchors)
    mine, plain = open_lanes(clip, anchors, roi_set)
    boxes = [clip.face(index).box for index in anchors]
    # Per frame, what each part is called for: (anchor, patch) and pictures of the face.
    bridges: list[list[tuple[Farneback, Image]]] = []
    others: list[list[tuple[Farneback, Image]]] = []
    faces: list[list[Image]] = []
    kept: dict[int, list[Farneback]] = {}  # by lane: its expanded anchors
    for frame in frames:
        bridges.append([])
        others.append([])
        for lane, plain_flow in enumerate(plain):
            before = plain_flow.bridge_flows
            crop, _ = plain_flow.follow(frame)
            pairs = plain_flow.pairs(crop)
            if lane not in kept:
                kept[lane] = [Farneback(anchor) for anchor, _ in pairs]
            bridge, *patches = zip(kept[lane], [patch for _, patch in pairs], strict=True)
            bridges[-1] += [bridge] * (plain_flow.bridge_flows - before)
            others[-1] += patches
        faces.append([frame[box.top : box.bottom, box.left : box.right].copy() for box in boxes])
    calls: dict[str, Callable[[int], object]] = {
        "whole": lambda i: measure(mine, frames[i], threads=1),
        "Farneback.to of the patches": lambda i: [flow.to(patch) for flow, patch in others[i]],
        "of the nose bridge": lambda i: [flow.to(patch) for flow, patch in bridges[i]],
        "thumbnails of the crops": lambda i: [thumbnail(face) for face in faces[i]],
    }
    ms = {name: float(np.median(times)) for name, times in alternate(calls, len(frames)).items()}
    whole = ms.pop("whole")
    parts = "; ".join(f"{name} {value:.2f}" for name, value in ms.items())
    return f"{whole:.2f} ms; {parts}; rest (cropping, means of the regions) {whole - sum(ms.values()):.2f}"
