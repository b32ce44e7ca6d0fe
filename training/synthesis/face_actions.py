"""Facial action units as displacement fields of the skin.

Directions and places are those of the Facial Action Coding System (P. Ekman, W. Friesen, J. Hager: FACS, the manual and
the Investigator's Guide, 2002). How far each point moves relative to the action's strongest point is this file's own
reading of them, measured on nobody. Knows landmarks and fields only; nothing of time, pictures or emotions.

The face frame: origin at the middle of the inner eye corners, x along the line from the one to the other (towards the
picture's right), y down, unit g = half the distance between them. "Left" is the picture's left, as in the 68-point
scheme: landmarks 17-21 and 36-41.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

MIRROR = (
    *(16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
    *(26, 25, 24, 23, 22, 21, 20, 19, 18, 17),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)
"""The landmark on the other side of the face, of each of the 68."""

Move = tuple[float, float]
"""Displacement of a point, outward (away from the midline) and up, relative to the strongest point's."""

# Points: a landmark of the left side or the midline, or one of the named skin points of `skin_points`.
# fmt: off
_ACTIONS: dict[str, dict[int | str, Move]] = {
    # inner brow raised (frontalis, medial part); skin in the middle of the forehead follows
    "AU1": {
        21: (-0.05, 1.0), 20: (0, 0.75), 19: (0, 0.3), "glabella": (0, 0.5), "forehead": (0, 0.5),
        "lid fold": (0, 0.2),
    },
    # outer brow raised (frontalis, lateral part); lateral part of the lid fold follows
    "AU2": {
        17: (0.1, 0.85), 18: (0.05, 1.0), 19: (0, 0.75), 20: (0, 0.25), "temple forehead": (0, 0.6),
        "lid fold": (0, 0.35),
    },
    # brow lowered and drawn together (corrugator, depressor supercilii, procerus)
    "AU4": {
        21: (-0.6, -0.8), 20: (-0.5, -0.85), 19: (-0.3, -0.65), 18: (-0.15, -0.4), 17: (-0.05, -0.25),
        "glabella": (0, -0.6), "forehead": (-0.2, -0.35), "lid fold": (-0.1, -0.45),
    },
    # upper lid raised (levator palpebrae)
    "AU5": {
        37: (0, 1.0), 38: (0, 1.0), "lid fold": (0, 0.35),
    },
    # cheek raised, skin drawn towards the eye from the temple, outer brow lowered (orbicularis oculi, outer part)
    "AU6": {
        "cheek": (-0.1, 1.0), "outer cheek": (-0.3, 0.8), "temple": (-0.6, 0.05), "furrow": (0, 0.35),
        41: (0, 0.45), 40: (0, 0.35), 36: (-0.2, 0), 17: (-0.1, -0.25), 18: (0, -0.15),
    },
    # lower lid raised and drawn inward, upper lid slightly lowered (orbicularis oculi, inner part)
    "AU7": {
        41: (-0.2, 1.0), 40: (-0.2, 0.9), 37: (0, -0.35), 38: (0, -0.35), "under eye": (-0.2, 0.5),
    },
    # nose wrinkled: its wings and sides and the upper lip pulled up, inner brows lowered (levator labii superioris
    # alaeque nasi)
    "AU9": {
        31: (0.1, 1.0), 32: (0, 0.6), "nose side": (-0.1, 0.9), "furrow": (0, 0.7), "cheek": (-0.1, 0.5),
        50: (0, 0.55), 49: (0, 0.45), 51: (0, 0.45), 33: (0, 0.4), "glabella": (0, -0.45),
        21: (-0.25, -0.45), 20: (-0.15, -0.3), 40: (0, 0.2),
    },
    # upper lip raised, its centre straight up; infraorbital triangle pushed up, nose wings raised and widened (levator
    # labii superioris)
    "AU10": {
        50: (0, 1.0), 51: (0, 0.85), 49: (0.05, 0.75), 61: (0, 0.9), 62: (0, 0.8), "furrow": (0.1, 0.75),
        31: (0.2, 0.4), "cheek": (0, 0.4), 48: (0, 0.15), 33: (0, 0.1),
    },
    # lip corners pulled outward and up, furrow deepened, infraorbital triangle raised (zygomatic major)
    "AU12": {
        48: (0.72, 0.7), 60: (0.68, 0.66), 49: (0.4, 0.45), 59: (0.35, 0.3), 50: (0.1, 0.15),
        58: (0.1, 0.1), "furrow": (0.4, 0.5), "cheek": (0.15, 0.5), "beyond corner": (0.35, 0.45),
        "outer cheek": (0.15, 0.35), 31: (0.25, 0.15),
    },
    # lip corners tightened and drawn somewhat in, the skin beyond them too, that of the chin up (buccinator)
    "AU14": {
        48: (-0.7, 0.1), 60: (-0.6, 0.1), "beyond corner": (-1.0, 0.1), 49: (-0.3, 0), 59: (-0.25, 0.3),
        "furrow": (-0.25, -0.1), "marionette": (-0.2, 0.4),
    },
    # lip corners pulled down (depressor anguli oris)
    "AU15": {
        48: (0.1, -1.0), 60: (0.1, -0.9), 49: (0.05, -0.4), 59: (0.1, -0.5), 58: (0.05, -0.2),
        "beyond corner": (0, -0.5), "furrow": (0, -0.3), "marionette": (0, -0.6),
    },
    # chin boss and lower lip pushed up (mentalis)
    "AU17": {
        57: (0, 0.85), 58: (0, 0.8), 59: (0, 0.5), 66: (0, 0.8), 67: (0, 0.8), "chin": (0, 1.0),
        "marionette": (0, 0.3),
    },
    # lips stretched sideways (risorius with platysma), corners slightly down
    "AU20": {
        48: (1.0, -0.15), 60: (0.95, -0.15), 49: (0.55, -0.05), 59: (0.6, -0.15), 50: (0.2, 0),
        58: (0.25, -0.1), "beyond corner": (0.7, -0.1), "furrow": (0.3, -0.05), "marionette": (0.4, -0.2),
    },
    # lips tightened (orbicularis oris): red parts narrower, corners drawn slightly in
    "AU23": {
        51: (0, -0.55), 50: (-0.05, -0.6), 49: (-0.3, -0.35), 61: (0, -0.4), 62: (0, -0.4), 48: (-0.5, 0),
        60: (-0.5, 0), 59: (-0.3, 0.45), 58: (-0.1, 0.75), 57: (0, 0.8), 66: (0, 0.6), 67: (0, 0.6),
    },
    # lips pressed together (orbicularis oris), chin boss not pushed up
    "AU24": {
        51: (0, -0.85), 50: (0, -0.85), 49: (0, -0.5), 61: (0, -0.8), 62: (0, -0.8), 48: (-0.15, 0),
        59: (0, 0.6), 58: (0, 0.95), 57: (0, 1.0), 66: (0, 0.9), 67: (0, 0.9), "chin": (0, 0.15),
    },
    # lips parted (depressor labii inferioris, or mentalis relaxed)
    "AU25": {
        57: (0, -1.0), 58: (0, -0.95), 59: (0, -0.5), 66: (0, -1.0), 67: (0, -1.0), "chin": (0, -0.35),
        51: (0, 0.3), 50: (0, 0.25), 61: (0, 0.25), 62: (0, 0.3),
    },
    # The rest is used by speech only, never part of a micro-expression.

    # jaw dropped (AU26)
    "open": {
        57: (0, -1.0), 58: (0, -0.95), 59: (0, -0.65), 66: (0, -0.95), 67: (0, -0.95), 48: (-0.1, -0.35),
        "chin": (0, -1.0), 8: (0, -1.0), 7: (0, -0.9), 6: (0, -0.75), "marionette": (0, -0.7),
    },
    # lip corners drawn to the middle (AU18)
    "pucker": {
        48: (-1.0, 0), 60: (-0.9, 0), 49: (-0.65, 0), 59: (-0.6, 0), 50: (-0.25, 0.1), 58: (-0.2, -0.1),
        "beyond corner": (-0.6, 0), "furrow": (-0.2, -0.05), "marionette": (-0.3, 0.05),
    },
}
# fmt: on

NAMES = tuple(_ACTIONS)
"""Every action that has a field: the action units as "AU<n>", and the two of speech."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceFrame:
    """Where a face's own coordinates lie in a picture.

    Attributes:
        origin: float32 (2,), middle of the inner eye corners, pixels.
        axes: float32 (2, 2), rows: unit vectors of x and y of the face in the picture.
        g: half the distance of the inner eye corners, pixels.
    """

    origin: FloatArray
    axes: FloatArray
    g: float

    @classmethod
    def of(cls, landmarks: FloatArray) -> FaceFrame:
        """Place the frame from 68 landmarks, float32 (68, 2), pixels."""
        across = landmarks[42] - landmarks[39]
        g = float(np.hypot(*across)) / 2
        x = across / (2 * g)
        axes = np.array([x, (-x[1], x[0])], np.float32)
        return cls(((landmarks[39] + landmarks[42]) / 2).astype(np.float32), axes, g)

    def to_face(self, points: FloatArray) -> FloatArray:
        """Convert points (..., 2) from pixels to face coordinates."""
        out: FloatArray = ((points - self.origin) @ self.axes.T / self.g).astype(np.float32)
        return out

    def to_picture(self, points: FloatArray) -> FloatArray:
        """Convert points (..., 2) from face coordinates to pixels."""
        out: FloatArray = (points @ self.axes * self.g + self.origin).astype(np.float32)
        return out


def skin_points(landmarks: FloatArray) -> dict[str, FloatArray]:
    """Place points of the skin that have no landmark of their own.

    Args:
        landmarks: float32 (68, 2), face coordinates.

    Returns:
        Name -> float32 (2, 2): left and right point; both the same for a point on the midline.
    """

    def both(weights: dict[int, float], shift: Move = (0.0, 0.0)) -> FloatArray:
        """A weighted mean of landmarks, shifted outward and up, and its mirror image."""
        sides = []
        for side in (-1, 1):
            at = sum(w * landmarks[i if side < 0 else MIRROR[i]] for i, w in weights.items())
            sides.append(at + np.array((side * shift[0], -shift[1])))
        return np.array(sides, np.float32)

    return {
        "glabella": both({21: 0.5, 22: 0.5}),
        "forehead": both({21: 0.6, 19: 0.4}, (0, 1.1)),
        "temple forehead": both({18: 1}, (0, 1.0)),
        "lid fold": both({19: 0.4, 20: 0.1, 37: 0.25, 38: 0.25}),
        "temple": both({36: 1}, (0.8, 0)),
        "under eye": both({40: 0.5, 41: 0.5}, (0, -0.45)),
        "cheek": both({41: 0.45, 31: 0.25, 48: 0.3}),
        "outer cheek": both({36: 0.5, 48: 0.5}, (0.45, 0)),
        "nose side": both({39: 0.5, 31: 0.5}),
        "furrow": both({31: 0.5, 48: 0.5}, (0.15, 0)),
        "beyond corner": both({48: 1}, (0.8, 0)),
        "marionette": both({48: 0.55, 6: 0.2, 8: 0.25}),
        "chin": both({57: 0.5, 8: 0.5}),
    }


SPREAD = 0.5
"""Standard deviation of a point's influence on the skin around it, in g: half a brow moves together."""

STILL = 0.12
"""Weight of unmoved skin against a point's influence: what makes a field fade out with distance."""

FIRST_BROW = 17
"""Landmarks before it follow the jaw's outline, where no action ends."""
STILL_SPREAD = 0.3
"""The same of a landmark that an action does not move, in g: the other lip, the nose, the eye below a brow."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One way to draw the actions: faces differ, and so do the authors who read the same manual.

    Every array has a row for each control point in the order of ``POINTS``; the default is this file's own drawing.

    Attributes:
        strength: float32 (n,), factor on a point's displacement.
        turn: float32 (n,), radians its direction is turned by, mirrored on the other side of the face.
        shift: float32 (n, 2), how far its place lies from the landmark, outward and down, in g.
        spread: float32 (n,), its influence's standard deviation, in g.
        still: weight of unmoved skin.
        still_spread: influence of the landmarks that do not move, in g.
    """

    strength: FloatArray
    turn: FloatArray
    shift: FloatArray
    spread: FloatArray
    still: float = STILL
    still_spread: float = STILL_SPREAD


POINTS = tuple((name, point) for name, moves in _ACTIONS.items() for point in moves)
"""Every control point of every action: a landmark of the left side or the midline, or a name of `skin_points`."""
_FIRST = {name: next(i for i, (other, _) in enumerate(POINTS) if other == name) for name in NAMES}

OWN = Drawing(
    np.ones(len(POINTS), np.float32),
    np.zeros(len(POINTS), np.float32),
    np.zeros((len(POINTS), 2), np.float32),
    np.full(len(POINTS), SPREAD, np.float32),
)
"""The drawing as it is written above."""


def draw_drawing(rng: np.random.Generator) -> Drawing:
    """Draw another way to draw the actions, wide enough that a second author's lies inside.

    Whole actions differ and so does each of their points: strength by a third, direction by 17 degrees, place by a
    fifth of g, reach by a third. A point may not move at all.
    """
    count = len(POINTS)
    action = np.array([NAMES.index(name) for name, _ in POINTS])

    def both(of_action: float, of_point: float) -> npt.NDArray[np.float64]:
        whole: npt.NDArray[np.float64] = rng.normal(0, of_action, len(NAMES))[action] + rng.normal(0, of_point, count)
        return whole

    strength = np.exp(both(0.0, 0.35)) * (rng.uniform(size=count) > 0.08)
    # An action whose every point was left out would have no field.
    strength = np.maximum(strength, 1e-3)
    return Drawing(
        strength.astype(np.float32),
        both(0.15, 0.25).astype(np.float32),
        np.stack((both(0.0, 0.15), both(0.0, 0.15)), -1).astype(np.float32),
        (SPREAD * np.exp(both(0.25, 0.2))).astype(np.float32),
        STILL * float(np.exp(rng.normal(0, 0.5))),
        STILL_SPREAD * float(np.exp(rng.normal(0, 0.3))),
    )


def action_fields(
    landmarks: FloatArray, grid: FloatArray, names: Collection[str] = NAMES, drawing: Drawing = OWN
) -> dict[str, FloatArray]:
    """Spread actions over the skin.

    A point's displacement fades with distance as a Gaussian; where points compete, the weighted mean counts, so no skin
    moves farther than the strongest point and fields are smooth everywhere.

    Args:
        landmarks: float32 (68, 2), pixels.
        grid: float32 (..., 2), where the fields are wanted, pixels.
        names: which of NAMES.
        drawing: how the actions are drawn.

    Returns:
        Name -> float32 (2, ..., 2): displacements of the left and the right half of the action, each point's (dx, dy)
        in the picture's directions. Their sum is the whole action; its largest displacement on the grid is 1.
    """
    frame = FaceFrame.of(landmarks)
    own = frame.to_face(landmarks)
    skin = skin_points(own)
    at = frame.to_face(grid).reshape(-1, 2)
    right_share = 1 / (1 + np.exp(np.clip(-at[:, :1] / 0.2, -50, 50)))

    def influence(points: FloatArray, spread: npt.ArrayLike) -> FloatArray:
        """Of points (n, 2) on the grid, float32 (n, p)."""
        away = at - points[:, None]
        squares = np.einsum("nij,nij->ni", away, away)
        out: FloatArray = np.exp(squares / (-2 * np.square(spread).reshape(-1, 1))).astype(np.float32)
        return out

    unmoved = influence(own[FIRST_BROW:], np.full(len(own) - FIRST_BROW, drawing.still_spread))
    fields = {}
    for name in names:
        moves = _ACTIONS[name]
        moved = {p for point in moves if isinstance(point, int) for p in (point, MIRROR[point])}
        weight = np.float32(drawing.still) + sum(row for i, row in enumerate(unmoved, FIRST_BROW) if i not in moved)
        places, directions, rows = _control_points(name, own, skin, drawing)
        near = influence(places, drawing.spread[rows])
        field = near.T @ directions / (weight + near.sum(0))[:, None]
        field /= np.sqrt(np.einsum("ij,ij->i", field, field).max())
        field = field @ frame.axes
        halves = np.stack([field * (1 - right_share), field * right_share]).astype(np.float32)
        fields[name] = halves.reshape(2, *grid.shape)
    return fields


def _control_points(
    name: str, own: FloatArray, skin: dict[str, FloatArray], drawing: Drawing
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Return where an action's points lie (n, 2), where they go (n, 2), face coordinates, and their rows in POINTS."""
    moves = _ACTIONS[name]
    rows = np.arange(_FIRST[name], _FIRST[name] + len(moves))
    pairs = np.array([skin[point] if isinstance(point, str) else own[[point, MIRROR[point]]] for point in moves])
    outward, up = np.array(list(moves.values()), np.float32).T
    cos, sin, strength = np.cos(drawing.turn[rows]), np.sin(drawing.turn[rows]), drawing.strength[rows]
    out, rise = strength * (cos * outward - sin * up), strength * (sin * outward + cos * up)
    # A midline point is its own mirror image: once only, and it moves neither outward nor to a side.
    midline = (pairs[:, 0] == pairs[:, 1]).all(-1)
    sideways = np.where(midline[:, None], 0, np.array((-1, 1))).astype(np.float32)
    shift = drawing.shift[rows]
    down = np.broadcast_to(shift[:, 1:], sideways.shape)
    places = pairs + np.stack((sideways * shift[:, :1], down), -1)
    directions = np.stack((sideways * out[:, None], np.broadcast_to(-rise[:, None], sideways.shape)), -1)
    kept = ~midline[:, None] | np.array((True, False))
    both_rows = np.broadcast_to(rows[:, None], kept.shape)
    return places[kept].astype(np.float32), directions[kept].astype(np.float32), both_rows[kept]
