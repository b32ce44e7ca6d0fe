"""What cameras do besides showing what is there: light that steps, focus that is sought, frames that are held, noise.

None of it is the face's, all of it moves pixels in a few tenths of a second. Knows frames, nothing of faces or truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from training.synthesis.timeline import Distractor, pulse

Image = npt.NDArray[np.uint8]

KINDS = ("light", "focus", "held", "noise")
"""What happens, each as often. Key frames that pop come of coding instead: ``coding`` says when."""
KEY_FRAME = "key frame"


class CameraFaults:
    """Draws what goes wrong in a clip, and does it to the clip's frames.

    Args:
        rng: of everything.
        frames: length of the clip.
        fps: frames per second.
        per_minute: how much happens.
        pixel: pixels of the picture that make one of the 320 px crop; a lens out of focus blurs by those.

    Attributes:
        happened: everything, key frames too, in order of onset.
        gop: frames from one key frame to the next.
        coarser: how much is added to H.264's constant rate factor: what is coded finely does not pop.
    """

    def __init__(self, rng: np.random.Generator, frames: int, fps: float, per_minute: float, pixel: float) -> None:
        self._rng, self._fps, self._pixel = rng, fps, pixel
        self._gain, self._blur, self._breath, self._noise = np.zeros((4, frames))
        self._held = np.zeros(frames, bool)
        self.gop, self.coarser = max(2, round(rng.uniform(0.5, 2) * fps)), int(rng.integers(6, 15))
        happened = [Distractor(KEY_FRAME, at - 1, at + 1) for at in range(self.gop, frames - 1, self.gop)]
        for _ in range(rng.poisson(per_minute * frames / fps / 60)):
            kind = KINDS[rng.integers(len(KINDS))]
            onset = int(rng.integers(frames))  # the last frame without it
            happened.append(Distractor(kind, onset, getattr(self, f"_{kind}_from")(onset)).within(frames))
        self.happened = sorted(happened, key=lambda other: other.onset)

    def __call__(self, clean: Iterable[Image]) -> Iterator[Image]:
        """Yield the frames as the camera gives them: uint8 (H, W, 3), as many as came in."""
        import cv2

        out: Image | None = None
        for i, image in enumerate(clean):
            if out is not None and self._held[i]:
                yield out
                continue
            out = image
            if self._breath[i]:
                height, width = out.shape[:2]
                zoom = cv2.getRotationMatrix2D((width / 2, height / 2), 0, 1 + float(self._breath[i]))
                out = cv2.warpAffine(out, zoom, (width, height), borderMode=cv2.BORDER_REFLECT_101)
            if self._blur[i] > 0.05:
                out = cv2.GaussianBlur(out, (0, 0), float(self._blur[i]))
            if self._gain[i]:
                levels = np.arange(256) * np.exp(self._gain[i])
                out = cv2.LUT(out, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
            if self._noise[i]:
                grain = self._rng.standard_normal(out.shape, np.float32) * np.float32(self._noise[i])
                out = np.clip(np.rint(out + grain), 0, 255).astype(np.uint8)
            yield out

    def _light_from(self, onset: int) -> int:
        """A lamp or a cloud: brighter or darker within three frames; exposure follows at once, or takes its time."""
        rng = self._rng
        size = rng.choice((-1, 1)) * rng.uniform(0.05, 0.35)
        rise = int(rng.integers(1, 4))
        after = np.arange(len(self._gain) - onset)
        quick = bool(rng.integers(2))
        takes = (rng.uniform(0.2, 1.0) if quick else rng.uniform(3, 10)) * self._fps
        self._gain[onset:] += size * np.minimum(after / rise, 1) * np.exp(-np.maximum(after - rise, 0) / takes)
        return onset + rise + (round(2 * takes) if quick else 0)

    def _focus_from(self, onset: int) -> int:
        """The lens moves out of focus and back; the picture grows or shrinks a little meanwhile."""
        rng = self._rng
        length = max(4, round(rng.uniform(0.3, 1.2) * self._fps))
        course = pulse(length, length * rng.uniform(0.2, 0.6))[: len(self._blur) - onset]
        self._blur[onset : onset + len(course)] += course * rng.uniform(0.8, 3.0) * self._pixel
        self._breath[onset : onset + len(course)] += course * rng.uniform(-0.01, 0.01)
        return onset + length

    def _held_from(self, onset: int) -> int:
        """Frames are dropped, and the last one is shown in their stead."""
        length = int(self._rng.integers(1, 5))
        self._held[onset + 1 : onset + 1 + length] = True
        return onset + 1 + length

    def _noise_from(self, onset: int) -> int:
        """The sensor is turned up."""
        length = max(2, round(self._rng.uniform(0.3, 2.0) * self._fps))
        during = self._noise[onset + 1 : onset + length]
        during[:] = np.maximum(during, self._rng.uniform(4, 12))
        return onset + length
