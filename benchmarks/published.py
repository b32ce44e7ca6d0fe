"""The plain way, as the published code orders its work: the peer that the SDK is compared with, end to end.

For every window of k frames, k/2 apart: the face on its first frame; for every further frame crop, OpenCV's Farneback
on the nose bridge until the crop follows the head, OpenCV's Farneback on every patch; then the network in torch on
whole windows, of which the second halves are kept (arXiv 2409.09707, 2508.08082). Nothing is shared between windows
and nothing is kept of the anchor but its picture.

What is made faster in the SDK must not make this faster: of metst_edge it takes only where the regions lie, the face
finder, the reader of clips and the decoder, which are the same work for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, open_source
from metst_edge.decode import Interval, decode
from metst_edge.engine import Scores
from metst_edge.engine.lanes import stitch
from metst_edge.face import CROP_SIZE, Box, FaceFinder, rectangles
from metst_edge.face.rois import NOSE_BRIDGE_PERCENT, NOSE_BRIDGE_TRIM
from metst_edge.flow import channels

Gray = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
Timed = Callable[[str, Callable[..., Any]], Callable[..., Any]]

FARNEBACK = (0.5, 3, 15, 5, 7, 1.5, 0)
"""Scale, levels, window, iterations, poly_n, poly_sigma, flags: what the models were trained with."""
MAX_MOVES = 3


def opencv_flow(anchor: Gray, frame: Gray) -> Array:
    """Return OpenCV's flow from ``anchor`` to ``frame``: float32 (H, W, 2)."""
    flow: Array = cv2.calcOpticalFlowFarneback(anchor, frame, None, *FARNEBACK)
    return flow


class PlainFlow:
    """Features of one window over OpenCV, call by call.

    Args:
        anchor: uint8 (H, W), the window's first frame.
        box: the crop box on it.
        landmarks: float (68, 2), pixels of the crop.
        roi_set: "metst" or "metst_plus".

    Attributes:
        bridge_flows: how often the nose bridge was measured so far, one time a frame and once more for every move.
    """

    def __init__(self, anchor: Gray, box: Box, landmarks: Array, roi_set: str) -> None:
        self.rects, self._regions, self.bridge = rectangles(roi_set, landmarks)
        self._box, self._shape = box, anchor.shape
        self._anchor = self._crop(anchor)
        self.bridge_flows = 0

    def measure(self, frame: Gray) -> Array:
        """Return the channels of one frame, float32 (C,)."""
        crop, head = self.follow(frame)
        flows = {
            name: opencv_flow(_part(self._anchor, rect), _part(crop, rect))
            for name, rect in self.rects.items()
            if not rect.empty
        }
        values = []
        for roi, rect in self._regions:
            values += (
                [0.0, 0.0] if rect.empty else (_longest(_part(flows[roi.patch], rect), roi.percent) - head).tolist()
            )
        return np.array(values, np.float32)

    def follow(self, frame: Gray) -> tuple[Gray, npt.NDArray[np.float64]]:
        """Return the crop of ``frame``, moved after the head, and the head motion that is left, crop pixels."""
        crop = self._crop(frame)
        head = self._bridge_motion(crop)
        moves = 0
        while head @ head > 1 and moves < MAX_MOVES:
            box = self._box
            scale = np.array([box.width, box.height]) / CROP_SIZE
            dx, dy = np.rint(head * scale).astype(int).tolist()
            self._box = box.moved(dx, dy, *self._shape)
            if self._box == box:
                break
            crop = self._crop(frame)
            head = self._bridge_motion(crop)
            moves += 1
        return crop, head

    def pairs(self, crop: Gray) -> list[tuple[Gray, Gray]]:
        """Return every patch, nose bridge first, of the anchor and of a crop: contiguous copies."""
        rects = [self.bridge, *self.rects.values()]
        return [(_part(self._anchor, rect).copy(), _part(crop, rect).copy()) for rect in rects if not rect.empty]

    def whole(self, crop: Gray) -> tuple[Gray, Gray]:
        """Return the anchor's crop and another, uint8 (320, 320)."""
        return self._anchor, crop

    def _crop(self, frame: Gray) -> Gray:
        box = self._box
        crop: Gray = cv2.resize(
            frame[box.top : box.bottom, box.left : box.right],
            (CROP_SIZE, CROP_SIZE),
            interpolation=cv2.INTER_LINEAR,
        )
        return crop

    def _bridge_motion(self, crop: Gray) -> npt.NDArray[np.float64]:
        if self.bridge.empty:
            return np.zeros(2)
        self.bridge_flows += 1
        flow = opencv_flow(_part(self._anchor, self.bridge), _part(crop, self.bridge))
        trim = NOSE_BRIDGE_TRIM
        inside = flow[trim.top : flow.shape[0] - trim.bottom, trim.left : flow.shape[1] - trim.right]
        return _longest(inside, NOSE_BRIDGE_PERCENT)


def _part(array: npt.NDArray[Any], rect: Box) -> npt.NDArray[Any]:
    return array[rect.top : rect.bottom, rect.left : rect.right]


def _longest(flow: Array, share: float) -> npt.NDArray[np.float64]:
    """Average the ``share`` of the vectors that is longest; zero where there is none."""
    vectors = flow.reshape(-1, 2)
    skipped = int(len(vectors) * (1 - share))
    if skipped >= len(vectors):
        return np.zeros(2)
    # A partition, not the full sort of a naive rendering: the peer should not lose time where nothing is compared.
    order = np.argpartition((vectors * vectors).sum(axis=1), skipped)
    return vectors[order[skipped:]].mean(axis=0, dtype=np.float64)


class TorchEngine:
    """A bundle's network in torch, as training has it, scoring whole windows."""

    def __init__(self, bundle: Bundle) -> None:
        self.name, self.bundle = "torch", bundle
        self.network = network_of(bundle)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        import torch

        with torch.inference_mode():
            spot, emotion = self.network(torch.from_numpy(features))
        return Scores(spot.numpy(), emotion.numpy())


def network_of(bundle: Bundle) -> Any:
    """Put a bundle's weights back into the torch network they come from; its batch norms were folded away."""
    import torch

    from training.models import build

    sizes = ("channels", "dim", "depth", "d_state", "d_conv", "expand", "classes")
    network = build(bundle.model, **{name: bundle.sizes[name] for name in sizes}).eval()
    weights = {name: torch.from_numpy(np.array(array)) for name, array in bundle.weights().items()}
    convolutions = [layer for layer in network.Stem if isinstance(layer, torch.nn.Conv1d)]
    norms = [layer for layer in network.Stem if isinstance(layer, torch.nn.BatchNorm1d)]
    heads = {name: next(m for m in head.modules() if isinstance(m, torch.nn.Linear)) for name, head in _heads(network)}
    with torch.no_grad():
        for i, (layer, norm) in enumerate(zip(convolutions, norms, strict=True)):
            layer.weight.copy_(weights[f"stem.{i}.weight"])
            layer.bias.copy_(weights[f"stem.{i}.bias"])
            norm.weight.fill_((1 + norm.eps) ** 0.5)  # with mean 0 and variance 1: the identity
        for name, head in heads.items():
            head.weight.copy_(weights[f"{name}.weight"].T)
            head.bias.copy_(weights[f"{name}.bias"])
        for i, block in enumerate(network.blocks):
            mamba = block.attn.mamba
            for layer, name in ((block.attn.norm, "norm"), (mamba.conv1d, "conv"), (block.norm1, "post_norm")):
                layer.weight.copy_(weights[f"blocks.{i}.{name}.weight"])
                layer.bias.copy_(weights[f"blocks.{i}.{name}.bias"])
            for name in ("in_proj", "x_proj", "dt_proj", "out_proj"):
                getattr(mamba, name).weight.copy_(weights[f"blocks.{i}.{name}"].T)
            mamba.dt_proj.bias.copy_(weights[f"blocks.{i}.dt_bias"])
            mamba.A_log.copy_((-weights[f"blocks.{i}.A"]).log())
            mamba.D.copy_(weights[f"blocks.{i}.D"])
    return network


def _heads(network: Any) -> tuple[tuple[str, Any], ...]:
    return (("spot", network.fc_spot), ("emotion", network.fc_recog))


@dataclass(frozen=True)
class PlainResult:
    """What the plain order found: frames read, curve float32 (n,), logits float32 (n, E), intervals."""

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
    settings = bundle.decode
    intervals = timed("decode", decode)(
        spot, emotion, bundle.k_p, settings["ratio"], settings["floor"], settings["synergy"]
    )
    return PlainResult(len(gray), spot, emotion, intervals)
