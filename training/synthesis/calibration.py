"""What the real front end measures when a rendered face moves: what the fast generator draws from.

It is a small file, so that training needs neither portraits nor pictures. `training.synthesis.measuring` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metst_edge.face import ROI_SETS
from training.synthesis.face_actions import NAMES
from training.synthesis.timeline import HEAD, LIGHT, SIDES, TRACKS

FloatArray = npt.NDArray[np.float32]

CALIBRATION_FILE = Path(__file__).with_name("calibration.npz")
FORMAT = 1
REMEDY = "make it with: python -m training calibrate --portraits DIR"

ROIS = ROI_SETS["metst_plus"]
# Cells that a region is divided into, down and across: the flow's own averaging box of 15 px leaves no finer detail.
CELLS = {name: (2, 2) for name in (roi.name for roi in ROIS)} | {
    "left brow": (3, 6),
    "right brow": (3, 6),
    "mouth": (5, 8),
}
POINTS: dict[str, slice] = {}
"""Region -> its rows among the points at which flow is known."""
for _roi in ROIS:
    _first = max((part.stop for part in POINTS.values()), default=0)
    POINTS[_roi.name] = slice(_first, _first + CELLS[_roi.name][0] * CELLS[_roi.name][1])
ALL_POINTS = POINTS[ROIS[-1].name].stop + 1
"""All of them, the head's own motion as measured on the nose bridge last."""

# Amounts at which each track is rendered. What a large movement gives is not what a small one gives times a factor: the
# skin leaves the region.
_ACTION_LEVELS = (2.0, 10.0)
_SIGNED_LEVEL = {
    **{"tx": 4.0, "ty": 4.0, "roll": 1.5, "scale": 1.5, "yaw": 2.0, "pitch": 2.0},
    **{"gain": 0.04, "gamma": 0.04},
}
LEVELS: dict[str, tuple[float, ...]] = {
    **{f"{name} {side}": _ACTION_LEVELS for name in NAMES for side in SIDES},
    **{f"blink {side}": (0.5, 1.0) for side in SIDES},
    **{name: (_SIGNED_LEVEL[name],) for name in (*HEAD, *LIGHT)},
}
"""Track -> amounts at which its response is known; that of head and light is odd, the rest starts at zero."""
NOISE = ("anchor", "slow", "quick")
"""Kinds of noise: the same over a window (its first frame's), wandering within it, and new on every frame."""
SLOW = 0.93
"""Correlation of slow noise from one frame to the next: it changes within half a second."""
BASIS = tuple((track, level) for track in TRACKS for level in LEVELS[track])
"""Rows of a table of responses."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Responses and noise of the real front end.

    Attributes:
        responses: float32 (persons, len(BASIS), ALL_POINTS, 2), pixels of the 320 px crop: flow at each point when the
            track is at that level and everything else at rest.
        noise: float32 (persons, len(NOISE), 36), standard deviations of what the responses do not explain, pixels.
        correlation: float32 (len(NOISE), 36, 36), of the noise between channels, all persons together.
    """

    responses: FloatArray
    noise: FloatArray
    correlation: FloatArray

    @property
    def persons(self) -> int:
        return len(self.responses)

    def save(self, path: Path) -> None:
        """Write it; responses as bytes with one scale per person and movement."""
        scale = np.abs(self.responses).max((2, 3), keepdims=True) / 127 + 1e-9
        np.savez_compressed(
            path,
            format=np.int64(FORMAT),
            responses=np.rint(self.responses / scale).astype(np.int8),
            scale=scale.astype(np.float32),
            noise=self.noise.astype(np.float16),
            correlation=self.correlation.astype(np.float16),
        )

    @classmethod
    def load(cls, path: Path = CALIBRATION_FILE) -> Calibration:
        """Read it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: made by another version of this code.
        """
        if not path.is_file():
            raise FileNotFoundError(f"expected a calibration at {path}, got nothing; {REMEDY}")
        with np.load(path, allow_pickle=False) as data:
            found = int(data["format"]) if "format" in data else None
            shape = data["responses"].shape[1:] if found == FORMAT else None
            if shape != (len(BASIS), ALL_POINTS, 2):
                raise ValueError(
                    f"expected a calibration of format {FORMAT}, {len(BASIS)} movements, {ALL_POINTS} points, "
                    f"got format {found}, {shape} in {path}; {REMEDY}"
                )
            responses = (data["responses"] * data["scale"]).astype(np.float32)
            return cls(responses, data["noise"].astype(np.float32), data["correlation"].astype(np.float32))


def expand(tracks: FloatArray) -> FloatArray:
    """Write tracks as weights of the levels at which responses are known: linear between two levels.

    Args:
        tracks: float32 (len(TRACKS), n).

    Returns:
        float32 (len(BASIS), n).
    """
    out = np.zeros((len(BASIS), tracks.shape[1]), np.float32)
    row = 0
    for name, amounts in zip(TRACKS, tracks, strict=True):
        levels = LEVELS[name]
        if amounts.any():
            if len(levels) == 1:
                out[row] = amounts / levels[0]
            else:
                knots = (0.0, *levels)
                for i in range(len(levels)):
                    heights = np.zeros(len(knots))
                    heights[i + 1] = 1
                    out[row + i] = np.interp(amounts, knots, heights)
                # Beyond the last level the last response grows in proportion.
                out[row + len(levels) - 1] *= np.maximum(amounts / levels[-1], 1)
        row += len(levels)
    return out


def channel_values(flow: FloatArray, roi_set: str) -> FloatArray:
    """Reduce flow at points to channels as the front end does: mean of the largest, less the head's motion.

    Args:
        flow: float32 (ALL_POINTS, 2, ...), pixels, measured from the anchor.
        roi_set: one of `metst_edge.face.ROI_SETS`.

    Returns:
        float32 (C, ...).
    """
    rois = ROI_SETS[roi_set]
    out = np.empty((len(rois), 2, *flow.shape[2:]), np.float32)
    for roi, row in zip(rois, out, strict=True):
        part = flow[POINTS[roi.name]]
        squares = part[:, 0] ** 2 + part[:, 1] ** 2
        first = int(len(part) * (1 - roi.percent))
        largest = squares >= np.partition(squares, first, axis=0)[first]
        row[:] = np.einsum("pd...,p...->d...", part, largest) / largest.sum(0) - flow[-1]
    return out.reshape(2 * len(rois), *flow.shape[2:])


def since(values: FloatArray, lag: int | None, axis: int) -> FloatArray:
    """Return what changed in the ``lag`` slots before each one, nothing in the first ones; None changes nothing.

    Args:
        values: float32, as measured from a window's first slot.
        lag: as of `metst_edge.flow.steady.lag_of`.
        axis: that of the slots.
    """
    if lag is None:
        return values
    out = np.zeros_like(values)
    later, earlier = ([slice(None)] * values.ndim for _ in range(2))
    later[axis], earlier[axis] = slice(lag, None), slice(None, -lag)
    out[tuple(later)] = values[tuple(later)] - values[tuple(earlier)]
    return out


def window_starts(frames: int, k: int) -> list[int]:
    """Return where the windows of a clip begin: 0, h, 2h, ... (h = k // 2), as far as their scores count.

    A later window counts from its second half on, so none begins within the last h frames.
    """
    half = k // 2
    return [start for start in range(0, frames, half) if start == 0 or start + half < frames]
