"""What finds faces, by name: one protocol, whatever is behind it; and how one person is followed with it."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from metst_edge.choices import FACES
from metst_edge.errors import FaceModelError
from metst_edge.face.crop import Box
from metst_edge.face.landmarks import Face
from metst_edge.face.mesh import FaceFinder

SAME = 0.1
"""Two faces whose rectangles share more than this (intersection over union) are of one person: within half a second a
head moves by less than most of its width, and two heads do not lie in one place."""
AROUND, GRAY = 0.5, 128
"""A person is looked for once more within so many widths of the last crop box, another's crop box covered in this gray
level. Without the covering the other is found again, three times of four in tests' two people."""


class Finder(Protocol):
    """Finds the most prominent face of a picture. One thread at a time."""

    def find(self, image: npt.NDArray[np.uint8]) -> Face | None:
        """Find the face in ``image``: uint8 (H, W, 3) BGR or (H, W) gray. None where there is none to be measured."""
        ...

    def close(self) -> None:
        """Release the models. Calling it twice is harmless."""
        ...


def open_finder(name: str = "opencv", model: str | os.PathLike[str] | None = None) -> Finder:
    """Open what finds faces.

    Args:
        name: "opencv", which comes with metst_edge, or "mediapipe", the package of that name.
        model: a `face_landmarker.task` for MediaPipe, whose newer packages hold no model of their own.

    Raises:
        FaceModelError: there is no such finder, or what it needs is not there.
    """
    if name not in FACES:
        raise FaceModelError(f"expected face {' or '.join(map(repr, FACES))}, got {name!r}")
    if name == "opencv":
        if model is not None:
            raise FaceModelError(
                f"expected a face model with face 'mediapipe' only, got {os.fspath(model)!r} for 'opencv', whose "
                "models come with metst_edge; leave it out, or use face='mediapipe'"
            )
        return FaceFinder()
    from metst_edge.face.mediapipe import MediaPipeFinder

    return MediaPipeFinder(model)


def find_again(finder: Finder, image: npt.NDArray[np.uint8], last: Face | None) -> Face | None:
    """Find the person who was found last, though another face be more prominent; else whoever is.

    Args:
        finder: finds faces.
        image: uint8 (H, W, 3) BGR or (H, W) gray.
        last: the face found before; None where there was none.

    Returns:
        A face, `same_person` as last or not; None where there is none.
    """
    found = finder.find(image)
    if found is None or last is None or same_person(found, last):
        return found
    height, width = image.shape[:2]
    down, across = round(AROUND * last.box.height), round(AROUND * last.box.width)
    part = Box(last.box.top - down, last.box.bottom + down, last.box.left - across, last.box.right + across)
    part = part.inside(height, width)
    other = found.box
    covered = image.copy()
    covered[other.top : other.bottom, other.left : other.right] = GRAY
    near = finder.find(np.ascontiguousarray(covered[part.top : part.bottom, part.left : part.right]))
    if near is not None:
        placed = near.landmarks + np.array([part.left, part.top], np.float32)
        near = Face.of_landmarks(placed, height, width)
    return near if near is not None and same_person(near, last) else found


def same_person(face: Face, last: Face) -> bool:
    """Tell whether two faces of nearby pictures lie over each other."""
    (low, high), (low_last, high_last) = ((f.landmarks.min(axis=0), f.landmarks.max(axis=0)) for f in (face, last))
    shared = float((np.minimum(high, high_last) - np.maximum(low, low_last)).clip(min=0).prod())
    both = float((high - low).prod() + (high_last - low_last).prod()) - shared
    return shared > SAME * both
