"""Dense optical flow by polynomial expansion (Farnebäck, SCIA 2003) from one anchor picture to many others.

The loops are compiled (csrc/cpu/roi_flow*); their numbers are those of OpenCV's ``calcOpticalFlowFarneback``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metst_edge import _native
from metst_edge.errors import FrameError

MAX_POLY_N = 32


class Farneback:
    """Flow from ``anchor`` to other pictures of its size; the parameters default to the ME-TST models'.

    The anchor is blurred, reduced and expanded once, here; ``to`` does the rest. Parameters are named as OpenCV names
    them. Results differ from OpenCV's by rounding (1e-5 px in the mean), but for identical pictures, where they are
    exactly zero.

    Args:
        anchor: uint8 (H, W).
        pyr_scale: size of each pyramid level relative to the one below it, between 0 and 1.
        levels: pyramid levels at most, besides the full size; they stop below 32 pixels.
        winsize: side of the averaging box in pixels.
        iterations: per level.
        poly_n: the expansion's neighbourhood reaches this many pixels to each side, 32 at most.
        poly_sigma: of the Gaussian that weights it, in pixels.

    Raises:
        FrameError: the anchor is not uint8 (H, W), or empty.
        ValueError: a parameter is out of its range.

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
        _check_gray(anchor, None)
        if not (
            0 < pyr_scale < 1
            and levels >= 0
            and winsize >= 1
            and iterations >= 1
            and 1 <= poly_n <= MAX_POLY_N
            and poly_sigma > 0
        ):
            raise ValueError(
                f"expected 0 < pyr_scale < 1, levels >= 0, winsize and iterations >= 1, poly_n 1 to {MAX_POLY_N} and "
                f"poly_sigma > 0, got {pyr_scale=}, {levels=}, {winsize=}, {iterations=}, {poly_n=}, {poly_sigma=}"
            )
        self._shape = anchor.shape
        self._flow = _native.Farneback(anchor, pyr_scale, levels, winsize, iterations, poly_n, poly_sigma)

    def to(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the displacement of every anchor pixel in ``frame``: float32 (H, W, 2), dx then dy in pixels.

        Raises:
            FrameError: ``frame`` is not uint8 of the anchor's shape.
        """
        _check_gray(frame, self._shape)
        return self._flow.to(frame)


def _check_gray(image: npt.NDArray[np.uint8], shape: tuple[int, ...] | None) -> None:
    expected = "(H, W)" if shape is None else str(shape)
    if not isinstance(image, np.ndarray):
        raise FrameError(f"expected a gray picture, uint8 {expected}, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 2 or image.size == 0 or (shape is not None and image.shape != shape):
        raise FrameError(
            f"expected a gray picture, uint8 {expected}, got {image.dtype} {image.shape}; "
            "convert with cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) and keep one size"
        )
