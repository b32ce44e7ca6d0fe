"""Video in, events out: options, sources and reports around what scores and decodes.

The only file that knows every stage. Frames pass face -> flow -> engine -> decode; two windows of each face, half a
window apart, are open at any time. Live, intervals come out as soon as they are final; offline, the same scores are
decoded as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from metst_edge import _native
from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, Image, Interruption, Source, check_timestamp, open_source
from metst_edge.choices import FLOWS
from metst_edge.closing import Closing
from metst_edge.engine import Engine, load_engine
from metst_edge.engine.lanes import LANES
from metst_edge.engine.types import DeviceEngine
from metst_edge.errors import EngineError, MetstError, SourceError
from metst_edge.events import Event, Gap
from metst_edge.face import Finder, open_finder
from metst_edge.flow import default_threads
from metst_edge.report import Report
from metst_edge.scoring import Collected, DeviceLanes, HostLanes, LiveEvents, OnStage, Scorer, timed

__all__ = ["FLOWS", "Analyzer", "OnStage", "Progress"]

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the frames done and in all; None where that is unknown."""


class Analyzer(Closing):
    """Spots micro-expressions in one video at a time.

    Args:
        model: name of a shipped model, or the path of a bundle (folder or zip).
        engine: "auto", "native", "onnxruntime" or "tensorrt". See `load_engine`.
        on_stage: told how long every call of a stage took; see `OnStage`.
        threads: that a frame's flow is spread over on the CPU, at most; default: the processors this process may use, 4
            at most.
        precision: "fp32" or "fp16". See `load_engine`.
        flow: where optical flow is measured: "cpu", "cuda", or "auto": "cuda" where the engine is "tensorrt" and the
            plugin's library is installed, else "cpu".
        face: what finds the face: "opencv", with the models that come along, or "mediapipe", the package of that name.
        face_model: a ``face_landmarker.task``, which MediaPipe needs from 0.10.30 on.

    Attributes:
        bundle: the model.
        engine: what runs it.
        flow: "cpu" or "cuda".
        face: "opencv" or "mediapipe".
        threads: see above.

    Raises:
        ModelNotFoundError: there is no such model.
        BundleError: the model cannot be used.
        EngineError: the engine is unknown or not installed, flow cannot be measured there, or METST_EDGE_SIMD names
            what this processor lacks.
        ValueError: less than one thread.
        FaceModelError: there is no such `face`, or what it needs is missing.

    Example:
        >>> from metst_edge.app.demo import demo_clip
        >>> with Analyzer() as analyzer:
        ...     for event in analyzer.stream(demo_clip()):  # "0" is the first camera
        ...         print(event.emotion)
        ...         break
        surprise
    """

    def __init__(
        self,
        model: str | Path = "demo",
        engine: str = "auto",
        on_stage: OnStage | None = None,
        threads: int | None = None,
        precision: str = "fp32",
        flow: str = "auto",
        face: str = "opencv",
        face_model: str | Path | None = None,
    ) -> None:
        if flow not in FLOWS:
            raise EngineError(f"expected flow {', '.join(map(repr, FLOWS))}, got {flow!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"expected at least 1 thread, got {threads}; leave it out for one per processor")
        try:
            _native.simd_path()
        except ValueError as error:  # the environment variable asks for instructions this processor lacks
            raise EngineError(str(error)) from error
        self.threads = threads or default_threads()
        self.bundle = Bundle.find(model)
        self.engine: Engine = load_engine(self.bundle, engine=engine, precision=precision)
        self._live = LiveEvents(self.bundle, on_stage)
        try:
            lanes = self._open_lanes(flow, on_stage)
            self._finder: Finder = open_finder(face, face_model)
        except BaseException:
            self.engine.close()
            raise
        self.flow, self.face = lanes.flow, face
        self._on_stage = on_stage
        self._scorer = Scorer(self.bundle.fps, self._finder, lanes, on_stage, self.engine.precision)
        self.reset()

    def _open_lanes(self, flow: str, on_stage: OnStage | None) -> HostLanes | DeviceLanes:
        """Open a stream, with flow where it is wanted."""
        bundle, engine = self.bundle, self.engine
        why_not: str | None = f"engine {engine.name!r} takes features from the host only; use 'tensorrt'"
        if isinstance(engine, DeviceEngine) and flow != "cpu":
            why_not = engine.why_no_flow()
            if why_not is None:
                return DeviceLanes(engine.open_stream(lanes=LANES), bundle.k, on_stage)
            _LOG.info("optical flow is measured on the CPU: %s", why_not)
        if flow == "cuda":
            raise EngineError(f"expected to measure optical flow on the GPU, but {why_not}")
        stream = engine.open_stream(lanes=LANES)
        return HostLanes(stream, bundle.k, bundle.roi_set, bundle.compat, self.threads, on_stage)

    def close(self) -> None:
        """Release the face model and the engine. Calling it twice is harmless."""
        self._finder.close()
        self.engine.close()

    def reset(self) -> None:
        """Forget the video so far; the next frame is the first of another."""
        self._scorer.reset()
        self._live.reset()
        self._pushed = 0

    def push(self, frame: Image | Frame, timestamp: float | None = None) -> list[Event]:
        """Take the next frame and return the events that are final with it.

        Args:
            frame: uint8 (H, W, 3) BGR or (H, W) gray; one size throughout. Or a `metst_edge.capture.Frame`, as a
                source gives them, whose number and time are then taken.
            timestamp: seconds, rising from frame to frame; with an array only.

        Raises:
            FrameError: wrong dtype, shape or size. The frame is not taken; the stream can go on.
            TimestampError: not finite, or not above the one before. Likewise.
        """
        if not isinstance(frame, Frame):
            # The frame is looked at again with the next one; until then the caller may have drawn on it.
            own = frame.copy() if isinstance(frame, np.ndarray) else frame
            frame = Frame(self._pushed, check_timestamp(timestamp), own)
        events = self._live.take(self._scorer.push(frame))
        self._pushed += 1
        return events

    def flush(self) -> list[Event]:
        """End the input: return the events that were still undecided. Then the analyzer is as after `reset`."""
        events = self._live.take(self._scorer.flush())
        self.reset()
        return events

    def stream(self, source: str | int | Path) -> Iterator[Event]:
        """Read a source to its end and yield events as they become final.

        Args:
            source: camera index, video file or folder of images.

        Raises:
            SourceError: it cannot be opened, or reading broke off; events found until then are yielded first.
        """
        self.reset()
        with open_source(source) as frames:
            self.check_rate(frames)
            try:
                for frame in self._read(frames):
                    if isinstance(frame, Interruption):
                        gap = Gap(frame.start, frame.end, frame.reason)
                        yield from self._live.take(self._scorer.interrupt(gap))
                    else:
                        yield from self._live.take(self._scorer.push(frame))
            except MetstError:
                yield from self.flush()
                raise
        yield from self.flush()

    def analyze(self, source: str | int | Path, progress: Progress | None = None) -> Report:
        """Read a recorded source to its end and decode it as a whole.

        Args:
            source: video file or folder of images.
            progress: called with the frames done and in all (None where unknown) after every frame.

        Raises:
            SourceError: it cannot be opened, or reading broke off. What was found until then is the error's ``report``.
        """
        self.reset()
        collected = Collected(self.bundle, self.engine.name, str(source))
        try:
            with open_source(source) as frames:
                if frames.live:
                    raise SourceError(f"{source}: expected recorded video, got a live source; use stream for it")
                self.check_rate(frames)
                collected.nominal_fps = frames.fps
                for frame in self._read(frames):
                    assert not isinstance(frame, Interruption), "only live sources are interrupted"
                    collected.add(self._scorer.push(frame))
                    collected.saw(frame)
                    if progress is not None:
                        progress(collected.frames, frames.frame_count)
            collected.add(self._scorer.flush())
        except (MetstError, KeyboardInterrupt) as error:
            if collected.frames:
                collected.add(self._scorer.flush())
                error.report = collected.report(complete=False)  # type: ignore[union-attr]
            raise
        finally:
            self.reset()
        return collected.report()

    def check_rate(self, source: Source) -> None:
        """Refuse a source so slow that there is a hole between any two of its frames.

        Raises:
            SourceError: it is. `stream` and `analyze` check this themselves.
        """
        least = self.bundle.fps / 2
        if source.fps is not None and source.fps < 0.95 * least:
            raise SourceError(
                f"{source.uri}: expected at least {least:g} frames per second for a model of {self.bundle.fps:g}, got "
                f"{source.fps:g}; micro-expressions would fall between the frames: record faster"
            )

    def _read(self, source: Source) -> Iterator[Frame | Interruption]:
        frames = iter(source)
        while True:
            try:
                with timed("capture", self._on_stage):
                    frame = next(frames)
            except StopIteration:
                return
            yield frame
