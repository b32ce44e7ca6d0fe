"""Rendered clips of the test identity, never trained on: what `python -m training evaluate` uses; and of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from metst_edge.face import FaceFinder
from training.synthesis.camera import draw_camera
from training.synthesis.portrait import TRAINING_PORTRAITS, Variation, astronaut, draw_variation, read_portrait
from training.synthesis.render import Clip, render_clip
from training.synthesis.timeline import MODERATE, Rates

MANY = replace(MODERATE, micro=40.0)
"""As many micro-expressions as fit: what a recogniser is trained on."""


def test_clip(
    seed: int,
    index: int,
    seconds: float,
    fps: float = 30.0,
    rates: Rates = MODERATE,
    finder: FaceFinder | None = None,
) -> Clip:
    """Render one clip with its own distance, light and camera, not yet as H.264: that is `write_clip`'s part.

    Args:
        seed: of the set.
        index: of the clip in the set; the same two numbers give the same clip.
        seconds: its length.
        fps: frames per second.
        rates: how much happens.
        finder: the front end's face finder, reused.
    """
    rng = np.random.default_rng((seed, index))
    change = Variation(
        face=float(rng.uniform(230, 310)),
        roll=float(rng.normal(0, 3)),
        gamma=float(np.exp(rng.normal(0, 0.15))),
        shift=(float(rng.normal(0, 0.25)), float(rng.normal(0, 0.25))),
    )
    camera = replace(draw_camera(rng), crf=None)
    return render_clip(astronaut(finder, change=change), int(rng.integers(1 << 31)), seconds, fps, rates, camera)


# pytest collects whatever begins with "test"; this is a library function.
test_clip.__test__ = False  # type: ignore[attr-defined]


def training_clip(
    portraits: Path,
    seed: int,
    index: int,
    seconds: float,
    fps: float = 30.0,
    rates: Rates = MANY,
    finder: FaceFinder | None = None,
) -> Clip:
    """Render one clip of a training identity, changed into another person; see `test_clip`.

    Args:
        portraits: folder that holds TRAINING_PORTRAITS.
        seed: of the set.
        index: of the clip in the set.
        seconds: its length.
        fps: frames per second.
        rates: how much happens.
        finder: the front end's face finder, reused.
    """
    rng = np.random.default_rng((seed, index))
    picture = portraits / TRAINING_PORTRAITS[index % len(TRAINING_PORTRAITS)]
    portrait = read_portrait(picture, finder, change=draw_variation(rng))
    camera = replace(draw_camera(rng), crf=None)
    clip = render_clip(portrait, int(rng.integers(1 << 31)), seconds, fps, rates, camera)
    return replace(clip, source=f"{clip.source}-{index}")
