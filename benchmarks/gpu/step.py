"""A whole step of ME-TST on the GPU: our scan, library matrix products, small kernels between them, one CUDA graph.

The order of work is that of csrc/include/metst/network_step.h. Weights are random, as in the other benchmarks; what it
computes is checked against the torch network of training/ in float64, on whole windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.library import Library, Scan
from benchmarks.gpu.timing import Rates, capture, median_ms, time_events
from benchmarks.results import verdict
from training.models import MeTst, build

LANES = 2
MODELS = ("metst64", "metst128")
WINDOW = 30
LOOK_AHEAD = 2
AGREEMENT = 1e-4
MOST_MS = 0.3
LAUNCHES_OF_A_FUSED_STEP = {"stem": 2, "block": 1, "heads": 1}
"""Kernels if everything of a block were one; see estimate()."""

Row = dict[str, Any]


class Step:
    """A stream of lanes, one frame a call.

    Args:
        network: in evaluation mode, on the CPU, float32.
        library: has the kernels.
        lanes: of the stream.

    Attributes:
        features: float32 (lanes, channels), the frame fed next.
        flags: uint8 (3, lanes), whether the frame fed next, the one before and the one before that are the first of a
            window.
        scores: float32 (lanes, 1 + classes) of the frame LOOK_AHEAD frames earlier: spot (0 to 1), emotion logits.
        launches: of ours, and one for each of the library's calls, which may take more.
        weight_bytes: what a step reads.
        state_bytes: what it reads and writes of states.
    """

    @torch.no_grad()
    def __init__(self, network: MeTst, library: Library, lanes: int) -> None:
        sizes = network.sizes
        self._library, self._lanes, self._device = library, lanes, library.device
        self._dim, self._inner = sizes.dim, sizes.expand * sizes.dim
        self._states, self._taps = sizes.d_state, sizes.d_conv
        self._rank = network.blocks[0].attn.mamba.dt_rank
        self._epsilon = float(network.blocks[0].norm1.eps)
        self.launches = self.weight_bytes = 0

        self._stem = [self._stem_layer(network.Stem[i], network.Stem[i + 1]) for i in (0, 3)]
        spot, emotion = (
            next(part for part in head.modules() if isinstance(part, torch.nn.Linear))
            for head in (network.fc_spot, network.fc_recog)
        )
        weight, bias = torch.cat((spot.weight, emotion.weight)), torch.cat((spot.bias, emotion.bias))
        self._heads = self._weights(weight.T, bias)

        depth, inner = len(network.blocks), self._inner
        self._seen = [self._zeros(lanes, width, 3) for width in (sizes.channels, sizes.dim)]
        self._windows = [self._zeros(lanes, 3 * width) for width in (sizes.channels, sizes.dim)]
        self._h = self._zeros(depth, lanes, inner, self._states)
        self._past = self._zeros(depth, lanes, inner, self._taps - 1)
        self.state_bytes = 2 * 4 * (self._h.numel() + self._past.numel() + sum(seen.numel() for seen in self._seen))

        self.features = self._zeros(lanes, sizes.channels)
        self.flags = torch.zeros(3, lanes, dtype=torch.uint8, device=library.device)
        self.scores = self._zeros(lanes, 1 + sizes.classes)
        self._x0, self._x, self._normal, self._branch = (self._zeros(lanes, sizes.dim) for _ in range(4))
        self._both = self._zeros(lanes, 2 * inner)
        self._all = self._zeros(lanes, self._rank + 2 * self._states)
        shapes = {"u": inner, "delta": inner, "z": inner, "B": self._states, "C": self._states}
        self._scanned = {name: self._zeros(lanes, 1, width) for name, width in shapes.items()}
        self._blocks = [self._block(block, i) for i, block in enumerate(network.blocks)]

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, device=self._device)

    def _weights(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        self.weight_bytes += sum(4 * tensor.numel() for tensor in tensors)
        return tuple(tensor.detach().float().contiguous().to(self._device) for tensor in tensors)

    def _stem_layer(self, convolution: torch.nn.Conv1d, norm: torch.nn.BatchNorm1d) -> tuple[Tensor, ...]:
        """Fold the batch norm into the convolution: (3 C, dim) and (dim)."""
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        bias = (convolution.bias - norm.running_mean) * scale + norm.bias
        return self._weights((convolution.weight * scale[:, None, None]).flatten(1).T, bias)

    def _block(self, block: torch.nn.Module, i: int) -> dict[str, Any]:
        mamba = block.attn.mamba
        tensors = {
            "norm weight": block.attn.norm.weight,
            "norm bias": block.attn.norm.bias,
            "in": mamba.in_proj.weight.T,
            "conv weight": mamba.conv1d.weight[:, 0],
            "conv bias": mamba.conv1d.bias,
            "all": mamba.x_proj.weight.T,
            "dt": mamba.dt_proj.weight.T,
            "out": mamba.out_proj.weight.T,
            "post weight": block.norm1.weight,
            "post bias": block.norm1.bias,
        }
        own: dict[str, Any] = dict(zip(tensors, self._weights(*tensors.values()), strict=True))
        a, d, bias = self._weights(-mamba.A_log.exp(), mamba.D, mamba.dt_proj.bias)
        own["scan"] = Scan(
            self._library, {**self._scanned, "A": a, "D": d, "delta_bias": bias, "h0": self._h[i]}, in_place=True
        )
        own["past"] = self._past[i]
        return own

    def _call(self, name: str, *values: int | float | Tensor | None) -> None:
        self._library.call(name, *values)
        self.launches += 1

    def _product(self, x: Tensor, weight: Tensor, out: Tensor, bias: Tensor | None = None) -> None:
        if bias is None:
            torch.mm(x, weight, out=out)
        else:
            torch.addmm(bias, x, weight, out=out)
        self.launches += 1

    @torch.no_grad()
    def __call__(self) -> None:
        """Enqueue a step: the same launches every time, so that it can be captured."""
        lanes, dim, inner, states = self._lanes, self._dim, self._inner, self._states
        self.launches = 0
        now, before, begins = self.flags
        newest = self.features
        for i, (first, after_last, out) in enumerate(((before, now, self._x0), (begins, before, self._x))):
            width = newest.shape[1]
            self._call("stem_window", lanes, width, newest, i, first, after_last, self._seen[i], self._windows[i])
            weight, bias = self._stem[i]
            self._product(self._windows[i], weight, out, bias)
            newest = out
        for state in (self._h, self._past):
            self._call("begin", lanes, dim, self._x, begins, state, state[0, 0].numel(), state.shape[0])
        first = self._blocks[0]
        self._call(
            "norms", lanes, dim, self._epsilon, self._x, None, None, None,
            first["norm weight"], first["norm bias"], self._normal,
        )  # fmt: skip
        for i, block in enumerate(self._blocks):
            self._product(self._normal, block["in"], self._both)
            u, delta, z, b, c = self._scanned.values()
            self._call(
                "causal_convolution",
                lanes, inner, self._taps, self._both, block["conv weight"], block["conv bias"], block["past"], u, z,
            )  # fmt: skip
            self._product(u[:, 0], block["all"], self._all)
            self._call("split", lanes, inner, self._rank, states, self._all, block["dt"], delta, b, c)
            y, _ = block["scan"]()
            self.launches += 1
            self._product(y[:, 0], block["out"], self._branch)
            after = self._blocks[i + 1] if i + 1 < len(self._blocks) else None
            self._call(
                "norms", lanes, dim, self._epsilon, self._x, self._branch, block["post weight"], block["post bias"],
                after and after["norm weight"], after and after["norm bias"], self._normal if after else None,
            )  # fmt: skip
        weight, bias = self._heads
        self._product(self._x, weight, self.scores, bias)
        self.scores[:, :1].sigmoid_()
        self.launches += 1

    def reset(self) -> None:
        """Forget everything, as if just opened."""
        for state in (self._h, self._past, *self._seen):
            state.zero_()


def check(step: Step, network: MeTst, window: int = WINDOW, windows: int = 2, run: Any = None) -> float:
    """Feed windows frame by frame, the lanes' spread over a window, and compare with the network on whole windows.

    Args:
        run: what takes a step, such as a captured graph's replay; the step itself by default.

    Returns:
        The largest difference of a score; inf where one is NaN.
    """
    run = run or step
    lanes, channels = step.features.shape
    # Whole windows behind one another; lane 1 starts half a window later, after frames of a window that is cut off.
    x = torch.randn(lanes, windows, window, channels, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = network.double()
        scores = [exact(x[:, i].double().transpose(1, 2)) for i in range(windows)]
        network.float()
    expected = torch.cat([torch.cat((spot[:, :, None], emotion), 2) for spot, emotion in scores], 1)
    frames = x.flatten(1, 2)
    late = [lane * window // lanes for lane in range(lanes)]
    steps = windows * window + max(late) + LOOK_AHEAD
    flags = torch.zeros(steps + 2, lanes, dtype=torch.uint8)
    for lane, start in enumerate(late):
        for t in range(steps):
            flags[t + 2, lane] = (t - start) % window == 0
    worst = 0.0
    for t in range(steps):
        inside = [0 <= t - start < windows * window for start in late]
        rows = [frames[lane, t - late[lane]] if inside[lane] else torch.ones(channels) for lane in range(lanes)]
        step.features.copy_(torch.stack(rows))
        step.flags.copy_(torch.stack([flags[t + 2], flags[t + 1], flags[t]]))
        run()
        got = step.scores.cpu().double()
        for lane, start in enumerate(late):
            of = t - LOOK_AHEAD - start
            if 0 <= of < windows * window:
                error = float((got[lane] - expected[lane, of]).abs().max())
                worst = max(worst, error if error == error else float("inf"))
    return worst


def estimate(depth: int, weight_bytes: int, state_bytes: int, rates: Rates) -> tuple[int, float]:
    """Return the launches of a step with one kernel per block, and the milliseconds that they and the bytes take.

    Weights and states come from device memory at the measured copy rate, each launch costs what an empty one does. What
    is left out: the products within a block wait for each other. What is too much: 3 to 8 MB stay in most GPUs' caches.
    """
    of = LAUNCHES_OF_A_FUSED_STEP
    launches = of["stem"] + depth * of["block"] + of["heads"]
    return launches, 1e3 * (launches * rates.node + (weight_bytes + state_bytes) / rates.copy)


def row_of(model: str, depth: int, step: Step, error: float, graph_ms: Sequence[float], ms: float, rates: Rates) -> Row:
    """Return a row of the table."""
    launches, fused = estimate(depth, step.weight_bytes, step.state_bytes, rates)
    return {
        "model": model,
        "lanes": LANES,
        "largest diff": error,
        "launches at least": step.launches,
        "weights MB": step.weight_bytes / 1e6,
        "states MB": step.state_bytes / 1e6,
        "captured, warm ms": median_ms(graph_ms),
        "least ms": min(graph_ms),
        "without a graph ms": ms,
        "launches alone ms": 1e3 * step.launches * rates.node,
        "fused launches": launches,
        "fused estimate ms": fused,
    }


def run(library: Library, rates: Rates) -> list[Row]:
    """Check and time the captured step of every model; raises RuntimeError where it differs from the network."""
    torch.backends.cuda.matmul.allow_tf32 = False
    rows = []
    for model in MODELS:
        torch.manual_seed(0)
        network = build(model).eval()
        step = Step(network, library, LANES)
        graph = capture([step], 1)
        step.reset()
        error = check(step, network, run=graph.replay)
        if not error <= AGREEMENT:
            raise RuntimeError(f"{model}: scores of the captured step differ from the network's by {error:.1e}")
        ms = time_events([graph.replay])
        rows.append(row_of(model, len(network.blocks), step, error, ms, median_ms(time_events([step])), rates))
    return rows


def judge(rows: Sequence[Row]) -> list[str]:
    """Compare with what was asked for, and say what a fused block kernel would reach."""
    lines = []
    for row in rows:
        what = (
            f"a captured step of {row['model']}, {row['lanes']} lanes, at least {row['launches at least']} launches, "
            "warm: replayed again and again, so that weights and states stay in the L2 cache"
        )
        lines.append(verdict(what, row["captured, warm ms"], "ms", most=MOST_MS))
        lines.append(
            f"{row['model']}, one kernel per block instead: at best about {row['fused estimate ms']:.3g} ms, from "
            f"{row['fused launches']} launches and {row['weights MB'] + row['states MB']:.2f} MB of weights and "
            "states; the products within a block wait for each other, which is not counted"
        )
    return lines
