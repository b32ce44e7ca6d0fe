"""The optical flow of the regions on the GPU: against the CPU's, and its time for 1 to 64 lanes, captured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu.library import Library
from benchmarks.gpu.timing import Rates, capture, median_ms, time_events
from benchmarks.results import verdict
from metst_edge.engine.tensorrt.roi_flow import Addresses, CudaRoiFlow
from metst_edge.face.crop import Box
from metst_edge.face.rois import rectangles
from metst_edge.flow import RoiFlow, measure

LANES = (1, 2, 16, 64)
SETS = {"metst": 5, "metst_plus": 18}
AGREEMENT_PX = 2e-2
MOST_MS = 0.5
"""For two lanes."""
STILL_PX, MOVED_PX = 0.4, 4.0
"""Motion of a frame against the last, picture pixels: the crop stays where it is, and the crop follows."""
MOTIONS = (0.0, 0.6, 3.0, 9.0, 4.0, 0.2)
"""Of the frames that are compared with the CPU's, picture pixels. From one to the next no more than the nose bridge can
be followed by: beyond, flow is anything, and rounding decides what."""

HEIGHT, WIDTH = 360, 640
BOX = Box(36, 324, 176, 464)
# fmt: off
LANDMARKS = np.array([
    (19, 100), (20, 155), (22, 182), (35, 243), (48, 269), (62, 289), (97, 321), (134, 343), (160, 347), (187, 343),
    (224, 321), (259, 289), (273, 269), (286, 244), (299, 183), (301, 155), (301, 100), (44, 94), (56, 84), (74, 79),
    (99, 80), (130, 87), (190, 86), (221, 79), (246, 78), (264, 83), (276, 94), (161, 114), (161, 146), (161, 175),
    (161, 193), (131, 204), (143, 213), (161, 215), (179, 213), (191, 205), (64, 120), (77, 110), (100, 109),
    (124, 125), (106, 128), (84, 128), (197, 126), (220, 109), (243, 110), (256, 120), (237, 128), (215, 129),
    (93, 235), (120, 231), (141, 231), (161, 234), (182, 231), (203, 231), (232, 236), (199, 274), (182, 281),
    (161, 284), (141, 281), (124, 273), (101, 237), (144, 239), (162, 241), (180, 240), (223, 238), (179, 266),
    (162, 267), (144, 265),
], np.float32)
# fmt: on
"""Of the packaged clip's first frame, as FaceFinder finds them: crop pixels, rounded."""

Gray = npt.NDArray[np.uint8]
Row = dict[str, Any]


def picture(dx: float, dy: float, seed: int) -> Gray:
    """Return a gray picture of waves that have moved by (dx, dy) pixels, with noise: uint8 (HEIGHT, WIDTH)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    u, v = x - dx, y - dy
    # Long waves too: what moves by more than half of the shortest one must still be followed the right way.
    waves = 45 * np.sin(0.11 * u + 0.05 * v) + 40 * np.sin(0.09 * v - 0.03 * u) + 20 * np.sin(0.35 * u + 0.3 * v)
    noise = np.random.default_rng(seed).integers(0, 3, (HEIGHT, WIDTH))
    return np.clip(128 + waves + noise, 0, 255).astype(np.uint8)


class Batch:
    """CudaRoiFlow with the same face in every lane, and torch's memory.

    Attributes:
        features: float32 (lanes, 2 regions).
    """

    def __init__(self, library: Library, lanes: int, roi_set: str) -> None:
        self._library = library
        self._frame = torch.zeros((HEIGHT, WIDTH), dtype=torch.uint8, device=library.device)
        # Measure, and take the frame's features as they are.
        self._requests = torch.tensor([[1.0, 0.0, 1.0]] * lanes, device=library.device)
        self._likeness = torch.zeros(lanes, device=library.device)
        self.features = torch.full((lanes, 2 * SETS[roi_set]), float("nan"), device=library.device)
        buffers = (self._frame, self._requests, self.features, self._likeness)
        addresses = Addresses(*(tensor.data_ptr() for tensor in buffers))
        self._flow = CudaRoiFlow(library.c, (HEIGHT, WIDTH), lanes, roi_set, addresses)

    def close(self) -> None:
        """Give the device memory back."""
        self._flow.close()

    def start(self, lane: int, anchor: torch.Tensor) -> None:
        """Make a picture, uint8 (HEIGHT, WIDTH) on the device, the lane's anchor."""
        self.show(anchor)
        self._flow.start(lane, BOX, LANDMARKS, self._library.stream())

    def show(self, frame: torch.Tensor) -> None:
        """Put the next picture in place; from the device or pinned memory it can be captured."""
        self._frame.copy_(frame, non_blocking=True)

    def measure(self) -> None:
        """Enqueue the measurement of every lane; it can be captured."""
        self._flow.measure(self._library.stream())


def pixels(roi_set: str) -> int:
    """Return the pixels of all patches of a lane, the nose bridge's included."""
    patches, _, nose = rectangles(roi_set, LANDMARKS)
    return sum((rect.bottom - rect.top) * (rect.right - rect.left) for rect in (*patches.values(), nose))


def error(library: Library, roi_set: str, lanes: int, motions: Sequence[float]) -> float:
    """Return the largest difference of a feature from the CPU library's, pixels; lanes have different anchors.

    Args:
        motions: of the frames against the picture at rest, picture pixels to the right.
    """
    anchors = [picture(0.1 * lane, 0.0, lane) for lane in range(lanes)]
    batch = Batch(library, lanes, roi_set)
    for lane, anchor in enumerate(anchors):
        batch.start(lane, torch.from_numpy(anchor).to(library.device))
    flows = [RoiFlow(anchor, BOX, LANDMARKS, roi_set) for anchor in anchors]
    worst = 0.0
    for i, motion in enumerate(motions):
        frame = picture(motion, 0.3 * motion, 1000 + i)
        batch.show(torch.from_numpy(frame).to(library.device))
        batch.measure()
        differences = np.abs(batch.features.cpu().numpy() - np.stack(measure(flows, frame, threads=1))).max()
        worst = max(worst, float(differences) if differences == differences else float("inf"))
    batch.close()
    return worst


def time_lanes(library: Library, roi_set: str, lanes: int, rates: Rates) -> Row:
    """Time a captured frame of so many lanes: the crop at rest, and the crop following the head."""
    batch = Batch(library, lanes, roi_set)
    anchor = torch.from_numpy(picture(0.0, 0.0, 0)).to(library.device)
    for lane in range(lanes):
        batch.start(lane, anchor)
    graph = capture([batch.measure], 1)
    ms = {}
    for name, motion in (("still", STILL_PX), ("moving", MOVED_PX)):
        # To and fro, so that every frame has moved against the one before.
        pictures = [picture(sign * motion / 2, 0.0, 1 + i) for i, sign in enumerate((-1, 1))]
        frames = [torch.from_numpy(gray).to(library.device) for gray in pictures]
        count = 0

        def show(frames: list[torch.Tensor] = frames) -> None:
            nonlocal count
            batch.show(frames[count % 2])
            count += 1

        ms[name] = time_events([graph.replay], before=show)
        if not np.isfinite(batch.features.cpu().numpy()).all():
            raise RuntimeError(f"flow of {lanes} lanes: features are not finite")
    batch.close()
    launches = library.c.metst_roi_flow_launches()
    return {
        "ROIs": SETS[roi_set],
        "lanes": lanes,
        "patch pixels": lanes * pixels(roi_set),
        "still ms": median_ms(ms["still"]),
        "moving ms": median_ms(ms["moving"]),
        "us per lane": 1e3 * median_ms(ms["moving"]) / lanes,
        "launches": launches,
        "launches alone ms": 1e3 * launches * rates.node,
    }


def run(library: Library, rates: Rates) -> list[Row]:
    """Check and time every set of regions and number of lanes."""
    rows = []
    for roi_set in SETS:
        difference = error(library, roi_set, 2, MOTIONS)
        for lanes in LANES:
            rows.append({**time_lanes(library, roi_set, lanes, rates), "largest diff px": difference})
    return rows


def judge(rows: Sequence[Row]) -> list[str]:
    """Compare with what was asked for."""
    worst = max(row["largest diff px"] for row in rows)
    what = "largest difference of a feature from the CPU library's, two lanes"
    lines = [verdict(what, worst, "px", most=AGREEMENT_PX)]
    for row in rows:
        if row["lanes"] == 2:
            for kind in ("still", "moving"):
                what = f"flow of all patches of {row['ROIs']} ROIs, two lanes, alignment included, head {kind}"
                lines.append(verdict(what, row[f"{kind} ms"], "ms", most=MOST_MS))
    return lines
