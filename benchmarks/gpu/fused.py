"""The fused step on the GPU: against the CPU's step, its time for 1 to 32 lanes, and that of a whole frame, captured.

Weights are random. The CPU's step is compared with float64 by tests/engine/test_network_step.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu.flow import Batch, picture
from benchmarks.gpu.library import Library
from benchmarks.gpu.timing import Rates, capture, median_ms, time_events
from benchmarks.results import verdict
from metst_edge.engine import networks
from metst_edge.engine.cuda.library import CLUSTER, FusedStep
from metst_edge.engine.networks.cpu import CpuNetwork
from metst_edge.engine.networks.shape import Network

_INSIDE = {"d_state": 64, "d_conv": 4, "expand": 2}
_METST = {**_INSIDE, "channels": 10, "depth": 12}
_PLUS = {**_INSIDE, "channels": 36, "stages": 3, "depth": 4}
_WIDE = {**_PLUS, "dim": 128, "slow_dim": 256, "dt_rank": 8, "slow_dt_rank": 16}
SIZES = {
    "metst64": {**_METST, "dim": 64, "dt_rank": 4},
    "metst128": {**_METST, "dim": 128, "dt_rank": 8},
    "metst_plus_small": {**_PLUS, "pathways": 1, "dim": 32, "slow_dim": 64, "dt_rank": 2, "slow_dt_rank": 4},
    "metst_plus_shared": {**_WIDE, "pathways": 1},
    "metst_plus": {**_WIDE, "pathways": 2},
}
"""Of ME-TST+ a lane has a slow step on every other frame: lanes are timed by turns, as windows of which half is an odd
number of frames have them; a lane alone is timed in the mean of both."""
CLASSES = 5
LANES = (1, 2, 8, 32)
BLOCKS = (1, CLUSTER)
"""That a lane is spread over; more than 1 needs a GPU with clusters."""
CLUSTERS_FROM = 9
"""Compute capability, its major number."""
FRAME_LANES = 2
"""Of a camera."""
CAMERAS = (1, 4, 16)
FRAMES, FRAME_SECONDS = (8, 400), 0.5
"""Timed of all cameras, at least and at most, and for how long."""
ROI_SETS = {10: "metst", 36: "metst_plus"}
"""By features: two of each region."""
PREDICTED_MS = {
    ("metst64", 1): 0.045,
    ("metst64", 8): 0.025,
    ("metst128", 1): 0.100,
    ("metst128", 8): 0.035,
    ("metst_plus_small", 1): 0.080,
    ("metst_plus_small", 8): 0.045,
    ("metst_plus_shared", 1): 0.350,
    ("metst_plus_shared", 8): 0.095,
    ("metst_plus", 1): 0.700,
    ("metst_plus", 8): 0.190,
}
"""By blocks a lane, of a lane that has a slow step where there are any; from the bytes that one multiprocessor gets of
its L2 cache, trips to memory and barriers, of an H100. metst_plus has more weights than its L2 cache holds. An H200
took 1.4 to 1.8 times as long, the wide ones in clusters 2.7 times (benchmarks/results/2026-11-28-gpu-fused.md):
instructions are left out here."""
MOST_MS = 0.05
"""For metst64 in two lanes."""
AGREEMENT = 1e-4
CHECKED = 40
"""Steps that are compared."""
STEPS = 25
"""To and fro in the graph that is timed."""

Row = dict[str, Any]
Weights = dict[str, npt.NDArray[np.float32]]


def draw(network: Network, seed: int) -> Weights:
    """Return random weights under which every part has an effect, linear maps with the spread of torch's defaults."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in network.weights.items():
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "A":
            value = -np.exp(rng.uniform(np.log(0.01), np.log(64.0), shape))
        elif leaf == "dt_bias":
            value = rng.uniform(-5.0, 0.0, shape)
        elif len(shape) == 1:
            value = rng.uniform(-0.3, 0.3, shape) + ("norm.weight" in name)
        else:
            inputs = shape[0] if len(shape) == 2 else shape[1] * shape[2]
            value = rng.uniform(-1.0, 1.0, shape) / np.sqrt(inputs)
        weights[name] = value.astype(np.float32)
    return weights


class Fused:
    """A stream of lanes and torch's memory.

    Args:
        model: the network's name.
        sizes: of a manifest.
        library: has the kernel.
        lanes: of the stream.
        blocks: that a lane is spread over.
        features: float32 (lanes, channels) to read; its own where there is none.

    Attributes:
        features: float32 (lanes, channels), the frame fed next.
        reset: float32 (lanes,), 1 where it is the first of a window.
        spot: float32 (lanes,), of the frame as many steps earlier as the network looks ahead.
        emotion: float32 (lanes, classes), likewise.
        bytes: of the weights, and of the state that a step reads and writes.
    """

    def __init__(
        self,
        model: str,
        sizes: dict[str, int],
        library: Library,
        lanes: int,
        blocks: int,
        features: torch.Tensor | None = None,
    ) -> None:
        self.network = networks.describe(model, sizes, "the benchmark")
        self.weights = draw(self.network, seed=1)
        self._step = FusedStep(library.c, self.network)
        self._library, self._lanes, self._blocks = library, lanes, blocks
        self._packed = torch.from_numpy(self._step.pack(self.weights)).to(library.device)
        self._states = [self._zeros(lanes, self._step.state) for _ in range(2)]
        self.features = self._zeros(lanes, sizes["channels"]) if features is None else features
        self.reset, self.spot, self.emotion = self._zeros(lanes), self._zeros(lanes), self._zeros(lanes, CLASSES)
        self.bytes = 4 * self._step.weights, 2 * 4 * lanes * self._step.state

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(*shape, device=self._library.device)

    def directions(self) -> list[Callable[[], None]]:
        """Return a step from one state to the other, and back; each can be captured."""
        return [lambda: self._enqueue(0), lambda: self._enqueue(1)]

    def forget(self) -> None:
        """Be as if just opened."""
        for state in self._states:
            state.zero_()

    def begin_windows_by_turns(self, steps: Sequence[Callable[[], object]]) -> None:
        """Begin a window in every other lane, one step later in the others, and none in the steps that follow.

        Args:
            steps: take a step in either direction.
        """
        for turn in (0, 1):
            self.reset.zero_()
            self.reset[turn::2] = 1.0
            steps[turn]()
        self.reset.zero_()

    def _enqueue(self, direction: int) -> None:
        read, written = self._states[direction], self._states[1 - direction]
        tensors = {"features": self.features, "reset": self.reset, "state": read, "next_state": written}
        tensors |= {"spot": self.spot, "emotion": self.emotion}
        addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
        stream = self._library.stream() or 0
        self._step.enqueue(self._lanes, self._packed.data_ptr(), addresses, stream, self._blocks)


def error(fused: Fused, sizes: dict[str, int], steps: Sequence[Callable[[], object]], count: int) -> float:
    """Return the largest difference of a score from the CPU's, windows beginning anywhere; inf where one is NaN.

    Args:
        fused: what is stepped, from a zero state.
        sizes: of its manifest.
        steps: take a step in either direction.
        count: of steps.
    """
    lanes, channels = fused.features.shape
    cpu = CpuNetwork(fused.network, sizes, fused.weights).open_stream(lanes)
    rng = np.random.default_rng(2)
    worst = 0.0
    for t in range(count):
        frame = rng.standard_normal((lanes, channels)).astype(np.float32)
        first = rng.random(lanes) < (0.1 if t else 1.1)
        fused.features.copy_(torch.from_numpy(frame))
        fused.reset.copy_(torch.from_numpy(first.astype(np.float32)))
        steps[t % 2]()
        spot, emotion = cpu.step(frame, first)
        for found, expected in ((fused.spot, spot), (fused.emotion, emotion)):
            difference = float(np.abs(found.cpu().numpy() - expected).max())
            worst = max(worst, difference if difference == difference else float("inf"))
    return worst


def time_step(model: str, sizes: dict[str, int], lanes: int, blocks: int, library: Library, rates: Rates) -> Row:
    """Check and time a captured step; raises RuntimeError where it differs from the CPU's."""
    fused = Fused(model, sizes, library, lanes, blocks)
    graphs = [capture([step], 1) for step in fused.directions()]
    fused.forget()
    difference = error(fused, sizes, [graph.replay for graph in graphs], CHECKED)
    if not difference <= AGREEMENT:
        raise RuntimeError(
            f"{model}, {lanes} lanes of {blocks} blocks: scores differ from the CPU's step by {difference:.1e}"
        )
    fused.begin_windows_by_turns([graph.replay for graph in graphs])
    alone = time_events([graph.replay for graph in graphs])
    both = capture(fused.directions(), 2 * STEPS)  # so that the launch from the host does not hide it
    ms = [each / (2 * STEPS) for each in time_events([both.replay])]
    weights, states = fused.bytes
    return {
        "what": "step",
        "model": model,
        "cameras": "-",
        "lanes": lanes,
        "blocks a lane": blocks,
        "largest diff": difference,
        "captured, warm ms": median_ms(ms),
        "least ms": min(ms),
        "a graph each ms": median_ms(alone),
        "predicted ms": PREDICTED_MS[model, blocks],
        "weights MB": weights / 1e6,
        "states MB": states / 1e6,
        "launch alone ms": 1e3 * rates.node,
    }


class Camera:
    """Flow and the fused step of a camera's two lanes, captured with the upload before and the download behind.

    Args:
        model: the network's name.
        sizes: of a manifest.
        library: has the kernels.
        blocks: that a lane is spread over.
    """

    def __init__(self, model: str, sizes: dict[str, int], library: Library, blocks: int) -> None:
        self._batch = Batch(library, FRAME_LANES, ROI_SETS[sizes["channels"]])
        fused = Fused(model, sizes, library, FRAME_LANES, blocks, self._batch.features)
        anchor = torch.from_numpy(picture(0.0, 0.0, 0))
        for lane in range(FRAME_LANES):
            self._batch.start(lane, anchor.to(library.device))
        self._fused, on_gpu = fused, library.device == "cuda"
        shown = torch.from_numpy(picture(0.4, 0.0, 1))
        self._shown = shown.pin_memory() if on_gpu else shown
        # Each contiguous: otherwise torch would wait, in a capture.
        self._spot = torch.zeros(FRAME_LANES, pin_memory=on_gpu)
        self._emotion = torch.zeros(FRAME_LANES, CLASSES, pin_memory=on_gpu)
        self._graphs = [capture([lambda step=step: self._frame(step)], 1) for step in fused.directions()]
        self._stream = torch.cuda.Stream()
        fused.begin_windows_by_turns([graph.replay for graph in self._graphs])
        self.bytes = fused.bytes

    def _frame(self, step: Callable[[], None]) -> None:
        self._batch.show(self._shown)
        self._batch.measure()
        step()
        self._spot.copy_(self._fused.spot, non_blocking=True)
        self._emotion.copy_(self._fused.emotion, non_blocking=True)

    def enqueue(self, turn: int) -> None:
        """Enqueue a frame on the camera's own stream; turns are even and odd."""
        with torch.cuda.stream(self._stream):
            self._graphs[turn % 2].replay()

    def finite(self) -> bool:
        """Say whether the scores that came down last are numbers."""
        return bool(torch.isfinite(self._spot).all() and torch.isfinite(self._emotion).all())

    def close(self) -> None:
        """Give the device memory back."""
        self._batch.close()


def time_frame(model: str, sizes: dict[str, int], blocks: int, cameras: int, library: Library, rates: Rates) -> Row:
    """Time a frame of every camera, each a graph on a stream of its own: from the first launch to the last score.

    By the host's clock, because that is how long scores are waited for.
    """
    some = [Camera(model, sizes, library, blocks) for _ in range(cameras)]
    ms: list[float] = []
    torch.cuda.synchronize()
    end = time.perf_counter() + FRAME_SECONDS
    while len(ms) < FRAMES[0] or (len(ms) < FRAMES[1] and time.perf_counter() < end):
        start = time.perf_counter()
        for camera in some:
            camera.enqueue(len(ms))
        torch.cuda.synchronize()
        ms.append(1e3 * (time.perf_counter() - start))
    ms = ms[len(ms) // 4 :]  # the first warm it up
    finite = all(camera.finite() for camera in some)
    for camera in some:
        camera.close()
    if not finite:
        raise RuntimeError(f"{model}: scores of a frame are not finite")
    weights, states = some[0].bytes
    return {
        "what": "frame: upload, flow, step, download",
        "model": model,
        "cameras": cameras,
        "lanes": FRAME_LANES,
        "blocks a lane": blocks,
        "largest diff": "-",
        "captured, warm ms": median_ms(ms),
        "least ms": min(ms),
        "a graph each ms": "-",
        "predicted ms": "-",
        "weights MB": weights / 1e6,
        "states MB": states / 1e6,
        "launch alone ms": 1e3 * rates.node,
    }


def run(library: Library, rates: Rates, quick: bool, save: Callable[[list[Row]], None]) -> list[Row]:
    """Check and time every model and number of lanes, then a whole frame.

    Args:
        library: has the kernels.
        rates: of the GPU.
        quick: the lanes of one camera alone.
        save: told all rows so far after each.
    """
    rows: list[Row] = []
    for model, published in SIZES.items():
        sizes = {**published, "classes": CLASSES}
        for blocks in BLOCKS:
            if blocks > 1 and torch.cuda.get_device_capability()[0] < CLUSTERS_FROM:
                continue
            for lanes in (FRAME_LANES,) if quick else LANES:
                rows.append(time_step(model, sizes, lanes, blocks, library, rates))
                save(rows)
            for cameras in CAMERAS[:1] if quick else CAMERAS:
                rows.append(time_frame(model, sizes, blocks, cameras, library, rates))
                save(rows)
    return rows


def judge(rows: Sequence[Row]) -> list[str]:
    """Compare with what was asked for and predicted."""
    lines = []
    for row in rows:
        if row["what"] == "step" and row["lanes"] == FRAME_LANES:
            most = MOST_MS if row["model"] == "metst64" else row["predicted ms"]
            what = f"the fused step of {row['model']}, {FRAME_LANES} lanes of {row['blocks a lane']} blocks, warm"
            lines.append(verdict(what, row["captured, warm ms"], "ms", most=most))
    return lines
