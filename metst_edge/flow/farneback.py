"""Dense optical flow by polynomial expansion (Farnebäck, SCIA 2003) from one anchor picture to many others.

The one seam through which the SDK computes flow: a faster kernel replaces the body of this class and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.errors import FrameError


class Farneback:
    """Flow from ``anchor`` to other pictures of its size; the parameters default to the ME-TST models'.

    Args:
        anchor: uint8 (H, W). It is kept, not copied: do not write to it.
        pyr_scale: size of each pyramid level relative to the one below it.
        levels: pyramid levels at most, besides the full size; they stop below 32 pixels.
        winsize: side of the averaging box in pixels.
        iterations: per level.
        poly_n: side of the expansion's neighbourhood in pixels.
        poly_sigma: of the Gaussian that weights it, in pixels.

    Raises:
        FrameError: the anchor is not uint8 (H, W), or empty.

    Example:
        >>> flow = Farneback(anchor).to(frame)   # float32 (H, W, 2): dx, dy in pixels
    """

    def __init__(
        self,
        anchor: npt.NDArray[np.uint8],
        *,
        pyr_scale: float = 0.5,
        levels: int = 3,
        winsize: int = 15,
        iterations: int = 5,
        poly_n: int = 7,
        poly_sigma: float = 1.5,
    ) -> None:
        import cv2

        _check_gray(anchor, None)
        self._anchor = anchor
        self._parameters = (pyr_scale, levels, winsize, iterations, poly_n, poly_sigma, 0)
        self._flow: Any = cv2.calcOpticalFlowFarneback

    def to(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the displacement of every anchor pixel in ``frame``: float32 (H, W, 2), dx then dy in pixels.

        Raises:
            FrameError: ``frame`` is not uint8 of the anchor's shape.
        """
        _check_gray(frame, self._anchor.shape)
        flow: npt.NDArray[np.float32] = self._flow(self._anchor, frame, None, *self._parameters)
        return flow


def _check_gray(image: npt.NDArray[np.uint8], shape: tuple[int, ...] | None) -> None:
    expected = "(H, W)" if shape is None else str(shape)
    if not isinstance(image, np.ndarray):
        raise FrameError(f"expected a gray picture, uint8 {expected}, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 2 or image.size == 0 or (shape is not None and image.shape != shape):
        raise FrameError(
            f"expected a gray picture, uint8 {expected}, got {image.dtype} {image.shape}; "
            "convert with cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) and keep one size"
        )
