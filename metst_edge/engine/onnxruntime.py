"""The engine on ONNX Runtime. It knows only the bundle's two graphs and their state tensors, no network.

Other graphs of a bundle, such as a recogniser's, are opened by `open_session`.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    check_scores,
    check_step,
    check_windows,
)
from metst_edge.errors import BundleGraphError, BundleHashError, EngineError
from metst_edge.installing import pip_install

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


MOST_LETTERS = 500
"""Of what onnxruntime says is wrong."""


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
        self._window = open_session(bundle, "window", threads, precision)
        self._step = open_session(bundle, "step", threads, precision)

    def infer(self, features: Array) -> Scores:
        """Score windows float32 (B, C, T), each from a zero state."""
        features = check_windows(features, self.bundle.channels)
        frames = (len(features), features.shape[2])
        spot, emotion = run(
            self._window,
            self.bundle,
            self.bundle.graph_file("window", self.precision),
            {"features": features},
            {"spot": frames, "emotion": (*frames, len(self.bundle.labels))},
        )
        check_scores(spot, emotion, self.bundle.path, self.precision)
        return Scores(spot, emotion)

    def open_stream(self, lanes: int = 2) -> OnnxRuntimeStream:
        """Return a stream with its own state."""
        return OnnxRuntimeStream(self._step, self.bundle, check_lanes(lanes), self.precision)

    def close(self) -> None:
        """Nothing is held outside this process's memory."""


def open_session(bundle: StoredModel, graph: str, threads: int = 1, precision: str = "fp32") -> InferenceSession:
    """Return a session of one of a bundle's graphs on the CPU.

    Args:
        bundle: of either kind.
        graph: one of the bundle's `graphs`.
        threads: inside one operator.
        precision: of the graph.

    Raises:
        EngineError: onnxruntime is not installed, or the bundle has no graph of that precision.
        BundleGraphError: onnxruntime refuses the graph, or it is not what the manifest says.
        BundleError: a file has changed since the bundle was loaded.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"expected onnxruntime, which is not installed ({error}): {pip_install('onnxruntime')}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it logs of a graph is in the error that it raises
    file = bundle.graph_file(graph, precision)
    try:
        # Bytes, not the file: it is what was checked, and onnxruntime is given no name to open.
        content = bundle.graph_bytes(graph, precision)
        # It would print on stdout that it falls back to the CPU, which is where it is.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except BundleHashError:
        raise
    except Exception as error:  # onnxruntime has no base class for what it raises
        reason = _reason(error).removeprefix(f"{bundle.path}: {file}: ")
        raise BundleGraphError(
            f"{bundle.path}: onnxruntime refuses {file} ({reason}); export the bundle again"
        ) from error


def run(
    session: InferenceSession,
    bundle: StoredModel,
    file: str,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, tuple[int, ...]],
) -> list[Array]:
    """Run a graph that may be anybody's.

    Args:
        session: of the graph.
        bundle: of which it is.
        file: that it lies in, for messages.
        inputs: by name.
        outputs: name -> shape that it must have, float32.

    Returns:
        The outputs, in their order.

    Raises:
        BundleGraphError: onnxruntime cannot run it, or an output has another type or shape.
    """
    try:
        found: list[Array] = session.run(list(outputs), dict(inputs))
    except Exception as error:  # likewise
        raise _cannot_run(bundle, file, error) from error
    for (name, shape), array in zip(outputs.items(), found, strict=True):
        if array.dtype != np.float32 or array.shape != shape:
            raise BundleGraphError(
                f"{bundle.path}: expected {file} to give {name} float32 {shape}, got {array.dtype} {array.shape}; "
                "export the bundle again"
            )
    return found


def _cannot_run(bundle: StoredModel, file: str, error: Exception) -> BundleGraphError:
    return BundleGraphError(f"{bundle.path}: onnxruntime cannot run {file} ({_reason(error)}); export the bundle again")


def _reason(error: Exception) -> str:
    """The first line of what onnxruntime says, which quotes the graph: what cannot be printed is a question mark."""
    line = (str(error).splitlines() or [type(error).__name__])[0][:MOST_LETTERS]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


class OnnxRuntimeStream:
    """Stream (see types.py) on step.onnx.

    Two sets of state tensors, bound once: what one step writes, the next one reads. No tensor is made per step.
    """

    def __init__(self, session: InferenceSession, bundle: Bundle, lanes: int, precision: str) -> None:
        self._bundle, self._file, self._precision = bundle, bundle.graph_file("step", precision), precision
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
        try:
            self._session.run_with_iobinding(self._bindings[self._fed % 2])
        except Exception as error:  # likewise
            raise _cannot_run(self._bundle, self._file, error) from error
        self._fed += 1
        if self._fed <= self.look_ahead:
            return None
        # Copies: the bound outputs are overwritten by the next step.
        spot, emotion = self._outputs["spot"].numpy().copy(), self._outputs["emotion"].numpy().copy()
        check_scores(spot, emotion, self._bundle.path, self._precision)
        return StepScores(spot, emotion)
