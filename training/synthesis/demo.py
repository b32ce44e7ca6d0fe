"""The clip that `metst-edge demo` shows: scripted micro-expressions on a public-domain portrait."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from metst_edge.face import FaceFinder
from training.synthesis.camera import Camera
from training.synthesis.emotions import emotion_of
from training.synthesis.h264 import encode
from training.synthesis.portrait import Variation, astronaut
from training.synthesis.render import render_frames
from training.synthesis.timeline import Rates, TruthEvent, draw_timeline, scripted_timeline

SECONDS = 22.0
FPS = 30.0
SEED = 7
SOURCE = {
    "portrait": "Eileen Collins, NASA Great Images database (skimage.data.astronaut)",
    "licence": "public domain",
    "made_by": "python -m training demo-clip: every movement in it is rendered, none was recorded",
}

# Onset, frames up to the apex, frames down from it, action units, pixels of the 320 px crop, strength of the weaker
# side.
_SCRIPT = (
    (57, 5, 7, (1, 2), 2.0, 0.9),
    (128, 5, 6, (6, 12), 2.2, 0.85),
    (205, 4, 7, (4, 7), 2.0, 0.95),
    (283, 5, 6, (17,), 2.2, 0.95),
    (352, 4, 6, (12,), 1.8, 0.8),
    (430, 5, 7, (9, 10), 1.7, 0.9),
    (505, 4, 7, (1, 2, 5), 1.6, 0.95),
    (588, 5, 6, (24,), 2.4, 0.95),
)


def write_demo(folder: Path, crf: int = 21, finder: FaceFinder | None = None) -> tuple[Path, Path]:
    """Render the demo clip and write clip.mp4 and truth.json into ``folder``; the same every time.

    Args:
        folder: made if it is not there.
        crf: H.264 constant rate factor; the shipped file stays below 1 MB.
        finder: the front end's face finder, reused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    events = [
        (TruthEvent(onset, onset + rise, onset + rise + fall, emotion_of(units), units, pixels), weaker)
        for onset, rise, fall, units, pixels, weaker in _SCRIPT
    ]
    rates = Rates(micro=0, blinks=12, speech=0, macros=0, head_moves=0, drift=0.7, flicker=0.002)
    timeline = scripted_timeline(draw_timeline(rng, round(SECONDS * FPS), FPS, rates), events, rng)
    portrait = astronaut(finder, change=Variation(face=290))
    clip, truth = folder / "clip.mp4", folder / "truth.json"
    encode(render_frames(portrait, timeline, Camera(noise=1.0), SEED), portrait.size, clip, FPS, crf)
    record = {
        "fps": FPS,
        "frames": timeline.frames,
        "events": [asdict(event) for event in timeline.truth],
        "distractors": [asdict(other.within(timeline.frames)) for other in timeline.distractors],
        "source": SOURCE,
    }
    truth.write_text(json.dumps(record, indent=1) + "\n")
    return clip, truth
