"""Feature channels of the ME-TST models: mean flow of facial regions, head motion taken out.

The rule is that of arXiv 2409.09707 and 2508.08082: flow from a window's first frame, the nose bridge's motion as the
head's, the crop moved after it while it exceeds a pixel, the rest subtracted. What a frame needs is one compiled call
(csrc/cpu/roi_flow*); tests/flow/reference.py is the same in Python over OpenCV.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metst_edge import _native
from metst_edge.errors import FrameError
from metst_edge.face.crop import Box
from metst_edge.face.rois import NOSE_BRIDGE_PERCENT, NOSE_BRIDGE_TRIM, ROI_SETS, rectangles
from metst_edge.flow.farneback import _check_gray

Gray = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

MAX_THREADS = 4
"""A frame has eight to twelve patches of unequal size: more threads than this would wait for the largest."""


def channels(roi_set: str) -> int:
    """Return how many channels a set of regions gives: two per region."""
    return 2 * len(ROI_SETS[roi_set])


def default_threads() -> int:
    """Return how many threads `measure` uses unless told: the processors this process may run on, 4 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


def thumbnail(gray: Gray) -> npt.NDArray[np.float32]:
    """Reduce a picture to 32x32 means of its pixels, free of mean and scale: float32 (1024,), unit length.

    Raises:
        FrameError: not uint8 (H, W), or empty.
    """
    _check_gray(gray, None)
    return _native.thumbnail(gray)


def correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Return the correlation of two thumbnails, -1 to 1."""
    return float(a @ b)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a face's regions lie, as the compiled code takes it; an empty place is all zeros.

    Attributes:
        patches: in pixels of the 320x320 crop.
        regions: index of the patch, place in its pixels, share of the longest vectors that the mean is taken of.
        nose: the nose bridge in pixels of the crop.
        nose_inside: the part of it that is averaged, in its pixels; NOSE_BRIDGE_PERCENT is its share.
    """

    patches: list[Box]
    regions: list[tuple[int, Box, float]]
    nose: Box
    nose_inside: Box


def layout(roi_set: str, landmarks: npt.NDArray[np.float32]) -> Layout:
    """Lay a set of regions out for a face: landmarks float (68, 2), x and y in pixels of the 320x320 crop."""
    patches, regions, nose = rectangles(roi_set, landmarks)
    trim = NOSE_BRIDGE_TRIM
    nose_inside = Box(trim.top, nose.height - trim.bottom, trim.left, nose.width - trim.right)
    numbers = {name: number for number, name in enumerate(patches)}
    return Layout(
        [_place(box) for box in patches.values()],
        [(numbers[roi.patch], _place(box), roi.percent) for roi, box in regions],
        _place(nose),
        _place(nose_inside.inside(nose.height, nose.width)),
    )


def check_anchor(anchor: Gray, box: Box) -> None:
    """Make sure that a window can begin on a picture.

    Raises:
        FrameError: the picture is not uint8 (H, W), or the crop box does not lie on it.
    """
    _check_gray(anchor, None)
    height, width = anchor.shape
    if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
        raise FrameError(f"expected a crop box inside the {anchor.shape} picture, got {box}")


class RoiFlow:
    """Measures frames against one anchor frame.

    Args:
        anchor: uint8 (H, W), the window's first frame.
        box: the crop box on it.
        landmarks: float (68, 2), x and y in pixels of the 320x320 crop.
        roi_set: "metst" (10 channels) or "metst_plus" (36).
        compat: as the published code does, move the crop box by crop pixels taken for picture pixels, and take the
            head's motion off regions that are empty, too.

    Raises:
        FrameError: the anchor is not uint8 (H, W), or the box does not lie on it.
    """

    def __init__(
        self,
        anchor: Gray,
        box: Box,
        landmarks: npt.NDArray[np.float32],
        roi_set: str = "metst",
        compat: bool = False,
    ) -> None:
        check_anchor(anchor, box)
        self._shape = anchor.shape
        places = layout(roi_set, landmarks)
        self._native = _native.RoiFlow(
            anchor,
            box,
            places.patches,
            places.regions,
            places.nose,
            places.nose_inside,
            NOSE_BRIDGE_PERCENT,
            compat,
        )

    @property
    def box(self) -> Box:
        """Where the crop is now; it follows the head. Set it to put the crop elsewhere on the picture."""
        return Box(*self._native.box)

    @box.setter
    def box(self, box: Box) -> None:
        self._native.box = box

    @property
    def motion(self) -> npt.NDArray[np.float64]:
        """Head motion left over in the last frame measured: float64 (2,), dx and dy in pixels of the crop."""
        return np.array(self._native.motion)

    @property
    def likeness(self) -> float:
        """Correlation of the last crop measured with the anchor's, each reduced to 32x32 pixels, -1 to 1.

        A face in motion stays well above one half; when it is gone, what remains is not flow of a face.
        """
        return self._native.likeness

    def measure(self, frame: Gray) -> Features:
        """Return the channels of one frame: float32 (C,), dx and dy per region in pixels of the crop.

        Raises:
            FrameError: ``frame`` is not uint8 of the anchor's shape.
        """
        return measure([self], frame, threads=1)[0]


def measure(flows: Sequence[RoiFlow], frame: Gray, threads: int | None = None) -> list[Features]:
    """Measure one frame in several lanes at once.

    Patches of all lanes are spread over the threads, and what lanes have in common is computed once.

    Args:
        flows: the lanes, with anchors of one size.
        frame: uint8 (H, W), of that size.
        threads: at most, the calling one included; default `default_threads()`.

    Returns:
        For each lane what `RoiFlow.measure` returns.

    Raises:
        FrameError: ``frame`` is not uint8 of the anchors' shape.
    """
    for flow in flows:
        _check_gray(frame, flow._shape)
    return _native.measure([flow._native for flow in flows], frame, threads or default_threads())


def _place(box: Box) -> Box:
    return Box(0, 0, 0, 0) if box.empty else box


def window_features(
    frames: Sequence[Gray],
    landmarks: npt.NDArray[np.float32],
    box: Box,
    roi_set: str = "metst",
    compat: bool = False,
) -> Features:
    """Measure a window of frames from its first one.

    Args:
        frames: k gray frames, uint8 (H, W), at the model's rate.
        landmarks: float (68, 2), x and y in pixels of the first frame's 320x320 crop.
        box: the crop box on the first frame, in pixels of the picture.
        roi_set: "metst" (5 regions) or "metst_plus" (18).
        compat: measure as the published code does; for published checkpoints.

    Returns:
        float32 (C, k), pixels of the crop; column 0 is zero.

    Raises:
        FrameError: a frame is not uint8 (H, W), or not of the first one's shape.
    """
    out = np.zeros((channels(roi_set), len(frames)), np.float32)
    if len(frames) > 1:
        flow = RoiFlow(frames[0], box, landmarks, roi_set, compat)
        for i, frame in enumerate(frames[1:], 1):
            out[:, i] = measure([flow], frame)[0]
    return out
