"""When ours and OpenCV's flow can be compared: where a picture moved. One that stays must be without motion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NO_MOTION = "expected frames that differ from their window's first, got none; give another clip"
"""What is said where nothing could be compared."""


def is_still(same: bool, ours: npt.NDArray[np.float32]) -> bool:
    """Return ``same``: whether a picture is its anchor's; raise where ours sees motion then."""
    if same and np.any(ours):
        raise RuntimeError(f"flow of a picture to itself is {np.abs(ours).max():.1e} px, expected exactly 0")
    return same
