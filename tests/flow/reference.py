"""The front end in plain Python over OpenCV: what the compiled path is held against. Slow, and written to be read.

Of OpenCV only what is the same on every processor: its resize is not, so that is written out here.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from metst_edge.face.crop import CROP_SIZE, Box
from metst_edge.face.rois import NOSE_BRIDGE_PERCENT, NOSE_BRIDGE_TRIM, rectangles

MAX_ALIGNMENTS = 3
ONE = 2048
"""The weights of two neighbouring pixels together: OpenCV's INTER_RESIZE_COEF_SCALE."""


def farneback(anchor, frame, levels=3, winsize=15, iterations=5, poly_n=7, poly_sigma=1.5, pyr_scale=0.5):
    """OpenCV's flow, with the published parameters unless told: float32 (H, W, 2)."""
    return cv2.calcOpticalFlowFarneback(
        anchor, frame, None, pyr_scale, levels, winsize, iterations, poly_n, poly_sigma, 0
    )


def resized(picture, height, width):
    """Bilinear, as cv2.resize computes it on x86 (resize.cpp: HResizeLinear, VResizeLinear): uint8 (height, width).

    On aarch64 OpenCV hands it to a library of Arm's processors, which rounds otherwise: by one gray level.
    """
    top, bottom, upper, lower = _neighbours(picture.shape[0], height)
    left, right, here, there = _neighbours(picture.shape[1], width, stops=True)
    pixels = picture.astype(np.int64)
    rows = (pixels[:, left] * here + pixels[:, right] * there) >> 4
    upper, lower = upper[:, None], lower[:, None]
    return (((rows[top] * upper >> 16) + (rows[bottom] * lower >> 16) + 2) >> 2).astype(np.uint8)


def _neighbours(length, size, stops=False):
    """Which pixels of an axis are read for each of the resized one, and their weights.

    Beyond the border lies the last pixel again; `stops`: it counts alone, which rounds otherwise than twice.
    """
    scale = 1.0 / (size / length)
    at = ((np.arange(size) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(at).astype(int)
    part = at - first.astype(np.float32)
    if stops:
        part[(first < 0) | (first >= length - 1)] = 0
    weights = ((one * np.float32(ONE)).round().astype(int) for one in (np.float32(1) - part, part))
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), *weights


def crop(gray, box):
    """The box of a picture, resized to the crop's size."""
    return resized(_cut(gray, box), CROP_SIZE, CROP_SIZE)


def largest_mean(flow, share):
    """Mean of the longest vectors of a region, float64 (2,); zero for an empty one."""
    vectors = flow.reshape(-1, 2).astype(np.float64)
    first = int(len(vectors) * (1 - share))
    if first >= len(vectors):
        return np.zeros(2)
    return vectors[np.argsort((vectors**2).sum(axis=1))[first:]].mean(axis=0)


def thumbnail(gray):
    """32x32 means of a picture's pixels, free of mean and scale: float64 (1024,)."""
    height, width = gray.shape
    rows, columns = (np.arange(33) * side // 32 for side in (height, width))
    cells = [
        gray[top : max(bottom, top + 1), left : max(right, left + 1)].mean()
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
    small = np.array(cells) - np.mean(cells)
    return small / max(np.linalg.norm(small), 1e-6)


class ReferenceFlow:
    """RoiFlow without the compiled part."""

    def __init__(self, anchor, box, landmarks, roi_set="metst", compat=False):
        self.box, self.motion, self.likeness = box, np.zeros(2), 1.0
        self._shape, self._compat = anchor.shape, compat
        self._patches, self._regions, self._nose = rectangles(roi_set, landmarks)
        self._anchor = crop(anchor, box)
        self._thumbnail = thumbnail(_cut(anchor, box))

    def measure(self, frame):
        image = self._follow(frame)
        self.likeness = float(self._thumbnail @ thumbnail(_cut(frame, self.box)))
        flows = {name: self._flow(image, rect) for name, rect in self._patches.items()}
        out = np.zeros((len(self._regions), 2), np.float32)
        for row, (roi, rect) in zip(out, self._regions, strict=True):
            # The published code takes the head's motion off what does not move in an empty region, too.
            if not rect.empty or self._compat:
                row[:] = largest_mean(_cut(flows[roi.patch], rect), roi.percent) - self.motion
        return out.reshape(-1)

    def _flow(self, image, rect):
        if rect.empty:
            return np.zeros((0, 0, 2), np.float32)
        anchor, frame = _cut(self._anchor, rect), _cut(image, rect)
        return np.zeros((*anchor.shape, 2), np.float32) if (anchor == frame).all() else farneback(anchor, frame)

    def _follow(self, frame):
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

    def _moved(self, dx, dy):
        box, (height, width) = self.box, self._shape
        if not self._compat:
            return box.moved(round(dx * box.width / CROP_SIZE), round(dy * box.height / CROP_SIZE), height, width)
        dx, dy = round(dx), round(dy)
        moved = Box(max(0, box.top + dy), box.bottom + dy, max(0, box.left + dx), box.right + dx)
        return box if moved.inside(height, width).empty else moved

    def _nose_motion(self, image):
        height, width = self._nose.bottom - self._nose.top, self._nose.right - self._nose.left
        trim = NOSE_BRIDGE_TRIM
        inside = Box(trim.top, height - trim.bottom, trim.left, width - trim.right).inside(height, width)
        return largest_mean(_cut(self._flow(image, self._nose), inside), NOSE_BRIDGE_PERCENT)


def _cut(array, rect):
    return array[rect.top : max(rect.bottom, rect.top), rect.left : max(rect.right, rect.left)]
