"""Backgrounds measured in the videos of labelled folders, by the SDK's own flow, and kept on disk.

Like the windows of `training.data.features`, but at points instead of regions, denser, and only where nothing is
annotated: micro-expressions are put into them in training (`training.synthesis.backgrounds`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.capture import Interruption, open_source
from metst_edge.capture.retime import Hole
from metst_edge.face import Face, FaceFinder
from metst_edge.face.rois import STEADY
from metst_edge.flow.steady import lag_of
from metst_edge.scoring.slots import Moment, Picture, Timeline
from metst_edge.scoring.windows import lost
from training.data.features import content_of, keep, load_kept
from training.data.folder import Video
from training.presets import Preset
from training.samples import frame_labels
from training.synthesis.absorption import NODES, PARAMETERS
from training.synthesis.backgrounds import Backgrounds
from training.synthesis.calibration import ALL_POINTS
from training.synthesis.measuring import PointFlow, SteadyPoints

FORMAT = 1
"""Change it when windows are measured differently: every cache is then made anew."""
STEADY_FORMAT = 2
"""The same of faces held steady: change it when the registration does."""
APART = 5
"""Slots from the start of one window to the next: those between them look too much alike to be worth their memory."""
LONG = 120
"""Slots that a face is held steady for, and cut into windows: flow from a little ago has no anchor of their own."""

FloatArray = npt.NDArray[np.float32]


def measure_backgrounds(
    video: Video,
    preset: Preset,
    cache: Path,
    finder: FaceFinder | None = None,
    progress: Callable[[float], None] = lambda share: None,
    kind: str = "",
) -> Backgrounds:
    """Measure a video's windows, or read what was measured before; those with an annotated frame are left out.

    Args:
        video: of a labelled folder.
        preset: its frame rate and k.
        cache: folder for what is measured; made if missing.
        finder: reused over videos; by default one is made.
        progress: called with the share of the video that is done.
        kind: of the windows.

    Raises:
        SourceError: the video cannot be read.
        FrameError: its frames are too small, or not of one size.
        DataError: the cache cannot be written.
    """
    name = re.sub(r"[^\w.-]+", "_", video.name)[-60:]
    steady = (STEADY, LONG, STEADY_FORMAT) if preset.roi_set == STEADY else ()
    settings = (FORMAT, preset.fps, preset.k, APART, video.fps, *steady)
    digest = hashlib.sha256(repr(settings).encode() + content_of(video))
    path = cache / f"{name}-{digest.hexdigest()[:16]}.npz"
    of_steady = ("absorbed",) if steady else ()
    kept = load_kept(path, ("flow", "gain", *of_steady, "places", "landmarks", "frames"))
    if kept is None:
        kept = _measure(video, preset, finder or FaceFinder(), progress)
        keep(path, kept, "measured backgrounds")
    progress(1.0)
    frames = kept.pop("frames")
    kept.setdefault("absorbed", np.zeros((len(frames), PARAMETERS, 0, 2), np.float16))
    inside, _ = frame_labels(video.annotations, int(frames.max(initial=0)) + 1)
    quiet = ~inside[frames].any(axis=1)
    parts = {each: values[quiet] for each, values in kept.items()}
    count = int(quiet.sum())
    return Backgrounds(**parts, subject=np.full(count, video.subject), kind=np.full(count, kind))


class _Window:
    """A window while it is being measured."""

    def __init__(self, anchor: Picture, flow: PointFlow | SteadyPoints) -> None:
        self.rows: list[FloatArray] = []
        self.frames: list[int] = []
        self.gain: FloatArray | None = None
        self.absorbed = flow.absorbed()
        self._anchor, self._flow = anchor, flow
        self._known: dict[int, FloatArray] = {anchor.index: np.zeros((ALL_POINTS, 2), np.float32)}

    def take(self, moment: Moment, k: int) -> bool:
        """Measure the next slot; False where the face has left its crop."""
        before, after = self._at(moment.before), self._at(moment.after)
        if before is None or after is None:
            return False
        self.rows.append((1 - moment.weight) * before + moment.weight * after)
        self.frames.append(moment.anchor.index)
        if self.gain is None and len(self.rows) > k // 3:
            # Some way into the window: the anchor itself has no noise against itself.
            self.gain, self.absorbed = self._flow.gain(moment.after.gray), self._flow.absorbed()
        return True

    def _at(self, picture: Picture) -> FloatArray | None:
        if picture.index < self._anchor.index:
            return self._known[self._anchor.index]
        if picture.index not in self._known:
            self._known = {index: row for index, row in self._known.items() if index >= picture.index - 2}
            self._known[picture.index] = self._flow.measure(picture.gray, picture.time)
            if lost(self._flow.likeness):
                return None
        return self._known[picture.index]

    def pieces(self, k: int, still: int) -> list[dict[str, npt.NDArray[Any]]]:
        """Cut it into windows of k slots, of which the first ``still`` show nothing; none where it is too short."""
        if len(self.rows) < k or self.gain is None:
            return []
        flow, frames = np.array(self.rows, np.float16), np.array(self.frames, np.int64)
        out = []
        for first in range(0, len(flow) - k + 1, APART):
            part = flow[first : first + k].copy()
            part[:still] = 0
            measured = {"gain": self.gain.astype(np.float16), "absorbed": self.absorbed.astype(np.float16)}
            seen = {"places": self._flow.places, "landmarks": self._flow.landmarks}
            out.append({"flow": part, **measured, **seen, "frames": frames[first : first + k]})
        return out


def _points(anchor: Picture, face: Face, steady: bool) -> PointFlow | SteadyPoints:
    return SteadyPoints(anchor.gray, face, anchor.time) if steady else PointFlow(anchor.gray, face)


def _measure(video: Video, preset: Preset, finder: FaceFinder, progress: Callable[[float], None]) -> dict[str, Any]:
    """Read a video from its first frame to its last and measure its windows on the way."""
    k, lag = preset.k, lag_of(preset.roi_set, preset.fps)
    steady, still = lag is not None, lag or 0
    length = LONG if steady else k
    found: list[dict[str, npt.NDArray[Any]]] = []
    open_windows: list[_Window] = []
    ended: list[_Window]
    to_next = 0
    for moment in _moments(video, preset.fps, progress):
        if moment is None:
            ended, open_windows, to_next = open_windows, [], 0
        else:
            if to_next == 0:
                face = finder.find(moment.anchor.image)
                to_next = APART if face is None else length - k + APART
                if face is not None:
                    open_windows.append(_Window(moment.anchor, _points(moment.anchor, face, steady)))
            to_next -= 1
            seen = {window: window.take(moment, k) for window in open_windows}
            ended = [window for window in open_windows if not seen[window] or len(window.rows) == length]
            if steady and open_windows and not seen[open_windows[-1]]:
                to_next = 0  # the next was to open where this one would have ended
            open_windows = [window for window in open_windows if window not in ended]
        for window in ended:
            found += window.pieces(k, still)
    for window in open_windows:
        found += window.pieces(k, still)
    if found:
        return {name: np.stack([each[name] for each in found]) for name in found[0]}
    return {
        "flow": np.zeros((0, k, ALL_POINTS, 2), np.float16),
        "gain": np.zeros((0, ALL_POINTS, 2, 2), np.float16),
        "absorbed": np.zeros((0, PARAMETERS, NODES**2 if steady else 0, 2), np.float16),
        "places": np.zeros((0, ALL_POINTS, 2), np.float32),
        "landmarks": np.zeros((0, 68, 2), np.float32),
        "frames": np.zeros((0, k), np.int64),
    }


def _moments(video: Video, fps: float, progress: Callable[[float], None]) -> Iterator[Moment | None]:
    """Yield the slots of a video's pictures; None where they break off."""
    timeline, done = Timeline(fps), 0
    with open_source(video.uri) as source:
        for frame in source:
            assert not isinstance(frame, Interruption), "only live sources are interrupted"
            timeline.take(frame)
            if timeline.before is not None and timeline.cut():
                timeline.stop()
                yield None
            for moment in timeline.advance():
                yield None if isinstance(moment, Hole) else moment
            done += 1
            if source.frame_count:
                progress(min(done / source.frame_count, 1.0))
    yield from timeline.flush()
