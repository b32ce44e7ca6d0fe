"""Features of a window over OpenCV's Farneback, call by call, as the published code has them.

Of metst_edge it takes only where the regions lie: what is made faster there must not make this faster.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from metst_edge.face import CROP_SIZE, Box, rectangles
from metst_edge.face.rois import NOSE_BRIDGE_PERCENT, NOSE_BRIDGE_TRIM

Gray = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]

FARNEBACK = (0.5, 3, 15, 5, 7, 1.5, 0)
"""Scale, levels, window, iterations, poly_n, poly_sigma, flags: what the models were trained with."""
MAX_MOVES = 3


def opencv_flow(anchor: Gray, frame: Gray) -> Array:
    """Return OpenCV's flow from ``anchor`` to ``frame``: float32 (H, W, 2)."""
    flow: Array = cv2.calcOpticalFlowFarneback(anchor, frame, None, *FARNEBACK)
    return flow


class PlainFlow:
    """Features of one window over OpenCV, call by call.

    Args:
        anchor: uint8 (H, W), the window's first frame.
        box: the crop box on it.
        landmarks: float (68, 2), pixels of the crop.
        roi_set: "metst" or "metst_plus".

    Attributes:
        rects: patch name -> where it lies on the crop.
        bridge: where the nose bridge lies.
        bridge_flows: how often the nose bridge was measured so far, one time a frame and once more for every move.
    """

    def __init__(self, anchor: Gray, box: Box, landmarks: Array, roi_set: str) -> None:
        self.rects, self._regions, self.bridge = rectangles(roi_set, landmarks)
        self._box, self._shape = box, anchor.shape
        self._anchor = self._crop(anchor)
        self.bridge_flows = 0

    def measure(self, frame: Gray) -> Array:
        """Return the channels of one frame, float32 (C,)."""
        crop, head = self.follow(frame)
        flows = {
            name: opencv_flow(_part(self._anchor, rect), _part(crop, rect))
            for name, rect in self.rects.items()
            if not rect.empty
        }
        values: list[float] = []
        for roi, rect in self._regions:
            values += (
                [0.0, 0.0] if rect.empty else (_longest(_part(flows[roi.patch], rect), roi.percent) - head).tolist()
            )
        return np.array(values, np.float32)

    def follow(self, frame: Gray) -> tuple[Gray, npt.NDArray[np.float64]]:
        """Return the crop of ``frame``, moved after the head, and the head motion that is left, crop pixels."""
        crop = self._crop(frame)
        head = self._bridge_motion(crop)
        moves = 0
        while head @ head > 1 and moves < MAX_MOVES:
            box = self._box
            scale = np.array([box.width, box.height]) / CROP_SIZE
            dx, dy = np.rint(head * scale).astype(int).tolist()
            self._box = box.moved(dx, dy, *self._shape)
            if self._box == box:
                break
            crop = self._crop(frame)
            head = self._bridge_motion(crop)
            moves += 1
        return crop, head

    def pairs(self, crop: Gray) -> list[tuple[Gray, Gray]]:
        """Return every patch, nose bridge first, of the anchor and of a crop: contiguous copies."""
        rects = [self.bridge, *self.rects.values()]
        return [(_part(self._anchor, rect).copy(), _part(crop, rect).copy()) for rect in rects if not rect.empty]

    def whole(self, crop: Gray) -> tuple[Gray, Gray]:
        """Return the anchor's crop and another, uint8 (320, 320)."""
        return self._anchor, crop

    def _crop(self, frame: Gray) -> Gray:
        box = self._box
        crop: Gray = cv2.resize(
            frame[box.top : box.bottom, box.left : box.right],
            (CROP_SIZE, CROP_SIZE),
            interpolation=cv2.INTER_LINEAR,
        )
        return crop

    def _bridge_motion(self, crop: Gray) -> npt.NDArray[np.float64]:
        if self.bridge.empty:
            return np.zeros(2)
        self.bridge_flows += 1
        flow = opencv_flow(_part(self._anchor, self.bridge), _part(crop, self.bridge))
        trim = NOSE_BRIDGE_TRIM
        inside = flow[trim.top : flow.shape[0] - trim.bottom, trim.left : flow.shape[1] - trim.right]
        return _longest(inside, NOSE_BRIDGE_PERCENT)


def _part(array: npt.NDArray[Any], rect: Box) -> npt.NDArray[Any]:
    return array[rect.top : rect.bottom, rect.left : rect.right]


def _longest(flow: Array, share: float) -> npt.NDArray[np.float64]:
    """Average the ``share`` of the vectors that is longest; zero where there is none."""
    vectors = flow.reshape(-1, 2)
    skipped = int(len(vectors) * (1 - share))
    if skipped >= len(vectors):
        return np.zeros(2)
    # A partition, not the full sort of a naive rendering: the peer should not lose time where nothing is compared.
    order = np.argpartition((vectors * vectors).sum(axis=1), skipped)
    mean: npt.NDArray[np.float64] = vectors[order[skipped:]].mean(axis=0, dtype=np.float64)
    return mean
