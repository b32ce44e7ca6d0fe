"""What the benchmarks run on: a clip of a face, frames of it at several sizes, and bundles with random weights."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, open_source
from metst_edge.face import Face, FaceFinder

Image = npt.NDArray[np.uint8]

REAL_CLIP = "WolfgangLanger_Pexels.mp4"
K = 30
"""Frames in a window of the shipped model and of the random ones."""
SETS = {"metst": 5, "metst_plus": 18}
"""Set of regions -> how many it has."""


def default_clip() -> Path:
    """Return the real clip of METST_EDGE_TEST_DATA, or the packaged one where that is not set."""
    folder = os.environ.get("METST_EDGE_TEST_DATA")
    return Path(folder) / REAL_CLIP if folder else demo_clip()


class Clip:
    """Frames of a clip and the face of any of them, looked for once.

    Args:
        path: of the clip.
        size: width and height the frames are resized to, None to leave them.
        count: how many frames at most.

    Attributes:
        name: of the file.
        gray: uint8 (H, W), the frames.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None, count: int | None = None) -> None:
        import cv2

        self.name = path.name
        self.gray: list[Image] = []
        with open_source(path) as source:
            for frame in islice(source, count):
                assert isinstance(frame, Frame), "only live sources are interrupted"
                image = frame.image
                if size is not None and image.shape[1::-1] != size:
                    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
                self.gray.append(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        self._finder = FaceFinder()
        self._faces: dict[int, Face | None] = {}

    @property
    def size(self) -> str:
        """Width x height."""
        height, width = self.gray[0].shape
        return f"{width}x{height}"

    def face(self, index: int) -> Face:
        """Return the face on a frame; raises RuntimeError where there is none."""
        if index not in self._faces:
            self._faces[index] = self._finder.find(self.gray[index])
        face = self._faces[index]
        if face is None:
            raise RuntimeError(f"{self.name}: expected a face on frame {index}, found none; give another clip")
        return face

    def starts(self, count: int) -> list[int]:
        """Return the first frames of ``count`` windows spread over the clip."""
        last = len(self.gray) - K
        if last < 0:
            raise RuntimeError(f"{self.name}: expected at least {K} frames, got {len(self.gray)}; give another clip")
        return sorted({int(x) for x in np.linspace(0, last, count)})


def random_bundle(model: str, folder: Path, roi_set: str = "metst", **sizes: Any) -> Bundle:
    """Export a published size with fresh weights; needs torch and onnx.

    Args:
        model: a key of training.models.MODELS.
        folder: where to write it.
        roi_set: "metst" or "metst_plus"; it decides the channels.
        sizes: whole numbers that differ from the published ones.
    """
    import torch
    from rich.console import Console

    from export.bundle import write
    from export.description import Description
    from metst_edge.flow import channels
    from training.models import build

    torch.manual_seed(0)
    network = build(model, channels=channels(roi_set), **sizes).eval()
    name = f"{model}-{roi_set}"
    description: Any = Description(name, 30, K, 5, roi_set=roi_set)
    return write(network, description, folder / name, force=False, console=Console(quiet=True))
