"""Video in, events out: options, sources and reports around what scores and decodes.

The only file that knows every stage. Frames pass face -> flow -> engine -> decode; two windows of each face, half a
window apart, are open at any time. Live, intervals come out as soon as they are final; offline, the same scores are
decoded as a whole. A recogniser, where one is given, is told of slots and events on the side.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from metst_edge import _native, checking
from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, Image, Interruption, Source, check_frame, check_timestamp, open_source
from metst_edge.choices import FACES, FLOWS, MODEL, MOST_THREADS
from metst_edge.closing import Closing
from metst_edge.engine import Engine, load_engine
from metst_edge.errors import EngineError, FrameError, MetstError, SourceError, StateError, TimestampError
from metst_edge.events import Event, Gap, MicroExpression
from metst_edge.face import Face, Finder, open_finder
from metst_edge.flow import default_threads
from metst_edge.guard import Guard
from metst_edge.labels import NEUTRAL
from metst_edge.origin import Origin
from metst_edge.recognise.memory import slots_needed
from metst_edge.recognise.second import Opinions, SecondOpinion
from metst_edge.report import Report
from metst_edge.scoring import (
    Collected,
    Harmless,
    Item,
    LiveEvents,
    OnSlot,
    OnStage,
    Picture,
    Scorer,
    SecondsCheck,
    calibrated,
    expect_reachable,
    open_lanes,
    timed,
)
from metst_edge.status import Status, Watch

__all__ = ["FLOWS", "Analyzer", "OnStage", "Progress"]

_LOG = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the frames done and in all; None where that is unknown."""


class Analyzer(Closing):
    """Spots micro-expressions in one video at a time.

    For one thread at a time, in the process that made it: a call while another is under way is a StateError, and so is
    any call after `close`, or in a forked process. `close` may be called from any thread. Where a call was broken off,
    by Ctrl-C or an error that is not about the frame, `push` is a StateError until `flush`, which returns what was
    found until then, or `reset`. Other errors leave things as they were.

    Args:
        model: name of a shipped model, or the path of a bundle (folder or zip).
        engine: "auto", "native", "onnxruntime", "tensorrt" or "cuda". See `load_engine`.
        on_stage: told how long every call of a stage took; see `OnStage`. What it raises is logged and has no effect.
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
        ratio: height of the threshold between the smoothed curve's mean (0) and maximum (1); default: the model's.
        floor: what the smoothed curve must reach in any case, 0 to 1; default: the model's.
        min_score: events with a lower `score` are left out, 0 to 1; default: the model's.
        calibration: the path of a file that ``metst-edge calibrate`` has written for this model: its floor and ratio,
            in place of the model's.
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
        OptionError: an argument of the wrong type, less than one thread, or more than 1024.
        FaceModelError: there is no such `face`, or what it needs is missing.
        SettingsError: there is no such decoder or synergy, a prior is no number or of a label the model lacks, a
            threshold is no number from 0 to 1, or floor or ratio is given beside a calibration.
        CalibrationError: the calibration is of another model, or none.

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
        model: str | Path = MODEL,
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
        ratio: float | None = None,
        floor: float | None = None,
        min_score: float | None = None,
        calibration: str | Path | None = None,
    ) -> None:
        checking.function("on_stage", on_stage, "a stage and seconds")
        checking.text("face", face, FACES)
        for name, file in ("face_model", face_model), ("recognizer", recognizer), ("calibration", calibration):
            if file is not None:
                checking.path(name, file, "a path or None")
        if checking.text("flow", flow, FLOWS) not in FLOWS:
            raise EngineError(f"expected flow {', '.join(map(repr, FLOWS))}, got {flow!r}")
        if threads is not None:
            threads = checking.whole("threads", threads, 1, MOST_THREADS, "leave it out for one per processor")
        try:
            _native.simd_path()
        except ValueError as error:  # the environment variable asks for instructions this processor lacks
            raise EngineError(str(error)) from error
        self.threads = threads or default_threads()
        on_stage = None if on_stage is None else Harmless(on_stage)
        self.bundle = Bundle.find(model)
        self.decode_settings = self.bundle.decode_settings.changed(
            decoder, synergy, class_priors, ratio, floor, min_score
        )
        expect_reachable(self.decode_settings, self.bundle)
        if calibration is not None:
            self.decode_settings = calibrated(self.decode_settings, self.bundle, calibration, ratio, floor)
        self._live = LiveEvents(self.bundle, self.decode_settings, on_stage)
        self.engine: Engine = load_engine(self.bundle, engine=engine, precision=precision)
        with ExitStack() as opened:
            opened.callback(self.engine.close)
            lanes = open_lanes(self.bundle, self.engine, flow, self.threads, on_stage)
            self._finder: Finder = open_finder(face, face_model)
            opened.callback(self._finder.close)
            self._second = None if recognizer is None else self._open_recognizer(recognizer)
            if self._second is not None:
                opened.callback(self._second.close)
            self._guard = Guard(self, "Analyzer", opened.pop_all().close)
        self.flow, self.face = lanes.flow, face
        self._on_stage = on_stage
        on_slot = None if self._second is None else _teller(self._second)
        self._scorer = Scorer(self.bundle.fps, self._finder, lanes, on_stage, on_slot, self.engine.precision)
        self._source: Source | None = None  # what `stream` reads
        self._forget()

    def _open_recognizer(self, path: str | Path) -> SecondOpinion:
        from metst_edge.recognise.engine import load_recognizer

        bundle = self.bundle
        engine = "tensorrt" if self.engine.name == "tensorrt" else "onnxruntime"
        emotions = [label for label in bundle.labels if label != NEUTRAL]
        slots = slots_needed(bundle.k_p, bundle.look_ahead + bundle.delay)
        return SecondOpinion(lambda: load_recognizer(path, engine), emotions, slots)

    @property
    def recognizer(self) -> str | None:
        """Name of the recogniser's bundle; None where there is none."""
        return None if self._second is None else self._second.name

    @property
    def opinions(self) -> Opinions:
        """How many intervals the recogniser has named so far, and why others not; all zero without one."""
        return Opinions() if self._second is None else self._second.opinions

    @property
    def status(self) -> Status:
        """What the stream under way is doing; any thread may ask. As new after `flush`, `reset` and `stream`."""
        return self._watch.status

    @property
    def ended(self) -> Status:
        """What the status was when the video before ended; as new once another is under way, and after `reset`."""
        return self._ended

    def close(self) -> None:
        """Release the face model, the recogniser and the engine; from any thread. Calling it twice is harmless.

        A call under way in another thread is waited for, a second at most: `push` ends as ever, `stream` gives what was
        found until then and ends, `analyze` raises a StateError with what was found as its ``report``. An opinion under
        way is waited for, a few seconds at most.
        """
        self._guard.shut()
        source = self._source
        if source is not None and source.live:
            source.close()  # its reader waits for a frame that may not come
        if self._second is not None:
            self._second.hurry()
        self._guard.close()

    def reset(self) -> None:
        """Forget the video so far; the next frame is the first of another. A `stream` under way ends.

        Raises:
            StateError: as of every call; see above.
        """
        with self._guard.use():
            self._forget()

    def _forget(self) -> None:
        self._scorer.reset()
        self._live.reset()
        if self._second is not None:
            self._second.reset()
        self._pushed = 0
        self._origin, self._watch = Origin(), Watch()
        self._ended = Status()
        self._seconds = SecondsCheck()
        self._clock: tuple[float, float] | None = None  # of a live source: its time, and the monotonic one
        self._broken = False
        self._streaming: _Streaming | None = None  # the `stream` whose video this is

    def push(self, frame: Image | Frame, timestamp: float | None = None) -> list[Event]:
        """Take the next frame and return the events that are final with it.

        With a recogniser, the events before that were refined meanwhile come first.

        Args:
            frame: uint8 (H, W, 3) BGR or (H, W) gray; one size throughout. Or a `metst_edge.capture.Frame`, as a
                source gives them, whose number and time are then taken.
            timestamp: seconds, rising from frame to frame; with an array only.

        Raises:
            FrameError: wrong dtype, shape or size. The frame is not taken; the stream can go on.
            TimestampError: not finite, not above the one before, or by their steps times are not in seconds. Likewise.
            StateError: as of every call; see above. Or a `stream` is under way.
        """
        with self._guard.use():
            self._expect_no_stream("frame")
            if not isinstance(frame, Frame):
                # The frame is looked at again with the next one; until then the caller may have drawn on it.
                own = check_frame(frame).copy()
                frame = Frame(self._pushed, check_timestamp(timestamp), own)
                self._seconds.check(frame.timestamp)
            events = self._push(frame)
            self._seconds.took(frame.timestamp)
            self._pushed += 1
            return events

    def _push(self, frame: Frame) -> list[Event]:
        if self._broken:
            raise StateError(
                "expected a video that goes on, but a call was broken off in the middle of a frame; flush for what was "
                "found until then, or reset, and begin anew",
                "broken",
            )
        with self._unbroken():
            return self._found(self._scorer.push(frame), frame.timestamp)

    @contextmanager
    def _unbroken(self) -> Iterator[None]:
        """Take note where the body is broken off, by anything but a frame that is refused."""
        try:
            yield
        except (FrameError, TimestampError):
            self._broken = not self._scorer.whole
            raise
        except BaseException:
            self._broken = True
            raise

    def flush(self) -> list[Event]:
        """End the input: return the events that were still undecided. Then the analyzer is as after `reset`.

        With a recogniser, opinions under way are waited for, a few seconds at most; Ctrl-C ends that wait.

        Raises:
            StateError: as of every call; see above.
        """
        with self._guard.use():
            return [event for events in self._end() for event in events]

    def stream(self, source: str | int | Path, fps: float | None = None) -> Iterator[Event]:
        """Read a source to its end and yield events as they become final.

        It is under way from its first event on until it has ended, or is closed as generators are. Until then another
        video is refused, which would cut this one off without a word. `reset` and `flush` end it. So does `close`,
        within a second, from another thread too; only a camera that is being opened takes its time.

        Args:
            source: camera index, video file or folder of images.
            fps: how many pictures were taken a second, where the source does not say so; see `open_source`.

        Raises:
            SourceError: it cannot be opened, or reading broke off; events found until then are yielded first.
            StateError: as of every call; see above. Or another `stream` is under way.
        """
        me, steps = _Streaming(str(source)), self._steps(source, fps)
        with self._guard.use():
            self._expect_no_stream("other video")
            self._forget()
            self._streaming = me
        try:
            while self._streaming is me and not self._guard.closed():
                with self._guard.use():
                    events = next(steps, None)
                    if events is None:
                        return
                    if self._guard.closed():  # what is released then, is needed for the rest
                        events += [event for more in steps for event in more]
                for event in events:
                    # A flush between two of them has told of the gap already, as it has ended.
                    if self._streaming is me or not (isinstance(event, Gap) and event.end is None):
                        yield event
        finally:
            steps.close()
            self._leave(me)

    def _expect_no_stream(self, what: str) -> None:
        if self._streaming is not None:
            raise StateError(
                f"expected no {what} while stream is under way, which reads {self._streaming.source}; let it end or "
                "close it, or flush or reset first",
                "busy",
            )

    def _leave(self, stream: _Streaming) -> None:
        if self._streaming is stream:
            self._streaming = None

    def _steps(self, source: str | int | Path, fps: float | None) -> Generator[list[Event], None, None]:
        """Read a source; yield what is final with each of its frames, and at the end what is left."""
        with _opened(source, fps) as frames:
            self.check_rate(frames)
            self._origin = Origin(frames.uri, frames.live)
            _LOG.info("%s: opened, %s frames per second", frames.uri, frames.fps or "an unknown number of")
            self._source = frames
            try:
                for frame in () if self._guard.closed() else self._read(frames):
                    yield self._take(frame, frames.live)
                    if self._guard.closed():
                        break
            except MetstError:
                yield from self._end()
                raise
            finally:
                self._source = None
        yield from self._end()

    def _take(self, frame: Frame | Interruption, live: bool) -> list[Event]:
        """Take what a source gives."""
        if not isinstance(frame, Interruption):
            if live:
                self._clock = frame.timestamp, time.monotonic()
            return self._push(frame)
        if self._clock is None:
            self._clock = frame.start, time.monotonic()
        with self._unbroken():
            at = frame.start if frame.end is None else frame.end
            return self._found(self._scorer.interrupt(Gap(frame.start, frame.end, frame.reason)), at, frame=False)

    def analyze(self, source: str | int | Path, progress: Progress | None = None, fps: float | None = None) -> Report:
        """Read a recorded source to its end and decode it as a whole.

        With a recogniser, the source is then read once more, as far as its last interval, for the frames to be shown;
        the report's events are the refined ones.

        Args:
            source: video file or folder of images.
            progress: called with the frames done and in all (None where unknown) after every frame, at the second
                reading from the first one again.
            fps: how many pictures were taken a second, where the source does not say so; see `open_source`.

        Raises:
            SourceError: it cannot be opened, or reading broke off. What was found until then is the error's ``report``.
            EngineError: the recogniser failed; likewise.
            StateError: as of every call; see above. Where it was closed meanwhile, likewise. A `stream` is under way.
            OptionError: ``progress`` cannot be called.
        """
        checking.function("progress", progress, "the frames done and in all")
        with self._guard.use():
            self._expect_no_stream("other video")
            return self._analyze(source, progress, fps)

    def _analyze(self, source: str | int | Path, progress: Progress | None, fps: float | None) -> Report:
        self._forget()
        if self._second is not None:
            self._second.record()
        try:
            report = self._collect(source, progress, fps)
            return report if self._second is None else self._refined(report, self._second, progress, fps)
        except MetstError as error:
            if self._second is not None and error.report is not None and not error.report.complete:
                with suppress(MetstError):  # what could be read, can be read again
                    error.report = self._refined(error.report, self._second, progress, fps)
            raise
        finally:
            self._forget()

    def _collect(self, source: str | int | Path, progress: Progress | None, fps: float | None) -> Report:
        """Score a recorded source and decode it, the recogniser not asked."""
        collected = Collected(self.bundle, self.decode_settings, self.engine.name, str(source))
        try:
            with _opened(source, fps) as frames:
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
                    if self._guard.closed():
                        raise StateError(f"{source}: expected to read on, but the Analyzer was closed", "closed")
            collected.add(self._scorer.flush())
        except (MetstError, KeyboardInterrupt) as error:
            if collected.frames:
                collected.add(self._scorer.flush())
                error.report = self._unrefined(collected.report(complete=False))  # type: ignore[union-attr]
            raise
        return self._unrefined(collected.report())

    def _unrefined(self, report: Report) -> Report:
        """Return the report as it is before the recogniser is asked."""
        report = replace(report, events=tuple(Origin(report.source).mark(report.events)))
        if self._second is None:
            return report
        events = [replace(e, revision=0) if isinstance(e, MicroExpression) else e for e in report.events]
        return replace(
            report, events=tuple(events), recognizer=self._second.name, recognizer_labels=self._second.labels
        )

    def _refined(self, report: Report, second: SecondOpinion, progress: Progress | None, fps: float | None) -> Report:
        """Return the report with the recogniser's opinions; of what fails or is interrupted it is the ``report``."""
        events = list(report.events)
        try:
            with _opened(report.source, fps) as frames:
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

    def _found(self, items: list[Item], at: float | None = None, frame: bool = True) -> list[Event]:
        """Return the events that are final with these items, and those that were refined meanwhile.

        Args:
            items: what the scorer gave.
            at: seconds of source time, of the frame or interruption that has just come; None where nothing has.
            frame: whether it is a frame.
        """
        if at is not None:
            self._origin.saw(at)
            self._watch.saw(at, items, self._scorer.run.going, frame)
        events = self._origin.mark(self._live.take(items))
        return events if self._second is None else self._second.take(events)

    def _end(self) -> Iterator[list[Event]]:
        """End the input, events first and then, once they are there, opinions on them."""
        now = None
        if self._clock is not None:
            of_source, then = self._clock
            now = of_source + time.monotonic() - then
        with self._unbroken():
            events = self._found(self._scorer.flush(now))
        yield events
        if self._second is not None:
            yield list(self._second.finish())
        ended = self._watch.status
        self._forget()
        self._ended = ended

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


@dataclass(frozen=True, eq=False)
class _Streaming:
    """A `stream` under way: no two are the same.

    Attributes:
        source: what it reads, as it was given.
    """

    source: str


def _opened(source: str | int | Path, fps: float | None) -> Source:
    return open_source(source) if fps is None else open_source(source, fps)


def _teller(second: SecondOpinion) -> OnSlot:
    """Return what tells the recogniser of slots; it does not know the analyzer, which then ends with its last user."""

    def saw(picture: Picture, face: Face | None) -> None:
        second.saw(picture.index, picture.gray, None if face is None else face.landmarks)

    return saw
