"""Feature windows of a labelled folder's videos, measured by the SDK's own code and kept on disk.

Measuring a video takes longer than training on it, so each video's windows are kept in a file named after its content
and everything they depend on: an edited video is measured again, an edited labels.csv costs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from metst_edge.capture import Interruption, open_source
from metst_edge.counting import how_many
from metst_edge.face import FaceFinder
from metst_edge.scoring import HostLanes, Item, Scored, Scorer, WholeWindows
from training.data.errors import DataError
from training.data.folder import Video, pictures_in
from training.presets import Preset
from training.samples import Annotation, frame_labels

FORMAT = 3
"""Change it when the SDK measures differently: every cache is then made anew."""


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

    They are the windows that the SDK scores, by the rule of `metst_edge.scoring.windows`, as far as they are whole:
    where the face is lost, the scene is cut, time has a hole or the video ends, the SDK scores what it has of the
    windows that are open there, and training, which needs all k frames of one, leaves them out.

    Args:
        video: of a labelled folder.
        preset: frame rate, k and regions.
        cache: folder for measured windows; made if missing.
        finder: reused over videos; by default one is made.
        progress: called with the share of the video that is done.

    Raises:
        SourceError: the video cannot be read.
        FrameError: its frames are too small, or not of one size.
        DataError: a truth lies behind the video's end, or the cache cannot be written.
    """
    name = re.sub(r"[^\w.-]+", "_", video.name)[-60:]
    path = cache / f"{name}-{_key(video, preset)}.npz"
    found = load_kept(path, ("windows", "frames", "length", "rate"))
    if found is None:
        found = _measure(video, preset, finder or FaceFinder(), progress)
        keep(path, found, "measured windows")
    progress(1.0)
    length = int(found["length"])
    for each in video.annotations:
        if each.offset >= length:
            raise DataError(
                f"labels.csv, {video.name}: expected offsets below its {how_many(length, 'frame')} (counted from 0), "
                f"got {each.offset}; were the frames counted from 1 (--first-frame 1)?"
            )
    return Measured(found["windows"], found["frames"], length, video.annotations, float(found["rate"]))


def load_kept(path: Path, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the arrays of a file that was kept, or None where there is none, or one that is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            return {name: kept[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None


def _measure(video: Video, preset: Preset, finder: FaceFinder, progress: Callable[[float], None]) -> dict[str, Any]:
    """Read a video from its first frame to its last and measure every window on the way."""
    windows = WholeWindows(preset.roi_set, preset.k)
    scorer = Scorer(preset.fps, finder, HostLanes(windows, preset.k, preset.roi_set))
    items: list[Item] = []
    times: list[float] = []
    with open_source(video.uri) as source:
        for frame in source:
            assert not isinstance(frame, Interruption), "only live sources are interrupted"
            items += scorer.push(frame)
            times.append(frame.timestamp)
            if source.frame_count:
                progress(len(times) / source.frame_count)
    items += scorer.flush()
    slots = [item.frame for item in items if isinstance(item, Scored)]
    length, seconds = len(times), times[-1] - times[0]
    features = [columns for _, columns in windows.whole]
    shape = (0, windows.channels, preset.k)
    frames = [slots[first : first + preset.k] for first, _ in windows.whole]
    return {
        "windows": np.stack(features) if features else np.zeros(shape, np.float32),
        "frames": np.array(frames, np.int64).reshape(-1, preset.k),
        "length": length,
        "rate": preset.fps * seconds / (length - 1) if seconds else 1.0,
    }


def _key(video: Video, preset: Preset) -> str:
    """Hash the video's content and everything its windows depend on."""
    settings = (FORMAT, preset.fps, preset.k, preset.roi_set, video.fps)
    digest = hashlib.sha256(repr(settings).encode())
    digest.update(content_of(video))
    return digest.hexdigest()[:16]


def content_of(video: Video) -> bytes:
    """Return the hashes of a video's content, as `content_at` its place."""
    return content_at(video.path)


def content_at(place: Path) -> bytes:
    """Return the hashes of what a video is: of its file and that one's name, or of the pictures of its folder."""
    hashes = []
    for path in pictures_in(place) if place.is_dir() else [place]:
        content = hashlib.sha256(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
        hashes.append(content.digest())
    return b"".join(hashes)


def keep(path: Path, arrays: dict[str, Any], what: str, write: Callable[..., None] = np.savez) -> None:
    """Write arrays whole or not at all.

    Args:
        path: of the .npz; its folder is made.
        arrays: by name.
        what: they are, in an error.
        write: np.savez or np.savez_compressed.

    Raises:
        DataError: they cannot be written there.
    """
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"cannot keep {what} at {path} ({error.strerror}); name another --cache") from error
