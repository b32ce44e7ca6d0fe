"""A face: 68 landmarks out of the 468 points of MediaPipe's mesh, and the crop around them. Knows no detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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

    @classmethod
    def of_mesh(cls, mesh: npt.NDArray[np.float32], height: int, width: int) -> Face | None:
        """Take a face from a mesh.

        Args:
            mesh: float32 (468 or more, 2), x and y in pixels of the picture.
            height: of the picture, pixels.
            width: of the picture, pixels.

        Returns:
            The face, or None where it is too small or too far outside the picture to be measured.
        """
        return cls.of_landmarks(mesh[MESH_TO_68].mean(axis=1, dtype=np.float32), height, width)

    @classmethod
    def of_landmarks(cls, landmarks: npt.NDArray[np.float32], height: int, width: int) -> Face | None:
        """Take a face from float32 (68, 2) in pixels of a height x width picture, likewise."""
        box = crop_box(landmarks, height, width)
        return None if box is None else cls(landmarks, box, to_crop(landmarks, box))
