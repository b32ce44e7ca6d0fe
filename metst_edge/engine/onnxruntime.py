"""The engine on ONNX Runtime. It knows only the bundle's two graphs and their state tensors, no network.

Other graphs of a bundle, such as a recogniser's, are opened by `open_session`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle, StoredModel
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
    from onnxruntime import InferenceSession


class OnnxRuntimeEngine:
    """Engine (see types.py) on ONNX Runtime's CPU provider.

    Args:
        bundle: what to run.
        threads: threads inside one operator; the networks are small, one is fastest.
        precision: of the graphs. ONNX Runtime computes most fp16 operators in fp32 and leaves casts there and back out,
            so on a CPU "fp16" is no faster and less is rounded than on a GPU: it is there to see the scores of fp16
            where there is none.

    Raises:
        EngineError: onnxruntime is not installed or refuses the graphs, or the bundle has none of that precision.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, threads: int = 1, precision: str = "fp32") -> None:
        self.bundle, self.precision = bundle, precision
        self._window = open_session(bundle, bundle.graph("window", precision), threads)
        self._step = open_session(bundle, bundle.graph("step", precision), threads)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        features = check_windows(features, self.bundle.channels)
        spot, emotion = self._window.run(["spot", "emotion"], {"features": features})
        return Scores(spot, emotion)

    def open_stream(self, lanes: int = 2) -> OnnxRuntimeStream:
        """Return a stream with its own state."""
        return OnnxRuntimeStream(self._step, self.bundle, check_lanes(lanes))

    def close(self) -> None:
        """Nothing is held outside this process's memory."""


def open_session(bundle: StoredModel, graph: Path, threads: int = 1) -> InferenceSession:
    """Return a session of one of a bundle's graphs on the CPU.

    Args:
        bundle: of either kind.
        graph: where it lies.
        threads: inside one operator.

    Raises:
        EngineError: onnxruntime is not installed or refuses the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"expected onnxruntime, which is not installed ({error}): pip install 'metst-edge[onnxruntime]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no base class for what it raises
        reason = str(error).splitlines()[0]
        raise EngineError(
            f"{bundle.path}: onnxruntime refuses {graph.name} ({reason}); export the bundle again"
        ) from error


class OnnxRuntimeStream:
    """Stream (see types.py) on step.onnx.

    Two sets of state tensors, bound once: what one step writes, the next one reads. No tensor is made per step.
    """

    def __init__(self, session: InferenceSession, bundle: Bundle, lanes: int) -> None:
        self.lanes, self.channels, self.look_ahead = lanes, bundle.channels, bundle.look_ahead
        from onnxruntime import OrtValue

        def values(shapes: dict[str, tuple[int, ...]]) -> dict[str, OrtValue]:
            return {
                name: OrtValue.ortvalue_from_numpy(np.zeros((lanes, *shape), np.float32))
                for name, shape in shapes.items()
            }

        self._session = session
        self._inputs = values({"features": (bundle.channels,), "reset": ()})
        self._outputs = values({"spot": (), "emotion": (len(bundle.labels),)})
        state = {entry.name: entry.shape for entry in bundle.state}
        self._states = (values(state), values(state))
        self._bindings = []
        for read, written in (self._states, self._states[::-1]):
            binding = session.io_binding()
            for name, value in (self._inputs | read).items():
                binding.bind_ortvalue_input(name, value)
            for name, value in self._outputs.items():
                binding.bind_ortvalue_output(name, value)
            for name, value in written.items():
                binding.bind_ortvalue_output(f"{name}_next", value)
            self._bindings.append(binding)
        self._fed = 0

    def reset(self) -> None:
        """Forget everything, as if just opened."""
        for state in self._states:
            for value in state.values():
                value.update_inplace(np.zeros(value.shape(), np.float32))
        self._fed = 0

    def step(self, features: Array, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """Feed float32 (lanes, C); see types.Stream."""
        self._inputs["features"].update_inplace(check_step(features, self.lanes, self.channels))
        self._inputs["reset"].update_inplace(check_reset(reset, self.lanes).astype(np.float32))
        self._session.run_with_iobinding(self._bindings[self._fed % 2])
        self._fed += 1
        if self._fed <= self.look_ahead:
            return None
        # Copies: the bound outputs are overwritten by the next step.
        return StepScores(self._outputs["spot"].numpy().copy(), self._outputs["emotion"].numpy().copy())
