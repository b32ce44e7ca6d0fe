"""The regions' flow on an NVIDIA GPU: csrc/cuda/roi_flow.cu, which leaves features where the network can read them.

Calls a compiled library by ctypes and knows neither memory nor streams: those are numbers, as of pycuda or torch. The
CUDA context that they belong to must be current in every call.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.engine.tensorrt.kernels import load_functions
from metst_edge.errors import EngineError
from metst_edge.face.crop import Box
from metst_edge.face.rois import NOSE_BRIDGE_PERCENT, ROI_SETS
from metst_edge.flow.regions import Layout, layout

VERSION = 1
"""Of the library's functions, metst_roi_flow_version in csrc/cuda/roi_flow_c.cpp."""

REQUEST = 3
"""Numbers that say what is wanted of a lane.

Whether to measure the frame in it (0 or 1), and what its features are: so much of those measured last but one, and so
much of those measured last. Both are zero from the lane's start on.
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Device memory of the caller's, which must stay as long as the flow does.

    Attributes:
        frame: uint8 (H, W), read by what is enqueued.
        requests: float32 (lanes, REQUEST), read by what is enqueued.
        features: float32 (lanes, C), dx and dy per region in pixels of the crop; a multiple of 4.
        likeness: float32 (lanes,), of the last crop measured with the anchor's, -1 to 1.
    """

    frame: int
    requests: int
    features: int
    likeness: int


def load(path: Path | str) -> ctypes.CDLL:
    """Load the library with the functions of csrc/cuda/roi_flow_c.cpp: the TensorRT plugin's.

    Raises:
        EngineError: it cannot be loaded, has none, or is of another version.
    """
    again = "build and install the plugin again (docs/jetson.md)"
    return load_functions(path, "metst_roi_flow", VERSION, "the GPU's optical flow", again)


class CudaRoiFlow:
    """Measures frames of one size in several lanes, each against its own anchor.

    Takes about 26 MB of device memory per lane. Not thread-safe.

    Args:
        library: from `load`.
        shape: (H, W) of the frames.
        lanes: how many.
        roi_set: "metst" or "metst_plus".
        addresses: where it reads and writes.
        compat: measure as the published code does.

    Raises:
        EngineError: a size is out of range, or the GPU's memory is short.
    """

    def __init__(
        self,
        library: Any,
        shape: tuple[int, int],
        lanes: int,
        roi_set: str,
        addresses: Addresses,
        compat: bool = False,
    ) -> None:
        self._library, self._roi_set, self._compat = library, roi_set, compat
        self._handle = ctypes.c_void_p()
        numbers = (int(shape[0]), int(shape[1]), lanes, len(ROI_SETS[roi_set]))
        pointers = map(ctypes.c_void_p, (addresses.frame, addresses.requests, addresses.features, addresses.likeness))
        self._check(library.metst_roi_flow_create(*numbers, *pointers, ctypes.byref(self._handle)))

    def start(self, lane: int, box: Box, landmarks: npt.NDArray[np.float32], stream: int | None) -> None:
        """Enqueue making the picture in `frame` the anchor of a lane. Cannot be recorded.

        Args:
            lane: its number.
            box: the crop on the picture.
            landmarks: float (68, 2), x and y in pixels of the 320x320 crop.
            stream: the raw CUDA stream, None for the default one.

        Raises:
            EngineError: the box is not on the picture, or the regions are too large.
        """
        corners = (ctypes.c_int * 4)(box.top, box.bottom, box.left, box.right)
        places = _arguments(layout(self._roi_set, landmarks))
        status = self._library.metst_roi_flow_start(
            self._batch, lane, corners, *places, int(self._compat), ctypes.c_void_p(stream)
        )
        self._check(status)

    def measure(self, stream: int | None) -> None:
        """Enqueue measuring `frame` in the lanes that `requests` names, and the features of all."""
        self._check(self._library.metst_roi_flow_measure(self._batch, ctypes.c_void_p(stream)))

    def blend(self, stream: int | None) -> None:
        """Enqueue the features of all lanes; nothing is measured."""
        self._check(self._library.metst_roi_flow_blend(self._batch, ctypes.c_void_p(stream)))

    def close(self) -> None:
        """Give its device memory back; nothing may be under way. Calling it again is harmless."""
        self._library.metst_roi_flow_destroy(self._handle)
        self._handle = ctypes.c_void_p()

    @property
    def _batch(self) -> ctypes.c_void_p:
        if not self._handle:
            raise EngineError("expected an open flow, got a closed one")
        return self._handle

    def _check(self, status: int) -> None:
        if status:
            text = self._library.metst_roi_flow_text(status).decode()
            raise EngineError(f"expected optical flow on the GPU, but {text}; use flow='cpu' (--flow cpu)")


def _arguments(places: Layout) -> tuple[Any, ...]:
    """Return a layout as metst_roi_flow_start takes it, from patch_count to nose_share."""
    patches = [corner for patch in places.patches for corner in patch]
    regions = [number for patch, corners, _ in places.regions for number in (patch, *corners)]
    shares = [share for *_, share in places.regions]
    return (
        len(places.patches),
        (ctypes.c_int * len(patches))(*patches),
        len(places.regions),
        (ctypes.c_int * len(regions))(*regions),
        (ctypes.c_double * len(shares))(*shares),
        (ctypes.c_int * 4)(*places.nose),
        (ctypes.c_int * 4)(*places.nose_inside),
        ctypes.c_double(NOSE_BRIDGE_PERCENT),
    )
