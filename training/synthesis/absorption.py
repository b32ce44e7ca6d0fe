"""What the registration of a steady face takes for the head's motion, though the face moved by itself.

The head's motion is fitted to the whole face (`csrc/include/metst/registration.h`), so a part of every action goes into
it and is taken out of the features: of an action that is put into a window no more must be put in than would be left.
The fit is linear in small displacements. Linearised at the anchor, with its slopes and with the weights of a picture
some way into the window, it is a matrix: displacements of the skin to the eight numbers of the head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metst_edge.face.crop import CROP_SIZE
from metst_edge.flow.steady import GRID, NOSE_TIP, half_width, seen, spots

FloatArray = npt.NDArray[np.float32]

NODES = 20
"""Along each side of the crop: displacements are known there and linear between."""
PARAMETERS = 8
"""Of a head, see registration.h: along x the factors of 1, x, y and depth, then those along y."""
_CELL, _APART = CROP_SIZE // GRID, CROP_SIZE // NODES
_MIDDLE, _UNIT = (CROP_SIZE - 1) / 2, 100.0
# As in registration.cpp.
_WIDEN, _DEEPEST, _ROUNDNESS, _NOSE, _NOSE_REACH = 1.15, 0.02, 0.9, 0.25, 0.16
_AROUND = 17
_TOLERANCE, _NOISE, _CONTRAST, _STIFFNESS = 2.25, 0.45, 1 / 50, 2.0


_AT = _APART * np.arange(NODES) + (_APART - 1) / 2
NODE_PLACES: FloatArray = np.stack(np.meshgrid(_AT, _AT), -1).reshape(-1, 2).astype(np.float32)
"""Where the nodes lie: float32 (NODES**2, 2), x and y in pixels of the crop, row by row."""


def _between_nodes() -> npt.NDArray[np.float64]:
    """Return the share of every node in every cell along one side: float64 (GRID, NODES)."""
    at = np.clip((_CELL * np.arange(GRID) + (_CELL - _APART) / 2) / _APART, 0, NODES - 1)
    out: npt.NDArray[np.float64] = np.maximum(1 - np.abs(at[:, None] - np.arange(NODES)), 0)
    return out


_BETWEEN = _between_nodes()


def head_basis(landmarks: FloatArray, places: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the displacements that a head can have along an axis: 1, x, y and depth.

    Args:
        landmarks: float (68, 2), pixels of the crop.
        places: float (..., 2), likewise.

    Returns:
        float64 (4, ...), the last three in hundreds of pixels from the crop's middle.
    """
    points = np.asarray(landmarks, np.float64)
    width, (middle, nose_row) = half_width(points), points[NOSE_TIP]

    def cylinder(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        out: npt.NDArray[np.float64] = np.sqrt(np.maximum(1 - ((x - middle) / (_WIDEN * width)) ** 2, _DEEPEST))
        return _ROUNDNESS * out

    def near(away: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        out: npt.NDArray[np.float64] = np.exp(-((away / (_NOSE_REACH * width)) ** 2) / 2)
        return out

    x, y = np.moveaxis(np.asarray(places, np.float64), -1, 0)
    pixels = np.arange(CROP_SIZE, dtype=np.float64)
    mean = cylinder(pixels).mean() + _NOSE * near(pixels - middle).mean() * near(pixels - nose_row).mean()
    depth = (cylinder(x) + _NOSE * near(x - middle) * near(y - nose_row) - mean) * width / _UNIT
    return np.stack((np.ones_like(x), (x - _MIDDLE) / _UNIT, (y - _MIDDLE) / _UNIT, depth))


def head_displacement(
    parameters: npt.NDArray[np.floating], landmarks: FloatArray, places: npt.NDArray[np.floating]
) -> FloatArray:
    """Return how far a head moves: float32 (..., n, 2), pixels of the crop.

    Args:
        parameters: float (..., PARAMETERS).
        landmarks: float (68, 2), pixels of the crop.
        places: float (n, 2), likewise.
    """
    along = np.reshape(parameters, (*parameters.shape[:-1], 2, PARAMETERS // 2))
    return np.moveaxis(along @ head_basis(landmarks, places), -2, -1).astype(np.float32)


_MIRRORED_PARAMETERS = np.array((-1, 1, -1, -1, 1, -1, 1, 1), np.float32)


def mirrored_absorbed(taken: npt.NDArray[np.floating]) -> FloatArray:
    """Return what `absorbed` is of faces seen in a mirror: float32 (..., PARAMETERS, m, 2), as given."""
    side = NODES if taken.shape[-2] else 0
    rows = taken.reshape(*taken.shape[:-2], side, side, 2)[..., ::-1, :]
    signs = _MIRRORED_PARAMETERS[:, None, None] * np.array((-1, 1), np.float32)
    out: FloatArray = (rows.reshape(taken.shape) * signs).astype(np.float32)
    return out


def _reduced(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Reduce a crop as the registration does: float64 (GRID, GRID), gray levels."""
    import cv2

    cells = crop.reshape(GRID, _CELL, GRID, _CELL).mean((1, 3))
    row = np.array((1, 4, 6, 4, 1)) / 16
    smooth = cv2.sepFilter2D(cells, cv2.CV_64F, row, row, borderType=cv2.BORDER_REPLICATE)
    out: npt.NDArray[np.float64] = smooth - cv2.blur(smooth, (_AROUND, _AROUND), borderType=cv2.BORDER_REPLICATE)
    return out


def absorbed(anchor: npt.NDArray[np.uint8], now: npt.NDArray[np.uint8], landmarks: FloatArray) -> FloatArray:
    """Return what is taken for the head's motion of a displacement of the skin.

    Args:
        anchor: uint8 (320, 320), crop of the anchor.
        now: that of a later picture, as if the head had stayed: it says how alike pictures of this video are.
        landmarks: float (68, 2), of the anchor, pixels of the crop.

    Returns:
        float32 (PARAMETERS, NODES**2, 2): of one pixel along x, or along y, at each node.
    """
    reduced = _reduced(anchor)
    looked_at = seen(landmarks)
    looked_at[[0, -1]] = looked_at[:, [0, -1]] = 0
    rows, columns = np.nonzero(looked_at)
    out = np.zeros((PARAMETERS, GRID, GRID, 2))
    if len(rows):
        places = _CELL * np.stack((columns, rows), -1) + (_CELL - 1) / 2
        of_spots = [
            np.exp(-((places - at) ** 2).sum(1) / (2 * reach**2))
            for *at, reach in spots(np.asarray(landmarks, np.float32))
        ]
        basis = np.concatenate((head_basis(landmarks, places), of_spots))
        down = np.gradient(reduced, axis=0)[rows, columns] / _CELL
        across = np.gradient(reduced, axis=1)[rows, columns] / _CELL
        own = reduced[rows, columns]
        jacobian = np.concatenate((basis * across, basis * down, [_CONTRAST * own, np.ones_like(own)]))
        difference = np.abs(_reduced(now)[rows, columns] - own)
        tolerance = _TOLERANCE * np.sort(difference)[len(difference) // 2] + _NOISE
        weighted = jacobian / (1 + (difference / tolerance) ** 2)
        of_head = np.arange(PARAMETERS // 2)
        stiffness = np.full((2, len(basis)), _STIFFNESS * tolerance**2)
        stiffness[:, of_head] = 0
        matrix = weighted @ jacobian.T + np.diag(np.append(stiffness, (0, 0)) + 1e-6)
        found = np.linalg.solve(matrix, weighted)[np.concatenate((of_head, len(basis) + of_head))]
        out[:, rows, columns] = np.stack((found * across, found * down), -1)
    at_nodes: FloatArray = np.einsum("im,jn,pijd->pmnd", _BETWEEN, _BETWEEN, out, optimize=True).astype(np.float32)
    return at_nodes.reshape(PARAMETERS, NODES**2, 2)
