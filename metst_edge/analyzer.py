"""Video in, events out: the only file that knows every stage.

Frames pass face -> flow -> engine -> decode. Two windows, half a window apart, are open at any time (lanes); each
measures flow from its own first frame. Live, intervals come out as soon as they are final; offline, the same scores are
decoded as a whole.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from metst_edge import _native
from metst_edge.bundle import Bundle
from metst_edge.capture import Frame, Interruption, Source, check_frame, check_timestamp, open_source, to_gray
from metst_edge.capture.retime import Hole, Retimer, Slot
from metst_edge.decode import Interval, OnlineDecoder, decode
from metst_edge.engine import Engine, Stream, load_engine
from metst_edge.engine.lanes import LANES, FrameScore, Lanes
from metst_edge.engine.types import DeviceEngine, DeviceFlow, DeviceStream
from metst_edge.errors import EngineError, MetstError, SourceError
from metst_edge.events import Event, Gap, MicroExpression
from metst_edge.face import Face, FaceFinder
from metst_edge.flow import RoiFlow, correlation, default_threads, measure, thumbnail
from metst_edge.flow.cuda import REQUEST
from metst_edge.report import Report, Scores

_LOG = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
Progress = Callable[[int, int | None], None]
OnStage = Callable[[str, float], None]
"""Called with a stage's name and the seconds that one call of it took, once it is done. A call that raises is not told.

capture: reading a frame of the source, and waiting for it where the source is live. `stream` and `analyze` only.
prepare: making a frame gray, and its thumbnail.
face:    looking for the face: at every window's start, and while there is none.
flow:    measuring one slot of the model's time grid in the windows open at it; preparing a window's anchor is no part.
         On a GPU only asking for it, since nothing waits for it but the network.
network: scoring that slot; draining the scores under way where a run ends is no part.
decode:  taking one slot's scores and finding what is final with them. Not of `analyze`, which decodes at the end.
"""

FLOWS = ("auto", "cpu", "cuda")

LOST_BELOW = 0.4
"""Likeness of a crop with its anchor's under which the face is no longer in it. On real video a head that nods or turns
within half a second stays above it; a crop without the face lies near 0.1."""
CUT_BELOW = 0.5
"""Correlation of two successive pictures under which the scene was cut. Moving people stay above 0.9."""
SEARCH_SECONDS = 0.1
"""How often a lost face is looked for."""


class Analyzer:
    """Spots micro-expressions in one video at a time.

    Args:
        model: name of a shipped model, or the path of a bundle (folder or zip).
        engine: "auto", "native", "onnxruntime" or "tensorrt". precision: "fp32" or "fp16". See `load_engine`.
        flow: where optical flow is measured: "cpu", "cuda", or "auto": "cuda" where the engine is "tensorrt" and the
            plugin's library is installed, else "cpu".
        on_stage: told how long every call of a stage took; see `OnStage`.
        threads: that a frame's flow is spread over on the CPU, at most; default: the processors this process may use,
            4 at most.

    Attributes:
        flow: "cpu" or "cuda".

    Raises:
        ModelNotFoundError, BundleError: the model cannot be used.
        EngineError: the engine is unknown or not installed, flow cannot be measured there, or METST_EDGE_SIMD names
            what this processor lacks.
        ValueError: less than one thread.
        FaceModelError: MediaPipe's face model is missing.

    Example:
        >>> with Analyzer() as analyzer:
        ...     for event in analyzer.stream("0"):
        ...         print(event.to_json())
    """

    def __init__(
        self,
        model: str | Path = "demo",
        engine: str = "auto",
        on_stage: OnStage | None = None,
        threads: int | None = None,
        precision: str = "fp32",
        flow: str = "auto",
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
        settings = self.bundle.decode
        self._decoder = OnlineDecoder(
            self.bundle.k_p,
            self.bundle.fps,
            settings["ratio"],
            settings["floor"],
            settings["synergy"],
            settings["window_seconds"],
        )
        try:
            lanes = self._open_lanes(flow, on_stage)
            self._finder = FaceFinder()
        except BaseException:
            self.engine.close()
            raise
        self.flow = lanes.flow
        self._on_stage = on_stage
        self._scorer = _Scorer(self.bundle, self._finder, lanes, on_stage)
        self.reset()

    def _open_lanes(self, flow: str, on_stage: OnStage | None) -> _HostLanes | _DeviceLanes:
        """Open a stream, with flow where it is wanted."""
        engine = self.engine
        why_not: str | None = f"engine {engine.name!r} takes features from the host only; use 'tensorrt'"
        if isinstance(engine, DeviceEngine) and flow != "cpu":
            why_not = engine.why_no_flow()
            if why_not is None:
                return _DeviceLanes(self.bundle, engine.open_stream(lanes=LANES), on_stage)
            _LOG.info("optical flow is measured on the CPU: %s", why_not)
        if flow == "cuda":
            raise EngineError(f"expected to measure optical flow on the GPU, but {why_not}")
        return _HostLanes(self.bundle, engine.open_stream(lanes=LANES), on_stage, self.threads)

    def __enter__(self) -> Analyzer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the face model and the engine. Calling it twice is harmless."""
        self._finder.close()
        self.engine.close()

    def reset(self) -> None:
        """Forget the video so far; the next frame is the first of another."""
        self._scorer.reset()
        self._decoder.reset()
        self._scored: deque[_Scored] = deque()
        self._first_scored = 0
        self._pushed = 0

    def push(self, frame: Image, timestamp: float) -> list[Event]:
        """Take the next frame and return the events that are final with it.

        Args:
            frame: uint8 (H, W, 3) BGR or (H, W) gray; one size throughout.
            timestamp: seconds, rising from frame to frame.

        Raises:
            FrameError: wrong dtype, shape or size. The frame is not taken; the stream can go on.
            TimestampError: not finite, or not above the one before. Likewise.
        """
        # The frame is looked at again with the next one; until then the caller may have drawn on it.
        own = frame.copy() if isinstance(frame, np.ndarray) else frame
        events = self._decode(self._scorer.push(own, timestamp, self._pushed))
        self._pushed += 1
        return events

    def flush(self) -> list[Event]:
        """End the input: return the events that were still undecided. Then the analyzer is as after `reset`."""
        events = self._decode(self._scorer.flush())
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
                        yield from self._decode(self._scorer.interrupt(gap))
                    else:
                        yield from self._decode(self._scorer.push(frame.image, frame.timestamp, frame.index))
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
        collected = _Collected(self.bundle, self.engine.name, str(source))
        try:
            with open_source(source) as frames:
                if frames.live:
                    raise SourceError(f"{source}: expected recorded video, got a live source; use stream for it")
                self.check_rate(frames)
                collected.nominal_fps = frames.fps
                for frame in self._read(frames):
                    assert not isinstance(frame, Interruption), "only live sources are interrupted"
                    collected.add(self._scorer.push(frame.image, frame.timestamp, frame.index))
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
                with _timed("capture", self._on_stage):
                    frame = next(frames)
            except StopIteration:
                return
            yield frame

    def _decode(self, items: list[_Item]) -> list[Event]:
        events: list[Event] = []
        for item in items:
            if isinstance(item, Gap):
                events.append(item)
                continue
            if isinstance(item, _RunEnd):
                events += self._end_run()
                continue
            self._scored.append(item)
            if len(self._scored) > self._decoder.reach:
                self._scored.popleft()
                self._first_scored += 1
            with _timed("decode", self._on_stage):
                events += self._events(self._decoder.push(item.spot, item.emotion))
        return events

    def _end_run(self) -> list[Event]:
        events = self._events(self._decoder.flush())
        self._scored.clear()
        self._first_scored = 0
        return events

    def _events(self, intervals: list[Interval]) -> list[Event]:
        labels = self.bundle.labels
        first, scored = self._first_scored, self._scored
        return [_event(interval, labels, lambda i: scored[i - first]) for interval in intervals]


@contextmanager
def _timed(stage: str, on_stage: OnStage | None) -> Iterator[None]:
    """Tell ``on_stage`` how long the body took, unless it raises; a microsecond of overhead."""
    start = time.perf_counter()
    yield
    if on_stage is not None:
        on_stage(stage, time.perf_counter() - start)


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """The scores of one slot of the model's time grid, and the source frame nearest to it."""

    frame: int
    time: float
    spot: float
    emotion: npt.NDArray[np.float32]


class _RunEnd:
    """A run of scores has ended: nothing after it can change what was found in it."""


_Item = _Scored | _RunEnd | Gap


def _event(interval: Interval, labels: tuple[str, ...], at: Callable[[int], _Scored]) -> MicroExpression:
    onset, apex, offset = at(interval.onset), at(interval.apex), at(interval.offset)
    emotions = [label for label in labels if label != "neutral"]
    return MicroExpression(
        onset=onset.time,
        apex=apex.time,
        offset=offset.time,
        onset_frame=onset.frame,
        apex_frame=apex.frame,
        offset_frame=offset.frame,
        emotion="neutral" if interval.emotion is None else labels[interval.emotion],
        probabilities=dict(zip(emotions, interval.probabilities.tolist(), strict=True)),
        score=interval.score,
    )


class _Picture:
    """A source frame, and what is derived from it when it is needed."""

    __slots__ = ("gray", "image", "index", "thumbnail", "time")

    def __init__(self, image: Image, time: float, index: int) -> None:
        self.image, self.time, self.index = image, time, index
        self.gray = to_gray(image)
        self.thumbnail = thumbnail(self.gray)


class _Window:
    """What is known of one lane's window: which pictures were measured last in it; all up to the anchor are zero."""

    def __init__(self, anchor: _Picture) -> None:
        self._anchor = self._last = self._before = anchor.index

    def knows(self, picture: _Picture) -> bool:
        """Tell whether the picture need not be measured."""
        return picture.index <= self._anchor or picture.index in (self._before, self._last)

    def measured(self, picture: _Picture) -> None:
        """Take note of the next picture that is measured."""
        self._before, self._last = self._last, picture.index

    def shares(self, before: _Picture, after: _Picture, weight: float) -> tuple[float, float]:
        """Return how much of what was measured last but one, and last, lies ``weight`` of the way between the two."""
        of_before = of_last = 0.0
        for picture, share in ((before, 1 - weight), (after, weight)):
            if picture.index == self._last:
                of_last += share
            elif picture.index == self._before:
                of_before += share
        return of_before, of_last


class _HostWindow(_Window):
    """A window with its flow, and the features of its last two pictures: float32 (C,) each."""

    def __init__(self, anchor: _Picture, face: Face, bundle: Bundle) -> None:
        super().__init__(anchor)
        self.flow = RoiFlow(anchor.gray, face.box, face.crop_landmarks, bundle.roi_set, bundle.compat)
        self.before = self.last = np.zeros(bundle.channels, np.float32)


def _unknown(windows: Mapping[int, _Window], before: _Picture, after: _Picture) -> list[tuple[_Picture, list[int]]]:
    """Return which pictures are to be measured, in order, and in which lanes; take note that they are."""
    unknown = []
    for picture in (before, after):
        lanes = [lane for lane, window in windows.items() if not window.knows(picture)]
        for lane in lanes:
            windows[lane].measured(picture)
        if lanes:
            unknown.append((picture, lanes))
    return unknown


class _HostLanes:
    """From pictures to scores, with flow on the CPU and any engine.

    Attributes:
        network: its lanes.
    """

    flow = "cpu"

    def __init__(self, bundle: Bundle, stream: Stream, on_stage: OnStage | None, threads: int) -> None:
        self._bundle, self._on_stage, self._threads = bundle, on_stage, threads
        self.network = Lanes(stream, bundle.k)
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self.network.reset()
        self._windows: dict[int, _HostWindow] = {}

    def start(self, lane: int, anchor: _Picture, face: Face) -> None:
        """Begin a lane's window."""
        self._windows[lane] = _HostWindow(anchor, face, self._bundle)

    def push(self, before: _Picture, after: _Picture, weight: float) -> list[FrameScore] | None:
        """Score the moment between two pictures, ``weight`` of the way; None, and nothing done, if a face is lost."""
        starting = self.network.starting
        windows = {lane: window for lane, window in self._windows.items() if lane != starting}
        features = np.zeros((LANES, self._bundle.channels), np.float32)
        with _timed("flow", self._on_stage):
            for picture, lanes in _unknown(windows, before, after):
                flows = [windows[lane].flow for lane in lanes]
                for lane, new in zip(lanes, measure(flows, picture.gray, self._threads), strict=True):
                    windows[lane].before, windows[lane].last = windows[lane].last, new
            for lane, window in windows.items():
                of_before, of_last = window.shares(before, after, weight)
                features[lane] = of_before * window.before + of_last * window.last
        if any(window.flow.likeness < LOST_BELOW for window in windows.values()):
            return None
        with _timed("network", self._on_stage):
            return self.network.push(features)


class _DeviceLanes:
    """From pictures to scores, with flow on the device that the network runs on: features never visit the host.

    Attributes:
        network: its lanes.
    """

    flow = "cuda"

    def __init__(self, bundle: Bundle, stream: DeviceStream, on_stage: OnStage | None) -> None:
        self._stream, self._on_stage = stream, on_stage
        self.network = Lanes(stream, bundle.k)
        self._flow: DeviceFlow | None = None  # for frames of one size, once they are seen
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self.network.reset()
        self._windows: dict[int, _Window] = {}
        self._shown: _Picture | None = None

    def start(self, lane: int, anchor: _Picture, face: Face) -> None:
        """Begin a lane's window."""
        height, width = anchor.gray.shape
        if self._flow is None or self._flow.shape != (height, width):
            # Which closes the one before and resets the stream: frames change their size between runs only.
            self._flow = None
            self._flow = self._stream.open_flow((height, width))
        self._show(self._flow, anchor)
        self._flow.start(lane, face.box, face.crop_landmarks)
        self._windows[lane] = _Window(anchor)

    def push(self, before: _Picture, after: _Picture, weight: float) -> list[FrameScore] | None:
        """Score the moment between two pictures, ``weight`` of the way; None, and nothing done, if a face is lost."""
        flow, starting = self._flow, self.network.starting
        assert flow is not None, "no window has been started"
        windows = {lane: window for lane, window in self._windows.items() if lane != starting}
        requests = np.zeros((LANES, REQUEST), np.float32)
        with _timed("flow", self._on_stage):
            unknown = _unknown(windows, before, after)
            for lane, window in windows.items():
                requests[lane, 1:] = window.shares(before, after, weight)
            for picture, lanes in unknown:
                self._show(flow, picture)
                requests[:, 0] = 0
                requests[lanes, 0] = 1
                flow.measure(requests)
            if not unknown:
                flow.blend(requests)
        with _timed("network", self._on_stage):
            scores = self.network.push(None)
        if (flow.likeness[list(windows)] < LOST_BELOW).any():  # known now: waiting for it before would cost more
            self.network.take_back(scores)
            return None
        return scores

    def _show(self, flow: DeviceFlow, picture: _Picture) -> None:
        if self._shown is not picture:
            flow.show(picture.gray)
            self._shown = picture


class _Scorer:
    """Turns frames into scores on the model's time grid, with a Gap wherever a run of them ends.

    A run begins on a frame with a face. It ends when the face is gone at a window's start or its crop shows something
    else, at a scene cut, at a hole in time, or when the source reports an interruption.
    """

    def __init__(
        self, bundle: Bundle, finder: FaceFinder, lanes: _HostLanes | _DeviceLanes, on_stage: OnStage | None
    ) -> None:
        self._finder = finder
        self._lanes = lanes
        self._on_stage = on_stage
        self._retimer = Retimer(bundle.fps)
        self.reset()

    def reset(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._previous: _Picture | None = None
        self._lost_since: float | None = None
        self._stop()

    def _stop(self) -> None:
        """Forget the run and look for a face on the next frame."""
        self._running = False
        self._next_search = -np.inf
        self._retimer.flush()
        self._lanes.reset()
        self._waiting: deque[_Picture] = deque()  # the source frames of slots whose scores are still under way

    def push(self, image: Image, timestamp: float, index: int) -> list[_Item]:
        """Take the next frame; raises FrameError and TimestampError before anything is changed."""
        previous = self._previous
        timestamp = check_timestamp(timestamp, None if previous is None else previous.time)
        self._shape = check_frame(image, self._shape).shape
        with _timed("prepare", self._on_stage):
            picture = _Picture(image, timestamp, index)
        self._previous = picture
        items: list[_Item] = []
        if self._running and previous is not None:
            if correlation(previous.thumbnail, picture.thumbnail) < CUT_BELOW:
                items += self._end()
                items.append(Gap(previous.time, timestamp, "scene_cut"))
            else:
                items += self._advance(previous, picture)
        if not self._running:
            items += self._search(picture)
        return items

    def interrupt(self, gap: Gap) -> list[_Item]:
        """End the run at a gap the source reports; the size of the frames may change across it."""
        items = self.flush()
        items.append(gap)
        return items

    def flush(self) -> list[_Item]:
        """End the input: return the scores still under way, and the gap that is still open."""
        items: list[_Item] = []
        previous = self._previous
        if self._running and previous is not None:
            for slot in self._retimer.flush():
                items += self._score(slot, previous, previous) or []
        items += self._end()
        if self._lost_since is not None and previous is not None:
            items.append(Gap(self._lost_since, previous.time, "face_lost"))
        self.reset()
        return items

    def _end(self) -> list[_Item]:
        """End the run, if there is one: return its scores still under way."""
        items = self._scored(self._lanes.network.flush())
        if self._running:
            items.append(_RunEnd())
        self._stop()
        return items

    def _search(self, picture: _Picture) -> list[_Item]:
        """Begin a run if there is a face, and close the gap before it."""
        face = None
        if picture.time >= self._next_search:
            self._next_search = picture.time + SEARCH_SECONDS
            face = self._find(picture)
        if face is None:
            if self._lost_since is None:
                self._lost_since = picture.time
            return []
        items: list[_Item] = []
        if self._lost_since is not None:
            items.append(Gap(self._lost_since, picture.time, "face_lost"))
            self._lost_since = None
        self._running = True
        return items + self._advance(picture, picture, face)

    def _find(self, picture: _Picture) -> Face | None:
        with _timed("face", self._on_stage):
            return self._finder.find(picture.image)

    def _advance(self, previous: _Picture, picture: _Picture, face: Face | None = None) -> list[_Item]:
        """Score the slots of the time grid that ``picture`` decides; ``face`` is what was found on it, if known."""
        items: list[_Item] = []
        for slot in self._retimer.push(picture.time, picture.index):
            if isinstance(slot, Hole):
                items += self._end()
                items.append(Gap(slot.start, slot.end, "no_frames"))
                break
            scores = self._score(slot, previous, picture, face)
            if scores is None:
                items += self._end()
                self._lost_since = previous.time
                break
            items += scores
        return items

    def _score(self, slot: Slot, previous: _Picture, picture: _Picture, face: Face | None = None) -> list[_Item] | None:
        """Measure one slot in both lanes; None where there is no face to measure."""

        def numbered(index: int) -> _Picture:
            return picture if index == picture.index else previous

        starting = self._lanes.network.starting
        if starting is not None:
            anchor = numbered(slot.anchor)
            face = face or self._find(anchor)
            if face is None:
                return None
            self._lanes.start(starting, anchor, face)
        before = numbered(slot.before)
        scores = self._lanes.push(before, numbered(slot.after) if slot.interpolated else before, slot.weight)
        if scores is None:
            return None
        self._waiting.append(numbered(slot.anchor))
        return self._scored(scores)

    def _scored(self, scores: list[FrameScore]) -> list[_Item]:
        for score in scores:
            if not (np.isfinite(score.spot) and np.isfinite(score.emotion).all()):
                raise EngineError(
                    f"expected finite scores, got spot {score.spot} and logits {score.emotion}; "
                    "the model's weights are damaged: export it again"
                )
        pictures = (self._waiting.popleft() for _ in scores)
        return [
            _Scored(picture.index, picture.time, score.spot, score.emotion)
            for picture, score in zip(pictures, scores, strict=True)
        ]


class _Collected:
    """What one offline analysis has gathered so far."""

    def __init__(self, bundle: Bundle, engine: str, source: str) -> None:
        self._bundle, self._engine, self._source = bundle, engine, source
        self._runs: list[list[_Scored]] = [[]]
        self._gaps: list[Gap] = []
        self._times: list[float] = []
        self.nominal_fps: float | None = None

    def saw(self, frame: Frame) -> None:
        """Count a frame that was read."""
        self._times.append(frame.timestamp)

    @property
    def frames(self) -> int:
        return len(self._times)

    def add(self, items: list[_Item]) -> None:
        """Keep scores, run by run, and gaps."""
        for item in items:
            if isinstance(item, Gap):
                self._gaps.append(item)
            elif isinstance(item, _RunEnd):
                self._runs.append([])
            else:
                self._runs[-1].append(item)

    def report(self, complete: bool = True) -> Report:
        """Decode what was gathered."""
        settings, labels = self._bundle.decode, self._bundle.labels
        events: list[Event] = list(self._gaps)
        scores = _stacked([scored for run in self._runs for scored in run], len(labels))
        scored = 0
        for run in self._runs:
            part = slice(scored, scored + len(run))
            scored += len(run)
            intervals = decode(
                scores.spot[part],
                scores.emotion[part],
                self._bundle.k_p,
                settings["ratio"],
                settings["floor"],
                settings["synergy"],
            )
            events += [_event(interval, labels, run.__getitem__) for interval in intervals]
        period = 1 / (self.nominal_fps or self._bundle.fps)
        if self.frames > 1:
            steps = np.diff(self._times)
            # Holes in time do not make a source slower.
            period = float(steps[steps <= 3 * np.median(steps)].mean())
        start, end = (self._times[0], self._times[-1]) if self._times else (0.0, 0.0)
        return Report(
            source=self._source,
            model=self._bundle.name,
            engine=self._engine,
            fps=1 / period,
            frames=self.frames,
            start=start,
            duration=end - start + period if self._times else 0.0,
            events=tuple(sorted(events, key=_begin)),
            scores=scores,
            labels=labels,
            complete=complete,
        )


def _begin(event: Event) -> float:
    return event.start if isinstance(event, Gap) else event.onset


def _stacked(scored: list[_Scored], classes: int) -> Scores:
    return Scores(
        time=np.array([item.time for item in scored], np.float64),
        frame=np.array([item.frame for item in scored], np.int64),
        spot=np.array([item.spot for item in scored], np.float32),
        emotion=np.array([item.emotion for item in scored], np.float32).reshape(-1, classes),
    )
