"""How a camera sees a clean frame: the sensor's noise, and the compression of a web camera. Knows nothing of faces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Camera:
    """How frames are seen.

    Attributes:
        noise: standard deviation of the sensor's noise in gray levels, independent from frame to frame.
        jpeg: quality of every frame's compression, 1 to 100; None for none.
        crf: H.264 constant rate factor of the whole clip; None for none. ``write_clip`` compresses anyway.
    """

    noise: float = 1.5
    jpeg: int | None = None
    crf: int | None = None


CAMERA = Camera()


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera: good light to poor; raw, or compressed by a web camera (JPEG) or a recorder (H.264)."""
    noise = float(np.exp(rng.uniform(np.log(0.4), np.log(3.0))))
    kind = rng.uniform()
    if kind < 0.25:
        return Camera(noise)
    if kind < 0.5:
        return Camera(noise, jpeg=int(rng.integers(70, 96)))
    return Camera(noise, crf=int(rng.integers(17, 29)))


class Sensor:
    """Puts a camera's noise and JPEG compression on frames, one after the other.

    Args:
        camera: its H.264 compression is not done here: that takes the whole clip.
        size: height and width of the frames.
        rng: of the noise.
    """

    _SPARE = 64

    def __init__(self, camera: Camera, size: tuple[int, int], rng: np.random.Generator) -> None:
        self._camera = camera
        self._rng = rng
        height, width = size
        # Noise is cut from a larger sheet at random places: independent to the eye of any flow, and ten times faster.
        shape = (height + self._SPARE, width + self._SPARE)
        # Behind a Bayer mosaic part of the noise is common to the colours.
        sheet = 0.8 * rng.standard_normal((*shape, 3), np.float32) + 0.6 * rng.standard_normal((*shape, 1), np.float32)
        self._sheet = np.float32(camera.noise) * sheet

    def __call__(self, clean: Image) -> Image:
        """Return uint8 (H, W, 3) as the camera gives it."""
        import cv2

        out = clean
        if self._camera.noise:
            height, width = clean.shape[:2]
            dy, dx = self._rng.integers(0, self._SPARE, 2)
            noisy = clean + self._sheet[dy : dy + height, dx : dx + width]
            out = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        if self._camera.jpeg is not None:
            _, coded = cv2.imencode(".jpg", out, (cv2.IMWRITE_JPEG_QUALITY, self._camera.jpeg))
            out = cast(Image, cv2.imdecode(coded, cv2.IMREAD_COLOR))
        return out
