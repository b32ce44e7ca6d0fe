"""What the real front end measures when a rendered face moves: what the fast generator draws from.

Every movement is rendered alone on many variants of the training portraits and measured as a user's video would be
(face finder, crop, optical flow of 18 regions, `compat=False`). Noise is what remains on rendered, compressed clips
when the sum of those responses is taken away. The result is a small file, so that training needs no portraits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metst_edge.face import ROI_SETS, Face, FaceFinder, crop, rectangles
from metst_edge.flow import Farneback, RoiFlow, channels, window_features
from training.synthesis.face_actions import NAMES
from training.synthesis.portrait import TRAINING_PORTRAITS, Portrait, Variation, draw_variation, read_portrait
from training.synthesis.render import Camera, Clip, Renderer, Sensor, draw_camera, render_timeline
from training.synthesis.timeline import HEAD, LIGHT, SIDES, TRACK, TRACKS, Rates, draw_timeline

FloatArray = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]

NOISELESS = Camera(noise=0)
CALIBRATION_FILE = Path(__file__).with_name("calibration.npz")
FORMAT = 1
REMEDY = "make it with: python -m training calibrate --portraits DIR"

ROIS = ROI_SETS["metst_plus"]
# Cells that a region is divided into, down and across: the flow's own averaging box of 15 px leaves no finer detail.
_CELLS = {name: (2, 2) for name in (roi.name for roi in ROIS)} | {
    "left brow": (3, 6),
    "right brow": (3, 6),
    "mouth": (5, 8),
}
POINTS: dict[str, slice] = {}
"""Region -> its rows among the points at which flow is known."""
for _roi in ROIS:
    _first = max((part.stop for part in POINTS.values()), default=0)
    POINTS[_roi.name] = slice(_first, _first + _CELLS[_roi.name][0] * _CELLS[_roi.name][1])
ALL_POINTS = POINTS[ROIS[-1].name].stop + 1
"""All of them, the head's own motion as measured on the nose bridge last."""

# Amounts at which each track is rendered. What a large movement gives is not what a small one gives times a factor: the
# skin leaves the region.
_ACTION_LEVELS = (2.0, 10.0)
_SIGNED_LEVEL = {
    **{"tx": 4.0, "ty": 4.0, "roll": 1.5, "scale": 1.5, "yaw": 2.0, "pitch": 2.0},
    **{"gain": 0.04, "gamma": 0.04},
}
LEVELS: dict[str, tuple[float, ...]] = {
    **{f"{name} {side}": _ACTION_LEVELS for name in NAMES for side in SIDES},
    **{f"blink {side}": (0.5, 1.0) for side in SIDES},
    **{name: (_SIGNED_LEVEL[name],) for name in (*HEAD, *LIGHT)},
}
"""Track -> amounts at which its response is known; that of head and light is odd, the rest starts at zero."""
NOISE = ("anchor", "slow", "quick")
"""Kinds of noise: the same over a window (its first frame's), wandering within it, and new on every frame."""
SLOW = 0.93
"""Correlation of slow noise from one frame to the next: it changes within half a second."""
NOISE_WINDOW = 50
BASIS = tuple((track, level) for track in TRACKS for level in LEVELS[track])
"""Rows of a table of responses."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Responses and noise of the real front end.

    Attributes:
        responses: float32 (persons, len(BASIS), ALL_POINTS, 2), pixels of the 320 px crop: flow at each point when the
            track is at that level and everything else at rest.
        noise: float32 (persons, len(NOISE), 36), standard deviations of what the responses do not explain, pixels.
        correlation: float32 (len(NOISE), 36, 36), of the noise between channels, all persons together.
    """

    responses: FloatArray
    noise: FloatArray
    correlation: FloatArray

    @property
    def persons(self) -> int:
        return len(self.responses)

    def save(self, path: Path) -> None:
        """Write it; responses as bytes with one scale per person and movement."""
        scale = np.abs(self.responses).max((2, 3), keepdims=True) / 127 + 1e-9
        np.savez_compressed(
            path,
            format=np.int64(FORMAT),
            responses=np.rint(self.responses / scale).astype(np.int8),
            scale=scale.astype(np.float32),
            noise=self.noise.astype(np.float16),
            correlation=self.correlation.astype(np.float16),
        )

    @classmethod
    def load(cls, path: Path = CALIBRATION_FILE) -> Calibration:
        """Read it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: made by another version of this code.
        """
        if not path.is_file():
            raise FileNotFoundError(f"expected a calibration at {path}, got nothing; {REMEDY}")
        with np.load(path, allow_pickle=False) as data:
            found = int(data["format"]) if "format" in data else None
            shape = data["responses"].shape[1:] if found == FORMAT else None
            if shape != (len(BASIS), ALL_POINTS, 2):
                raise ValueError(
                    f"expected a calibration of format {FORMAT}, {len(BASIS)} movements, {ALL_POINTS} points, "
                    f"got format {found}, {shape} in {path}; {REMEDY}"
                )
            responses = (data["responses"] * data["scale"]).astype(np.float32)
            return cls(responses, data["noise"].astype(np.float32), data["correlation"].astype(np.float32))


def expand(tracks: FloatArray) -> FloatArray:
    """Write tracks as weights of the levels at which responses are known: linear between two levels.

    Args:
        tracks: float32 (len(TRACKS), n).

    Returns:
        float32 (len(BASIS), n).
    """
    out = np.zeros((len(BASIS), tracks.shape[1]), np.float32)
    row = 0
    for name, amounts in zip(TRACKS, tracks, strict=True):
        levels = LEVELS[name]
        if amounts.any():
            if len(levels) == 1:
                out[row] = amounts / levels[0]
            else:
                knots = (0.0, *levels)
                for i in range(len(levels)):
                    heights = np.zeros(len(knots))
                    heights[i + 1] = 1
                    out[row + i] = np.interp(amounts, knots, heights)
                # Beyond the last level the last response grows in proportion.
                out[row + len(levels) - 1] *= np.maximum(amounts / levels[-1], 1)
        row += len(levels)
    return out


def channel_values(flow: FloatArray, roi_set: str) -> FloatArray:
    """Reduce flow at points to channels as the front end does: mean of the largest, less the head's motion.

    Args:
        flow: float32 (ALL_POINTS, 2, ...), pixels, measured from the anchor.
        roi_set: "metst" or "metst_plus".

    Returns:
        float32 (C, ...).
    """
    rois = ROI_SETS[roi_set]
    out = np.empty((len(rois), 2, *flow.shape[2:]), np.float32)
    for roi, row in zip(rois, out, strict=True):
        part = flow[POINTS[roi.name]]
        squares = part[:, 0] ** 2 + part[:, 1] ** 2
        first = int(len(part) * (1 - roi.percent))
        largest = squares >= np.partition(squares, first, axis=0)[first]
        row[:] = np.einsum("pd...,p...->d...", part, largest) / largest.sum(0) - flow[-1]
    return out.reshape(2 * len(rois), *flow.shape[2:])


def gray(frame: npt.NDArray[np.uint8]) -> Gray:
    """Convert uint8 (H, W, 3) BGR to uint8 (H, W), as the front end does."""
    import cv2

    out: Gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return out


class PointFlow:
    """Measures flow at POINTS against one anchor frame; the crop follows the head as the front end has it."""

    def __init__(self, anchor: Gray, face: Face) -> None:
        self._face = face
        self._follow = RoiFlow(anchor, face.box, face.crop_landmarks, "metst")
        patches, self._regions, _ = rectangles("metst_plus", face.crop_landmarks)
        image = crop(anchor, face.box)
        self._patches = {
            name: (
                rect,
                Farneback(np.ascontiguousarray(image[rect.top : rect.bottom, rect.left : rect.right])),
            )
            for name, rect in patches.items()
        }

    def reset(self) -> None:
        """Put the crop back to where it was on the anchor."""
        self._follow.box = self._face.box

    def measure(self, frame: Gray) -> FloatArray:
        """Return float32 (ALL_POINTS, 2), pixels of the crop; the head's motion last, not subtracted."""
        import cv2

        self._follow.measure(frame)
        image = crop(frame, self._follow.box)
        flows = {
            name: flow.to(np.ascontiguousarray(image[rect.top : rect.bottom, rect.left : rect.right]))
            for name, (rect, flow) in self._patches.items()
        }
        out = np.zeros((ALL_POINTS, 2), np.float32)
        for roi, rect in self._regions:
            if not rect.empty:
                part = flows[roi.patch][rect.top : rect.bottom, rect.left : rect.right]
                cells = _CELLS[roi.name]
                out[POINTS[roi.name]] = cv2.resize(part, cells[::-1], interpolation=cv2.INTER_AREA).reshape(-1, 2)
        out[-1] = self._follow.motion
        return out


def measure_responses(
    portrait: Portrait, finder: FaceFinder, camera: Camera = NOISELESS, rng: np.random.Generator | None = None
) -> FloatArray:
    """Measure every movement alone on one person: float32 (len(BASIS), ALL_POINTS, 2).

    Args:
        portrait: whom.
        finder: the front end's.
        camera: only its noise and JPEG compression count. Where skin is smooth, noise weakens the flow that is
            measured, the head's on the nose bridge first of all, so that head motion leaks into the channels.
        rng: of the noise.

    Raises:
        ValueError: no face is found on the rendered portrait.
    """
    rng = rng or np.random.default_rng(0)
    renderer = Renderer(portrait)
    passes = []
    for _ in range(4 if camera.noise else 1):
        seen = Sensor(camera, portrait.size, rng)
        rest = seen(renderer.draw(np.zeros(len(TRACKS), np.float32)))
        flow = PointFlow(gray(rest), find(rest, finder, portrait.name))
        table = np.zeros((len(BASIS), ALL_POINTS, 2), np.float32)
        still = np.zeros((ALL_POINTS, 2), np.float32)
        for _ in range(4 if camera.noise else 0):
            # The anchor's own noise is a constant offset, which is no response.
            still += flow.measure(gray(seen(renderer.draw(np.zeros(len(TRACKS), np.float32))))) / 4
        for row, (track, level) in enumerate(BASIS):
            signs = (1, -1) if len(LEVELS[track]) == 1 else (1,)
            for sign in signs:
                flow.reset()
                # The head moves by about a pixel from frame to frame, not in one jump: the crop follows it in steps.
                steps = 4 if track in HEAD else 1
                for step in range(steps):
                    tracks = np.zeros(len(TRACKS), np.float32)
                    tracks[TRACK[track]] = sign * level * (step + 1) / steps
                    out = flow.measure(gray(seen(renderer.draw(tracks))))
                table[row] += sign * (out - still) / len(signs)
        passes.append(table)
    mean: FloatArray = np.mean(passes, axis=0, dtype=np.float32)
    return mean


def measure_noise(
    portrait: Portrait,
    responses: FloatArray,
    finder: FaceFinder,
    camera: Camera,
    seed: int,
    seconds: float = 8.0,
) -> FloatArray:
    """Measure what remains on a drifting, blinking face when the responses are taken away.

    Returns:
        float32 (windows, 36, NOISE_WINDOW), pixels; column 0 is zero.
    """
    rates = Rates(micro=0, speech=0, macros=0, head_moves=0, blinks=10)
    timeline = draw_timeline(np.random.default_rng(seed), round(seconds * 30), 30.0, rates)
    clip = render_timeline(portrait, timeline, camera, seed)
    flow = np.einsum("bpd,bn->pdn", responses, expand(timeline.tracks))
    starts = window_starts(timeline.frames, NOISE_WINDOW)
    rest = []
    for start, measured in zip(starts, measure_clip(clip, NOISE_WINDOW, finder), strict=True):
        if measured.shape[1] == NOISE_WINDOW and measured.any():
            part = flow[..., start : start + NOISE_WINDOW]
            rest.append(measured - channel_values(part - part[..., :1], "metst_plus"))
    return np.array(rest, np.float32)


def split_noise(rest: FloatArray) -> FloatArray:
    """Split noise into its kinds: (windows, 36, T) to (3, windows, 36, T), in the order of NOISE."""
    inner = rest[..., 1:]
    kernel = np.ones(5) / 5
    padded = np.pad(inner, ((0, 0), (0, 0), (2, 2)), mode="edge")
    smooth = np.apply_along_axis(np.convolve, -1, padded, kernel, "valid")
    anchor = np.broadcast_to(np.median(smooth, axis=-1, keepdims=True), inner.shape)
    parts = np.stack((anchor, smooth - anchor, (inner - smooth) * np.sqrt(5 / 4)))
    out: FloatArray = np.concatenate((np.zeros((*parts.shape[:-1], 1)), parts), -1).astype(np.float32)
    return out


def calibrate(
    portraits: Sequence[Path],
    persons: int = 14,
    seed: int = 0,
    finder: FaceFinder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Measure variants of portraits and gather what the generator needs.

    Args:
        portraits: picture files of the training identities.
        persons: how many variants, taken from the portraits in turn; the first of each is the portrait as it is.
        seed: the same seed gives the same calibration.
        finder: the front end's face finder.
        progress: called with how many persons are done, and of how many.

    Raises:
        FileNotFoundError, ValueError: a portrait is missing or shows no face.
    """
    finder = finder or FaceFinder()
    rng = np.random.default_rng(seed)
    tables, deviations, kinds = [], [], []
    for person in range(persons):
        change = Variation() if person < len(portraits) else draw_variation(rng)
        portrait = read_portrait(portraits[person % len(portraits)], finder, change=change)
        camera = draw_camera(rng)
        table = measure_responses(portrait, finder, camera, rng)
        parts = split_noise(measure_noise(portrait, table, finder, camera, int(rng.integers(1 << 31))))
        spread = np.sqrt((parts[..., 1:] ** 2).mean((1, 3))) + 1e-4
        tables.append(table)
        deviations.append(spread)
        kinds.append(parts[..., 1:] / spread[:, None, :, None])
        if progress:
            progress(person + 1, persons)
    pooled = np.concatenate(kinds, axis=1)
    correlation = np.einsum("kwct,kwdt->kcd", pooled, pooled) / (pooled.shape[1] * pooled.shape[3])
    return Calibration(np.array(tables, np.float32), np.array(deviations, np.float32), correlation.astype(np.float32))


def calibrate_folder(
    folder: Path, out: Path = CALIBRATION_FILE, persons: int = 14, seed: int = 0, **kwargs: Any
) -> Path:
    """Calibrate on the training portraits in a folder and write the file that the generator reads.

    Raises:
        FileNotFoundError: a portrait is missing.
    """
    calibrate([folder / name for name in TRAINING_PORTRAITS], persons, seed, **kwargs).save(out)
    return out


def find(frame: npt.NDArray[np.uint8], finder: FaceFinder, name: str) -> Face:
    """Find the face that must be there.

    Raises:
        ValueError: it is not found.
    """
    face = finder.find(frame)
    if face is None:
        raise ValueError(f"expected a face on the rendered portrait {name}, got none; use a frontal portrait")
    return face


def measure_clip(clip: Clip, k: int, finder: FaceFinder, roi_set: str = "metst_plus") -> list[FloatArray]:
    """Measure a clip as the offline path does: windows of k frames, hop k/2, landmarks at their starts.

    Returns:
        One float32 (C, T_w) per window start, in order; a window without a face is all zeros.
    """
    grays = [gray(frame) for frame in clip.frames]
    windows = []
    for start in window_starts(len(grays), k):
        part = grays[start : start + k]
        face = finder.find(clip.frames[start])
        if face is None:
            windows.append(np.zeros((channels(roi_set), len(part)), np.float32))
        else:
            windows.append(window_features(part, face.crop_landmarks, face.box, roi_set))
    return windows


def window_starts(frames: int, k: int) -> list[int]:
    """Return where the windows of a clip begin: 0, h, 2h, ... (h = k // 2), as far as their scores count.

    A later window counts from its second half on, so none begins within the last h frames.
    """
    half = k // 2
    return [start for start in range(0, frames, half) if start == 0 or start + half < frames]
