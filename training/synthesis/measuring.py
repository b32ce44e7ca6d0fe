"""Measure what the real front end sees when a rendered face moves, and gather it into a `Calibration`.

Every movement is rendered alone on many variants of the training portraits and measured as a user's video would be
(face finder, crop, optical flow of 18 regions, `compat=False`). Noise is what remains on rendered, compressed clips
when the sum of those responses is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metst_edge.capture import to_gray
from metst_edge.face import Box, Face, FaceFinder, crop, rectangles
from metst_edge.face.rois import NOSE_BRIDGE
from metst_edge.flow import Farneback, RoiFlow, SteadyFlow, channels, window_features
from training.synthesis.absorption import PARAMETERS, absorbed
from training.synthesis.calibration import (
    ALL_POINTS,
    BASIS,
    CALIBRATION_FILE,
    CELLS,
    LEVELS,
    POINTS,
    Calibration,
    channel_values,
    expand,
    window_starts,
)
from training.synthesis.camera import Camera, Sensor, draw_camera
from training.synthesis.portrait import TRAINING_PORTRAITS, Portrait, Variation, draw_variation, read_portrait
from training.synthesis.render import Clip, Renderer, render_timeline
from training.synthesis.timeline import HEAD, TRACK, TRACKS, Rates, draw_timeline

FloatArray = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]

NOISELESS = Camera(noise=0)
NOISE_WINDOW = 50


SHIFT = 1.5
"""Pixels of the crop that a picture is moved by to see how much of it is measured: a micro-expression's size."""


class _Points:
    """Flow at POINTS of one face's crops.

    Attributes:
        landmarks: float32 (68, 2), of the anchor, pixels of the crop.
        places: float32 (ALL_POINTS, 2), where the points lie, pixels of the crop; the middle of the nose bridge last.
    """

    def __init__(self, face: Face) -> None:
        self.landmarks = np.asarray(face.crop_landmarks, np.float32)
        patches, self._regions, _ = rectangles("metst_plus", face.crop_landmarks)
        # A patch may lie outside the crop: nothing moves there.
        self._patches = {name: rect for name, rect in patches.items() if not rect.empty}
        self.places = self._places(patches)

    def absorbed(self) -> FloatArray:
        """Return what is taken for the head's motion of a displacement: float32 (PARAMETERS, m, 2).

        m places: none where no head is fitted. See `training.synthesis.absorption.absorbed`.
        """
        return np.zeros((PARAMETERS, 0, 2), np.float32)

    def _flows(self, image: Gray) -> dict[str, Farneback]:
        """Open flow from a crop."""
        return {name: Farneback(_part(image, rect)) for name, rect in self._patches.items()}

    def _at_points(self, flows: Mapping[str, Farneback], image: Gray) -> FloatArray:
        """Return the flow to a crop at the points, float32 (ALL_POINTS, 2); zero for the head."""
        import cv2

        flow = {name: one.to(_part(image, self._patches[name])) for name, one in flows.items()}
        out = np.zeros((ALL_POINTS, 2), np.float32)
        for roi, rect in self._regions:
            if roi.patch in flow and not rect.empty:
                part = flow[roi.patch][rect.top : rect.bottom, rect.left : rect.right]
                cells = CELLS[roi.name]
                out[POINTS[roi.name]] = cv2.resize(part, cells[::-1], interpolation=cv2.INTER_AREA).reshape(-1, 2)
        return out

    def _gain(self, flows: Mapping[str, Farneback], image: Gray) -> FloatArray:
        """Return how much of a small movement of a crop is measured at each point, see `PointFlow.gain`."""
        import cv2

        still = self._at_points(flows, image)
        out = np.zeros((ALL_POINTS, 2, 2), np.float32)
        for axis in range(2):
            matrix = np.eye(2, 3, dtype=np.float32)
            matrix[axis, 2] = SHIFT
            moved: Gray = cv2.warpAffine(
                image, matrix, image.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            out[:-1, :, axis] = (self._at_points(flows, moved) - still)[:-1] / SHIFT
        return out

    def _places(self, patches: Mapping[str, Box]) -> FloatArray:
        out = np.zeros((ALL_POINTS, 2), np.float32)
        for roi, rect in self._regions:
            down, across = CELLS[roi.name]
            patch = patches[roi.patch]
            y = patch.top + rect.top + (np.arange(down) + 0.5) * rect.height / down
            x = patch.left + rect.left + (np.arange(across) + 0.5) * rect.width / across
            out[POINTS[roi.name]] = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        out[-1] = self.landmarks[NOSE_BRIDGE.first : NOSE_BRIDGE.last + 1].mean(0)
        return out


class PointFlow(_Points):
    """Measures flow at POINTS against one anchor frame; the crop follows the head as the front end has it."""

    def __init__(self, anchor: Gray, face: Face) -> None:
        super().__init__(face)
        self._face = face
        self._follow = RoiFlow(anchor, face.box, face.crop_landmarks, "metst")
        self._of_anchor = self._flows(crop(anchor, face.box))

    @property
    def likeness(self) -> float:
        """As of `metst_edge.flow.RoiFlow`."""
        return self._follow.likeness

    def reset(self) -> None:
        """Put the crop back to where it was on the anchor."""
        self._follow.box = self._face.box

    def measure(self, frame: Gray, time: float = 0.0) -> FloatArray:
        """Return float32 (ALL_POINTS, 2), pixels of the crop; the head's motion last, not subtracted."""
        self._follow.measure(frame)
        out = self._at_points(self._of_anchor, crop(frame, self._follow.box))
        out[-1] = self._follow.motion
        return out

    def gain(self, frame: Gray) -> FloatArray:
        """Return how much of a small movement is measured at each point of a frame, float32 (ALL_POINTS, 2, 2).

        [..., 0] is what is measured of one pixel to the right, [..., 1] of one down: the unit matrix where all of it
        is. Zero for the head. The frame is the last one measured, or looks like it.
        """
        return self._gain(self._of_anchor, crop(frame, self._follow.box))


class SteadyPoints(_Points):
    """Measures flow at POINTS of a face held steady, from a little ago (`metst_edge.flow.steady`)."""

    def __init__(self, anchor: Gray, face: Face, time: float) -> None:
        super().__init__(face)
        self._steady = SteadyFlow(anchor, face.box, face.crop_landmarks, time)
        self._anchor = self._steady.crop

    @property
    def likeness(self) -> float:
        """As of `metst_edge.flow.SteadyFlow`."""
        return self._steady.likeness

    def measure(self, frame: Gray, time: float) -> FloatArray:
        """Return float32 (ALL_POINTS, 2), pixels of the crop; nothing of the head, whose motion is out already."""
        self._steady.measure(frame, time)
        before = self._steady.before
        if before is None:
            return np.zeros((ALL_POINTS, 2), np.float32)
        return self._at_points(self._flows(before), self._steady.crop)

    def gain(self, frame: Gray) -> FloatArray:
        """Return the same as `PointFlow.gain` of the last frame measured, its crop against itself a little ago."""
        before = self._steady.before
        return self._gain(self._flows(self._steady.crop if before is None else before), self._steady.crop)

    def absorbed(self) -> FloatArray:
        """As of the last frame measured."""
        return absorbed(self._anchor, self._steady.crop, self.landmarks)


def _part(image: Gray, rect: Box) -> Gray:
    return np.ascontiguousarray(image[rect.top : rect.bottom, rect.left : rect.right])


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
        flow = PointFlow(to_gray(rest), find(rest, finder, portrait.name))
        table = np.zeros((len(BASIS), ALL_POINTS, 2), np.float32)
        still = np.zeros((ALL_POINTS, 2), np.float32)
        for _ in range(4 if camera.noise else 0):
            # The anchor's own noise is a constant offset, which is no response.
            still += flow.measure(to_gray(seen(renderer.draw(np.zeros(len(TRACKS), np.float32))))) / 4
        for row, (track, level) in enumerate(BASIS):
            signs = (1, -1) if len(LEVELS[track]) == 1 else (1,)
            for sign in signs:
                flow.reset()
                # The head moves by about a pixel from frame to frame, not in one jump: the crop follows it in steps.
                steps = 4 if track in HEAD else 1
                for step in range(steps):
                    tracks = np.zeros(len(TRACKS), np.float32)
                    tracks[TRACK[track]] = sign * level * (step + 1) / steps
                    out = flow.measure(to_gray(seen(renderer.draw(tracks))))
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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Measure variants of portraits and gather what the generator needs.

    Args:
        portraits: picture files of the training identities.
        persons: how many variants, taken from the portraits in turn; the first of each is the portrait as it is.
        seed: the same seed gives the same calibration.
        progress: called with how many persons are done, and of how many.

    Raises:
        FileNotFoundError: a portrait is missing.
        ValueError: a portrait shows no face.
    """
    finder = FaceFinder()
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
        progress(person + 1, persons)
    pooled = np.concatenate(kinds, axis=1)
    correlation = np.einsum("kwct,kwdt->kcd", pooled, pooled) / (pooled.shape[1] * pooled.shape[3])
    return Calibration(np.array(tables, np.float32), np.array(deviations, np.float32), correlation.astype(np.float32))


def calibrate_folder(
    folder: Path, out: Path = CALIBRATION_FILE, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Calibrate on the training portraits in a folder and write the file that the generator reads.

    Args:
        folder: holds them.
        out: the file.
        progress: called with how many persons are done, and of how many.

    Raises:
        FileNotFoundError: a portrait is missing.
    """
    calibrate([folder / name for name in TRAINING_PORTRAITS], progress=progress).save(out)


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
    grays = [to_gray(frame) for frame in clip.frames]
    windows = []
    for start in window_starts(len(grays), k):
        part = grays[start : start + k]
        face = finder.find(clip.frames[start])
        if face is None:
            windows.append(np.zeros((channels(roi_set), len(part)), np.float32))
        else:
            windows.append(window_features(part, face.crop_landmarks, face.box, roi_set))
    return windows
