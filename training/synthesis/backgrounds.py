"""Micro-expressions put into windows of video, as flow: a background's own, and what an action would add to it.

A background is a window in which nothing is annotated. What the face does, how it is lit, filmed and compressed, is
taken as it was measured; an action is a displacement field times the gain, the share of a small movement that is
measured at a point of this very face: little on smooth skin, all of it on hair and lip corners. On a face held steady
the field comes first without what would be taken for the head's motion (`training.synthesis.absorption`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from metst_edge.face.crop import CROP_SIZE
from metst_edge.flow.steady import lag_of
from training.synthesis.absorption import NODE_PLACES, head_displacement, mirrored_absorbed
from training.synthesis.calibration import ALL_POINTS, CELLS, POINTS, channel_values, since
from training.synthesis.face_actions import MIRROR, NAMES, Drawing, action_fields, draw_drawing
from training.synthesis.timeline import NOTHING, SIDES, TRACK, Rates, Timeline, draw_rate

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Backgrounds:
    """Windows without a micro-expression.

    Attributes:
        flow: float16 (n, k, ALL_POINTS, 2), pixels of the crop, from the window's first slot; the head's motion, as
            measured on the nose bridge, last. On a face held steady: from a little ago, nothing in the first slots and
            of the head.
        gain: float16 (n, ALL_POINTS, 2, 2), see `training.synthesis.measuring.PointFlow.gain`.
        places: float32 (n, ALL_POINTS, 2), where the points lie, pixels of the crop.
        absorbed: float16 (n, 8, m, 2), see `training.synthesis.absorption.absorbed`; m = 0 where no head is fitted.
        landmarks: float32 (n, 68, 2), pixels of the crop.
        subject: str (n,), who is seen.
        kind: str (n,), what sort of video it is: each sort is seen as often as any other.
    """

    flow: npt.NDArray[np.float16]
    gain: npt.NDArray[np.float16]
    absorbed: npt.NDArray[np.float16]
    places: FloatArray
    landmarks: FloatArray
    subject: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.flow)

    def part(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Backgrounds:
        """Return some of the windows."""
        return Backgrounds(*(getattr(self, each.name)[rows] for each in fields(self)))


def together(parts: Sequence[Backgrounds]) -> Backgrounds:
    """Join the windows of several videos."""
    return Backgrounds(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Backgrounds)))


def _mirrored_points() -> IntArray:
    """Return for every point the one on the other side of the face."""
    out = np.arange(ALL_POINTS)
    for name, rows in POINTS.items():
        left, right = SIDES
        other = name.replace(left, right) if left in name else name.replace(right, left)
        down, across = CELLS[name]
        out[rows] = np.arange(ALL_POINTS)[POINTS[other]].reshape(down, across)[:, ::-1].ravel()
    return out


_OTHER_SIDE = _mirrored_points()
_MIRRORED = np.array((-1, 1), np.float32)
"""Displacements in a mirror."""


def mirrored(backgrounds: Backgrounds) -> Backgrounds:
    """Return the windows as seen in a mirror: other people, as far as flow can tell."""
    at = np.array((CROP_SIZE - 1, 0), np.float32)
    flow = (backgrounds.flow[:, :, _OTHER_SIDE] * _MIRRORED).astype(np.float16)
    gain = (backgrounds.gain[:, _OTHER_SIDE] * _MIRRORED[:, None] * _MIRRORED).astype(np.float16)
    places = at + backgrounds.places[:, _OTHER_SIDE] * _MIRRORED
    landmarks = at + backgrounds.landmarks[:, list(MIRROR)] * _MIRRORED
    taken = mirrored_absorbed(backgrounds.absorbed).astype(np.float16)
    return replace(backgrounds, flow=flow, gain=gain, absorbed=taken, places=places, landmarks=landmarks)


def backwards(backgrounds: Backgrounds, lag: int | None = None) -> Backgrounds:
    """Return the windows played backwards: what comes and what goes look alike to flow.

    Args:
        backgrounds: the windows; played backwards they are measured from their last slot.
        lag: slots that their flow reaches back, where it has no anchor.
    """
    if lag is not None:
        turned = np.zeros_like(backgrounds.flow)
        turned[:, lag:] = -backgrounds.flow[:, : lag - 1 : -1]
        return replace(backgrounds, flow=turned)
    flow = backgrounds.flow[:, ::-1].astype(np.float32) - backgrounds.flow[:, -1:].astype(np.float32)
    return replace(backgrounds, flow=flow.astype(np.float16))


class BackgroundFaces:
    """Shows timelines on backgrounds; `training.synthesis.generator` says which windows of them.

    Args:
        backgrounds: of everybody.
        roi_set: of the features.
        fps: slots a second.
    """

    def __init__(self, backgrounds: Backgrounds, roi_set: str, fps: float = 30.0) -> None:
        self._backgrounds, self._roi_set = backgrounds, roi_set
        self._lag = lag_of(roi_set, fps)
        self._of, shares = [], []
        kinds = np.unique(backgrounds.kind)
        for kind in kinds:
            people = np.unique(backgrounds.subject[backgrounds.kind == kind])
            of = [np.flatnonzero((backgrounds.kind == kind) & (backgrounds.subject == person)) for person in people]
            # Of whom there is more is seen more often, but not by as much.
            share = np.sqrt([len(rows) for rows in of])
            self._of += of
            shares.append(share / share.sum() / len(kinds))
        self._share = np.concatenate(shares)

    def features(self, rng: np.random.Generator, timeline: Timeline, span: IntArray) -> FloatArray:
        """Measure windows of one timeline on one person, each on another background.

        Args:
            rng: chooses the person, the backgrounds and how the actions are drawn.
            timeline: its actions are shown, nothing else of it.
            span: int64 (n, k), frames of the timeline.

        Returns:
            float32 (n, C, k), pixels of the crop; column 0 is zero.
        """
        person = self._of[rng.choice(len(self._of), p=self._share)]
        some = self._backgrounds.part(rng.choice(person, len(span)))
        if rng.uniform() < 0.5:
            some = mirrored(some)
        if rng.uniform() < 0.5:
            some = backwards(some, self._lag)
        actions = self._actions(some, timeline, span, draw_drawing(rng))
        flow = some.flow.astype(np.float32) + since(actions, self._lag, axis=1)
        return np.moveaxis(channel_values(np.moveaxis(flow, (2, 3), (0, 1)), self._roi_set), 0, 1)

    def draw_rates(self, rng: np.random.Generator) -> Rates:
        """Draw how much is put in: large expressions too, for they begin like small ones."""
        return replace(
            NOTHING, micro=float(rng.uniform(15, 40)), macros=draw_rate(rng, 14, 0.25), micro_pixels=(0.4, 4.0)
        )

    @staticmethod
    def _actions(some: Backgrounds, timeline: Timeline, span: IntArray, drawing: Drawing) -> FloatArray:
        """What the actions add to the flow: float32 (n, k, ALL_POINTS, 2)."""
        amounts = timeline.tracks[:, span] - timeline.tracks[:, span[:, :1]]
        moving = [name for name in NAMES if any(amounts[TRACK[f"{name} {side}"]].any() for side in SIDES)]
        out = np.zeros(some.flow.shape, np.float32)
        if not moving:
            return out
        courses = np.stack([amounts[TRACK[f"{name} {side}"]] for name in moving for side in SIDES], -1)
        for row, course in enumerate(courses):
            if course.any():
                left = _left(some.landmarks[row], some.places[row], some.absorbed[row], moving, drawing)
                moved = np.tensordot(course, left, 1)
                out[row] = np.einsum("pde,kpe->kpd", some.gain[row].astype(np.float32), moved)
        return out


def _left(
    landmarks: FloatArray,
    places: FloatArray,
    absorbed: npt.NDArray[np.float16],
    names: Sequence[str],
    drawing: Drawing,
) -> FloatArray:
    """Return the fields of actions without what is taken for the head's motion: float32 (2 len(names), n, 2).

    Args:
        landmarks: float32 (68, 2), pixels of the crop.
        places: float32 (n, 2), likewise.
        absorbed: float16 (8, m, 2), of the window.
        names: of the actions.
        drawing: how they are drawn.
    """
    looked_at = absorbed.any((0, 2))  # elsewhere it does not matter what moves
    grid = np.concatenate((places, NODE_PLACES[np.flatnonzero(looked_at)]))
    whole = np.concatenate(list(action_fields(landmarks, grid, names, drawing).values()))
    if not looked_at.any():
        return whole
    of_nodes = whole[:, len(places) :].reshape(len(whole), -1)
    of_head = of_nodes @ absorbed[:, looked_at].astype(np.float32).reshape(len(absorbed), -1).T
    return whole[:, : len(places)] - head_displacement(of_head, landmarks, places)
