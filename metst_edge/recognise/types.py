"""What every recogniser's engine is, and the check of what it is given. Knows no engine."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import RecognizerBundle
from metst_edge.errors import EngineError

Array = npt.NDArray[np.float32]


@runtime_checkable
class Recognizer(Protocol):
    """A recogniser's bundle made ready to run.

    Attributes:
        name: as `load_recognizer` takes it.
        bundle: what runs.
        labels: emotions in the order of the logits.
    """

    name: str
    bundle: RecognizerBundle
    labels: tuple[str, ...]

    def infer(self, images: Array) -> Array:
        """Name the emotion of intervals, each by its pictures.

        Args:
            images: float32 (N, F, 3, S, S), F pictures of each of N intervals, S the bundle's `input_size`; scaled by
                its mean and std.

        Returns:
            float32 (N, E), logits.

        Raises:
            EngineError: dtype, shape or values do not fit.
        """

    def close(self) -> None:
        """Give back what it holds outside this process's memory; it is not to be used after it."""


def check_images(images: object, side: int) -> Array:
    """Return the pictures, C-contiguous, after checking that they are float32 (N, F, 3, side, side) and finite.

    Raises:
        EngineError: they are not.
    """
    wanted = f"float32 (intervals, frames, 3, {side}, {side})"
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        got = f"dtype {images.dtype}" if isinstance(images, np.ndarray) else type(images).__name__
        raise EngineError(f"expected pictures as {wanted}, got {got}; convert with numpy.float32")
    if images.ndim != 5 or images.size == 0 or images.shape[2:] != (3, side, side):
        raise EngineError(f"expected pictures as {wanted}, got shape {images.shape}")
    if not np.isfinite(images).all():
        raise EngineError(f"expected finite pictures as {wanted}, got nan or infinity")
    return np.ascontiguousarray(images)
