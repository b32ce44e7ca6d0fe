"""Rendered clips: of the test identity, never trained on, which `python -m training evaluate` uses; of the training
identities; and of any people whose portraits there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from metst_edge.capture.listing import PICTURES
from metst_edge.face import FaceFinder
from training.synthesis.camera import draw_camera
from training.synthesis.portrait import (
    TRAINING_PORTRAITS,
    Portrait,
    Variation,
    astronaut,
    draw_variation,
    read_portrait,
)
from training.synthesis.render import DRAWING, Clip, render_clip
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
    drawing: str = DRAWING,
) -> Clip:
    """Render one clip with its own distance, light and camera, not yet as H.264: that is `write_clip`'s part.

    Args:
        seed: of the set.
        index: of the clip in the set; the same two numbers give the same clip.
        seconds: its length.
        fps: frames per second.
        rates: how much happens.
        finder: the front end's face finder, reused.
        drawing: of `render.DRAWINGS`.
    """
    rng = np.random.default_rng((seed, index))
    portrait = astronaut(finder, change=_before_a_camera(rng, float(rng.uniform(230, 310))))
    return _filmed(portrait, rng, seconds, fps, rates, drawing)


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
    drawing: str = DRAWING,
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
        drawing: of `render.DRAWINGS`.
    """
    rng = np.random.default_rng((seed, index))
    picture = portraits / TRAINING_PORTRAITS[index % len(TRAINING_PORTRAITS)]
    portrait = read_portrait(picture, finder, change=draw_variation(rng))
    clip = _filmed(portrait, rng, seconds, fps, rates, drawing)
    return replace(clip, source=f"{clip.source}-{index}")


FACES = (90.0, 310.0)
"""Narrowest and widest face of `person_clip`, as in `Variation.face`: far from the camera, and near."""


def portrait_of(portraits: Path, person: str) -> Path:
    """Return a person's portrait: the picture of that name in a folder, whatever its ending.

    Raises:
        ValueError: there is none.
    """
    for ending in PICTURES:
        if (path := portraits / f"{person}{ending}").is_file():
            return path
    raise ValueError(f"expected a portrait of {person} in {portraits} ({person}.jpg, say), found none")


def person_clip(
    portraits: Path,
    people: Sequence[str],
    seed: int,
    index: int,
    seconds: float,
    fps: float = 30.0,
    rates: Rates = MODERATE,
    finder: FaceFinder | None = None,
    drawing: str = DRAWING,
) -> Clip:
    """Render one clip of one of some people, as they are; see `test_clip`.

    Args:
        portraits: folder that holds their portraits.
        people: names of the portraits without ending; clip i is of the i-th, and so on around.
        seed: of the set.
        index: of the clip in the set.
        seconds: its length.
        fps: frames per second.
        rates: how much happens.
        finder: the front end's face finder, reused.
        drawing: of `render.DRAWINGS`.

    Raises:
        ValueError: no portrait of that name, or no face in it.
    """
    rng = np.random.default_rng((seed, index))
    face = float(rng.uniform(*FACES))
    # A portrait ends about a face's width around the face: the frame is no larger than it has pixels for.
    side = 2 * round(face * rng.uniform(1.35, 1.7) / 2)
    picture = portrait_of(portraits, people[index % len(people)])
    portrait = read_portrait(picture, finder, (side, side), _before_a_camera(rng, face))
    return _filmed(portrait, rng, seconds, fps, rates, drawing)


def _before_a_camera(rng: np.random.Generator, face: float) -> Variation:
    """Draw how somebody sits before a camera; the person stays who it is."""
    return Variation(
        face=face,
        roll=float(rng.normal(0, 3)),
        gamma=float(np.exp(rng.normal(0, 0.15))),
        shift=(float(rng.normal(0, 0.25)), float(rng.normal(0, 0.25))),
    )


def _filmed(
    portrait: Portrait, rng: np.random.Generator, seconds: float, fps: float, rates: Rates, drawing: str
) -> Clip:
    """Render a clip by a camera that is drawn, not yet as H.264."""
    camera = replace(draw_camera(rng), crf=None)
    return render_clip(portrait, int(rng.integers(1 << 31)), seconds, fps, rates, camera, drawing)
