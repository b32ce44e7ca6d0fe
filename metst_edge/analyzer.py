"""Video in, events out: options, sources and reports around what scores and decodes.

The only file that knows every stage. Frames pass face -> flow -> engine -> decode; two windows of each face, half a
window apart, are open at any time. Live, intervals come out as soon as they are final; offline, the same scores are
decoded as a whole. A recogniser, where one is given, is told of slots and events on the side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
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
from metst_edge.events import Event, Gap, MicroExpression
from metst_edge.face import Face, Finder, open_finder
from metst_edge.flow import default_threads
from metst_edge.labels import NEUTRAL
from metst_edge.recognise.memory import slots_needed
from metst_edge.recognise.second import Opinions, SecondOpinion
from metst_edge.report import Report
from metst_edge.scoring import (
    Collected,
    DeviceLanes,
    HostLanes,
    Item,
    LiveEvents,
    OnStage,
    Picture,
    Scorer,
    timed,
)

__all__ = ["FLOWS", "Analyzer", "OnStage", "Progress"]

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the frames done and in all; None where that is unknown."""


class Analyzer(Closing):
    """Spots micro-expressions in one video at a time.

    Args:
        model: name of a shipped model, or the path of a bundle (folder or zip).
        engine: "auto", "native", "onnxruntime", "tensorrt" or "cuda". See `load_engine`.
        on_stage: told how long every call of a stage took; see `OnStage`.
        threads: that a frame's flow is spread over on the CPU, at most; default: the processors this process may use, 4
            at most.
        precision: "fp32" or "fp16". See `load_engine`.
        flow: where optical flow is measured: "cpu", "cuda", or "auto": "cuda" where the engine is "cuda", or
            "tensorrt" and the plugin's library is installed, else "cpu".
        face: what finds the face: "opencv", with the models that come along, or "mediapipe", the package of that name.
        face_model: a ``face_landmarker.task``, which MediaPipe needs from 0.10.30 on.
        decoder: how a peak of the spotting curve becomes an interval, "fixed" or "adaptive"; default: the model's.
        synergy: how spotting and recognition settle a disagreement, "spotting_mainly", "recognition_mainly" or "none";
            default: the model's.
        class_priors: label -> number added to its logit before the frames of an interval vote, such as
            ``{"positive": 0.5}``; in place of the model's. See `metst_edge.decode.DecodeSettings`.
        recognizer: the path of a recogniser's bundle, which is asked for a second opinion on every interval; None for
            none. It runs in a thread of its own, in TensorRT where the engine is "tensorrt", else in ONNX Runtime.

    Attributes:
        bundle: the model.
        decode_settings: what its scores are decoded with.
        engine: what runs it.
        flow: "cpu" or "cuda".
        face: "opencv" or "mediapipe".
        threads: see above.
        recognizer: name of the recogniser's bundle; None where there is none.

    Raises:
        ModelNotFoundError: there is no such model.
        BundleError: the model cannot be used, or the recogniser names less than two of its emotions.
        EngineError: the engine is unknown or not installed, flow cannot be measured there, or METST_EDGE_SIMD names
            what this processor lacks.
        ValueError: less than one thread.
        FaceModelError: there is no such `face`, or what it needs is missing.
        SettingsError: there is no such decoder or synergy, or a prior is no number or of a label the model lacks.

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
        decoder: str | None = None,
        synergy: str | None = None,
        class_priors: Mapping[str, float] | None = None,
        recognizer: str | Path | None = None,
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
        self.decode_settings = self.bundle.decode_settings.changed(decoder, synergy, class_priors)
        self._live = LiveEvents(self.bundle, self.decode_settings, on_stage)
        self.engine: Engine = load_engine(self.bundle, engine=engine, precision=precision)
        with ExitStack() as opened:
            opened.callback(self.engine.close)
            lanes = self._open_lanes(flow, on_stage)
            self._finder: Finder = open_finder(face, face_model)
            opened.callback(self._finder.close)
            self._second = None if recognizer is None else self._open_recognizer(recognizer)
            opened.pop_all()
        self.flow, self.face = lanes.flow, face
        self._on_stage = on_stage
        on_slot = None if self._second is None else self._saw
        self._scorer = Scorer(self.bundle.fps, self._finder, lanes, on_stage, on_slot, self.engine.precision)
        self.reset()

    def _open_lanes(self, flow: str, on_stage: OnStage | None) -> HostLanes | DeviceLanes:
        """Open a stream, with flow where it is wanted."""
        bundle, engine = self.bundle, self.engine
        why_not: str | None = f"engine {engine.name!r} takes features from the host only; use 'tensorrt' or 'cuda'"
        if isinstance(engine, DeviceEngine) and flow != "cpu":
            why_not = engine.why_no_flow()
            if why_not is None:
                return DeviceLanes(engine.open_stream(lanes=LANES), bundle.k, on_stage)
            _LOG.info("optical flow is measured on the CPU: %s", why_not)
        if flow == "cuda":
            raise EngineError(f"expected to measure optical flow on the GPU, but {why_not}")
        stream = engine.open_stream(lanes=LANES)
        return HostLanes(stream, bundle.k, bundle.roi_set, bundle.compat, self.threads, on_stage)

    def _open_recognizer(self, path: str | Path) -> SecondOpinion:
        from metst_edge.recognise.engine import load_recognizer

        bundle = self.bundle
        engine = "tensorrt" if self.engine.name == "tensorrt" else "onnxruntime"
        emotions = [label for label in bundle.labels if label != NEUTRAL]
        slots = slots_needed(bundle.k_p, bundle.look_ahead)
        return SecondOpinion(lambda: load_recognizer(path, engine), emotions, slots)

    @property
    def recognizer(self) -> str | None:
        """Name of the recogniser's bundle; None where there is none."""
        return None if self._second is None else self._second.name

    @property
    def opinions(self) -> Opinions:
        """How many intervals the recogniser has named so far, and why others not; all zero without one."""
        return Opinions() if self._second is None else self._second.opinions

    def close(self) -> None:
        """Release the face model, the recogniser and the engine. Calling it twice is harmless.

        An opinion under way is waited for, a few seconds at most.
        """
        if self._second is not None:
            self._second.close()
        self._finder.close()
        self.engine.close()

    def reset(self) -> None:
        """Forget the video so far; the next frame is the first of another."""
        self._scorer.reset()
        self._live.reset()
        if self._second is not None:
            self._second.reset()
        self._pushed = 0

    def push(self, frame: Image | Frame, timestamp: float | None = None) -> list[Event]:
        """Take the next frame and return the events that are final with it.

        With a recogniser, the events before that were refined meanwhile come first.

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
        events = self._found(self._scorer.push(frame))
        self._pushed += 1
        return events

    def flush(self) -> list[Event]:
        """End the input: return the events that were still undecided. Then the analyzer is as after `reset`.

        With a recogniser, opinions under way are waited for, a few seconds at most; Ctrl-C ends that wait.
        """
        return list(self._end())

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
                        yield from self._found(self._scorer.interrupt(gap))
                    else:
                        yield from self._found(self._scorer.push(frame))
            except MetstError:
                yield from self._end()
                raise
        yield from self._end()

    def analyze(self, source: str | int | Path, progress: Progress | None = None) -> Report:
        """Read a recorded source to its end and decode it as a whole.

        With a recogniser, the source is then read once more, as far as its last interval, for the frames to be shown;
        the report's events are the refined ones.

        Args:
            source: video file or folder of images.
            progress: called with the frames done and in all (None where unknown) after every frame, at the second
                reading from the first one again.

        Raises:
            SourceError: it cannot be opened, or reading broke off. What was found until then is the error's ``report``.
            EngineError: the recogniser failed; likewise.
        """
        self.reset()
        if self._second is not None:
            self._second.record()
        try:
            report = self._collect(source, progress)
            return report if self._second is None else self._refined(report, self._second, progress)
        except MetstError as error:
            if self._second is not None and error.report is not None and not error.report.complete:
                with suppress(MetstError):  # what could be read, can be read again
                    error.report = self._refined(error.report, self._second, progress)
            raise
        finally:
            self.reset()

    def _collect(self, source: str | int | Path, progress: Progress | None) -> Report:
        """Score a recorded source and decode it, the recogniser not asked."""
        collected = Collected(self.bundle, self.decode_settings, self.engine.name, str(source))
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
                error.report = self._unrefined(collected.report(complete=False))  # type: ignore[union-attr]
            raise
        return self._unrefined(collected.report())

    def _unrefined(self, report: Report) -> Report:
        """Return the report as it is before the recogniser is asked."""
        if self._second is None:
            return report
        events = [replace(e, revision=0) if isinstance(e, MicroExpression) else e for e in report.events]
        return replace(
            report, events=tuple(events), recognizer=self._second.name, recognizer_labels=self._second.labels
        )

    def _refined(self, report: Report, second: SecondOpinion, progress: Progress | None) -> Report:
        """Return the report with the recogniser's opinions; of what fails or is interrupted it is the ``report``."""
        events = list(report.events)
        try:
            with open_source(report.source) as frames:
                second.refine(events, report.scores.frame, self._again(frames, progress))
        except (MetstError, KeyboardInterrupt) as error:
            error.report = replace(report, events=tuple(events))  # type: ignore[union-attr]
            raise
        return replace(report, events=tuple(events))

    def _again(self, source: Source, progress: Progress | None) -> Iterator[Frame]:
        """Give the frames of a recorded source that was read before."""
        for done, frame in enumerate(self._read(source), 1):
            assert not isinstance(frame, Interruption), "only live sources are interrupted"
            yield frame
            if progress is not None:
                progress(done, source.frame_count)

    def _saw(self, picture: Picture, face: Face | None) -> None:
        assert self._second is not None, "nobody else is told"
        self._second.saw(picture.index, picture.gray, None if face is None else face.landmarks)

    def _found(self, items: list[Item]) -> list[Event]:
        """Return the events that are final with these items, and those that were refined meanwhile."""
        events = self._live.take(items)
        return events if self._second is None else self._second.take(events)

    def _end(self) -> Iterator[Event]:
        """End the input, events first and then, once they are there, opinions on them."""
        yield from self._found(self._scorer.flush())
        if self._second is not None:
            yield from self._second.finish()
        self.reset()

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
