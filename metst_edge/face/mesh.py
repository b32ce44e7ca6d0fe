"""Landmarks from MediaPipe's face mesh, mapped to the 68-point scheme.

The model ships inside MediaPipe's wheel, so nothing is downloaded. Every call detects afresh: calls lie half a window
apart, too far for the mesh's own tracking to help.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.errors import FaceModelError
from metst_edge.face.crop import Box, crop_box, to_crop

# Mesh vertices whose mean is each of the 68 points: jaw 0-16, brows 17-26 (midway between their edges), nose 27-35,
# eyes 36-47, outer lip 48-59, inner lip 60-67.
_BROWS = (
    *((70, 46), (63, 53), (105, 52), (66, 65), (107, 55)),
    *((336, 285), (296, 295), (334, 282), (293, 283), (300, 276)),
)
_JAW = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
_NOSE = (168, 197, 5, 4, 75, 97, 2, 326, 305)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)
MESH_TO_68 = np.array([(i, i) for i in _JAW] + list(_BROWS) + [(i, i) for i in _NOSE + _EYES + _LIPS])
"""int (68, 2)."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in one picture.

    Attributes:
        landmarks: float32 (68, 2), x and y in pixels of the picture.
        box: the crop box.
        crop_landmarks: float32 (68, 2), x and y in pixels of the 320x320 crop.
    """

    landmarks: npt.NDArray[np.float32]
    box: Box
    crop_landmarks: npt.NDArray[np.float32]


class FaceFinder:
    """Finds the most prominent face of a picture.

    Args:
        confidence: detections below this are ignored, 0 to 1.

    Raises:
        FaceModelError: MediaPipe is not installed, or its wheel carries no face mesh model (0.10.30 and later).
    """

    def __init__(self, confidence: float = 0.5) -> None:
        # MediaPipe's libraries announce themselves on stderr; a user who wants that sets the variable.
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            from mediapipe.python.solutions.face_mesh import FaceMesh
        except ImportError as error:
            raise FaceModelError(
                "expected MediaPipe with its face mesh model inside (mediapipe>=0.10.14,<0.10.30), "
                f"got: {error}; install it with: pip install 'mediapipe>=0.10.14,<0.10.30'"
            ) from error
        self._mesh: Any = FaceMesh(static_image_mode=True, max_num_faces=1, min_detection_confidence=confidence)

    def find(self, image: npt.NDArray[np.uint8]) -> Face | None:
        """Find the face in ``image``: uint8 (H, W, 3) BGR or (H, W) gray. None where there is none to be measured."""
        import cv2

        gray = image.ndim == 2
        rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if gray else cv2.COLOR_BGR2RGB)
        found = self._mesh.process(rgb).multi_face_landmarks
        if not found:
            return None
        height, width = image.shape[:2]
        mesh = np.array([(point.x * width, point.y * height) for point in found[0].landmark], np.float32)
        landmarks = mesh[MESH_TO_68].mean(axis=1, dtype=np.float32)
        box = crop_box(landmarks, height, width)
        return None if box is None else Face(landmarks, box, to_crop(landmarks, box))

    def close(self) -> None:
        """Release the model. Calling it twice is harmless."""
        if self._mesh is not None:
            self._mesh.close()
            self._mesh = None
