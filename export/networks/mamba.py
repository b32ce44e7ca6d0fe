"""A Mamba block in both graphs: over whole windows with the scan's node, and for one frame in standard operators.

In fp16 graphs the matrix products and the convolution are half precision (`HALF`); the residual stream, norms, time
step and state stay fp32. The gated output that goes into the last product is made smaller (`GATED_SCALE`).
"""

from __future__ import annotations

import re

from export.onnx_builder import OnnxBuilder
from export.scan_function import DOMAIN, SCAN, SCAN_ATTRIBUTES
from metst_edge.engine.networks.shape import LAYER_NORM_EPS, MambaBlock

HALF = re.compile(r"blocks\.\d+\.(in_proj|conv\.weight|conv\.bias|x_proj|out_proj)")
"""Names of what fp16 graphs hold in half precision: the matrices and the convolution of every block.

All else stays in fp32: the time step (dt_proj, dt_bias), A and D, as docs/architecture.md asks; norms, for their sums;
stem and heads, since features may be far below or above fp16's range and scores are compared with thresholds. Those are
small.
"""

GATED_SCALE = 2.0**-8
"""What multiplies a block's gated output in fp16 graphs, and with it what out_proj makes of it.

It is the one value without a bound of its own: nothing normalises it, and in a trained network it reached 536,302 on
real faces where half precision ends at 65,504. The norm behind out_proj takes the scale out again, with its least
variance scaled too. A power of two rounds nothing, and what falls below half precision's smallest number, 6e-8 / scale
= 1.5e-5, is nothing beside the least deviation of that norm, 3e-3.
"""


def window_block(graph: OnnxBuilder, x: str, block: MambaBlock, h0: str) -> str:
    """Append the block on (B, T, dim) from the state h0 (B, D, N); return its output."""
    graph.scope(block.name)
    normed = graph.low(graph.layer_norm(x, f"{block.name}.norm"))
    u, z = graph.in_two(graph.add("MatMul", normed, graph.weight(f"{block.name}.in_proj")), block.inner)
    u = graph.add(
        "Conv",
        graph.add("Transpose", u, perm=[0, 2, 1]),
        graph.weight(f"{block.name}.conv.weight"),
        graph.weight(f"{block.name}.conv.bias"),
        kernel_shape=[block.taps],
        pads=[block.taps - 1, 0],
        group=block.inner,
    )
    u = graph.silu(graph.add("Transpose", u, perm=[0, 2, 1]))
    delta, b, c = _scan_inputs(graph, u, block)
    d = graph.weight(f"{block.name}.D")
    if graph.half:  # y = (h C + D u) silu(z), scaled before it is rounded
        c = graph.add("Mul", c, graph.low_number(GATED_SCALE))
        d = graph.add("Mul", d, graph.number(GATED_SCALE))
    y, _ = graph.add_many(
        SCAN,
        u,
        delta,
        graph.weight(f"{block.name}.A"),
        b,
        c,
        d,
        z,
        graph.weight(f"{block.name}.dt_bias"),
        h0,
        outputs=2,
        domain=DOMAIN,
        **SCAN_ATTRIBUTES,
    )
    return graph.add("Add", x, _projected_back(graph, y, block))


def step_block(graph: OnnxBuilder, x: str, block: MambaBlock, keep: str, run: str | None = None) -> str:
    """Append the block on one frame (lanes, dim), from and to its two states; return its output.

    Args:
        graph: where to.
        x: float32 (lanes, dim).
        block: its shape.
        keep: float32 (lanes, 1, 1), 0 where the frame is the first of its window, so that the states count as zero.
        run: bool (lanes, 1, 1), where the block runs; elsewhere its states stay and its output means nothing. None:
            everywhere.
    """
    graph.scope(block.name)
    normed = graph.low(graph.layer_norm(x, f"{block.name}.norm"))
    u, z = graph.in_two(graph.add("MatMul", normed, graph.weight(f"{block.name}.in_proj")), block.inner)
    before = graph.add("Mul", block.buffer, keep)
    seen = graph.add("Concat", before, graph.add("Unsqueeze", graph.full(u), graph.integers(2)), axis=2)
    start, end, axis = graph.integers(1), graph.integers(block.taps), graph.integers(2)
    _keep_state(graph, block.buffer, run, "Slice", seen, start, end, axis)
    taps = graph.add("Mul", graph.low(seen), graph.weight(f"{block.name}.conv.weight", (block.inner, block.taps)))
    # With keepdims 0 OpenVINO sums wrongly between this product and the sum that follows (2026.0 and before).
    u = graph.add("Squeeze", graph.add("ReduceSum", taps, graph.integers(2), keepdims=1), graph.integers(2))
    u = graph.silu(graph.add("Add", u, graph.weight(f"{block.name}.conv.bias")))
    delta, b, c = _scan_inputs(graph, u, block)
    dt = graph.add("Softplus", graph.add("Add", delta, graph.weight(f"{block.name}.dt_bias")))
    column = graph.integers(2)
    decay = graph.add("Exp", graph.add("Mul", graph.add("Unsqueeze", dt, column), graph.weight(f"{block.name}.A")))
    u, b, c, z = (graph.full(value) for value in (u, b, c, z))
    added = graph.add(
        "Mul",
        graph.add("Unsqueeze", graph.add("Mul", dt, u), column),
        graph.add("Unsqueeze", b, graph.integers(1)),
    )
    kept = graph.add("Mul", decay, graph.add("Mul", block.memory, keep))
    h = _keep_state(graph, block.memory, run, "Add", kept, added)
    y = graph.add("Squeeze", graph.add("MatMul", h, graph.add("Unsqueeze", c, column)), column)
    y = graph.add("Add", y, graph.add("Mul", u, graph.weight(f"{block.name}.D")))
    y = graph.add("Mul", y, graph.silu(z))
    if graph.half:
        y = graph.low(graph.add("Mul", y, graph.number(GATED_SCALE)))
    return graph.add("Add", x, _projected_back(graph, y, block))


def _keep_state(graph: OnnxBuilder, state: str, run: str | None, op: str, *inputs: str) -> str:
    """Append the node that makes a state's next value, which counts where `run` is; return what the node gives."""
    if run is None:
        return graph.add(op, *inputs, to=f"{state}_next")
    made = graph.add(op, *inputs)
    graph.add("Where", run, made, state, to=f"{state}_next")
    return made


def _scan_inputs(graph: OnnxBuilder, u: str, block: MambaBlock) -> tuple[str, str, str]:
    """Project u (..., D) to the scan's delta (..., D), always fp32, B and C (..., N)."""
    projected = graph.add("MatMul", u, graph.weight(f"{block.name}.x_proj"))
    sizes = graph.integers(block.dt_rank, block.states, block.states)
    low, b, c = graph.add_many("Split", projected, sizes, outputs=3, axis=-1)
    return graph.add("MatMul", graph.full(low), graph.weight(f"{block.name}.dt_proj")), b, c


def _projected_back(graph: OnnxBuilder, y: str, block: MambaBlock) -> str:
    """Map (..., D), scaled in fp16 graphs, to what is added to the residual stream, float32 (..., dim)."""
    product = graph.add("MatMul", y, graph.weight(f"{block.name}.out_proj"))
    epsilon = LAYER_NORM_EPS * (GATED_SCALE**2 if graph.half else 1.0)
    return graph.layer_norm(graph.full(product), f"{block.name}.post_norm", epsilon)
