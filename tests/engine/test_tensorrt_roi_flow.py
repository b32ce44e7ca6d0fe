"""The GPU's flow by its C functions, in the emulation of csrc/testing/cuda_on_cpu.h. C++ tests cover its kernels."""

import ctypes.util
import subprocess

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from metst_edge.engine.tensorrt import roi_flow
from metst_edge.engine.tensorrt.roi_flow import Addresses, CudaRoiFlow
from metst_edge.errors import EngineError
from metst_edge.face import Box, FaceFinder
from metst_edge.flow import RoiFlow, channels, measure

SHAPE = (240, 320)
BOX = Box(10, 230, 40, 260)


@pytest.fixture(scope="module")
def library(emulated_kernels):
    return roi_flow.load(emulated_kernels)


@pytest.fixture(scope="module")
def landmarks():
    return FaceFinder().find(cv2.cvtColor(astronaut(), cv2.COLOR_RGB2BGR)).crop_landmarks


class Bench:
    """A flow of two lanes and its memory."""

    def __init__(self, library, roi_set, compat=False):
        self.frame = np.zeros(SHAPE, np.uint8)
        self.requests = np.array([[1, 0, 1]] * 2, np.float32)
        self.features = np.full((2, channels(roi_set)), np.nan, np.float32)
        self.likeness = np.full(2, np.nan, np.float32)
        arrays = (self.frame, self.requests, self.features, self.likeness)
        addresses = Addresses(*(array.ctypes.data for array in arrays))
        self.flow = CudaRoiFlow(library, SHAPE, 2, roi_set, addresses, compat)


def picture(dx, dy):
    """Waves that have moved the further the lower they are, so that regions move against the nose bridge."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    u, v = x - 2 * dx * y / SHAPE[0], y - dy
    waves = 45 * np.sin(0.11 * u + 0.05 * v) + 40 * np.sin(0.09 * v - 0.03 * u) + 20 * np.sin(0.35 * u + 0.3 * v)
    return np.clip(128 + waves, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("roi_set", "compat"), [("metst", False), ("metst_plus", False), ("metst_plus", True)])
def test_lanes_measure_what_the_cpu_does(library, landmarks, roi_set, compat):
    bench = Bench(library, roi_set, compat)
    anchors = picture(0, 0), picture(-3, 2)
    for lane, anchor in enumerate(anchors):
        bench.frame[:] = anchor
        bench.flow.start(lane, BOX, landmarks, None)
    assert (bench.likeness == 1).all()
    flows = [RoiFlow(anchor, BOX, landmarks, roi_set, compat) for anchor in anchors]
    for dx, dy in ((0.5, 0.2), (6.0, -2.0)):
        bench.frame[:] = picture(dx, dy)
        bench.flow.measure(None)
        np.testing.assert_allclose(bench.features, np.stack(measure(flows, bench.frame, 1)), rtol=0, atol=1e-3)
        np.testing.assert_allclose(bench.likeness, [flow.likeness for flow in flows], rtol=0, atol=1e-5)
    last = bench.features.copy()
    assert np.abs(last).max() > 0.5
    bench.requests[:] = [[1, 0, 0.5], [1, 0, 0]]
    bench.flow.blend(None)
    np.testing.assert_allclose(bench.features, [0.5 * last[0], 0 * last[1]])
    bench.flow.close()
    bench.flow.close()


def test_what_it_refuses_it_says_in_one_line(library, landmarks):
    bench = Bench(library, "metst")
    for lane, box, why in [(0, Box(0, 241, 0, 200), "the crop box"), (2, BOX, "no such lane")]:
        with pytest.raises(EngineError, match=f"expected optical flow on the GPU, but .*{why}.*; use flow='cpu'"):
            bench.flow.start(lane, box, landmarks, None)
    with pytest.raises(EngineError, match="there are no pictures|the pictures, lanes or regions are too many"):
        CudaRoiFlow(library, SHAPE, 0, "metst", Addresses(1, 1, 1, 1))
    # Every RoiFlowStatus has words of its own.
    texts = [library.metst_roi_flow_text(status) for status in range(9)]
    assert len(set(texts)) == 9 and texts[-1] == b"unknown" and library.metst_roi_flow_text(99) == b"unknown"


def test_a_library_without_it_or_of_another_version_is_refused(tmp_path, library):
    text = tmp_path / "text.so"
    text.write_text("not a library")
    for path in (text, tmp_path / "none.so", ctypes.util.find_library("m")):
        with pytest.raises(
            EngineError, match="expected a library with the GPU's optical flow, got .*; build and install"
        ):
            roi_flow.load(path)
    source, other = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int metst_roi_flow_version(void) { return 7; }")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(other)], check=True)
    with pytest.raises(
        EngineError, match=f"expected version {roi_flow.VERSION} of the GPU's optical flow, got 7; build"
    ):
        roi_flow.load(other)
