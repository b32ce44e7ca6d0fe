"""The regions of interest of ME-TST (5) and ME-TST+ (18) as a table, and their rectangles for one set of landmarks.

Flow is measured on a few patches; a region is a part of one patch over which the largest vectors are averaged. Patches,
margins and percentages are those of the published feature code (arXiv 2409.09707, 2508.08082).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from metst_edge.face.crop import CROP_SIZE, Box


@dataclass(frozen=True, slots=True)
class Patch:
    """The bounding box of landmarks first..last with margins in pixels of the crop, clipped to the crop.

    An eyelid patch is placed from the eye instead: half the eye's width high, a quarter of it below the eye's middle.

    Attributes:
        first: index of the first landmark.
        last: index of the last.
        top: the margin above them.
        bottom: below them.
        left: left of them.
        right: right of them.
        eyelid: whether it is an eyelid's.
    """

    first: int
    last: int
    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    eyelid: bool = False


@dataclass(frozen=True, slots=True)
class Roi:
    """One region: its patch less ``trim`` pixels on each side, or a rectangle around one landmark.

    Attributes:
        name: for people.
        patch: key into PATCHES.
        percent: the share of the largest vectors that is averaged, 0 to 1.
        landmark: index of the landmark, None for a trimmed patch.
        around: rows above, rows below, columns left, columns right of the landmark, in pixels.
        trim: pixels cut off each side of the patch.
        gives_way: trimmed less where the patch is clipped above or too thin (the left brow's rule).
    """

    name: str
    patch: str
    percent: float
    landmark: int | None = None
    around: tuple[int, int, int, int] = (10, 10, 10, 10)
    trim: int = 10
    gives_way: Literal["no", "top", "both"] = "no"


PATCHES = {
    "left_brow": Patch(17, 21, top=15, bottom=5, left=5),
    "right_brow": Patch(22, 26, top=15, bottom=5),
    "mouth": Patch(48, 66, top=15, bottom=10, left=20, right=20),
    "nose": Patch(30, 35, top=20, bottom=5, left=30, right=30),
    "left_eyelid": Patch(36, 41, eyelid=True),
    "right_eyelid": Patch(42, 47, eyelid=True),
}

NOSE_BRIDGE = Patch(29, 30, top=13, bottom=13, left=13, right=13)
"""Rigid with the skull: its motion is the head's."""
NOSE_BRIDGE_TRIM = Box(15, 10, 5, 5)
"""Pixels left out at the top, bottom, left and right of the nose bridge patch."""
NOSE_BRIDGE_PERCENT = 0.7

_METST_PLUS = (
    Roi("left brow", "left_brow", 0.3, gives_way="both"),
    Roi("left brow, inner", "left_brow", 0.2, landmark=20),
    Roi("left brow, middle", "left_brow", 0.2, landmark=19),
    Roi("left brow, outer", "left_brow", 0.2, landmark=18),
    Roi("right brow", "right_brow", 0.3, gives_way="top"),
    Roi("right brow, inner", "right_brow", 0.3, landmark=23),
    Roi("right brow, middle", "right_brow", 0.3, landmark=24),
    Roi("right brow, outer", "right_brow", 0.3, landmark=25),
    Roi("mouth", "mouth", 0.3),
    Roi("left mouth corner", "mouth", 0.2, landmark=48, around=(10, 10, 10, 20)),
    Roi("right mouth corner", "mouth", 0.2, landmark=54, around=(10, 10, 20, 10)),
    Roi("upper lip", "mouth", 0.2, landmark=51),
    Roi("lower lip", "mouth", 0.2, landmark=57),
    Roi("between the lips", "mouth", 0.2, landmark=62),
    Roi("left nose wing", "nose", 0.2, landmark=31, around=(20, 5, 20, 10)),
    Roi("right nose wing", "nose", 0.2, landmark=35, around=(20, 5, 10, 20)),
    Roi("left lower eyelid", "left_eyelid", 0.3, trim=5),
    Roi("right lower eyelid", "right_eyelid", 0.3, trim=5),
)

STEADY = "edge"
"""The set whose regions are measured on a face held steady (`metst_edge.flow.steady`), this project's own."""
ROI_SETS: dict[str, tuple[Roi, ...]] = {
    "metst": tuple(_METST_PLUS[i] for i in (0, 4, 8, 14, 15)),
    "metst_plus": _METST_PLUS,
    STEADY: _METST_PLUS,
}
"""Each region gives two channels, dx then dy, in this order: 10 channels for ME-TST, 36 for ME-TST+, whose regions
STEADY has too."""


def patch_rect(patch: Patch, points: npt.NDArray[np.int64]) -> Box:
    """Place a patch on the crop: ``points`` int (68, 2), x and y in pixels of the crop."""
    some = points[patch.first : patch.last + 1]
    (left, top), (right, bottom) = some.min(axis=0).tolist(), some.max(axis=0).tolist()
    if patch.eyelid:
        height = (right - left) / 2
        middle = (top + bottom) / 2
        rect = Box(int(middle + height / 2), int(middle + 3 * height / 2), left, right)
    else:
        rect = Box(top - patch.top, bottom + patch.bottom, left - patch.left, right + patch.right)
    return rect.inside(CROP_SIZE, CROP_SIZE)


def roi_rect(roi: Roi, patch: Box, unclipped_top: int, points: npt.NDArray[np.int64]) -> Box:
    """Place a region within its patch, in pixels of the patch.

    Args:
        roi: the region.
        patch: its patch on the crop.
        unclipped_top: the row the patch would begin at, were the crop larger.
        points: int (68, 2), x and y in pixels of the crop.
    """
    height, width = patch.height, patch.width
    if roi.landmark is not None:
        x, y = points[roi.landmark].tolist()
        x, y = x - patch.left, y - patch.top
        above, below, left, right = roi.around
        return Box(y - above, y + below, x - left, x + right).inside(height, width)
    top = bottom = roi.trim
    if roi.gives_way != "no":
        top = max(0, roi.trim + min(0, unclipped_top))
    if roi.gives_way == "both" and height - 3 < roi.trim + top:
        bottom = 4
    return Box(top, height - bottom, roi.trim, width - roi.trim).inside(height, width)


def rectangles(roi_set: str, landmarks: npt.NDArray[np.float32]) -> tuple[dict[str, Box], list[tuple[Roi, Box]], Box]:
    """Place every patch and region of a set on the crop of one face.

    Args:
        roi_set: one of ROI_SETS.
        landmarks: (68, 2), x and y in pixels of the crop; rounded to whole pixels.

    Returns:
        The patches by name, in pixels of the crop; the regions in channel order, each in pixels of its patch; and the
        nose bridge patch.
    """
    points = np.rint(np.asarray(landmarks)).astype(np.int64)
    rois = ROI_SETS[roi_set]
    patches = {name: patch_rect(PATCHES[name], points) for name in dict.fromkeys(roi.patch for roi in rois)}
    regions = []
    for roi in rois:
        spec = PATCHES[roi.patch]
        unclipped_top = int(points[spec.first : spec.last + 1, 1].min()) - spec.top
        regions.append((roi, roi_rect(roi, patches[roi.patch], unclipped_top, points)))
    return patches, regions, patch_rect(NOSE_BRIDGE, points)
