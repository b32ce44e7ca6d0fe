"""Feature windows of a labelled folder's videos, measured by the SDK's own front end and kept on disk.

Measuring a video takes longer than training on it, so each video's windows are kept in a file named after its content
and everything they depend on: an edited video is measured again, an edited labels.csv costs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.capture import Image, Interruption, open_source, to_gray
from metst_edge.capture.retime import Hole, Retimer, Slot
from metst_edge.face import FaceFinder
from metst_edge.flow import RoiFlow, channels
from training.data.errors import DataError
from training.data.folder import Video, pictures_in
from training.data.samples import Annotation, frame_labels
from training.presets import Preset

FORMAT = 1
"""Change it when the front end measures differently: every cache is then made anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One video's windows.

    Attributes:
        windows: float32 (n, C, k), pixels of the crop.
        frames: int64 (n, k), the video's frame nearest to each column.
        length: frames of the video.
        annotations: in frames of the video.
        rate: model frames per frame of the video.
    """

    windows: npt.NDArray[np.float32]
    frames: npt.NDArray[np.int64]
    length: int
    annotations: tuple[Annotation, ...]
    rate: float

    def labels(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return y float32 (n, k) and classes int64 (n, k) of the windows."""
        y, classes = frame_labels(self.annotations, self.length)
        return y[self.frames], classes[self.frames]

    def model_annotations(self) -> list[Annotation]:
        """Return the annotations in frames of the model."""
        rate = self.rate
        return [
            Annotation(round(a.onset * rate), round(a.apex * rate), round(a.offset * rate), a.emotion)
            for a in self.annotations
        ]


def measure(
    video: Video,
    preset: Preset,
    cache: Path,
    finder: FaceFinder | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Measured:
    """Measure a video's windows, or read what was measured before.

    Windows start every k/2 frames of the model's grid. Those without a face at their start, and those cut off by the
    video's end or a hole in its timestamps, are left out.

    Args:
        video: of a labelled folder.
        preset: frame rate, k and regions.
        cache: folder for measured windows; made if missing.
        finder: reused over videos; by default one is made.
        progress: called with the share of the video that is done.

    Raises:
        SourceError: the video cannot be read.
        DataError: a truth lies behind the video's end, or the cache cannot be written.
    """
    name = re.sub(r"[^\w.-]+", "_", video.name)[-60:]
    path = cache / f"{name}-{_key(video, preset)}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as kept:
            found = {key: kept[key] for key in ("windows", "frames", "length", "rate")}
    else:
        found = _measure(video, preset, finder or FaceFinder(), progress)
        _save(path, found)
    progress(1.0)
    length = int(found["length"])
    for each in video.annotations:
        if each.offset >= length:
            raise DataError(
                f"labels.csv, {video.name}: expected offsets below its {length} frames (counted from 0), got "
                f"{each.offset}; were the frames counted from 1 (--first-frame 1)?"
            )
    return Measured(found["windows"], found["frames"], length, video.annotations, float(found["rate"]))


@dataclass(slots=True, eq=False)
class _Window:
    """A window being measured."""

    start: int
    flow: RoiFlow
    columns: list[npt.NDArray[np.float32]] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    _last: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    def add(self, slot: Slot, grays: dict[int, Image]) -> None:
        before, after = (self._at(frame, grays) for frame in (slot.before, slot.after))
        first = slot.index == self.start
        self.columns.append(np.zeros_like(before) if first else (1 - slot.weight) * before + slot.weight * after)
        self.frames.append(slot.anchor)

    def _at(self, frame: int, grays: dict[int, Image]) -> npt.NDArray[np.float32]:
        # Each frame is measured once: the crop follows the head from frame to frame.
        if frame not in self._last:
            self._last = {key: value for key, value in self._last.items() if key in grays}
            self._last[frame] = self.flow.measure(grays[frame])
        return self._last[frame]


def _measure(video: Video, preset: Preset, finder: FaceFinder, progress: Callable[[float], None]) -> dict[str, Any]:
    """Read a video from its first frame to its last and measure every window on the way."""
    half = preset.k // 2
    open_windows: list[_Window] = []
    done: list[_Window] = []
    grays: dict[int, Image] = {}
    pictures: dict[int, Image] = {}
    retimer = Retimer(preset.fps)
    length, times = 0, list[float]()
    with open_source(video.uri) as source:
        for frame in source:
            if isinstance(frame, Interruption):
                continue  # only live sources are interrupted
            length, times = length + 1, [*times[:1], frame.timestamp]
            # A slot is made of this frame and the one before.
            grays = {**{key: grays[key] for key in list(grays)[-1:]}, frame.index: to_gray(frame.image)}
            pictures = {**{key: pictures[key] for key in list(pictures)[-1:]}, frame.index: frame.image}
            for slot in retimer.push(frame.timestamp, frame.index):
                if isinstance(slot, Hole):
                    open_windows = []
                    continue
                if slot.index % half == 0:
                    face = finder.find(pictures[slot.anchor])
                    if face is not None:
                        flow = RoiFlow(grays[slot.anchor], face.box, face.crop_landmarks, preset.roi_set)
                        open_windows.append(_Window(slot.index, flow))
                for window in open_windows:
                    window.add(slot, grays)
                done += [window for window in open_windows if len(window.columns) == preset.k]
                open_windows = [window for window in open_windows if len(window.columns) < preset.k]
            if source.frame_count:
                progress(length / source.frame_count)
    seconds = times[-1] - times[0] if length > 1 else 0.0
    shape = (0, channels(preset.roi_set), preset.k)
    return {
        "windows": np.stack([np.stack(w.columns, 1) for w in done]) if done else np.zeros(shape, np.float32),
        "frames": np.array([w.frames for w in done], np.int64).reshape(-1, preset.k),
        "length": length,
        "rate": preset.fps * seconds / (length - 1) if seconds else 1.0,
    }


def _key(video: Video, preset: Preset) -> str:
    """Hash the video's content and everything its windows depend on."""
    settings = (FORMAT, preset.fps, preset.k, preset.roi_set, video.fps)
    digest = hashlib.sha256(repr(settings).encode())
    for path in pictures_in(video.path) if video.path.is_dir() else [video.path]:
        content = hashlib.sha256(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
        digest.update(content.digest())
    return digest.hexdigest()[:16]


def _save(path: Path, arrays: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"cannot keep measured windows at {path} ({error.strerror}); name another --cache") from error
