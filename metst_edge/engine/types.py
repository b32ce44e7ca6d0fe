"""What every engine is and gives: protocols, also of those on a device, and two frozen results. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from metst_edge.bundle import Bundle
from metst_edge.errors import EngineError
from metst_edge.face.crop import Box

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of whole windows.

    Attributes:
        spot: float32 (B, T), 0 to 1, after the sigmoid.
        emotion: float32 (B, T, E), logits in the order of the bundle's labels.
    """

    spot: Array
    emotion: Array


@dataclass(frozen=True, slots=True)
class StepScores:
    """Scores of one frame in every lane.

    Attributes:
        spot: float32 (lanes,), 0 to 1, after the sigmoid.
        emotion: float32 (lanes, E), logits in the order of the bundle's labels.
    """

    spot: Array
    emotion: Array


@runtime_checkable
class Stream(Protocol):
    """A network that is fed one frame at a time in independent lanes, and its state.

    Attributes:
        lanes: how many.
        channels: features of a frame.
        look_ahead: steps after which a frame's scores come.
    """

    lanes: int
    channels: int
    look_ahead: int

    def step(self, features: Array, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """Feed one frame to every lane.

        Args:
            features: float32 (lanes, C).
            reset: bool (lanes,), None for all false. True: this frame is the first of the lane's next window. The zero
                padding at both windows' ends follows from it; feed the first frame of all with it set.

        Returns:
            The scores of the frame fed `look_ahead` steps earlier, in new arrays; None for the first `look_ahead`
            steps. At the end, `look_ahead` steps of zeros with reset set bring out the last ones.

        Raises:
            EngineError: dtype, shape or values do not fit.
        """

    def reset(self) -> None:
        """Forget everything, as if just opened."""


class DeviceFlow(Protocol):
    """The regions' flow on the device that a stream runs on, with as many lanes.

    Calls are enqueued in order; the host waits only where it would overwrite what is still being read.

    Attributes:
        shape: (H, W) of the frames.
    """

    shape: tuple[int, int]

    @property
    def likeness(self) -> Array:
        """Of each lane's last crop measured with its anchor's, -1 to 1: float32 (lanes,); good after a step."""

    def show(self, frame: npt.NDArray[np.uint8]) -> None:
        """Take the picture that is started from or measured next.

        Raises:
            FrameError: it is not uint8 of the flow's shape.
        """

    def start(self, lane: int, box: Box, landmarks: npt.NDArray[np.float32]) -> None:
        """Make the picture a lane's anchor: its crop, and landmarks float (68, 2) in pixels of the 320x320 crop."""

    def measure(self, lanes: Sequence[int], shares: Mapping[int, tuple[float, float]]) -> None:
        """Measure the picture; the next `step_device` reads the features of all lanes.

        Args:
            lanes: in which it is measured.
            shares: how much of the features measured last but one, and of those measured last, a lane's features are.
                Both are zero from a lane's start on. The features of a lane that has no shares are zero.

        Raises:
            EngineError: there is no such lane.
        """

    def blend(self, shares: Mapping[int, tuple[float, float]]) -> None:
        """As `measure`, but measure nothing."""

    def close(self) -> None:
        """Give back what it holds on the device. Calling it again is harmless."""


@runtime_checkable
class DeviceStream(Stream, Protocol):
    """A stream on a device that may measure flow there too."""

    def fed(self) -> Array:
        """Return the features of the last step, also those that lay on the device: float32 (lanes, C), a new array."""

    def open_flow(self, shape: tuple[int, int]) -> DeviceFlow:
        """Return the flow in front of this stream for frames of (H, W). It closes the one before and resets the stream.

        Raises:
            EngineError: as `DeviceEngine.why_no_flow`; or the device's memory is short.
        """

    def step_device(self, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """As `step`, with the features that the open flow has left on the device."""

    def take_back(self) -> None:
        """Undo the last step, whose scores are not to be used.

        Raises:
            EngineError: there was none, or it has been taken back or forgotten.
        """


@runtime_checkable
class Engine(Protocol):
    """A bundle made ready to run.

    Attributes:
        name: as `load_engine` takes it.
        bundle: what runs.
        precision: "fp32" or "fp16", of what happens between float32 features and scores.
    """

    name: str
    bundle: Bundle
    precision: str

    def infer(self, features: Array) -> Scores:
        """Score windows, each from a zero state.

        Args:
            features: float32 (B, C, T), at least one window of at least one frame.

        Raises:
            EngineError: dtype, shape or values do not fit.
        """

    def open_stream(self, lanes: int = 2) -> Stream:
        """Return a stream with its own state; several may be open at once."""

    def close(self) -> None:
        """Give back what it and its streams hold outside this process's memory; they are not to be used after it."""


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """An engine on a device that may measure flow there too."""

    def why_no_flow(self) -> str | None:
        """Return why flow cannot be measured on the device and what to do, or None where it can."""

    def open_stream(self, lanes: int = 2) -> DeviceStream:
        """See `Engine`."""


def check_windows(features: object, channels: int) -> Array:
    """Return the features, C-contiguous, after checking that they are float32 (B, C, T) and finite."""
    return _check(features, (None, channels, None), "(windows, channels, frames)")


def check_step(features: object, lanes: int, channels: int) -> Array:
    """Return the features, C-contiguous, after checking that they are float32 (lanes, C) and finite."""
    return _check(features, (lanes, channels), "(lanes, channels)")


def check_reset(reset: npt.ArrayLike | None, lanes: int) -> npt.NDArray[np.bool_]:
    """Return the flags as bool (lanes,)."""
    if reset is None:
        return np.zeros(lanes, bool)
    flags = np.asarray(reset)
    if flags.shape != (lanes,) or flags.dtype != np.bool_:
        raise EngineError(f"expected reset as bool ({lanes},), one flag a lane, got {flags.dtype} {flags.shape}")
    return flags


def check_lanes(lanes: object) -> int:
    """Return the number of lanes, an int of at least 1."""
    if not isinstance(lanes, int) or isinstance(lanes, bool) or lanes < 1:
        raise EngineError(f"expected lanes to be an integer of at least 1, got {lanes!r}")
    return lanes


def check_scores(spot: Array, emotion: Array, source: object, precision: str = "fp32") -> None:
    """Check that what a network gave are numbers: nothing is found in scores that are none, and nobody would know.

    Args:
        spot: scores.
        emotion: logits.
        source: what to call the bundle in an error.
        precision: that they were computed in.

    Raises:
        EngineError: they are not finite.
    """
    if not (np.isfinite(spot).all() and np.isfinite(emotion).all()):
        reason = ": the weights are not those of a trained network; export the bundle again"
        if precision != "fp32":
            reason = beyond(precision)
        raise EngineError(f"{source}: expected finite scores, got nan or infinity{reason}")


def beyond(precision: str) -> str:
    """Return what an error says of scores that are no numbers in half precision, and what to do."""
    return (
        f" in {precision}, which may not hold what this model computes: use precision 'fp32', or write its graphs "
        f"again (python -m export again) for {precision}"
    )


def _check(features: object, shape: tuple[int | None, ...], axes: str) -> Array:
    wanted = f"float32 {axes} with {shape[1]} channels" + (f" and {shape[0]} lanes" if shape[0] else "")
    if not isinstance(features, np.ndarray) or features.dtype != np.float32:
        got = f"dtype {features.dtype}" if isinstance(features, np.ndarray) else type(features).__name__
        raise EngineError(f"expected features as {wanted}, got {got}; convert with numpy.float32")
    fits = features.ndim == len(shape) and features.size > 0
    if not fits or any(want not in (None, got) for want, got in zip(shape, features.shape, strict=True)):
        raise EngineError(f"expected features as {wanted}, got shape {features.shape}")
    if not np.isfinite(features).all():
        raise EngineError(f"expected finite features as {wanted}, got nan or infinity")
    return np.ascontiguousarray(features)
