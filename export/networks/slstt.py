"""SLSTT as one ONNX graph, and its weights and sizes out of the trained network.

`clip` names the emotion of intervals, each by its pictures, in standard operators only. Queries, keys and values are
one matrix there, and the scale of attention lies in the queries' part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from export.networks.from_torch import Arrays, array_of, linear, pair
from export.onnx_builder import OnnxBuilder, float_value
from training.models.slstt import NORM_EPS, Slstt, SlsttSizes, TransformerBlock

# Of GELU by tanh (arXiv 1606.08415, section 2).
_GELU_SCALE, _GELU_CUBE = float(np.sqrt(2 / np.pi)), 0.044715


def sizes(network: Slstt) -> dict[str, Any]:
    """Return the sizes that the manifest holds."""
    return network.sizes.to_dict()


def weights(network: Slstt) -> Arrays:
    """Return the weights of a network in evaluation mode, in the order of weights.bin."""
    vit = network.vit
    positions = vit.positional_embedding.pos_embedding
    found = {
        **pair("patches", vit.patch_embedding.weight, vit.patch_embedding.bias),
        "class_token": array_of(vit.class_token + positions[:, :1]),
        "positions": array_of(positions[:, 1:]),
    }
    for i, block in enumerate(vit.transformer["blocks"]):
        found |= _block(f"blocks.{i}", block)
    found |= pair("norm", vit.norm.weight, vit.norm.bias)
    if network.sizes.aggregation == "mean":
        return found | linear("emotion", vit.fc)
    for layer in range(network.sizes.lstm_layers):
        found |= _recurrence(f"lstm.{layer}", network.lstm, layer)
    return found | linear("head", network.fc1) | linear("emotion", network.fc2)


def _block(name: str, block: TransformerBlock) -> Arrays:
    attention = block.attn
    scale = (attention.proj_q.out_features // attention.heads) ** -0.5
    parts = (attention.proj_q, attention.proj_k, attention.proj_v)
    factors = (scale, 1.0, 1.0)
    weight = torch.cat([f * part.weight.double().T for f, part in zip(factors, parts, strict=True)], dim=1)
    bias = torch.cat([f * part.bias.double() for f, part in zip(factors, parts, strict=True)])
    return {
        **pair(f"{name}.norm1", block.norm1.weight, block.norm1.bias),
        **pair(f"{name}.qkv", weight, bias),
        **linear(f"{name}.proj", block.proj),
        **pair(f"{name}.norm2", block.norm2.weight, block.norm2.bias),
        **linear(f"{name}.fc1", block.pwff.fc1),
        **linear(f"{name}.fc2", block.pwff.fc2),
    }


def _recurrence(name: str, lstm: nn.LSTM, layer: int) -> Arrays:
    """Return one layer as the ONNX operator LSTM takes it: one direction, gates in, out, forget, cell."""

    def gates(kind: str) -> Tensor:
        torch_order: Tensor = getattr(lstm, f"{kind}_l{layer}").double()
        into, forget, cell, out = torch_order.chunk(4)
        return torch.cat((into, out, forget, cell))

    bias = torch.cat((gates("bias_ih"), gates("bias_hh")))
    parts = (("input", gates("weight_ih")), ("state", gates("weight_hh")), ("bias", bias))
    return {f"{name}.{part}": array_of(tensor[None]) for part, tensor in parts}


def clip(sizes: SlsttSizes, arrays: Arrays, offsets: Mapping[str, int]) -> onnx.ModelProto:
    """Build clip.onnx: images (N, F, 3, S, S) -> logits (N, E), N and F dynamic.

    Args:
        sizes: of the network.
        arrays: its weights, by name.
        offsets: where each lies in weights.bin, bytes.
    """
    graph = OnnxBuilder({name: array.shape for name, array in arrays.items()}, offsets)
    graph.scope("tokens")
    side, dim = sizes.input_size, sizes.dim
    pictures = graph.add("Reshape", "images", graph.integers(-1, 3, side, side))
    step = [sizes.patch, sizes.patch]
    weight, bias = graph.weight("patches.weight"), graph.weight("patches.bias")
    x = graph.add("Conv", pictures, weight, bias, kernel_shape=step, strides=step)
    x = graph.add("Reshape", x, graph.integers(0, dim, sizes.tokens - 1))
    x = graph.add("Add", graph.add("Transpose", x, perm=[0, 2, 1]), graph.weight("positions"))
    batch = graph.add("Shape", pictures, start=0, end=1)
    token = graph.add("Expand", graph.weight("class_token"), graph.add("Concat", batch, graph.integers(1, dim), axis=0))
    x = graph.add("Concat", token, x, axis=1)
    for i in range(sizes.depth):
        x = _transformer_block(graph, x, f"blocks.{i}", sizes)
    graph.scope("frames")
    x = graph.add("Squeeze", graph.add("Slice", x, *map(graph.integers, (0, 1, 1))), graph.integers(1))
    x = graph.layer_norm(x, "norm", NORM_EPS)
    frames = graph.add("Shape", "images", start=0, end=2)
    if sizes.aggregation == "mean":
        x = _unflattened(graph, graph.linear(x, "emotion"), frames, sizes.classes)
        graph.add("ReduceMean", x, axes=[1], keepdims=0, to="logits")
    else:
        graph.linear(_recurrent(graph, _unflattened(graph, x, frames, dim), sizes), "emotion", to="logits")
    inputs = [float_value("images", "intervals", "frames", 3, side, side)]
    return graph.model("clip", inputs, [float_value("logits", "intervals", sizes.classes)])


def _transformer_block(graph: OnnxBuilder, x: str, name: str, sizes: SlsttSizes) -> str:
    """Append a block on (B, tokens, dim); return its output."""
    graph.scope(name)
    tokens, heads, each = sizes.tokens, sizes.heads, sizes.dim // sizes.heads
    qkv = graph.linear(graph.layer_norm(x, f"{name}.norm1", NORM_EPS), f"{name}.qkv")
    qkv = graph.add("Reshape", qkv, graph.integers(0, tokens, 3 * heads, each))
    qkv = graph.add("Transpose", qkv, perm=[0, 2, 1, 3])
    q, k, v = graph.add_many("Split", qkv, graph.integers(heads, heads, heads), outputs=3, axis=1)
    likeness = graph.add("MatMul", q, graph.add("Transpose", k, perm=[0, 1, 3, 2]))
    seen = graph.add("MatMul", graph.add("Softmax", likeness, axis=-1), v)
    seen = graph.add("Reshape", graph.add("Transpose", seen, perm=[0, 2, 1, 3]), graph.integers(0, tokens, sizes.dim))
    x = graph.add("Add", x, graph.linear(seen, f"{name}.proj"))
    inner = _gelu(graph, graph.linear(graph.layer_norm(x, f"{name}.norm2", NORM_EPS), f"{name}.fc1"))
    return graph.add("Add", x, graph.linear(inner, f"{name}.fc2"))


def _gelu(graph: OnnxBuilder, x: str) -> str:
    """Append x (1 + tanh(scale (x + cube x^3))) / 2; opset 17 has no operator for it."""
    cubed = graph.add("Mul", graph.add("Mul", graph.add("Mul", x, x), x), graph.number(_GELU_CUBE))
    bent = graph.add("Tanh", graph.add("Mul", graph.add("Add", x, cubed), graph.number(_GELU_SCALE)))
    return graph.add("Mul", graph.add("Mul", x, graph.number(0.5)), graph.add("Add", bent, graph.number(1.0)))


def _unflattened(graph: OnnxBuilder, x: str, frames: str, channels: int) -> str:
    """Append (N * F, channels) -> (N, F, channels), `frames` holding N and F."""
    return graph.add("Reshape", x, graph.add("Concat", frames, graph.integers(channels), axis=0))


def _recurrent(graph: OnnxBuilder, x: str, sizes: SlsttSizes) -> str:
    """Append the recurrence on (N, F, dim) and the layer after it; return (N, head)."""
    graph.scope("lstm")
    x = graph.add("Transpose", x, perm=[1, 0, 2])
    last = x
    for layer in range(sizes.lstm_layers):
        name = f"lstm.{layer}"
        parts = (graph.weight(f"{name}.{part}") for part in ("input", "state", "bias"))
        x, last = graph.add_many("LSTM", x, *parts, outputs=2, hidden_size=sizes.lstm_hidden)
        x = graph.add("Squeeze", x, graph.integers(1))  # its one direction
    graph.scope("head")
    return graph.add("Relu", graph.linear(graph.add("Squeeze", last, graph.integers(0)), "head"))
