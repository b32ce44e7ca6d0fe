"""Clips as a recogniser sees them: optical flow from the onset frame, drawn in colours (SLSTT, arXiv 2112.05851).

The angle of the flow is the hue, its length, scaled per frame, the brightness. Knows gray crops of one size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from metst_edge.errors import FrameError
from metst_edge.flow import Farneback
from metst_edge.recognise.clip import FRAMES, frame_indices, span
from metst_edge.recognise.crops import Gray, View, cut

Images = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """How a recogniser's images are made; the defaults are as published. A bundle's manifest holds them as `images`.

    Attributes:
        input_size: pixels, width and height.
        mean: of each colour (red, green, blue), 0 to 1, which is subtracted (ImageNet's).
        std: of each colour, by which is divided then (likewise).
        pyr_scale: see `metst_edge.flow.Farneback`, for all that follow.
        levels: pyramid levels.
        winsize: pixels.
        iterations: per level.
        poly_n: pixels.
        poly_sigma: pixels.
    """

    input_size: int = 384
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    pyr_scale: float = 0.5
    levels: int = 3
    winsize: int = 15
    iterations: int = 3
    poly_n: int = 5
    poly_sigma: float = 1.2

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageSettings:
        """Read the object that a manifest holds, its fields checked before; names that are not known are left alone."""
        known = {name: values[name] for name in cls.__slots__}
        return cls(**{**known, "mean": tuple(known["mean"]), "std": tuple(known["std"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def interval_images(
    pictures: Sequence[Gray], apex: int, view: View, settings: ImageSettings, frames: int = FRAMES
) -> Images:
    """Return the images of an interval's clip.

    Args:
        pictures: whole gray pictures from onset to offset, uint8 (H, W), at the model's rate.
        apex: index of the apex among them.
        view: what of them is shown.
        settings: of the recogniser.
        frames: in the clip.

    Returns:
        float32 (frames, 3, S, S), see `flow_images`.
    """
    positions = frame_indices(0, apex, len(pictures) - 1, frames)
    first, last = span(positions)
    crops = [cut(picture, view) for picture in pictures[first : last + 1]]
    return flow_images(cut(pictures[0], view), crops, settings, [position - first for position in positions])


def flow_images(
    onset: Gray, crops: Sequence[Gray], settings: ImageSettings, positions: Sequence[float] | None = None
) -> Images:
    """Draw the flow from the onset frame to later ones.

    Between two frames flow is interpolated, not pictures: measured from one frame it is smooth in time.

    Args:
        onset: uint8 (n, n), the face in the onset frame.
        crops: uint8 (n, n) each, the same part of later frames, in order of time.
        settings: of the recogniser.
        positions: of the images among the crops, rising, a fraction between two of them; default: each crop once.

    Returns:
        float32 (F, 3, S, S): colours red, green, blue, free of the settings' mean and scale.

    Raises:
        FrameError: crops that are not uint8 of the onset's shape, or a position without a crop.
    """
    if positions is None:
        positions = range(len(crops))
    if any(not 0 <= position <= len(crops) - 1 for position in positions):
        raise FrameError(f"expected positions 0 to {len(crops) - 1}, those of the crops, got {list(positions)}")
    farneback = Farneback(
        onset,
        pyr_scale=settings.pyr_scale,
        levels=settings.levels,
        winsize=settings.winsize,
        iterations=settings.iterations,
        poly_n=settings.poly_n,
        poly_sigma=settings.poly_sigma,
    )

    @lru_cache(maxsize=2)  # positions rise: an image is made of the crop before it and the one after
    def flow(crop: int) -> npt.NDArray[np.float32]:
        return farneback.to(crops[crop])

    size = settings.input_size
    mean, std = np.array(settings.mean, np.float32), np.array(settings.std, np.float32)
    out = np.empty((len(positions), 3, size, size), np.float32)
    for image, position in zip(out, positions, strict=True):
        before = math.floor(position)
        share = np.float32(position - before)
        moved = flow(before) if share == 0 else (1 - share) * flow(before) + share * flow(before + 1)
        image[:] = ((resized(drawn(moved), size) / np.float32(255) - mean) / std).transpose(2, 0, 1)
    return out


def drawn(flow: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Draw flow, float32 (H, W, 2) dx and dy, in colours: uint8 (H, W, 3), red, green, blue.

    Hue is the angle halved, in whole degrees, clockwise from the right since y points down; brightness the length, the
    picture's least as 0 and its greatest as 255. Where all of it is equally long, as where nothing moved, it is black.
    Fractions of both are cut off, not rounded, as in the published code, whose weights have learnt such colours.
    """
    import cv2

    length, angle = cv2.cartToPolar(np.ascontiguousarray(flow[..., 0]), np.ascontiguousarray(flow[..., 1]))
    hsv = np.full((*flow.shape[:2], 3), 255, np.uint8)
    hsv[..., 0] = (angle * 180 / np.pi / 2).astype(np.uint8) % 180  # 360 degrees are 0
    hsv[..., 2] = cv2.normalize(length, np.empty_like(length), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return cast("npt.NDArray[np.uint8]", cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def resized(picture: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Return a square picture, uint8 (n, n, 3), as size x size: means of what it covers, or bilinear if it grows."""
    import cv2

    how = cv2.INTER_AREA if size < len(picture) else cv2.INTER_LINEAR
    return cast("npt.NDArray[np.uint8]", cv2.resize(picture, (size, size), interpolation=how))
