"""The action units drawn a second time, as Gaussian bumps on the face: to validate with, never to train on.

What a model learns from `face_actions.py` may be that file's drawing and not the action unit. So this one is written
from the descriptions of the Facial Action Coding System again (P. Ekman, W. Friesen, J. Hager: FACS, 2002: what each
unit's muscle pulls, and where), by other means: bumps of several widths that add up, instead of points of one width
that compete; a ruler of its own along the outer eye corners; halves that are each their own bumps; lids and lips that
are parted by the line between them. How wide and how strong a bump is, is this file's own reading, measured on nobody.

Must not know the numbers of `face_actions.py`; what it shares with it is what a field is, and which landmark is the
other side's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.synthesis.face_actions import MIRROR

FloatArray = npt.NDArray[np.float32]

Cut = Literal["", "upper lip", "lower lip", "upper lid", "lower lid"]
"""What a bump is confined to: a lip or a lid moves, the other one does not."""


@dataclass(frozen=True, slots=True)
class Bump:
    """A patch of skin that is pulled one way; that of the left half, mirrored for the right.

    Attributes:
        at: landmarks of the left side or the midline whose mean is the centre.
        shift: of the centre from there, outward and up, in rulers.
        spread: standard deviations across and down the face, in rulers.
        towards: degrees from outward (0) over up (90) and inward (180) to down (270).
        size: displacement at the centre, relative to the other bumps of the unit.
        cut: the lip or lid it is confined to.
    """

    at: tuple[int, ...]
    shift: tuple[float, float]
    spread: tuple[float, float]
    towards: float
    size: float = 1.0
    cut: Cut = ""


_BUMPS: dict[str, tuple[Bump, ...]] = {
    # frontalis, medial: the inner brow up, the middle of the forehead after it
    "AU1": (
        Bump((20, 21), (0.0, 0.2), (0.75, 0.6), 93),
        Bump((21,), (-0.1, 1.4), (0.7, 0.6), 90, 0.45),
        Bump((38,), (0.0, 0.35), (0.5, 0.35), 90, 0.25, "upper lid"),
    ),
    # frontalis, lateral: the outer brow up
    "AU2": (
        Bump((17, 18, 19), (0.0, 0.15), (0.75, 0.55), 80),
        Bump((18,), (0.1, 1.3), (0.7, 0.6), 90, 0.4),
        Bump((36, 37), (0.0, 0.4), (0.5, 0.35), 85, 0.3, "upper lid"),
    ),
    # corrugator inward and down at the brow's head, procerus down between the brows
    "AU4": (
        Bump((21,), (0.1, 0.0), (0.6, 0.6), 228),
        Bump((21, 22, 27), (0.0, 0.1), (0.5, 0.5), 265, 0.4),
        Bump((19,), (0.0, 0.1), (0.8, 0.5), 245, 0.45),
        Bump((38,), (0.0, 0.4), (0.6, 0.35), 265, 0.3, "upper lid"),
    ),
    # levator palpebrae: the upper lid's edge up under the fold
    "AU5": (Bump((37, 38), (0.0, 0.0), (0.65, 0.38), 90, 1.0, "upper lid"),),
    # orbicularis oculi, outer ring: the cheek up, skin at the temple towards the eye
    "AU6": (
        Bump((36, 41), (0.1, -0.9), (0.9, 0.65), 98),
        Bump((36,), (0.7, 0.0), (0.5, 0.6), 172, 0.55),
        Bump((41,), (0.0, -0.2), (0.7, 0.35), 95, 0.4, "lower lid"),
        Bump((17,), (0.1, 0.0), (0.5, 0.45), 258, 0.25),
    ),
    # orbicularis oculi, lid part: the lower lid up and towards the nose
    "AU7": (
        Bump((40, 41), (0.0, -0.1), (0.7, 0.45), 106, 1.0, "lower lid"),
        Bump((37, 38), (0.0, 0.05), (0.65, 0.4), 270, 0.45, "upper lid"),
    ),
    # levator of the nose wing: skin along the nose up, the lip's middle with it, the brow's head down
    "AU9": (
        Bump((31,), (0.1, 0.6), (0.55, 0.8), 97),
        Bump((50,), (-0.1, 0.25), (0.6, 0.5), 92, 0.55, "upper lip"),
        Bump((21,), (-0.1, -0.1), (0.6, 0.5), 250, 0.5),
    ),
    # levator of the upper lip: lip and the triangle above it up, the nose wing a little
    "AU10": (
        Bump((50,), (0.0, 0.15), (0.75, 0.6), 90, 1.0, "upper lip"),
        Bump((31, 48), (0.1, 0.7), (0.7, 0.7), 88, 0.6),
    ),
    # zygomaticus major: the lip's corner towards the cheekbone, the cheek lifted
    "AU12": (
        Bump((48,), (-0.05, 0.05), (0.65, 0.6), 41),
        Bump((48, 36), (0.1, -0.2), (0.85, 0.8), 68, 0.5),
        Bump((49, 59), (0.1, 0.0), (0.55, 0.5), 38, 0.25),
    ),
    # buccinator: the corner and what lies outside it drawn together, inward
    "AU14": (
        Bump((48,), (0.15, 0.0), (0.6, 0.5), 176),
        Bump((48,), (1.0, 0.1), (0.5, 0.6), 182, 0.6),
    ),
    # depressor of the lip's corner
    "AU15": (
        Bump((48,), (0.05, -0.1), (0.55, 0.5), 272),
        Bump((48,), (0.15, -0.9), (0.5, 0.6), 268, 0.55),
    ),
    # mentalis: the chin's boss up, the lower lip before it
    "AU17": (
        Bump((57, 8), (0.35, 0.1), (0.7, 0.65), 90),
        Bump((58,), (0.0, 0.1), (0.65, 0.5), 90, 0.8, "lower lip"),
    ),
    # risorius: the corner straight back, the lower lip flattened
    "AU20": (
        Bump((48,), (0.1, -0.05), (0.8, 0.65), 356),
        Bump((59,), (0.05, -0.3), (0.6, 0.55), 345, 0.5),
    ),
    # orbicularis oris, tightening: both red parts narrower, corners a little in
    "AU23": (
        Bump((50, 51), (0.0, 0.1), (0.7, 0.5), 270, 0.75, "upper lip"),
        Bump((57, 58), (0.0, -0.1), (0.75, 0.5), 90, 1.0, "lower lip"),
        Bump((48,), (0.0, 0.0), (0.45, 0.45), 180, 0.6),
    ),
    # orbicularis oris, pressing: the lips against each other
    "AU24": (
        Bump((50, 51), (0.1, 0.0), (0.85, 0.55), 270, 1.0, "upper lip"),
        Bump((57, 58), (0.1, 0.0), (0.85, 0.55), 90, 1.0, "lower lip"),
    ),
    # depressor of the lower lip, mentalis relaxed: the lower lip down, the upper one freed
    "AU25": (
        Bump((58,), (0.0, -0.1), (0.7, 0.55), 270, 1.0, "lower lip"),
        Bump((50, 51), (0.0, 0.1), (0.7, 0.5), 90, 0.35, "upper lip"),
        Bump((57, 8), (0.3, 0.0), (0.7, 0.6), 270, 0.3),
    ),
    # jaw dropped (AU26), by speech only
    "open": (
        Bump((57, 8), (0.5, -0.1), (1.1, 0.9), 270, 1.0, "lower lip"),
        Bump((58,), (0.0, 0.0), (0.9, 0.6), 270, 0.5, "lower lip"),
    ),
    # lips rounded (AU18), by speech only
    "pucker": (Bump((48,), (0.05, 0.0), (0.8, 0.7), 180),),
}

NAMES = tuple(_BUMPS)
"""Every action that is drawn: those of `face_actions.NAMES`."""

SOFT = 0.15
"""Rulers over which a lip's or lid's part passes into the other's: macro-expressions of 20 px may not fold the skin."""

_LINES = {
    "lip": ((48, 54), ((60,), (61, 67), (62, 66), (63, 65), (64,))),
    "left lid": ((36, 39), ((37, 41), (38, 40))),
    "right lid": ((42, 45), ((43, 47), (44, 46))),
}
"""Where lips and lids part: corners, and between them the means of opposite landmarks."""


class _Ruler:
    """Coordinates of one face: x along the outer eye corners, y down, both in lengths of this face.

    Args:
        landmarks: float32 (68, 2), pixels.
    """

    def __init__(self, landmarks: FloatArray) -> None:
        left, right = landmarks[36], landmarks[45]
        across = (right - left) / np.hypot(*(right - left))
        self.axes = np.array((across, (-across[1], across[0])), np.float64)
        self.origin = (left + right).astype(np.float64) / 2
        mouth = (landmarks[48] + landmarks[54]) / 2
        # A sixth of the eyes' span, and of the way from eyes to mouth rather less than a third: about equal in a face
        # of common proportions.
        wide, high = np.hypot(*(right - left)) / 6, abs(float((mouth - self.origin) @ self.axes[1])) / 3.6
        self.unit = np.array((wide, high))

    def __call__(self, points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        out: npt.NDArray[np.float64] = (points - self.origin) @ self.axes.T / self.unit
        return out

    def to_picture(self, moves: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Turn displacements of the face (outward is the picture's left or right by now) into the picture's."""
        out: npt.NDArray[np.float64] = moves @ self.axes
        return out


def action_fields(landmarks: FloatArray, grid: FloatArray, names: Collection[str] = NAMES) -> dict[str, FloatArray]:
    """Spread every action over the skin; what goes in and comes out is that of `face_actions.action_fields`.

    Args:
        landmarks: float32 (68, 2), pixels.
        grid: float32 (..., 2), where the fields are wanted, pixels.
        names: which of NAMES.

    Returns:
        Name -> float32 (2, ..., 2): displacements of the left and the right half of the action, each point's
        (dx, dy) in the picture's directions. Their sum is the whole action; its largest displacement on the grid is 1.
    """
    ruler = _Ruler(landmarks)
    own, at = ruler(landmarks), ruler(grid.reshape(-1, 2))
    parts = _parts(own, at)
    fields = {}
    for name in names:
        halves = np.zeros((2, len(at), 2))
        for bump in _BUMPS[name]:
            angle = np.radians(bump.towards)
            for side in range(2):
                outward = 2 * side - 1
                ids = [i if side == 0 else MIRROR[i] for i in bump.at]
                centre = own[ids].mean(0) + np.array((outward * bump.shift[0], -bump.shift[1]))
                away = (at - centre) / bump.spread
                near = bump.size * np.exp(-0.5 * (away**2).sum(1))
                if bump.cut:
                    near *= parts[bump.cut]
                halves[side] += near[:, None] * (outward * np.cos(angle), -np.sin(angle))
        halves /= np.sqrt((halves.sum(0) ** 2).sum(-1).max())
        fields[name] = ruler.to_picture(halves).astype(np.float32).reshape(2, *grid.shape)
    return fields


def _parts(own: npt.NDArray[np.float64], at: npt.NDArray[np.float64]) -> dict[Cut, npt.NDArray[np.float64]]:
    """Return how much every point belongs to a lip or lid: cut -> float64 (n,), 0 to 1."""
    below = {}
    for name, (corners, between) in _LINES.items():
        knots = np.array([own[corners[0]], *(own[list(ids)].mean(0) for ids in between), own[corners[1]]])
        knots = knots[np.argsort(knots[:, 0])]
        below[name] = 1 / (1 + np.exp(-(at[:, 1] - np.interp(at[:, 0], knots[:, 0], knots[:, 1])) / SOFT))
    lid = np.where(at[:, 0] < 0, below["left lid"], below["right lid"])
    return {
        "upper lip": 1 - below["lip"],
        "lower lip": below["lip"],
        "upper lid": 1 - lid,
        "lower lid": lid,
    }
