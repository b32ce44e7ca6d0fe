"""ME-TST+ as two ONNX graphs, and its weights and sizes out of the trained network.

As for ME-TST, but that a slow stack runs on every other frame of its window: see `shape.SlowFast`.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from export.networks import from_torch, parts
from export.networks.from_torch import Arrays
from export.networks.mamba import step_block, window_block
from export.networks.parts import Ends
from export.onnx_builder import OnnxBuilder
from metst_edge.engine.networks.shape import Network, SlowFast
from training.models import MetstPlus, MetstPlusShared


def sizes(network: MetstPlus | MetstPlusShared) -> dict[str, int]:
    """Return the sizes that the manifest holds."""
    pathway = network.pathways[0]
    fast, slow = (stages[0][0].attn.mamba.dt_rank for stages in (pathway.fast_stages, pathway.slow_stages))
    return {
        **network.sizes.to_dict(),
        "pathways": len(network.pathways),
        "dt_rank": fast,
        "slow_dt_rank": slow,
    }


def weights(network: MetstPlus | MetstPlusShared) -> Arrays:
    """Return the weights of a network in evaluation mode, in the order of weights.bin."""
    found = from_torch.stem(network.Stem)
    index = 0
    for i, pathway in enumerate(network.pathways):
        found |= from_torch.folded(f"pathway_{i}.entry", *pathway.Stem_slow[:2])
        for j, lateral in enumerate(pathway.laterals):
            found |= from_torch.folded(f"pathway_{i}.laterals.{j}", *lateral.conv[:2])
        for stage in (*pathway.fast_stages, *pathway.slow_stages):
            for block in stage:
                found |= from_torch.mamba_block(f"blocks.{index}", block)
                index += 1
    return found | from_torch.head("spot", network.fc_spot) | from_torch.head("emotion", network.fc_recog)


def window(network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build window.onnx.

    Args:
        network: its shape.
        offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.
    """
    graph = OnnxBuilder(network.weights, offsets, half)
    x = parts.window_stem(graph, network)
    given = [_window_pathway(graph, x, pathway) for pathway in _pathways(network)]
    parts.heads(graph, given[0], given[-1], network)
    return parts.window_model(graph, network)


def step(network: Network, offsets: Mapping[str, int], half: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """Build step.onnx.

    Where frame s is fed, the stem gives frame f = s-2, which the fast stacks run on, and the scores are of frame
    e = s-3, whose neighbour f the slow stacks wait for. They run where e is an even frame of its window, in every lane
    at every step; where it is odd, what they kept stays.

    Args:
        network: its shape, which also says what the state is.
        offsets: where each weight lies in weights.bin, bytes.
        half: where each half precision weight lies in weights.fp16.bin; None for an fp32 graph.
    """
    graph = OnnxBuilder(network.weights, offsets, half)
    windows = parts.ends(graph, network)
    graph.scope("odd")
    even_before = graph.add("Sub", graph.number(1.0), "odd")
    odd = graph.add("Mul", even_before, windows.inside[network.look_ahead], to="odd_next")
    even = graph.add("Less", odd, graph.number(0.5))
    x = parts.step_stem(graph, network, windows)
    given = [_step_pathway(graph, x, pathway, windows, even, network.look_ahead) for pathway in _pathways(network)]
    parts.heads(graph, given[0], given[-1], network)
    return parts.step_model(graph, network)


def _pathways(network: Network) -> list[SlowFast]:
    return [pathway for pathway in network.pathways if isinstance(pathway, SlowFast)]


def _window_pathway(graph: OnnxBuilder, x: str, pathway: SlowFast) -> str:
    """Append a pathway on (B, dim, T); return (B, T, outputs)."""

    def turned(value: str) -> str:
        return graph.add("Transpose", value, perm=[0, 2, 1])

    slow = turned(parts.window_convolution(graph, x, pathway.entry, stride=2))
    fast = turned(x)
    fast_h0, slow_h0 = (parts.zero_state(graph, blocks[0]) for blocks in (pathway.fast, pathway.slow))
    for i, (fast_blocks, slow_blocks) in enumerate(pathway.stages):
        for block in fast_blocks:
            fast = window_block(graph, fast, block, fast_h0)
        for block in slow_blocks:
            slow = window_block(graph, slow, block, slow_h0)
        if i < len(pathway.laterals):
            lateral = turned(parts.window_convolution(graph, turned(fast), pathway.laterals[i], stride=2))
            slow = graph.add("Add", slow, lateral)
    graph.scope(pathway.name)
    once = graph.add("Unsqueeze", slow, graph.integers(2))
    twice = graph.add("Concat", once, once, axis=2)
    slow = graph.add("Reshape", twice, graph.integers(0, -1, pathway.slow[-1].dim))
    frames = graph.add("Shape", "features", start=2, end=3)
    slow = graph.add("Slice", slow, graph.integers(0), frames, graph.integers(1))
    return graph.add("Concat", slow, fast, axis=2)


def _step_pathway(graph: OnnxBuilder, x: str, pathway: SlowFast, windows: Ends, even: str, age: int) -> str:
    """Append a pathway on one frame, from and to its state.

    Args:
        graph: where to.
        x: float32 (lanes, dim), the stem's output of frame f.
        pathway: its shape.
        windows: where they end.
        even: bool (lanes, 1), where frame e is an even one of its window.
        age: of e: it is the frame fed so many steps ago.

    Returns:
        float32 (lanes, outputs), of frame e.
    """
    graph.scope(pathway.name)
    taps = windows.taps(graph, age)
    fast_keep, slow_keep = windows.state(graph, age - 1), windows.state(graph, age)
    run = graph.add("Unsqueeze", even, graph.integers(2))
    fast, slow = x, parts.step_convolution(graph, x, pathway.entry, taps)
    for i, (fast_blocks, slow_blocks) in enumerate(pathway.stages):
        for block in fast_blocks:
            fast = step_block(graph, fast, block, fast_keep)
        for block in slow_blocks:
            slow = step_block(graph, slow, block, slow_keep, run)
        if i < len(pathway.laterals):
            slow = graph.add("Add", slow, parts.step_convolution(graph, fast, pathway.laterals[i], taps))
    graph.scope(pathway.name)
    graph.add("Identity", fast, to=f"{pathway.fast_output}_next")
    slow = graph.add("Where", even, slow, pathway.slow_output, to=f"{pathway.slow_output}_next")
    return graph.add("Concat", slow, pathway.fast_output, axis=1)
