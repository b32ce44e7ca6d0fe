"""Micro-expressions put into real video: the person's own motion is the background, and nothing of it is touched.

Twice through a video, frame by frame: first for where the face is, then, once for each seed, for the frames themselves.
Only those strictly inside a micro-expression are warped, by the fields of its action units laid on the face as it is in
that frame; all are encoded alike. Knows video, landmarks and timelines; nothing of labelled folders or models.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metst_edge.capture import Frame, open_source, path_of
from metst_edge.counting import how_many
from metst_edge.errors import SourceError
from metst_edge.face import CROP_SIZE, FaceFinder
from training.synthesis.face_actions import NAMES, FaceFrame
from training.synthesis.faults import CameraFaults
from training.synthesis.h264 import encode, retime
from training.synthesis.render import DRAWING, DRAWINGS, write_truth
from training.synthesis.timeline import NOTHING, TRACKS, Distractor, Rates, Timeline, draw_timeline

FloatArray = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Report = Callable[[int], None]

INSERTED = replace(NOTHING, micro=14.0, micro_pixels=(0.8, 3.0))
"""Nothing but micro-expressions: all else is in the video."""

COARSEST = 40
"""H.264 constant rate factor of a camera with faults, at most."""
SHORTEST = 1.0
"""Seconds of video below which nothing is put into it."""
MARGIN = 0.2
"""Seconds for which the face is seen before an onset and after an offset."""
JUMP = 0.35
"""Half distances of the inner eye corners, from one frame to the next, that no head moves: another face, or none."""
GROWTH = 1.15
"""The same of the face's size."""
AWAY = 0.25
"""The same of the mesh's middle point from its smoothed place: the mesh slipped."""
TURNED = 1.0
"""How far to the side of the eyes' middle the tip of the nose lies where half of the face is hidden."""
UNEVEN = 1.5
"""Median steps between two frames where the video has a hole."""
SMOOTH = 0.05
"""Standard deviation in seconds of the smoothing of landmarks."""


class NotUsable(ValueError):
    """A video that nothing can be put into; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """Where the face is in every frame of a video, as it was found.

    Attributes:
        fps: frames per second where frames follow each other evenly.
        times: float64 (n,), seconds.
        landmarks: float32 (n, 68, 2), pixels; NaN where there are none.
        size: height and width of the frames.
    """

    fps: float
    times: npt.NDArray[np.float64]
    landmarks: FloatArray
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Where the face is throughout a video.

    Attributes:
        uri: of the video.
        fps: frames per second where frames follow each other evenly.
        times: float64 (n,), seconds.
        landmarks: float32 (n, 68, 2), smoothed in time, pixels; NaN where there are none.
        usable: bool (n,), where a micro-expression may be.
        cuts: bool (n,), True where a frame does not follow on the one before.
        size: height and width of the frames, even: what is odd loses a row or a column.
    """

    uri: str
    fps: float
    times: npt.NDArray[np.float64]
    landmarks: FloatArray
    usable: npt.NDArray[np.bool_]
    cuts: npt.NDArray[np.bool_]
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """The video file's name."""
        return path_of(self.uri).name

    @property
    def even(self) -> bool:
        """Whether every frame lies where its number says."""
        grid = self.times[0] + np.arange(len(self.times)) / self.fps
        return bool(np.abs(self.times - grid).max() < 0.25 / self.fps)


def watch(uri: str, finder: FaceFinder, report: Report = lambda frames: None) -> Sight:
    """Find the face in every frame of a video.

    Args:
        uri: a video file, or what else the SDK reads that has an end.
        finder: of faces; the front end's.
        report: told the number of frames that are done.

    Raises:
        NotUsable: a single frame or none, or no end.
        SourceError: it cannot be read.
    """
    times: list[float] = []
    found: list[FloatArray] = []
    size = (0, 0)
    with open_source(uri) as source:
        if source.live:
            raise NotUsable("expected a video that ends, got a camera; record it first")
        nominal = source.fps
        for frame in source:
            assert isinstance(frame, Frame), "a file is never interrupted"
            face = finder.find(frame.image)
            found.append(np.full((68, 2), np.nan, np.float32) if face is None else face.landmarks)
            times.append(frame.timestamp)
            size = frame.image.shape[:2]
            report(len(times))
    if len(times) < 2:
        raise NotUsable(f"expected {SHORTEST:g} second of video or more, got {how_many(len(times), 'frame')}")
    at = np.array(times)
    fps = round(1 / float(np.median(np.diff(at))), 3)
    if nominal is not None and abs(nominal / fps - 1) < 0.01:
        fps = nominal  # container times are rounded
    return Sight(fps, at, np.stack(found), size)


def follow(uri: str, finder: FaceFinder, report: Report = lambda frames: None) -> Course:
    """Find the face in every frame of a video, and where something can be put into it.

    Args:
        uri: as for `watch`.
        finder: the same.
        report: the same.

    Raises:
        NotUsable: too short, too slow or fast, or without a face.
        SourceError: it cannot be read.
    """
    sight = watch(uri, finder, report)
    at, raw, fps, size = sight.times, sight.landmarks, sight.fps, sight.size
    if at[-1] - at[0] < SHORTEST - 1.5 * float(np.median(np.diff(at))):
        raise NotUsable(f"expected {SHORTEST:g} second of video or more, got {how_many(len(at), 'frame')}")
    if not 15 <= fps <= 240:
        raise NotUsable(f"expected 15 to 240 frames per second, got {fps:.3g}")
    cuts = cuts_of(raw, at)
    landmarks = smoothed(raw, cuts, SMOOTH * fps)
    usable = _usable(raw, landmarks, size)
    if not usable.any():
        raise NotUsable("expected a face that is seen from the front, found none")
    even = (size[0] // 2 * 2, size[1] // 2 * 2)
    return Course(uri, fps, at, landmarks, usable, cuts, even)


def scale(landmarks: FloatArray) -> FloatArray:
    """Return g, half the distance of the inner eye corners, of landmarks (..., 68, 2)."""
    across = landmarks[..., 42, :] - landmarks[..., 39, :]
    out: FloatArray = np.hypot(across[..., 0], across[..., 1]) / 2
    return out


def cuts_of(raw: FloatArray, times: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which frames do not follow on the one before: no face, another place or size, or a hole in time."""
    steps, g = np.diff(times), scale(raw)
    with np.errstate(invalid="ignore"):
        moved = np.median(np.linalg.norm(np.diff(raw, axis=0), axis=-1), axis=-1) / g[:-1]
        grown = np.maximum(g[1:] / g[:-1], g[:-1] / g[1:])
        follows = (moved < JUMP) & (grown < GROWTH)  # False of NaN
    even = (steps < UNEVEN * np.median(steps)) & (steps > np.median(steps) / UNEVEN)
    return np.concatenate(([True], ~(follows & even)))


def smoothed(raw: FloatArray, cuts: npt.NDArray[np.bool_], sigma: float) -> FloatArray:
    """Smooth landmarks in time: a median of five frames against slips, then a Gaussian; never across a cut.

    Args:
        raw: float32 (n, 68, 2), NaN where there are none.
        cuts: bool (n,).
        sigma: of the Gaussian in frames.
    """
    out = np.full_like(raw, np.nan)
    first = np.flatnonzero(cuts)
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for start, end in zip(first, [*first[1:], len(raw)], strict=True):
        if np.isnan(raw[start]).any():
            continue
        part = raw[start:end]
        middle = np.stack([np.median(part[max(i - 2, 0) : i + 3], axis=0) for i in range(len(part))])
        for i in range(len(part)):
            low, high = max(i - reach, 0), min(i + reach + 1, len(part))
            # As far back as forth, so that a head on its way is not pulled to one side at an end.
            half = min(i - low, high - 1 - i)
            near = weights[reach - half : reach + half + 1]
            out[start + i] = np.tensordot(near / near.sum(), middle[i - half : i + half + 1], 1)
    return out


def _usable(raw: FloatArray, landmarks: FloatArray, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Tell in which frames the whole expressing face is seen, where the mesh says."""
    height, width = size
    usable: npt.NDArray[np.bool_] = np.isfinite(landmarks.reshape(len(landmarks), -1).sum(1))
    for i in np.flatnonzero(usable):
        inner, frame = raw[i, 17:], FaceFrame.of(raw[i])
        inside = (inner > 0).all() and (inner < (width - 1, height - 1)).all()
        away = float(np.median(np.linalg.norm(raw[i] - landmarks[i], axis=-1))) / frame.g
        usable[i] = inside and away < AWAY and abs(float(frame.to_face(raw[i, 30])[0])) < TURNED
    return usable


def draw_insertions(course: Course, rng: np.random.Generator, rates: Rates = INSERTED) -> Timeline:
    """Draw micro-expressions where the face is seen from MARGIN before the onset to MARGIN after the offset.

    Every stretch in which it is gets a timeline of its own.

    Args:
        course: of the face.
        rng: of everything that is drawn.
        rates: how many and how strong; whatever else they ask for is drawn too.
    """
    n, margin = len(course.times), round(MARGIN * course.fps)
    tracks, truth = np.zeros((len(TRACKS), n), np.float32), []
    edges = np.flatnonzero(course.cuts | (course.usable != np.concatenate(([False], course.usable[:-1]))))
    for start, end in zip(edges, [*edges[1:], n], strict=True):
        first, frames = int(start) + margin, int(end - start) - 2 * margin
        if not course.usable[start] or frames < 1:
            continue
        part = draw_timeline(rng, frames, course.fps, rates)
        tracks[:, first : first + frames] = part.tracks
        truth += [
            replace(event, onset=event.onset + first, apex=event.apex + first, offset=event.offset + first)
            for event in part.truth
        ]
    return Timeline(course.fps, tracks, tuple(truth), ())


def warp(image: Image, landmarks: FloatArray, column: FloatArray, drawing: str = DRAWING) -> Image:
    """Move the skin of a real face.

    Args:
        image: uint8 (H, W, 3); it is left as it is.
        landmarks: float32 (68, 2), where the face is in it, pixels.
        column: float32 (len(TRACKS),), one column of a timeline; of it the actions.
        drawing: of DRAWINGS.

    Returns:
        uint8 (H, W, 3): the same but for the skin that moves.
    """
    import cv2

    g = FaceFrame.of(landmarks).g
    step = max(1, round(g / 6))
    expressing = landmarks[[*range(17, 68), 8]]
    # Farther out no action draws more than 0.02 of its strongest point. The grid goes on where the picture ends: its
    # strongest point sets a field's scale.
    left, top = np.floor(expressing.min(0) - 3 * g).astype(int)
    cells = np.ceil((expressing.max(0) + 3 * g - (left, top)) / step).astype(int)
    # Points lie in the middle of their step x step pixels, as cv2.resize has it, one more on each side.
    across, down = ((np.arange(-1, n + 1) + 0.5) * step - 0.5 for n in cells)
    grid = np.stack(np.meshgrid(across + left, down + top), -1).astype(np.float32)
    amounts = dict(zip(NAMES, column[: 2 * len(NAMES)].reshape(-1, 2), strict=True))
    drawn = DRAWINGS[drawing](landmarks, grid, [name for name in NAMES if amounts[name].any()])
    total = sum(amounts[name][side] * halves[side] for name, halves in drawn.items() for side in range(2))
    field = cv2.resize(total * np.float32(9 * g / CROP_SIZE), None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    height, width = image.shape[:2]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + cells[0] * step, width), min(top + cells[1] * step, height)
    moved = field[y0 - top + step : y1 - top + step, x0 - left + step : x1 - left + step]
    source = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), -1).astype(np.float32) - moved
    out: Image = image.copy()
    out[y0:y1, x0:x1] = cv2.remap(image, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return out


def inserted_frames(course: Course, timeline: Timeline, drawing: str = DRAWING) -> Iterator[Image]:
    """Read a video again and warp what is inside a micro-expression: uint8 (H, W, 3) BGR, one frame at a time.

    Raises:
        SourceError: the video is not what it was when the face was followed.
    """
    height, width = course.size
    number = 0
    with open_source(course.uri) as source:
        for number, frame in enumerate(source, 1):
            assert isinstance(frame, Frame), "a file is never interrupted"
            image = frame.image if frame.image.ndim == 3 else np.stack([frame.image] * 3, -1)
            if number > len(course.times):
                break
            column = timeline.tracks[:, number - 1]
            if column.any():
                image = warp(image, course.landmarks[number - 1], column, drawing)
            yield np.ascontiguousarray(image[:height, :width])
    if number != len(course.times):
        raise SourceError(f"{course.uri}: expected {len(course.times)} frames, as a moment ago; it was changed")


def insert_clip(
    course: Course,
    seed: int,
    path: Path,
    subject: str,
    rates: Rates = INSERTED,
    crf: int = 18,
    drawing: str = DRAWING,
    report: Report = lambda frames: None,
    faults: float = 0.0,
) -> Path:
    """Write a video with micro-expressions in it, and the truth beside it; each takes its name once it is whole.

    Args:
        course: of the face in the video.
        seed: with the video's name it says what is put in: the same under every drawing.
        path: of the .mp4 file.
        subject: who is seen.
        rates: how many and how strong.
        crf: H.264 constant rate factor.
        drawing: of DRAWINGS.
        report: told the number of frames that are done.
        faults: of the camera, how many a minute (`training.synthesis.faults`); what is put in stays the same.

    Returns:
        The truth's path.

    Raises:
        SourceError: the video cannot be read again.
        RuntimeError: the encoder failed.
    """
    of_video = (seed, zlib.crc32(course.name.encode()))
    timeline = draw_insertions(course, np.random.default_rng(of_video), rates)
    images: Iterator[Image] = inserted_frames(course, timeline, drawing)
    gop: int | None = None
    happened: list[Distractor] = []
    if faults:
        pixel = 9 * float(np.nanmedian(scale(course.landmarks))) / CROP_SIZE
        camera = CameraFaults(np.random.default_rng((*of_video, 1)), len(course.times), course.fps, faults, pixel)
        images, happened, gop = camera(images), camera.happened, camera.gop
        crf = max(crf, min(crf + camera.coarser, COARSEST))

    def frames() -> Iterator[Image]:
        for done, frame in enumerate(images, 1):
            yield frame
            report(done)

    aside, timed = (path.with_name(f".{path.stem}.{kind}.mp4") for kind in ("part", "timed"))
    try:
        encode(frames(), course.size, aside, course.fps, crf, gop)
        if not course.even:
            retime(aside, timed, course.times.tolist())
            timed.replace(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
        timed.unlink(missing_ok=True)
    told = {"source": course.name, "subject": subject, "drawing": drawing, "seed": seed, "crf": crf}
    told |= {"faults": faults, "gop": gop} if faults else {}
    beside = [_seen(course, event.onset, event.apex, event.offset) for event in timeline.truth]
    return write_truth(path, course.fps, len(course.times), timeline.truth, happened, told, beside)


def _seen(course: Course, onset: int, apex: int, offset: int) -> dict[str, float]:
    """Return the width of the face's crop at the apex in pixels, and how far the head goes meanwhile, in the crop's."""
    g = float(scale(course.landmarks[apex]))
    bridge = course.landmarks[onset : offset + 1, 27:31].mean(1)
    way = float(np.linalg.norm(bridge - bridge[0], axis=-1).max()) * CROP_SIZE / (9 * g)
    return {"face_px": round(9 * g, 1), "head_px": round(way, 2)}
