"""A real portrait brought to one size and pose, and changed variants of it that stand in for other people.

The person who is rendered: knows pictures and landmarks, nothing of movement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.face import FaceFinder
from training.synthesis.face_actions import MIRROR, FaceFrame

FloatArray = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

MARGIN = 96
"""Pixels of picture around the visible part on every side, for the head to move into."""

TRAINING_PORTRAITS = ("obama.jpg", "biden.jpg")
"""Official portraits of the United States government, public domain; never the test identity."""


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One person, ready to be rendered.

    Attributes:
        image: uint8 (H + 2 MARGIN, W + 2 MARGIN, 3), BGR; H and W are the size of the frames.
        landmarks: float32 (68, 2), x and y in pixels of ``image``.
        name: who it is and how it was changed.
    """

    image: Image
    landmarks: FloatArray
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        height, width = self.image.shape[:2]
        return height - 2 * MARGIN, width - 2 * MARGIN

    @property
    def frame(self) -> FaceFrame:
        return FaceFrame.of(self.landmarks)


@dataclass(frozen=True, slots=True)
class Variation:
    """How a portrait is changed; the default changes nothing.

    Attributes:
        face: width of the 9 g wide face crop in pixels of the frames.
        roll: degrees clockwise.
        stretch: factors across and down the face.
        bumps: standard deviation of a smooth random change of shape, in g; seeded by ``seed``.
        flip: mirror image.
        blur: standard deviation in pixels of the frames.
        gamma: power of brightness.
        contrast: factor on brightness, about its middle.
        shift: of the face from its place, in g across and down.
        seed: of the random shape.
    """

    face: float = 288.0
    roll: float = 0.0
    stretch: tuple[float, float] = (1.0, 1.0)
    bumps: float = 0.0
    flip: bool = False
    blur: float = 0.0
    gamma: float = 1.0
    contrast: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    seed: int = 0


UNCHANGED = Variation()


def draw_variation(rng: np.random.Generator) -> Variation:
    """Draw another person out of one: face shape, pose, size, sharpness and light within what kiosks see."""
    return Variation(
        face=float(rng.uniform(190, 320)),
        roll=float(rng.normal(0, 4)),
        stretch=(float(rng.uniform(0.92, 1.08)), float(rng.uniform(0.92, 1.08))),
        bumps=float(rng.uniform(0, 0.12)),
        flip=bool(rng.integers(2)),
        blur=float(rng.uniform(0, 1.3)),
        gamma=float(np.exp(rng.normal(0, 0.25))),
        contrast=float(rng.uniform(0.7, 1.1)),
        shift=(float(rng.normal(0, 0.3)), float(rng.normal(0, 0.3))),
        seed=int(rng.integers(1 << 31)),
    )


def read_portrait(
    path: Path,
    finder: FaceFinder | None = None,
    size: tuple[int, int] = (400, 400),
    change: Variation = UNCHANGED,
) -> Portrait:
    """Read a picture file and standardise it.

    Raises:
        FileNotFoundError: no such picture.
        ValueError: no picture, or no face in it.
    """
    import cv2

    if not path.is_file():
        raise FileNotFoundError(f"expected a portrait, got nothing at {path}")
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"expected a picture, got something OpenCV cannot read: {path}")
    return standardise(image, path.stem, finder, size, change)


def astronaut(
    finder: FaceFinder | None = None, size: tuple[int, int] = (400, 400), change: Variation = UNCHANGED
) -> Portrait:
    """Return the test identity: NASA's portrait of Eileen Collins (public domain), from scikit-image."""
    from skimage import data

    image = np.ascontiguousarray(data.astronaut()[..., ::-1])
    return standardise(image, "astronaut", finder, size, change)


def standardise(
    image: Image,
    name: str = "portrait",
    finder: FaceFinder | None = None,
    size: tuple[int, int] = (400, 400),
    change: Variation = UNCHANGED,
) -> Portrait:
    """Bring a face to size, place and upright pose, and change it.

    Args:
        image: uint8 (H, W, 3), BGR.
        name: for the record.
        finder: reused when several portraits are read.
        size: height and width of the frames.
        change: what else is done to it.

    Raises:
        ValueError: no face is found.
    """
    import cv2

    found = (finder or FaceFinder()).find(image)
    if found is None:
        raise ValueError(f"expected a picture with one face, got none in {name}; use a frontal portrait")
    own = FaceFrame.of(found.landmarks)
    height, width = size
    scale = change.face / 9 / own.g
    angle = np.radians(change.roll)
    turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    # Rows are the face's axes in the new picture: upright but for the roll, stretched, mirrored if asked.
    axes = np.diag((change.stretch[0] * (-1 if change.flip else 1), change.stretch[1])) @ turned
    g = change.face / 9
    # The crop reaches 3.5 g up from the eyes and 5.5 g down: its middle goes to the frame's middle.
    origin = np.array((width / 2 + MARGIN, height / 2 + MARGIN - g)) + g * np.array(change.shift)

    grid = np.stack(np.meshgrid(np.arange(width + 2 * MARGIN), np.arange(height + 2 * MARGIN)), -1).astype(np.float32)
    bumps = _bumps(change, origin, g)
    source = (grid - bumps(grid) - origin) @ np.linalg.inv(axes) / g
    map_xy = own.to_picture(source.astype(np.float32))
    if scale < 1:
        # Downscaling aliases unless the source is smoothed to the new pixel size first.
        image = cv2.GaussianBlur(image, (0, 0), 0.45 / scale)
    out = cv2.remap(image, map_xy, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    if change.blur > 0.2:
        out = cv2.GaussianBlur(out, (0, 0), change.blur)
    if change.gamma != 1 or change.contrast != 1:
        levels = np.arange(256) / 255
        curve = 0.5 + (levels**change.gamma - 0.5) * change.contrast
        out = cv2.LUT(out, np.clip(np.rint(255 * curve), 0, 255).astype(np.uint8))
    landmarks = own.to_face(found.landmarks) @ axes * g + origin
    landmarks = (landmarks + bumps(landmarks)).astype(np.float32)
    if change.flip:
        landmarks = landmarks[list(MIRROR)]
    return Portrait(out, landmarks, name)


def _bumps(
    change: Variation, origin: npt.NDArray[np.float64], g: float
) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """Return a smooth random displacement of points (..., 2), pixels: a few sines of the face's size."""
    rng = np.random.default_rng(change.seed)
    waves = [(rng.normal(0, 0.35, 2), rng.uniform(0, 2 * np.pi), rng.normal(0, 1, 2)) for _ in range(6)]

    def at(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
        total = np.zeros(points.shape)
        if change.bumps:
            own = (points - origin) / g
            for k, phase, size in waves:
                total += np.sin(own @ k + phase)[..., None] * size
        out: npt.NDArray[Any] = (change.bumps * g / np.sqrt(3) * total).astype(points.dtype)
        return out

    return at
