"""Frames of a portrait that moves as a timeline says, seen by a camera with noise and compression.

A frame's pixel x shows the portrait at p - d(p), where p is x with the head's motion taken back and d the displacement
of the skin: for the small d of micro-expressions that is the skin at p moved by d. Lids are drawn over the eyeball
instead, which does not move with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.face.crop import CROP_SIZE
from metst_edge.writing import write_whole
from training.synthesis import bumps, face_actions
from training.synthesis.camera import CAMERA, Camera, Sensor
from training.synthesis.face_actions import NAMES, FaceFrame
from training.synthesis.h264 import encode, recompress
from training.synthesis.portrait import MARGIN, Portrait
from training.synthesis.timeline import (
    HEAD,
    MODERATE,
    SIDES,
    TRACK,
    Distractor,
    Rates,
    Timeline,
    TruthEvent,
    draw_timeline,
)

FloatArray = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

DRAWINGS: dict[str, Callable[[FloatArray, FloatArray, Collection[str]], dict[str, FloatArray]]] = {
    "fields": face_actions.action_fields,
    "bumps": bumps.action_fields,
}
"""How action units may be drawn, by name: (landmarks, grid, actions) -> fields. All but the first only validate."""

DRAWING = "fields"

STEP = 4
"""Pixels between the points on which movement is computed, fewer in a small face; between them it is interpolated."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A rendered clip.

    Attributes:
        frames: uint8 (n, H, W, 3), BGR.
        fps: frames per second.
        truth: its micro-expressions, in order.
        distractors: everything else that happens in it.
        source: the portrait.
        drawing: of DRAWINGS, of its action units.
        face_px: width of the face's crop in pixels of the frames, 0 where nobody measured it.
    """

    frames: Image
    fps: float
    truth: tuple[TruthEvent, ...]
    distractors: tuple[Distractor, ...] = ()
    source: str = ""
    drawing: str = DRAWING
    face_px: float = 0.0


class Renderer:
    """Draws one portrait in any pose.

    Args:
        portrait: whom.
        drawing: of DRAWINGS.

    Attributes:
        pixel: pixels of the frames that make one pixel of the 320 px crop.
    """

    def __init__(self, portrait: Portrait, drawing: str = DRAWING) -> None:
        self._image = portrait.image
        self._frame = portrait.frame
        self.pixel = 9 * self._frame.g / CROP_SIZE
        self.size = portrait.size
        height, width = self.size
        self._step = step = int(np.clip(self._frame.g / 4, 1, STEP))
        total = np.array((height, width)) + 2 * MARGIN
        # Point (i, j) of the coarse grid lies in the middle of its step x step pixels, as cv2.resize has it.
        rows, columns = ((np.arange(-(-n // step)) + 0.5) * step - 0.5 for n in total)
        grid = np.stack(np.meshgrid(columns, rows), -1).astype(np.float32)
        fields = DRAWINGS[drawing](portrait.landmarks, grid, NAMES)
        # (actions x sides, h * w * 2), in pixels of the frames per pixel of the crop.
        self._fields = np.stack([fields[name][side] for name in NAMES for side in range(2)]) * np.float32(self.pixel)
        self._grid = grid
        # One point more on each side than the frame has, so that interpolation never reaches the grid's end.
        cells = [-(-n // step) + 2 for n in self.size]
        down, across = ((np.arange(n) - 0.5) * step - 0.5 for n in cells)
        self._canvas = np.stack(np.meshgrid(across, down), -1).astype(np.float32) + MARGIN
        self._depth = _depth(self._frame, self._canvas)
        self._lids = [_Lid(portrait.landmarks, self._frame, side) for side in range(2)]

    def draw(self, tracks: FloatArray) -> Image:
        """Draw one frame.

        Args:
            tracks: float32 (len(TRACKS),), one column of a timeline.

        Returns:
            uint8 (H, W, 3), BGR, free of noise.
        """
        import cv2

        height, width = self.size
        positions = self._positions(tracks)
        step = self._step
        enlarged = cv2.resize(positions, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        source = np.ascontiguousarray(enlarged[step : step + height, step : step + width])
        out: Image = cv2.remap(self._image, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        for side, lid in zip(SIDES, self._lids, strict=True):
            closed = float(tracks[TRACK[f"blink {side}"]])
            if closed > 0.01:
                lid.close(out, self._image, source, min(closed, 1.0))
        gain, gamma = float(tracks[TRACK["gain"]]), float(tracks[TRACK["gamma"]])
        if gain or gamma:
            # Kept as float until the noise is on would be truer; at noise of a level and more it makes no difference.
            levels = 255 * (np.arange(256) / 255) ** np.exp(gamma) * np.exp(gain)
            out = cv2.LUT(out, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
        return out

    def _positions(self, tracks: FloatArray) -> FloatArray:
        """Where in the portrait the coarse points of the frame come from."""
        import cv2

        tx, ty, roll, scale, yaw, pitch = (float(tracks[TRACK[name]]) for name in HEAD)
        # The head turns and grows about a point between eyes and mouth.
        centre = self._frame.to_picture(np.array((0, 1.5), np.float32))
        angle, factor = np.radians(roll), 1 / (1 + scale / 100)
        back = factor * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        shift = centre + self.pixel * np.array((tx, ty))
        p = (self._canvas - shift.astype(np.float32)) @ back.T.astype(np.float32) + centre
        turn = np.radians((yaw, pitch)).astype(np.float32) * np.float32(self._frame.g)
        p -= self._depth[..., None] * turn
        p = p.astype(np.float32)
        amounts = tracks[: 2 * len(NAMES)]
        active = np.flatnonzero(amounts)
        if len(active):
            field = np.tensordot(amounts[active], self._fields[active], 1)
            p -= cv2.remap(field, (p + 0.5) / self._step - 0.5, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        out: FloatArray = p
        return out


def _depth(frame: FaceFrame, points: FloatArray) -> FloatArray:
    """Distance in g of the face's surface from its axes, float32 (h, w): roughly an ellipsoid with a nose.

    Away from the head it fades to zero smoothly: the background does not turn.
    """
    x, y = np.moveaxis(frame.to_face(points), -1, 0)
    head = 5.0 * np.exp(-0.5 * ((x / 4.5) ** 2 + ((y - 1.2) / 5.5) ** 2))
    nose = 1.0 * np.exp(-0.5 * ((x / 0.7) ** 2 + ((y - 1.7) / 0.9) ** 2))
    out: FloatArray = (head + nose).astype(np.float32)
    return out


LASHES = 0.2
"""Height in g of the dark strip at the upper lid's edge."""


class _Lid:
    """One upper lid: its skin between fold and edge is stretched down over the eye."""

    def __init__(self, landmarks: FloatArray, frame: FaceFrame, side: int) -> None:
        self._frame = frame
        own = frame.to_face(landmarks)
        upper, lower = (((36, 37, 38, 39), (36, 41, 40, 39)), ((42, 43, 44, 45), (42, 47, 46, 45)))[side]
        self._left, self._right = own[upper[0], 0], own[upper[-1], 0]
        # A parabola through the corners and between the two points of each edge.
        self._upper = self._edge(own[list(upper)])
        self._lower = self._edge(own[list(lower)])
        brow = own[17:22, 1] if side == 0 else own[22:27, 1]
        # The fold lies well below the brow's hair, whose upper edge the landmarks follow.
        self._fold = min(0.45, 0.5 * float(own[list(upper)[1:3], 1].mean() - brow.mean()))

    @staticmethod
    def _edge(points: FloatArray) -> tuple[float, float, float]:
        """Fit an edge: left end and slope of the line through the corners, height of the arch over it."""
        (x0, y0), (x1, y1) = points[0], points[-1]
        slope = (y1 - y0) / (x1 - x0)
        u = (points[1:3, 0] - x0) / (x1 - x0)
        arch = 4 * u * (1 - u)
        over = points[1:3, 1] - (y0 + slope * (points[1:3, 0] - x0))
        return float(y0), float(slope), float(arch @ over / (arch @ arch))

    def _height(self, edge: tuple[float, float, float], x: FloatArray) -> FloatArray:
        start, slope, height = edge
        u = (x - self._left) / (self._right - self._left)
        out: FloatArray = start + slope * (x - self._left) + height * np.clip(4 * u * (1 - u), 0, None)
        return out

    def close(self, out: Image, image: Image, source: FloatArray, closed: float) -> None:
        """Draw the lid onto a frame.

        Args:
            out: uint8 (H, W, 3), changed in place.
            image: uint8 (.., .., 3), the portrait.
            source: float32 (H, W, 2), the portrait's point that each pixel shows.
            closed: share of the eye that is covered, 0 to 1.
        """
        import cv2

        corners = np.array(((self._left, self._upper[0] - 1.2), (self._right, self._lower[0] + 1.0)), np.float32)
        low, high = np.sort(self._frame.to_picture(corners), axis=0) + np.array(((-8,), (8,)))
        inside = (source > low).all(-1) & (source < high).all(-1)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if not len(rows) or not len(columns):
            return
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        at = self._frame.to_face(source[part])
        x, y = at[..., 0], at[..., 1]
        top = self._height(self._upper, x)
        aperture = np.maximum(self._height(self._lower, x) - top, 0)
        edge = top + closed * aperture
        # The fold's height fades towards the corners so that skin beside the eye stays where it is.
        taper = np.clip(aperture / max(float(aperture.max()), 1e-3), 0, 1) ** 0.5
        fold = top - self._fold * taper
        # The lashes travel with the edge as they are; only the skin above them is stretched.
        skin = np.maximum(top - fold - LASHES * taper, 1e-3)
        wide = skin + edge - top
        lid_y = np.where(y - fold < wide, fold + (y - fold) * skin / wide, y - (edge - top))
        lid_y = np.where(y > fold, np.minimum(lid_y, top), y)
        lid = cv2.remap(
            image,
            self._frame.to_picture(np.stack((x, lid_y), -1).astype(np.float32)),
            None,
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        # Covered where above the edge, blended over a pixel and a half; nothing beyond the corners.
        soft = 1.5 / self._frame.g
        cover = np.clip((edge - y) / soft + 0.5, 0, 1) * (y > fold) * (aperture > 0)
        mixed = out[part] + cover[..., None] * (lid.astype(np.float32) - out[part])
        out[part] = np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def render_frames(
    portrait: Portrait, timeline: Timeline, camera: Camera = CAMERA, seed: int = 0, drawing: str = DRAWING
) -> Iterator[Image]:
    """Render a timeline on a portrait, frame by frame: uint8 (H, W, 3), BGR.

    Args:
        portrait: whom; it also sets the frames' size.
        timeline: what moves.
        camera: how it is seen; H.264 is left to ``recompress`` and ``encode``.
        seed: of the sensor's noise.
        drawing: of DRAWINGS.
    """
    renderer = Renderer(portrait, drawing)
    sensor = Sensor(camera, portrait.size, np.random.default_rng(seed))
    for column in timeline.tracks.T:
        yield sensor(renderer.draw(column))


def render_timeline(
    portrait: Portrait, timeline: Timeline, camera: Camera = CAMERA, seed: int = 0, drawing: str = DRAWING
) -> Clip:
    """Render a timeline into memory, 0.5 MB per frame of 400x400; arguments as of ``render_frames``."""
    frames = render_frames(portrait, timeline, camera, seed, drawing)
    if camera.crf is None:
        whole = np.empty((timeline.frames, *portrait.size, 3), np.uint8)
        for place, frame in zip(whole, frames, strict=True):
            place[:] = frame
    else:
        whole = recompress(frames, portrait.size, timeline.fps, camera.crf)
    face = 9 * portrait.frame.g
    return Clip(whole, timeline.fps, timeline.truth, timeline.distractors, portrait.name, drawing, face)


def render_clip(
    portrait: Portrait,
    seed: int,
    seconds: float,
    fps: float = 30.0,
    rates: Rates = MODERATE,
    camera: Camera = CAMERA,
    drawing: str = DRAWING,
) -> Clip:
    """Render a clip drawn from ``seed``: the same arguments give the same frames."""
    timeline = draw_timeline(np.random.default_rng(seed), round(seconds * fps), fps, rates)
    return render_timeline(portrait, timeline, camera, seed, drawing)


def write_clip(clip: Clip, path: Path, crf: int = 23, extra: dict[str, Any] | None = None) -> Path:
    """Write a clip as H.264 and its truth as JSON beside it.

    Args:
        clip: its frames have even height and width.
        path: of the .mp4 file; the truth goes to the same name with .json.
        crf: constant rate factor, 0 (lossless) to 51.
        extra: more for the JSON object.

    Returns:
        The truth's path.

    Raises:
        ValueError: odd height or width, which H.264's usual colour format cannot hold.
        RuntimeError: the encoder failed; its last words are in the message.
    """
    height, width = clip.frames.shape[1:3]
    encode(clip.frames, (height, width), path, clip.fps, crf)
    seen = {"source": clip.source, "drawing": clip.drawing, "face_px": round(clip.face_px, 1)}
    return write_truth(path, clip.fps, len(clip.frames), clip.truth, clip.distractors, {**seen, **(extra or {})})


def write_truth(
    path: Path,
    fps: float,
    frames: int,
    truth: Sequence[TruthEvent],
    distractors: Sequence[Distractor],
    extra: dict[str, Any],
    beside: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write the truth about a clip beside it, whole or not at all.

    Args:
        path: of the clip.
        fps: frames per second.
        frames: how many.
        truth: its micro-expressions.
        distractors: everything else that was put in.
        extra: more for the JSON object.
        beside: more for each micro-expression, or nothing for all.

    Returns:
        The JSON file's path: the clip's name with .json.
    """
    more = beside or [{}] * len(truth)
    told = {
        "fps": fps,
        "frames": frames,
        "events": [{**asdict(event), **its} for event, its in zip(truth, more, strict=True)],
        "distractors": [asdict(other.within(frames)) for other in distractors],
        **extra,
    }
    out = path.with_suffix(".json")
    write_whole(out, (json.dumps(told, indent=1) + "\n").encode())
    return out
