"""Intervals of a labelled folder as a recogniser sees them, drawn by the SDK's own code and kept on disk.

An interval is drawn from its true onset, apex and offset. Where the video has more frames a second than the models that
spot, it is thinned to theirs, so that a recogniser learns on what it will be shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.capture import Interruption, open_source
from metst_edge.counting import how_many
from metst_edge.face import FaceFinder
from metst_edge.recognise.clip import frame_indices, span
from metst_edge.recognise.crops import Gray, cut, view_of
from metst_edge.recognise.images import ImageSettings, flow_images
from training.data.errors import DataError
from training.data.features import content_of, keep, load_kept
from training.data.folder import Video
from training.recognition.dynamic import Levels, phases
from training.samples import Annotation

FORMAT = 1
"""Change it when the SDK draws differently: every cache is then made anew."""

FPS = 30.0
"""Frames a second that an interval is thinned to: those of the models that spot."""


@dataclass(frozen=True, slots=True, eq=False)
class Interval:
    """One micro-expression, drawn.

    Attributes:
        video: name of its video.
        subject: who is seen.
        onset: frame of the video.
        emotion: index into `metst_edge.labels.EMOTIONS`.
        whole: uint8 (F, 3, S, S), the clip that a recogniser is shown.
        phases: uint8 (2, 3, S, S), dynamic images from onset to apex and from apex to offset.
    """

    video: str
    subject: str
    onset: int
    emotion: int
    whole: Levels
    phases: Levels


def draw(
    video: Video,
    settings: ImageSettings,
    frames: int,
    cache: Path,
    finder: FaceFinder | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Interval]:
    """Draw a video's intervals, or read what was drawn before.

    Args:
        video: of a labelled folder.
        settings: of the recogniser.
        frames: pictures of a clip.
        cache: folder for drawn intervals; made if missing.
        finder: reused over videos; by default one is made.
        progress: called with the share of the video that is done.

    Returns:
        Its intervals in time order; without those in whose onset no face is found, and those of one frame.

    Raises:
        SourceError: the video cannot be read.
        FrameError: its frames are too small, or not of one size.
        DataError: an interval lies behind the video's end, or the cache cannot be written.
    """
    if not video.annotations:
        return []
    name = re.sub(r"[^\w.-]+", "_", video.name)[-60:]
    path = cache / f"{name}-{_key(video, settings, frames)}.npz"
    found = load_kept(path, ("drawn", "whole", "phases"))
    if found is None:
        found = _draw(video, settings, frames, finder or FaceFinder(), progress)
        keep(path, found, "drawn intervals", np.savez_compressed)
    progress(1.0)
    return [
        Interval(video.name, video.subject, a.onset, a.emotion, whole, parts)
        for number, whole, parts in zip(found["drawn"], found["whole"], found["phases"], strict=True)
        for a in [video.annotations[number]]
    ]


def scaled(levels: Levels, settings: ImageSettings) -> npt.NDArray[np.float32]:
    """Return pictures as the network takes them: uint8 (..., 3, S, S) to float32, free of mean and scale."""
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (settings.mean, settings.std))
    out: npt.NDArray[np.float32] = (levels / np.float32(255) - mean) / std
    return out


def slots(annotation: Annotation, fps: float) -> tuple[list[int], int]:
    """Return the frames of an interval that are looked at, onset and offset among them, and the apex's place there.

    Args:
        annotation: in frames of the video.
        fps: of the video.
    """
    length = annotation.offset - annotation.onset
    steps = round(length / max(1.0, fps / FPS)) or min(length, 1)
    frames = [annotation.onset + round(i * length / steps) for i in range(steps + 1)] if steps else [annotation.onset]
    return frames, int(np.argmin([abs(frame - annotation.apex) for frame in frames]))


def _draw(
    video: Video, settings: ImageSettings, frames: int, finder: FaceFinder, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Read a video once and draw every interval as soon as its last frame is there."""
    last = max(a.offset for a in video.annotations)
    pictures: dict[int, Gray] = {}
    drawn: list[tuple[int, Levels, Levels]] = []
    read = 0
    with open_source(video.uri) as source:
        fps = source.fps or FPS
        wanted = [slots(annotation, fps) for annotation in video.annotations]
        needed = {frame for each, _ in wanted for frame in each}
        for read, frame in enumerate(source, 1):
            assert not isinstance(frame, Interruption), "only live sources are interrupted"
            if frame.index in needed:
                pictures[frame.index] = frame.gray.copy()
            for number, (each, apex) in enumerate(wanted):
                if each[-1] == frame.index:
                    made = _interval([pictures[i] for i in each], apex, settings, frames, finder)
                    if made is not None:
                        drawn.append((number, *made))
            begun = min((each[0] for each, _ in wanted if each[-1] > frame.index), default=last)
            pictures = {i: picture for i, picture in pictures.items() if i >= begun}
            progress(read / (last + 1))
            if frame.index >= last:
                break
    if read <= last:
        raise DataError(
            f"labels.csv, {video.name}: expected offsets below its {how_many(read, 'frame')} (counted from 0), "
            f"got {last}; were the frames counted from 1 (--first-frame 1)?"
        )
    drawn.sort(key=lambda each: each[0])
    side = settings.input_size
    return {
        "drawn": np.array([number for number, _, _ in drawn], np.int64),
        "whole": np.array([whole for _, whole, _ in drawn], np.uint8).reshape(-1, frames, 3, side, side),
        "phases": np.array([parts for _, _, parts in drawn], np.uint8).reshape(-1, 2, 3, side, side),
    }


def _interval(
    pictures: Sequence[Gray], apex: int, settings: ImageSettings, frames: int, finder: FaceFinder
) -> tuple[Levels, Levels] | None:
    """Draw an interval of whole gray pictures; None where there is nothing to be drawn."""
    face = finder.find(pictures[0]) if len(pictures) > 1 else None
    if face is None:
        return None
    height, width = pictures[0].shape
    view = view_of(face.landmarks, height, width)
    crops = [cut(picture, view) for picture in pictures]
    positions = frame_indices(0, apex, len(pictures) - 1, frames)
    first, last = span(positions)
    whole = flow_images(crops[0], crops[first : last + 1], settings, [position - first for position in positions])
    return _levels(whole, settings), phases(_levels(flow_images(crops[0], crops, settings), settings), apex)


def _levels(images: npt.NDArray[np.float32], settings: ImageSettings) -> Levels:
    """Return what `scaled` gives back exactly: pictures are drawn in whole levels."""
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (settings.mean, settings.std))
    out: Levels = np.rint((images * std + mean) * 255).astype(np.uint8)
    return out


def _key(video: Video, settings: ImageSettings, frames: int) -> str:
    """Hash the video's content and everything its pictures depend on."""
    about = (FORMAT, FPS, settings, frames, video.fps, video.annotations)
    digest = hashlib.sha256(repr(about).encode())
    digest.update(content_of(video))
    return digest.hexdigest()[:16]
