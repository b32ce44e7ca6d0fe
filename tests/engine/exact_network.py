"""ME-TST+ on one window in float64, frame by frame and layer by layer as the paper draws it: what engines must equal.

Shares nothing with the package but the weights' names.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


class ExactPlus:
    """ME-TST+ by the sizes of a manifest and weights by name."""

    def __init__(self, sizes: dict[str, int], weights: Weights) -> None:
        self.sizes, self.weights = sizes, {name: value.astype(np.float64) for name, value in weights.items()}

    def score(self, features: Array) -> tuple[Array, Array]:
        """Features (T, C) of a window -> spot (T,), emotion (T, E)."""
        x = self._convolution("stem.1", self._convolution("stem.0", features.astype(np.float64), 1), 1)
        given = [self._pathway(p, x) for p in range(self.sizes["pathways"])]
        spot = given[0] @ self.weights["spot.weight"] + self.weights["spot.bias"]
        return sigmoid(spot[:, 0]), given[-1] @ self.weights["emotion.weight"] + self.weights["emotion.bias"]

    def _pathway(self, p: int, x: Array) -> Array:
        stages, depth = self.sizes["stages"], self.sizes["depth"]
        first_fast = 2 * p * stages * depth
        first_slow = first_fast + stages * depth
        fast, slow = x, self._convolution(f"pathway_{p}.entry", x, 2)
        for stage in range(stages):
            for i in range(stage * depth, (stage + 1) * depth):
                fast = fast + mamba(fast, self._block(first_fast + i))
                slow = slow + mamba(slow, self._block(first_slow + i))
            if stage + 1 < stages:
                slow = slow + self._convolution(f"pathway_{p}.laterals.{stage}", fast, 2)
        return np.stack([np.concatenate((slow[t // 2], fast[t])) for t in range(len(x))])

    def _convolution(self, name: str, x: Array, stride: int) -> Array:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        around = np.concatenate((np.zeros_like(x[:1]), x, np.zeros_like(x[:1])))
        rows = [np.einsum("tc,oct->o", around[t : t + 3], weight) + bias for t in range(0, len(x), stride)]
        return np.maximum(np.stack(rows), 0.0)

    def _block(self, i: int) -> Weights:
        prefix = f"blocks.{i}."
        return {name.removeprefix(prefix): v for name, v in self.weights.items() if name.startswith(prefix)}


def mamba(x: Array, w: Weights) -> Array:
    """The residual branch of a block on (T, dim), from a zero state."""
    inner, states = w["A"].shape
    taps, rank = w["conv.weight"].shape[2], len(w["dt_proj"])
    u, z = np.split(layer_norm(x, w, "norm") @ w["in_proj"], 2, axis=-1)
    before = np.concatenate((np.zeros((taps - 1, inner)), u))
    h, rows = np.zeros((inner, states)), []
    for t in range(len(x)):
        v = silu(np.einsum("td,dt->d", before[t : t + taps], w["conv.weight"][:, 0]) + w["conv.bias"])
        factors, b, c = np.split(v @ w["x_proj"], (rank, rank + states))
        dt = np.logaddexp(0.0, factors @ w["dt_proj"] + w["dt_bias"])
        h = np.exp(dt[:, None] * w["A"]) * h + (dt * v)[:, None] * b
        rows.append((h @ c + w["D"] * v) * silu(z[t]))
    return layer_norm(np.stack(rows) @ w["out_proj"], w, "post_norm")


def layer_norm(x: Array, weights: Weights, name: str) -> Array:
    """Over the last axis, eps 1e-5."""
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + np.exp(-x))


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return x * sigmoid(x)


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> Weights:
    """Random float32 weights under which every part has an effect, linear maps with the spread of torch's defaults.

    Wider maps make many blocks amplify the rounding of any float32 implementation.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "A":
            value = -np.exp(rng.uniform(np.log(0.01), np.log(64.0), shape))
        elif leaf == "D":
            value = rng.uniform(-2.0, 2.0, shape)
        elif leaf == "dt_bias":
            value = rng.uniform(-5.0, 0.0, shape)
        elif len(shape) == 1:
            value = rng.uniform(-1.0, 1.0, shape) / np.sqrt(10.0) + ("norm.weight" in name)
        else:
            inputs = shape[0] if len(shape) == 2 else shape[1] * shape[2]
            value = rng.uniform(-1.0, 1.0, shape) / np.sqrt(inputs)
        weights[name] = value.astype(np.float32)
    return weights
