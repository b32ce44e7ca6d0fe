"""The engine that needs only NumPy and the compiled part: a bundle's network on the CPU. Knows no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from metst_edge import compiled
from metst_edge.bundle import Bundle
from metst_edge.choices import PRECISIONS
from metst_edge.engine import networks
from metst_edge.engine.types import (
    Array,
    Scores,
    StepScores,
    check_lanes,
    check_reset,
    check_scores,
    check_step,
    check_windows,
)
from metst_edge.errors import EngineError

if TYPE_CHECKING:
    from metst_edge._native import NetworkStream


class NativeEngine:
    """Engine (see types.py) on NumPy and `metst_edge._native`.

    Args:
        bundle: what to run.
        precision: "fp16" rounds the fp32 weights of the large matrices; it needs no fp16 graphs in the bundle, and all
            that is computed stays fp32.

    Raises:
        EngineError: the compiled part is missing, or the bundle holds a network that this engine does not know, or one
            that its manifest or weights do not fit; or there is no such precision.
    """

    name = "native"

    def __init__(self, bundle: Bundle, precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise EngineError(f"expected precision {' or '.join(map(repr, PRECISIONS))}, got {precision!r}")
        try:
            import metst_edge._native  # noqa: F401
        except ModuleNotFoundError as error:
            raise compiled.missing() from error
        except ImportError as error:
            raise EngineError(
                f"expected the compiled module metst_edge._native, but it cannot be loaded ({error}); "
                "run `pip install .`, or use engine='onnxruntime'"
            ) from error
        if bundle.model not in networks.MODELS:
            raise EngineError(
                f"expected a bundle of {' or '.join(networks.MODELS)} for the native engine, got {bundle.model!r}; "
                "use engine='onnxruntime', or update metst_edge"
            )
        self.bundle, self.precision = bundle, precision
        self._shape, self._network = networks.load(bundle, half=precision == "fp16")

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        features = check_windows(features, self.bundle.channels)
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is checked
            scores = self._network.infer(features)
        check_scores(scores.spot, scores.emotion, self.bundle.path, self.precision)
        return scores

    def open_stream(self, lanes: int = 2) -> NativeStream:
        """Return a stream with its own state."""
        lanes = check_lanes(lanes)
        return NativeStream(self._network.open_stream(lanes), self, lanes, self._shape.look_ahead)

    def close(self) -> None:
        """Nothing is held outside this process's memory."""


class NativeStream:
    """Stream (see types.py) of a NativeEngine: one call of the compiled step a frame."""

    def __init__(self, stream: NetworkStream, engine: NativeEngine, lanes: int, look_ahead: int) -> None:
        self.lanes, self.channels, self.look_ahead = lanes, engine.bundle.channels, look_ahead
        self._path, self._precision = engine.bundle.path, engine.precision
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
        if self._fed <= self.look_ahead:
            return None
        check_scores(spot, emotion, self._path, self._precision)
        return StepScores(spot, emotion)
