"""The plain way, as the published code orders its work: the peer that the SDK is compared with, end to end.

For every window of k frames, k/2 apart: the face on its first frame; for every further frame crop, OpenCV's Farneback
on the nose bridge until the crop follows the head, OpenCV's Farneback on every patch; then the network in torch on
whole windows, of which the second halves are kept (arXiv 2409.09707, 2508.08082). Nothing is shared between windows
and nothing is kept of the anchor but its picture.

What is made faster in the SDK must not make this faster: of metst_edge it takes only the face finder, the reader of
clips and the decoder, which are the same work for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.peers.opencv_flow import PlainFlow
from benchmarks.peers.torch_network import TorchEngine
from metst_edge.capture import Frame, open_source
from metst_edge.decode import Interval, decode_clip
from metst_edge.engine.lanes import stitch
from metst_edge.face import FaceFinder
from metst_edge.flow import channels

Array = npt.NDArray[np.float32]
Timed = Callable[[str, Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class PlainResult:
    """What the plain order found.

    Attributes:
        frames: read, n.
        spot: float32 (n,), the curve.
        emotion: float32 (n, E), logits.
        intervals: decoded from both.
    """

    frames: int
    spot: Array
    emotion: Array
    intervals: list[Interval]


def _untimed(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
    return call


def analyse(clip: Path, engine: TorchEngine, finder: FaceFinder, timed: Timed = _untimed) -> PlainResult:
    """Analyse a clip whose frames are taken to come at the model's rate.

    Args:
        clip: video file.
        engine: whose bundle says k and the regions.
        finder: of faces.
        timed: stage and call -> the call as it is to be made; for clocks.
    """
    bundle = engine.bundle
    measure, find = timed("flow", PlainFlow.measure), timed("face", finder.find)
    images, gray = [], []
    with open_source(clip) as source:
        read = timed("capture", lambda: next(source, None))
        to_gray = timed("prepare", lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
        while isinstance(frame := read(), Frame):
            images.append(frame.image)
            gray.append(to_gray(frame.image))
    windows = []
    face = None
    for start in range(0, len(gray), bundle.k // 2):
        span = gray[start : start + bundle.k]
        features = np.zeros((channels(bundle.roi_set), len(span)), np.float32)
        face = find(images[start]) or face
        if face is not None:
            flow = PlainFlow(span[0], face.box, face.crop_landmarks, bundle.roi_set)
            for i, later in enumerate(span[1:], 1):
                features[:, i] = measure(flow, later)
        windows.append(features)
    # All whole windows in one batch, which is torch's fastest way through them.
    spot, emotion = timed("network", stitch)(engine, windows, bundle.k)
    intervals = timed("decode", decode_clip)(spot, emotion, bundle.k_p, bundle.decode_settings)
    return PlainResult(len(gray), spot, emotion, intervals)
