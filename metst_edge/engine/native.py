"""The engine that needs only numpy and the compiled part: ME-TST (dim 64, 128) on the CPU.

Streams run in one compiled call a frame; whole windows are numpy around the compiled selective scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.engine.types import (
    Array,
    Scores,
    StepScores,
    check_lanes,
    check_reset,
    check_step,
    check_windows,
)
from metst_edge.errors import EngineError

if TYPE_CHECKING:
    from metst_edge._native import NetworkStream

MODELS = ("metst64", "metst128")
LOOK_AHEAD = 2  # one frame for each convolution of the stem
STEM_TAPS = 3
LAYER_NORM_EPS = np.float32(1e-5)  # torch's default, which the published networks use


@dataclass(frozen=True)
class _Block:
    """Weights of one block, float32; linear maps as (in, out)."""

    norm: tuple[Array, Array]
    in_u: Array
    in_z: Array
    conv: Array  # (d_conv, d_inner), oldest frame first
    conv_bias: Array
    x_proj: Array  # to dt_rank time-step factors, then B, then C
    dt_proj: Array
    dt_bias: Array
    a: Array
    d: Array
    out_proj: Array
    post_norm: tuple[Array, Array]


@dataclass(frozen=True)
class _Network:
    """All weights, in the layout the loops below read them in."""

    stem: tuple[tuple[Array, Array], tuple[Array, Array]]  # (3 taps * in, out), bias (out)
    blocks: tuple[_Block, ...]
    spot: tuple[Array, Array]
    emotion: tuple[Array, Array]


class NativeEngine:
    """Engine (see types.py) on numpy and `metst_edge._native`.

    Raises:
        EngineError: the compiled part is missing, or the bundle holds a network this engine does not know.
    """

    name = "native"
    precision = "fp32"

    def __init__(self, bundle: Bundle) -> None:
        try:
            from metst_edge._native import Network, NetworkStream, selective_scan
        except ImportError as error:
            raise EngineError(
                f"expected the compiled module metst_edge._native, but it cannot be loaded ({error}); "
                "run `pip install .`, or use engine='onnxruntime'"
            ) from error
        if bundle.model not in MODELS:
            raise EngineError(
                f"expected a bundle of {' or '.join(MODELS)} for the native engine, got {bundle.model!r}; "
                "use engine='onnxruntime', or update metst_edge"
            )
        self.bundle = bundle
        self._scan = selective_scan
        self._network = _prepare(bundle)
        self._packed = Network(dict(bundle.sizes), bundle.weights())
        self._open = NetworkStream

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        x = np.ascontiguousarray(check_windows(features, self.bundle.channels).transpose(0, 2, 1))
        for weight, bias in self._network.stem:
            x = _relu(_neighbours(x) @ weight + bias)
        for block in self._network.blocks:
            x = x + self._block(block, x)
        spot = _sigmoid(_linear(x, self._network.spot))[..., 0]
        return Scores(np.ascontiguousarray(spot), _linear(x, self._network.emotion))

    def open_stream(self, lanes: int = 2) -> NativeStream:
        """Return a stream with its own state."""
        lanes = check_lanes(lanes)
        return NativeStream(self._open(self._packed, lanes), lanes, self.bundle.channels)

    def close(self) -> None:
        """Nothing is held outside this process's memory."""

    def _block(self, block: _Block, x: Array) -> Array:
        """The residual branch on whole windows: (B, T, dim) -> (B, T, dim)."""
        n = _layer_norm(x, block.norm)
        taps, frames = block.conv.shape[0], x.shape[1]
        u = n @ block.in_u
        padded = np.pad(u, ((0, 0), (taps - 1, 0), (0, 0)))
        u = block.conv_bias + padded[:, :frames] * block.conv[0]
        for tap in range(1, taps):
            u += padded[:, tap : tap + frames] * block.conv[tap]
        u = _silu(u)
        rank, states = block.dt_proj.shape[0], block.a.shape[1]
        projected = u @ block.x_proj
        delta = projected[..., :rank] @ block.dt_proj
        b, c = projected[..., rank : rank + states], projected[..., rank + states :]
        y, _ = self._scan(u, delta, block.a, b, c, block.d, n @ block.in_z, block.dt_bias)
        return _layer_norm(y @ block.out_proj, block.post_norm)


class NativeStream:
    """Stream (see types.py) of a NativeEngine: one call of the compiled step a frame."""

    def __init__(self, stream: NetworkStream, lanes: int, channels: int) -> None:
        self.lanes, self.channels, self.look_ahead = lanes, channels, LOOK_AHEAD
        self._stream = stream
        self._fed = 0

    def reset(self) -> None:
        """Forget everything, as if just opened."""
        self._stream.reset()
        self._fed = 0

    def step(self, features: Array, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """Feed float32 (lanes, C); see types.Stream."""
        features = check_step(features, self.lanes, self.channels)
        spot, emotion = self._stream.step(features, check_reset(reset, self.lanes))
        self._fed += 1
        return StepScores(spot, emotion) if self._fed > LOOK_AHEAD else None


def _prepare(bundle: Bundle) -> _Network:
    """Lay the bundle's weights out for the loops, after checking that all are there in their sizes."""
    sizes, weights = bundle.sizes, bundle.weights()
    _check_weights(bundle, weights)
    dim = sizes["dim"]
    inner = sizes["expand"] * dim

    def get(name: str) -> Array:
        return np.array(weights[name], np.float32, order="C")  # a copy in memory, not of the file

    def pair(name: str) -> tuple[Array, Array]:
        return get(f"{name}.weight"), get(f"{name}.bias")

    def stem(i: int) -> tuple[Array, Array]:
        weight, bias = pair(f"stem.{i}")  # (out, in, taps)
        return np.ascontiguousarray(weight.transpose(2, 1, 0).reshape(-1, dim)), bias

    def block(i: int) -> _Block:
        prefix = f"blocks.{i}."
        in_proj = get(prefix + "in_proj")
        return _Block(
            norm=pair(prefix + "norm"),
            in_u=np.ascontiguousarray(in_proj[:, :inner]),
            in_z=np.ascontiguousarray(in_proj[:, inner:]),
            conv=np.ascontiguousarray(get(prefix + "conv.weight")[:, 0].T),
            conv_bias=get(prefix + "conv.bias"),
            x_proj=get(prefix + "x_proj"),
            dt_proj=get(prefix + "dt_proj"),
            dt_bias=get(prefix + "dt_bias"),
            a=get(prefix + "A"),
            d=get(prefix + "D"),
            out_proj=get(prefix + "out_proj"),
            post_norm=pair(prefix + "post_norm"),
        )

    return _Network((stem(0), stem(1)), tuple(block(i) for i in range(sizes["depth"])), pair("spot"), pair("emotion"))


def _check_weights(bundle: Bundle, weights: Mapping[str, Array]) -> None:
    size = bundle.sizes
    needed = ("channels", "dim", "depth", "d_state", "d_conv", "expand", "dt_rank", "classes")
    missing = [name for name in needed if name not in size]
    if missing:
        raise EngineError(
            f"{bundle.path}: expected sizes {', '.join(missing)} in the manifest; export the bundle again"
        )
    dim, states, rank, classes = size["dim"], size["d_state"], size["dt_rank"], size["classes"]
    inner = size["expand"] * dim
    expected: dict[str, tuple[int, ...]] = {
        "stem.0.weight": (dim, size["channels"], STEM_TAPS),
        "stem.0.bias": (dim,),
        "stem.1.weight": (dim, dim, STEM_TAPS),
        "stem.1.bias": (dim,),
        "spot.weight": (dim, 1),
        "spot.bias": (1,),
        "emotion.weight": (dim, classes),
        "emotion.bias": (classes,),
    }
    for i in range(size["depth"]):
        for name, shape in (
            ("norm.weight", (dim,)),
            ("norm.bias", (dim,)),
            ("in_proj", (dim, 2 * inner)),
            ("conv.weight", (inner, 1, size["d_conv"])),
            ("conv.bias", (inner,)),
            ("x_proj", (inner, rank + 2 * states)),
            ("dt_proj", (rank, inner)),
            ("dt_bias", (inner,)),
            ("A", (inner, states)),
            ("D", (inner,)),
            ("out_proj", (inner, dim)),
            ("post_norm.weight", (dim,)),
            ("post_norm.bias", (dim,)),
        ):
            expected[f"blocks.{i}.{name}"] = shape
    wrong = [
        f"{name} {shape}, got {weights[name].shape if name in weights else 'none'}"
        for name, shape in expected.items()
        if name not in weights or weights[name].shape != shape
    ]
    if wrong:
        raise EngineError(f"{bundle.path}: expected weights {'; '.join(wrong)}; export the bundle again")


def _neighbours(x: Array) -> Array:
    """(B, T, C) -> (B, T, 3 * C): every frame between its neighbours, zeros outside the window."""
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    return np.concatenate((padded[:, :-2], x, padded[:, 2:]), axis=-1)


def _linear(x: Array, layer: tuple[Array, Array]) -> Array:
    y: Array = x @ layer[0] + layer[1]
    return y


def _layer_norm(x: Array, layer: tuple[Array, Array]) -> Array:
    size = np.float32(x.shape[-1])
    centred = x - np.add.reduce(x, axis=-1, keepdims=True) / size
    variance = np.add.reduce(centred * centred, axis=-1, keepdims=True) / size
    y: Array = centred / np.sqrt(variance + LAYER_NORM_EPS) * layer[0] + layer[1]
    return y


def _relu(x: Array) -> Array:
    y: Array = np.maximum(x, np.float32(0.0))
    return y


def _sigmoid(x: Array) -> Array:
    # By tanh, which cannot overflow.
    half = np.float32(0.5)
    y: Array = half * np.tanh(half * x) + half
    return y


def _silu(x: Array) -> Array:
    y: Array = x * _sigmoid(x)
    return y
