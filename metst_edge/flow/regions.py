"""Feature channels of the ME-TST models: mean flow of facial regions, head motion taken out.

The rule is that of arXiv 2409.09707 and 2508.08082: flow from a window's first frame, the nose bridge's motion as the
head's, the crop moved after it while it exceeds a pixel, the rest subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from metst_edge.errors import FrameError
from metst_edge.face.crop import CROP_SIZE, Box, crop
from metst_edge.face.rois import NOSE_BRIDGE_PERCENT, NOSE_BRIDGE_TRIM, ROI_SETS, Rect, rectangles
from metst_edge.flow.farneback import Farneback, _check_gray

Gray = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float64]
_Kind = TypeVar("_Kind", bound=np.generic)

MAX_ALIGNMENTS = 3
"""How often the crop is moved after the head within one frame."""

THUMBNAIL = 32
"""Side of the reduced crop that ``RoiFlow.likeness`` compares, pixels: too coarse to see an expression change."""


def channels(roi_set: str) -> int:
    """Return how many channels a set of regions gives: two per region."""
    return 2 * len(ROI_SETS[roi_set])


def largest_mean(flow: npt.NDArray[np.float32], share: float) -> Vector:
    """Average the longest vectors of a region.

    Args:
        flow: float32 (h, w, 2).
        share: of the vectors, 0 to 1.

    Returns:
        float64 (2,): mean dx and dy; zero for an empty region.
    """
    vectors = flow.reshape(-1, 2)
    if not len(vectors):
        return np.zeros(2)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    first = int(len(vectors) * (1 - share))
    if first >= len(vectors):
        return np.zeros(2)
    longest = np.argpartition(squares, first)[first:] if first else slice(None)
    mean: Vector = vectors[longest].mean(axis=0, dtype=np.float64)
    return mean


def thumbnail(gray: Gray) -> npt.NDArray[np.float32]:
    """Reduce a picture to 32x32 area means, free of mean and scale: float32 (1024,), unit length."""
    import cv2

    small = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    out: npt.NDArray[np.float32] = small / max(float(np.linalg.norm(small)), 1e-6)
    return out


def correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Return the correlation of two thumbnails, -1 to 1."""
    return float(a @ b)


class RoiFlow:
    """Measures frames against one anchor frame.

    Args:
        anchor: uint8 (H, W), the window's first frame.
        box: the crop box on it.
        landmarks: float (68, 2), x and y in pixels of the 320x320 crop.
        roi_set: "metst" (10 channels) or "metst_plus" (36).
        compat: move the crop box as the published code does, by crop pixels taken for picture pixels.

    Attributes:
        box: where the crop is now; it follows the head.
        motion: float64 (2,), head motion left over in the last frame measured, in pixels of the crop.
        likeness: correlation of the last crop measured with the anchor's, -1 to 1. A face in motion stays well above
            one half; when it is gone, what remains is not flow of a face.

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
        _check_gray(anchor, None)
        if box.top < 0 or box.left < 0 or box.bottom <= box.top or box.right <= box.left:
            raise FrameError(f"expected a crop box inside the {anchor.shape} picture, got {box}")
        self.box = box
        self.motion: Vector = np.zeros(2)
        self.likeness = 1.0
        self._shape = anchor.shape
        self._compat = compat
        patches, self._regions, nose = rectangles(roi_set, landmarks)
        image = crop(anchor, box)
        self._thumbnail = thumbnail(image)
        self._nose = _Patch(image, nose)
        trim = NOSE_BRIDGE_TRIM
        self._nose_inside = Rect(
            trim.top, nose.bottom - nose.top - trim.bottom, trim.left, nose.right - nose.left - trim.right
        )
        self._patches = {name: _Patch(image, rect) for name, rect in patches.items()}

    def measure(self, frame: Gray) -> npt.NDArray[np.float32]:
        """Return the channels of one frame: float32 (C,), dx and dy per region in pixels of the crop.

        Raises:
            FrameError: ``frame`` is not uint8 of the anchor's shape.
        """
        _check_gray(frame, self._shape)
        image = self._follow(frame)
        self.likeness = correlation(self._thumbnail, thumbnail(image))
        flows = {name: patch.flow(image) for name, patch in self._patches.items()}
        out = np.empty((len(self._regions), 2), np.float32)
        for row, (roi, rect) in zip(out, self._regions, strict=True):
            # An empty region has nothing to subtract the head from.
            row[:] = 0 if rect.empty else largest_mean(_cut(flows[roi.patch], rect), roi.percent) - self.motion
        return out.reshape(-1)

    def _follow(self, frame: Gray) -> Gray:
        """Crop ``frame``, the box moved until the nose bridge lies where it lay on the anchor, to a pixel."""
        image = crop(frame, self.box)
        self.motion = self._nose_motion(image)
        for _ in range(MAX_ALIGNMENTS):
            dx, dy = self.motion
            if dx * dx + dy * dy <= 1.0:
                break
            moved = self._moved(dx, dy)
            if moved == self.box:
                break
            self.box = moved
            image = crop(frame, moved)
            self.motion = self._nose_motion(image)
        return image

    def _moved(self, dx: float, dy: float) -> Box:
        """Shift the box by crop pixels (dx, dy), keeping it inside the picture."""
        box, (height, width) = self.box, self._shape
        if not self._compat:
            return box.moved(round(dx * box.width / CROP_SIZE), round(dy * box.height / CROP_SIZE), height, width)
        # The published code takes crop pixels for picture pixels, stops the near sides at the picture's edge and lets
        # the far ones run past it, so that what is left is stretched; it ends in an error when nothing is left.
        dx, dy = round(dx), round(dy)
        moved = Box(max(0, box.top + dy), box.bottom + dy, max(0, box.left + dx), box.right + dx)
        visible = Rect(moved.top, moved.bottom, moved.left, moved.right).inside(height, width)
        return box if visible.empty else moved

    def _nose_motion(self, image: Gray) -> Vector:
        return largest_mean(_cut(self._nose.flow(image), self._nose_inside), NOSE_BRIDGE_PERCENT)


class _Patch:
    """One patch of the crop and the flow from the anchor's."""

    def __init__(self, anchor: Gray, rect: Rect) -> None:
        self._rect = rect
        self._farneback = None if rect.empty else Farneback(np.ascontiguousarray(_cut(anchor, rect)))

    def flow(self, image: Gray) -> npt.NDArray[np.float32]:
        if self._farneback is None:
            return np.zeros((0, 0, 2), np.float32)
        return self._farneback.to(_cut(image, self._rect))


def _cut(array: npt.NDArray[_Kind], rect: Rect) -> npt.NDArray[_Kind]:
    return array[rect.top : rect.bottom, rect.left : rect.right]


def window_features(
    frames: Sequence[Gray],
    landmarks: npt.NDArray[np.float32],
    box: Box,
    roi_set: str = "metst",
    compat: bool = False,
) -> npt.NDArray[np.float32]:
    """Measure a window of frames from its first one.

    Args:
        frames: k gray frames, uint8 (H, W), at the model's rate.
        landmarks: float (68, 2), x and y in pixels of the first frame's 320x320 crop.
        box: the crop box on the first frame, in pixels of the picture.
        roi_set: "metst" (5 regions) or "metst_plus" (18).
        compat: move the crop as the published code does; for published checkpoints.

    Returns:
        float32 (C, k), pixels of the crop; column 0 is zero.

    Raises:
        FrameError: a frame is not uint8 (H, W), or not of the first one's shape.
    """
    out = np.zeros((channels(roi_set), len(frames)), np.float32)
    if len(frames) > 1:
        flow = RoiFlow(frames[0], box, landmarks, roi_set, compat)
        for i, frame in enumerate(frames[1:], 1):
            out[:, i] = flow.measure(frame)
    return out
