"""A face held steady, in plain NumPy: what `metst_edge.flow.steady` and csrc/cpu/registration are held against.

Slow, in double precision, and written to be read: the formulas of csrc/include/metst/registration.h one by one.
"""

from __future__ import annotations

import numpy as np

from metst_edge.face.rois import rectangles
from metst_edge.flow.steady import LAG, SOONEST, seen, spots
from tests.flow.reference import farneback, largest_mean, thumbnail

CROP, GRID, CELL = 320, 80, 4
MIDDLE, UNIT = (CROP - 1) / 2, 100.0
ROUNDNESS, WIDEN, FLATTEST = 0.9, 1.15, 0.02
NOSE, NOSE_REACH = 0.25, 0.16
AROUND = 8
"""Cells to each side, of the mean that is taken off the reduced picture."""
STEPS, DONE, FARTHEST = 6, 0.02, 2 * CROP
STIFFNESS = 2.0
"""Of a spot of skin, against its shift in pixels; of squared tolerances, which are gray levels."""
AT_ONCE = 16
"""Cells that are summed at once: of the colour that the matrix is summed over, what is left over is left out."""


class Head:
    """What is known of a head, in pixels of the crop: `depth` and with it the displacements that it can have."""

    def __init__(self, middle, half_width, nose_row):
        self.middle, self.half_width, self.nose_row = middle, half_width, nose_row
        y, x = np.mgrid[:CROP, :CROP]
        self._mean = self._raised(x, y).mean()

    @classmethod
    def of(cls, landmarks):
        left, right, nose = (np.asarray(landmarks, np.float64)[i] for i in (0, 16, 30))
        return cls(nose[0], max((right[0] - left[0]) / 2, 1.0), nose[1])

    def _raised(self, x, y):
        """A cylinder, flat beyond its sides, and a nose; hundreds of pixels."""
        across = (x - self.middle) / (WIDEN * self.half_width)
        cylinder = ROUNDNESS * self.half_width * np.sqrt(np.maximum(1 - across**2, FLATTEST))
        squares = ((x - self.middle) ** 2 + (y - self.nose_row) ** 2) / (NOSE_REACH * self.half_width) ** 2
        return (cylinder + NOSE * self.half_width * np.exp(-squares / 2)) / UNIT

    def basis(self, x, y):
        """1, x, y and depth at places of the crop: (4, ...), the last three in hundreds of pixels from its middle."""
        depth = self._raised(x, y) - self._mean
        return np.stack(np.broadcast_arrays(1.0, (x - MIDDLE) / UNIT, (y - MIDDLE) / UNIT, depth))

    def displacement(self, parameters, x, y):
        """How far the head has moved there: dx and dy."""
        return np.tensordot(np.reshape(parameters, (2, 4)), self.basis(x, y), 1)


def bilinear(picture, x, y):
    """A picture between its pixels; beyond its border lies the last one again."""
    height, width = picture.shape
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = x - left, y - top
    pixels = picture.astype(np.float64)
    upper = (1 - across) * pixels[top, left] + across * pixels[top, right]
    lower = (1 - across) * pixels[bottom, left] + across * pixels[bottom, right]
    return (1 - down) * upper + down * lower


def weighted(picture, weights):
    """A weighted mean along rows and then columns; beyond the border lies the last value again."""
    reach = len(weights) // 2
    for _ in range(2):
        padded = np.pad(picture, ((0, 0), (reach, reach)), "edge")
        picture = sum(w * padded[:, i : i + GRID] for i, w in enumerate(weights)).T
    return picture


class ReferenceRegistration:
    """Follows a head from its anchor frame to others."""

    def __init__(self, anchor, box, head, weights, spots=()):
        self._box, self._head = box, head
        self.parameters = np.zeros(8)
        self._rows, self._columns = np.nonzero(np.pad(weights[1:-1, 1:-1], 1))  # at the border there is no slope
        self._weights = np.asarray(weights, np.float64)[self._rows, self._columns]
        colour = np.flatnonzero((self._rows + self._columns) % 2 == 0)
        self._summed = colour[: len(colour) // AT_ONCE * AT_ONCE]
        reduced = self._reduced(anchor)
        self._anchor = reduced[self._rows, self._columns]
        x, y = CELL * self._columns + (CELL - 1) / 2, CELL * self._rows + (CELL - 1) / 2
        skin = [np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * reach**2)) for *at, reach in spots]
        self._basis = np.stack((*head.basis(x, y), *skin))
        down, across = (slope[self._rows, self._columns] / CELL for slope in np.gradient(reduced))
        light = np.stack((self._anchor / 50, np.ones_like(self._anchor)))
        self._jacobian = np.concatenate((self._basis * across, self._basis * down, light))

    def follow(self, frame):
        """Fit the motion to a frame and draw its crop without it: uint8 (320, 320)."""
        if len(self._summed):
            self._fit(frame)
        y, x = np.mgrid[:CROP, :CROP]
        return np.floor(self._seen(frame, x, y) + 0.5).astype(np.uint8)

    def _seen(self, frame, x, y):
        """The frame where the head has taken a place of the crop."""
        dx, dy = self._head.displacement(self.parameters, x, y)
        across, down = self._box.width / CROP, self._box.height / CROP
        return bilinear(
            frame, (x + dx + 0.5) * across - 0.5 + self._box.left, (y + dy + 0.5) * down - 0.5 + self._box.top
        )

    def _reduced(self, frame):
        """Of every cell the mean of four places, smoothed, less the mean of the cells around."""
        y, x = 2.0 * np.mgrid[: 2 * GRID, : 2 * GRID] + 0.5
        cells = self._seen(frame, x, y).reshape(GRID, 2, GRID, 2).mean((1, 3))
        smooth = weighted(cells, np.array([1, 4, 6, 4, 1]) / 16)
        around = 2 * AROUND + 1
        return smooth - weighted(smooth, np.full(around, 1 / around))

    def _fit(self, frame):
        reduced = self._reduced(frame)
        step = np.zeros((2, len(self._basis)))  # along x and y: of the head, 4, and then of each spot
        of_spots = np.append(np.zeros_like(step, bool), (False, False))  # which of the unknowns: step, and the light
        of_spots[:-2].reshape(step.shape)[:, 4:] = True
        for _ in range(STEPS):
            dx, dy = step @ self._basis / CELL
            residual = bilinear(reduced, self._columns + dx, self._rows + dy) - self._anchor
            # A Cauchy weight: what differs by as much as the tolerance counts half.
            tolerance = 2.25 * np.sort(np.abs(residual))[len(residual) // 2] + 0.45
            weighed = self._jacobian * self._weights / (1 + (residual / tolerance) ** 2)
            # The least sum of weight residual^2 and, over the spots, stiffness shift^2. Of the slope all cells; of the
            # matrix, which only says how to get there, one colour of a chessboard, taken for all.
            stiffness = np.where(of_spots, STIFFNESS * tolerance**2, 0)
            slope = weighed @ residual + stiffness * np.append(step, (0, 0))
            of_all = len(residual) / len(self._summed)
            matrix = of_all * weighed[:, self._summed] @ self._jacobian[:, self._summed].T
            damping = np.where(of_spots, 0, 1e-3 * matrix.diagonal() + 1e-6)
            back = np.linalg.solve(matrix + np.diag(stiffness + damping), slope)[:-2].reshape(step.shape)
            step -= back
            if np.abs(back[:, :4]).max() < DONE:
                break
        step = step[:, :4]  # what the face did by itself is thrown away
        # I(x + P(x)) was drawn, and the step found on it: I(x + s(x) + P(x + s(x))), with P linear but for its depth.
        before = self.parameters.reshape(2, 4)
        after = before + (np.eye(2) + before[:, 1:3] / UNIT) @ step
        if np.abs(after).max() < FARTHEST:
            self.parameters = after.reshape(8)


def taken_from(times, now):
    """Which of the times before is nearest to LAG ago, the earlier of two; None where that was not seen yet.

    Args:
        times: of all frames of a window, its anchor's first; those from ``now`` on do not count.
        now: seconds.
    """
    before = [time for time in times if time < now]
    if not before or now - times[0] < SOONEST * LAG:
        return None
    return min(before, key=lambda time: abs(now - LAG - time))


class ReferenceSteady:
    """SteadyFlow without the compiled part; it forgets no crop."""

    def __init__(self, anchor, box, landmarks, time=0.0):
        self._registration = ReferenceRegistration(anchor, box, Head.of(landmarks), seen(landmarks), spots(landmarks))
        self._patches, self._regions, _ = rectangles("edge", landmarks)
        self.crop = self._registration.follow(anchor)
        self._thumbnail, self.likeness = thumbnail(self.crop), 1.0
        self._crops = {time: self.crop}

    @property
    def parameters(self):
        return self._registration.parameters

    def measure(self, frame, time):
        self.crop = self._registration.follow(frame)
        self.likeness = float(self._thumbnail @ thumbnail(self.crop))
        before = taken_from(list(self._crops), time)
        self._crops[time] = self.crop
        out = np.zeros((len(self._regions), 2), np.float32)
        if before is None:
            return out.reshape(-1)
        flows = {name: self._flow(self._crops[before], rect) for name, rect in self._patches.items() if not rect.empty}
        for row, (roi, rect) in zip(out, self._regions, strict=True):
            if not rect.empty:
                part = flows[roi.patch][rect.top : rect.bottom, rect.left : rect.right]
                row[:] = largest_mean(part, roi.percent)
        return out.reshape(-1)

    def _flow(self, before, rect):
        parts = (image[rect.top : rect.bottom, rect.left : rect.right] for image in (before, self.crop))
        return farneback(*(np.ascontiguousarray(part) for part in parts))
