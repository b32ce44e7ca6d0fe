"""Finds a face with the MediaPipe package, which is a choice.

Up to 0.10.29 its wheels hold the models, and its `solutions` run them. Later ones hold none: their Tasks API runs a
`face_landmarker.task`, which the user brings. Every call detects afresh.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.errors import FaceModelError
from metst_edge.face.landmarks import Face
from metst_edge.guard import Guard
from metst_edge.installing import pip_install

Image = npt.NDArray[np.uint8]
Find = Callable[[Image], "Any"]
"""Takes uint8 (H, W, 3) RGB; returns the points of the first face, x and y in widths and heights, or nothing."""


class MediaPipeFinder:
    """Finds the most prominent face of a picture. One thread at a time.

    Args:
        task: a `face_landmarker.task`; needed from MediaPipe 0.10.30 on, where left out the older package is.
        confidence: detections below this are ignored, 0 to 1.

    Raises:
        FaceModelError: MediaPipe is not installed, or it needs a task file and there is none, or cannot read it.
    """

    def __init__(self, task: str | os.PathLike[str] | None = None, confidence: float = 0.5) -> None:
        # MediaPipe's libraries announce themselves on stderr; a user who wants that sets the variable.
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self._find, close = _solutions(confidence) if task is None else _tasks(Path(task), confidence)
        self._guard = Guard(self, "MediaPipeFinder", close)

    def find(self, image: Image) -> Face | None:
        """Find the face in ``image``: uint8 (H, W, 3) BGR or (H, W) gray. None where there is none to be measured.

        Raises:
            StateError: it was closed, another thread is in here, or this process was forked off.
        """
        import cv2

        rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
        with self._guard.use():
            points = self._find(rgb)
        if not points:
            return None
        height, width = image.shape[:2]
        return Face.of_mesh(np.array([(p.x * width, p.y * height) for p in points], np.float32), height, width)

    def close(self) -> None:
        """Release the model. Calling it twice is harmless."""
        self._guard.close()


def _solutions(confidence: float) -> tuple[Find, Callable[[], None]]:
    try:
        from mediapipe.python.solutions.face_mesh import FaceMesh
    except ImportError as error:
        raise FaceModelError(
            "expected MediaPipe with its face mesh model inside (mediapipe>=0.10.14,<0.10.30), "
            f"got: {error}; install it with: pip install 'mediapipe>=0.10.14,<0.10.30', "
            "name a face_landmarker.task for a newer one, or use face='opencv'"
        ) from error
    mesh: Any = FaceMesh(static_image_mode=True, max_num_faces=1, min_detection_confidence=confidence)

    def find(rgb: Image) -> Any:
        faces = mesh.process(rgb).multi_face_landmarks
        return faces[0].landmark if faces else None

    return find, mesh.close


def _tasks(task: Path, confidence: float) -> tuple[Find, Callable[[], None]]:
    if not task.is_file():
        raise FaceModelError(f"expected MediaPipe's face_landmarker.task, found no file {task}; check the path")
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError as error:
        raise FaceModelError(
            f"expected MediaPipe, got: {error}; install it with: {pip_install('mediapipe')}, or use face='opencv'"
        ) from error
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)),
        running_mode=vision.RunningMode.IMAGE,
        num_faces=1,
        min_face_detection_confidence=confidence,
    )
    try:
        landmarker: Any = vision.FaceLandmarker.create_from_options(options)
    except (ValueError, RuntimeError) as error:
        raise FaceModelError(
            f"{task}: expected MediaPipe's face_landmarker.task, which it cannot read: {error}"
        ) from error

    def find(rgb: Image) -> Any:
        faces = landmarker.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=rgb)).face_landmarks
        return faces[0] if faces else None

    return find, landmarker.close
