"""What finds faces, by name: one protocol, whatever is behind it."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from metst_edge.choices import FACES
from metst_edge.errors import FaceModelError
from metst_edge.face.landmarks import Face
from metst_edge.face.mesh import FaceFinder


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
