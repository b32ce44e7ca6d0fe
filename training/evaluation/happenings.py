"""What happens in a face that is no micro-expression, told from where its 68 landmarks are in every frame.

A movement counts where it goes farther within the length of a micro-expression than one goes: what is slower is not
taken for one, and what is held does not move, so a smile is two happenings. Unit: g, half the distance of the inner eye
corners; the 320 px crop is 9 g wide, so a micro-expression of 3 px goes 0.08 g. Where no source is named, a threshold
is two or three times what the mesh does in half a second in a still face 110 px wide, and what it brought was looked at
in real video. Knows landmarks and times; nothing of video, models or alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from training.evaluation.beside import Happening
from training.synthesis.insert import scale, smoothed

FloatArray = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

WITHIN = 0.5
"""Seconds of the longest micro-expression: how long a movement may take."""
MARGIN = 0.08
"""Seconds added before and after what passes a threshold: the movement's slow beginning and end."""
STILL = 0.1
"""Seconds of the median and of the mean that quiet a course, but for the lids'."""

BLINK_DEPTH = 0.12
"""Share of the eye's usual opening that the mesh loses in a blink: it never closes the eye, loses 0.12 to 0.32 where
lids shut, and shakes by 0.02 to 0.04 where nothing happens. Half of all blinks are partial (Sforza 2008)."""
BLINK_CLEAR = 4.0
"""The same in median changes of the opening from one frame to the next around it: some meshes shake more."""
MOVED = (0.09, 0.15)
"""The same in a head that moves: so much, and so much for each g that it goes meanwhile. In a nod of 0.5 g an eye that
stays open loses 0.15 in the mesh."""
OPEN = 0.8
"""Share of its usual opening that an eye has before and after a blink; lids that are down already flutter."""
BLINK_SECONDS = 0.6
"""Longest blink, from the first movement of the lid to the last."""
LID_SECONDS = 0.066
"""What a lid takes to close (Sforza 2008): so much lies before and after the deeper half of a blink."""

LIDS = 0.2
"""Share of the eye's usual opening by which it changes where lids lower, lift or widen, and are not back as after a
blink; in a nod of 0.5 g it changes by 0.15 by itself."""
LIPS, LIPS_HEIGHT, LIPS_WIDTH = 0.12, 0.2, 0.2
"""g by which the lips part, the mouth's outline grows taller, and wider: 4 and 7 px of the crop, a weak syllable."""
BROW = 0.12
"""g that a brow goes up or down over the eyes: 4 px of the crop, more than any micro-expression."""
SHIFT = 0.25
"""g that the head goes sideways, up or down: 4 mm, four times what it sways in half a second when seated."""
FAR = 0.5
"""g that the head goes in half a second, beyond which brows and lids that seem to move are taken for its doing: they do
in the mesh of a head that nods or turns."""
TURN, NOD = 0.15, 0.2
"""g that the tip of the nose goes sideways, and up or down, between the eyes: it lies about 1.5 g before them, so 6 and
8 degrees. The mesh's nose shakes more up and down."""
TILT = float(np.radians(3.0))
"""Radians that the line through the eyes tilts; seated heads roll by 0.2 degrees (SD), talking ones by 0.3 to 1.1."""
LEAN = 0.06
"""Logarithm of size: 4 cm nearer or farther at 70 cm."""
ELSEWHERE = 1.5
"""g that a face goes from one frame to the next if it is another: 2.5 cm; heads that shake were seen to go 1.1."""
HOLE = 0.2
"""Seconds without a frame after which nothing is known of what was before."""
SLIP = 0.2
"""g that half of the landmarks are from where the frames around have them, but for where the head goes: a mesh that is
drawn to something else, or to a face of another size."""

KINDS = ("blink", "lids", "mouth", "brow", "head", "face")
"""What is told apart. A smile is "mouth": its corners go no other way than in speech that spreads the lips."""


def happened(landmarks: npt.NDArray[np.floating], times: npt.ArrayLike) -> list[Happening]:
    """Tell what happens in a face.

    Args:
        landmarks: (n, 68, 2), pixels, as found in each frame and not smoothed; NaN where there is no face.
        times: (n,), seconds, rising.

    Returns:
        Happenings of `KINDS` in order of onset; those of one kind do not touch. "face" is where none is found, another
        one, or where the mesh slips; nothing else is told of it.
    """
    at, raw = np.asarray(times, np.float64), np.asarray(landmarks, np.float32)
    if len(at) < 2:
        return []
    fps = 1 / float(np.median(np.diff(at)))
    flags = {kind: np.zeros(len(at), bool) for kind in KINDS}
    flags["face"] = _broken(raw, at)
    for first, end in _stretches(~flags["face"]):
        for kind, moving in _moving(raw[first:end], fps).items():
            flags[kind][first:end] = moving
    return sorted(_intervals(flags, fps), key=lambda each: (each.onset, each.offset, each.kind))


def courses(landmarks: FloatArray, fps: float) -> dict[str, Floats]:
    """Measure a face in frames that follow each other.

    Args:
        landmarks: float32 (n, 68, 2), pixels.
        fps: frames per second.

    Returns:
        Name -> float64 (n,) or, of brows, (2, n): ``eyes``, the mean opening as a share of the eye's width; ``lips``,
        ``lips height``, ``lips width``, ``brows``, ``x``, ``y``, ``turn``, ``nod`` in g; ``tilt`` in radians; ``size``
        as a logarithm.
    """

    def apart(*pairs: tuple[int, int]) -> Floats:
        a, b = np.array(pairs).T
        out: Floats = np.linalg.norm(landmarks[:, a] - landmarks[:, b], axis=-1).mean(1)
        return out

    size = apart((36, 45), (27, 33), (36, 33), (45, 33))
    usual = float(np.median(scale(landmarks)))
    # A turned head's eyes are nearer each other; lengths across, down and aslant together say how near the face is.
    g = usual * _quiet(size, fps) / float(np.median(size))
    across = landmarks[:, 42:48].mean(1) - landmarks[:, 36:42].mean(1)
    right = across / np.linalg.norm(across, axis=-1, keepdims=True)
    down = np.stack((-right[:, 1], right[:, 0]), -1)
    eyes = landmarks[:, [36, 39, 42, 45]].mean(1)
    tip, bridge = landmarks[:, 30] - eyes, landmarks[:, 27:31].mean(1)
    brows = [
        landmarks[:, a : a + 5].mean(1) - landmarks[:, list(e)].mean(1) for a, e in ((17, (36, 39)), (22, (42, 45)))
    ]
    return {
        "eyes": apart((37, 41), (38, 40), (43, 47), (44, 46)) / apart((36, 39), (42, 45)),
        "lips": apart((61, 67), (62, 66), (63, 65)) / g,
        "lips height": apart((50, 58), (51, 57), (52, 56)) / g,
        "lips width": apart((48, 54)) / g,
        "brows": np.stack([(brow * down).sum(-1) / g for brow in brows]),
        "x": bridge[:, 0] / usual,
        "y": bridge[:, 1] / usual,
        "turn": (tip * right).sum(-1) / g,
        "nod": (tip * down).sum(-1) / g,
        "tilt": np.unwrap(np.arctan2(right[:, 1], right[:, 0])),
        "size": np.log(size),
    }


def moves(course: Floats, by: float, longest: int) -> Flags:
    """Tell where a course goes far in a short time: the shortest stretches between whose ends it changes enough.

    Args:
        course: float64 (n,).
        by: the change, in the course's unit.
        longest: steps that it may take.

    Returns:
        bool (n,): frames in such a stretch, both ends included.
    """
    n = len(course)
    out = np.zeros(n, bool)
    reached = np.zeros(n, bool)  # [i]: a stretch within the frames from i to i + steps - 1 is far enough
    for steps in range(1, min(longest, n - 1) + 1):
        far = np.abs(course[steps:] - course[:-steps]) >= by
        shorter = reached[: n - steps] | reached[1 : n - steps + 1]
        for first in np.flatnonzero(far & ~shorter):
            out[first : first + steps + 1] = True
        reached = far | shorter
    return out


def blinks(eyes: Floats, gone: Floats, fps: float) -> Flags:
    """Tell where eyes close and open again at once.

    The opening is set against the lower of its highest values shortly before and shortly after: lids that stay down, a
    head that nods slowly and a face that comes nearer change both or neither.

    Args:
        eyes: float64 (n,), opening of the eyes, in any unit.
        gone: float64 (n,), how far the head goes meanwhile, g.
        fps: frames per second.

    Returns:
        bool (n,): frames of blinks, from the first movement of the lid to the last.
    """
    n, reach, usual = len(eyes), max(1, round(BLINK_SECONDS / 2 * fps)), float(np.median(eyes))
    # At 25 frames per second the eye may be shut in a single one, so the median is for what is open only.
    near = np.lib.stride_tricks.sliding_window_view(np.pad(_median(eyes, 3), reach, mode="edge"), reach + 1)
    least = np.minimum(near[:n].max(1), near[reach : reach + n].max(1))
    depth = (least - eyes) / usual
    shaking = _median(np.abs(np.diff(eyes, prepend=eyes[:1])), 2 * fps) / usual
    enough = np.maximum.reduce((np.full(n, BLINK_DEPTH), BLINK_CLEAR * shaking, MOVED[0] + MOVED[1] * gone))
    enough[least < OPEN * usual] = np.inf
    out = np.zeros(n, bool)
    closing = max(1, round(LID_SECONDS * fps))
    for first, end in _stretches(depth >= BLINK_DEPTH / 2):
        if (depth[first:end] >= enough[first:end]).any():
            deep = first + np.flatnonzero(depth[first:end] >= depth[first:end].max() / 2)
            out[max(deep[0] - closing, 0) : deep[-1] + closing + 1] = True
    return out


def _moving(landmarks: FloatArray, fps: float) -> dict[str, Flags]:
    """Tell for every kind but "face" where it happens, in frames that follow each other."""
    measured, longest = courses(landmarks, fps), round(WITHIN * fps)
    gone = np.hypot(*(_range(_quiet(measured[name], fps), round(WITHIN / 2 * fps)) for name in ("x", "y")))
    blink = blinks(measured["eyes"], gone, fps)
    frames = np.arange(len(blink))
    # A blink is no movement of lids that stay.
    lids = measured["eyes"] / np.median(measured["eyes"])
    if blink.any() and not blink.all():
        lids = np.interp(frames, frames[~blink], lids[~blink])

    def any_of(**bounds: float) -> Flags:
        out = np.zeros(len(blink), bool)
        for name, by in bounds.items():
            for course in np.atleast_2d(measured[name.replace("_", " ")]):
                out |= moves(_quiet(course, fps), by, longest)
        return out

    def steady(moving: Flags) -> Flags:
        """Leave out what happens while the head goes far."""
        for first, end in _stretches(moving):
            moving[first:end] = np.median(gone[first:end]) < FAR
        return moving

    return {
        "blink": blink,
        "lids": steady(moves(_quiet(lids, fps), LIDS, longest)) & ~blink,
        "mouth": any_of(lips=LIPS, lips_height=LIPS_HEIGHT, lips_width=LIPS_WIDTH),
        "brow": steady(any_of(brows=BROW)),
        "head": any_of(x=SHIFT, y=SHIFT, turn=TURN, nod=NOD, tilt=TILT, size=LEAN),
    }


def _broken(landmarks: FloatArray, times: Floats) -> Flags:
    """Tell where the course of a face is broken: bool (n,), of both frames where it is between two."""
    g = scale(landmarks)
    out: Flags = ~np.isfinite(landmarks.reshape(len(g), -1).sum(1))
    moved = np.median(np.linalg.norm(np.diff(landmarks, axis=0), axis=-1), axis=-1) / g[:-1]
    between = (moved > ELSEWHERE) | (np.diff(times) > HOLE)  # False of NaN
    out[:-1] |= between
    out[1:] |= between
    # The mesh alone slips, the head stays: what the landmarks' mean does is taken off.
    cuts = np.concatenate(([True], ~(np.isfinite(moved) & ~between)))
    shape = landmarks - landmarks.mean(1, keepdims=True)
    away = np.median(np.linalg.norm(shape - smoothed(shape, cuts, 1.0), axis=-1), axis=-1)
    out |= away > SLIP * g  # False of NaN
    return out


def _intervals(flags: Mapping[str, Flags], fps: float) -> Iterator[Happening]:
    """Widen what is flagged by the margin, and join what then touches."""
    for kind, flagged in flags.items():
        wider = 0 if kind == "blink" else round(MARGIN * fps)  # a blink's ends are known
        wide = np.zeros_like(flagged)
        for first, end in _stretches(flagged):
            wide[max(first - wider, 0) : end + wider] = True
        for first, end in _stretches(wide):
            yield Happening(kind, first, end - 1)


def _stretches(flags: Flags) -> list[tuple[int, int]]:
    """Return (first, end) of every stretch of True; the end is not in it."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False]))))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _range(course: Floats, reach: int) -> Floats:
    """Return how far a course goes within so many frames of each."""
    near = np.lib.stride_tricks.sliding_window_view(np.pad(course, reach, mode="edge"), 2 * reach + 1)
    most, least = near.max(1), near.min(1)
    out: Floats = most - least
    return out


def _quiet(course: Floats, fps: float) -> Floats:
    """Take what one frame does alone, and half of the rest of its noise, off a course."""
    return _running(np.mean, _median(course, STILL * fps), STILL * fps)


def _median(course: Floats, frames: float) -> Floats:
    return _running(np.median, course, frames)


def _running(of: Callable[[Floats], Any], course: Floats, frames: float) -> Floats:
    """Take the median or the mean of so many frames around each, an odd number; at an end of fewer."""
    half, n = round((max(frames, 3) - 1) / 2), len(course)
    out = np.empty(n)
    for i in range(n):
        reach = min(half, i, n - 1 - i)  # as far back as forth: a course on its way is not pulled to one side
        out[i] = of(course[i - reach : i + reach + 1])
    return out
