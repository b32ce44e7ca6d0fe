"""Finds a face with MediaPipe's two models, a detector and a mesh of 468 points, run by OpenCV's DNN.

The order of work is MediaPipe's for single pictures (its graph face_landmark_front_cpu): detector on the whole picture,
made square; mesh on a square around the best detection, turned upright. Both squares are resampled as MediaPipe does,
corners onto corners and without the half pixel that OpenCV's own resizing keeps between centres: that half pixel, of a
detector's input eight times smaller than the picture, is what would move the landmarks by one to two percent of the
face's width. Every call detects afresh: calls lie half a window apart, too far for a crop made from the last mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.errors import FaceModelError
from metst_edge.face.landmarks import Face
from metst_edge.guard import Guard

MODELS = Path(__file__).parent.parent / "models" / "face"
DETECTOR, MESH = "face_detection_short_range.tflite", "face_landmark.tflite"
DETECTOR_SIZE, MESH_SIZE = 128, 192
"""Pixels, width and height of what a model is shown."""
GRIDS = ((16, 2), (8, 6))
"""The detector's anchors: cells along a side, and anchors a cell."""
OVERLAP = 0.3
"""Detections that share more than this with the best (IoU) are the same face and are averaged with it."""
PRESENT = 0.5
"""The mesh's own certainty below which there is no face in its crop."""
MARGIN = 1.5
"""The mesh's crop over the longer side of the detection."""

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Square:
    """A square of the picture, turned by `angle` (radians, clockwise as seen), in pixels with corners at whole numbers.

    Attributes:
        x: of its centre.
        y: of its centre.
        side: its length.
        angle: of its upper edge with the picture's.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    def matrix(self, size: int) -> Points:
        """Return float64 (2, 3), which takes pixels of the square drawn `size` wide to pixels of the picture."""
        scale = self.side / size
        cos, sin = scale * np.cos(self.angle), scale * np.sin(self.angle)
        half = size / 2
        return np.array(
            [[cos, -sin, self.x - (cos - sin) * half], [sin, cos, self.y - (sin + cos) * half]],
        )

    def draw(self, image: npt.NDArray[np.uint8], size: int, border: int) -> npt.NDArray[np.uint8]:
        """Return the square as uint8 (size, size, ...), bilinear; `border` is OpenCV's for what is not the picture."""
        import cv2

        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        drawn: npt.NDArray[np.uint8] = cv2.warpAffine(
            image, self.matrix(size), (size, size), flags=flags, borderMode=border
        )
        return drawn


class FaceFinder:
    """Finds the most prominent face of a picture. One thread at a time.

    Args:
        confidence: detections below this are ignored, 0 to 1.

    Raises:
        FaceModelError: the models are not there, or this OpenCV cannot read them.
    """

    def __init__(self, confidence: float = 0.5) -> None:
        self._confidence = confidence
        self._models: dict[str, Any] = {name: _load(name) for name in (DETECTOR, MESH)}
        self._guard = Guard(self, "FaceFinder", self._models.clear)

    def find(self, image: npt.NDArray[np.uint8]) -> Face | None:
        """Find the face in ``image``: uint8 (H, W, 3) BGR or (H, W) gray. None where there is none to be measured.

        Raises:
            StateError: it was closed, another thread is in here, or this process was forked off.
        """
        with self._guard.use():
            square = self._detect(image)
            mesh = None if square is None else self._points(image, square)
        return None if mesh is None else Face.of_mesh(mesh, *image.shape[:2])

    def close(self) -> None:
        """Release the models. Calling it twice is harmless."""
        self._guard.close()

    def _detect(self, image: npt.NDArray[np.uint8]) -> _Square | None:
        """Return where to look for the mesh, or None where there is no face."""
        import cv2

        height, width = image.shape[:2]
        whole = _Square(width / 2, height / 2, max(height, width))
        shown = _rgb(whole.draw(image, DETECTOR_SIZE, cv2.BORDER_CONSTANT), 1 / 127.5, 127.5)
        self._models[DETECTOR].setInput(shown)
        scores, rows = self._models[DETECTOR].forward(["classificators", "regressors"])
        found = _best(scores.ravel(), rows.reshape(len(_ANCHORS), -1) / DETECTOR_SIZE, self._confidence)
        if found is None:
            return None
        left, top, right, bottom, *eyes = (found * whole.side).tolist()
        (x0, y0, x1, y1) = eyes[:4]
        return _Square(
            x=(left + right) / 2 + whole.x - whole.side / 2,
            y=(top + bottom) / 2 + whole.y - whole.side / 2,
            side=MARGIN * max(right - left, bottom - top),
            angle=float(np.arctan2(y1 - y0, x1 - x0)),
        )

    def _points(self, image: npt.NDArray[np.uint8], square: _Square) -> npt.NDArray[np.float32] | None:
        """Return the mesh inside a square, float32 (468, 2) in pixels of the picture, or None where it sees no face."""
        import cv2

        self._models[MESH].setInput(_rgb(square.draw(image, MESH_SIZE, cv2.BORDER_REPLICATE), 1 / 255, 0.0))
        points, present = self._models[MESH].forward(["conv2d_21", "conv2d_31"])
        if _sigmoid(float(present.ravel()[0])) < PRESENT:
            return None
        flat = points.reshape(-1, 3)[:, :2].astype(np.float64)
        matrix = square.matrix(MESH_SIZE)
        placed: npt.NDArray[np.float32] = (flat @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
        return placed


def _load(name: str) -> Any:
    import cv2

    path = MODELS / name
    if not path.is_file():
        raise FaceModelError(
            f"expected the face model {path}, which comes with metst_edge, found none; install it again"
        )
    try:
        # OpenCV 5's new engine gives one output only.
        classic = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
        return cv2.dnn.readNetFromTFLite(str(path), **classic)
    except (AttributeError, cv2.error) as error:
        raise FaceModelError(
            f"expected an OpenCV that reads the face model {name} (4.8 or newer), got {cv2.__version__}: "
            f"{str(error).strip()}; update opencv-python-headless"
        ) from error


def _rgb(image: npt.NDArray[np.uint8], scale: float, mean: float) -> Any:
    """Return a picture as a model takes it: float32 (1, 3, H, W), RGB, (value - mean) * scale."""
    import cv2

    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return cv2.dnn.blobFromImage(image, scale, mean=(mean, mean, mean), swapRB=True)


def _best(scores: npt.NDArray[np.float32], rows: npt.NDArray[np.float32], confidence: float) -> Points | None:
    """Return the most certain detection, averaged with those that overlap it (weighted non-maximum suppression).

    Args:
        scores: float32 (896,), before the sigmoid.
        rows: float32 (896, 16), in widths of the detector's input: centre x and y from the anchor, width, height, and
            six points from the anchor, the eyes first.
        confidence: 0 to 1.

    Returns:
        float64 (16,): left, top, right, bottom, and the six points; None where nothing is certain enough.
    """
    certainty = _sigmoid(scores.astype(np.float64))
    kept = certainty >= confidence
    if not kept.any():
        return None
    certainty, anchors, rows = certainty[kept], _ANCHORS[kept], rows[kept].astype(np.float64)
    centres, half = rows[:, :2] + anchors, rows[:, 2:4] / 2
    points = rows[:, 4:] + np.tile(anchors, 6)
    boxes = np.hstack((centres - half, centres + half, points))
    best = int(certainty.argmax())
    sides = np.minimum(boxes[:, 2:4], boxes[best, 2:4]) - np.maximum(boxes[:, :2], boxes[best, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:4] - boxes[:, :2]).prod(axis=1)
    same = shared > OVERLAP * (areas + areas[best] - shared)
    same[best] = True
    weights = certainty[same]
    mean: Points = weights @ boxes[same] / weights.sum()
    return mean


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -100, 100)))


def _anchors() -> Points:
    """Return the centres of the detector's anchors, float64 (896, 2), in widths of its input."""
    parts = []
    for cells, count in GRIDS:
        centres = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(centres, centres)
        parts.append(np.repeat(np.column_stack((x.ravel(), y.ravel())), count, axis=0))
    return np.concatenate(parts)


_ANCHORS = _anchors()
