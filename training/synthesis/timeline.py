"""What a rendered person does over time: every movement's course, and the truth about micro-expressions.

The one source of motion for both the renderer (pictures) and the generator (features), so that the two differ in how
motion is seen and in nothing else. Knows time and amounts only; nothing of pictures or channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from metst_edge.labels import EMOTIONS
from training.synthesis.emotions import ACTION_UNITS, UNILATERAL, combinations, emotion_of
from training.synthesis.face_actions import NAMES

FloatArray = npt.NDArray[np.float32]

HEAD = ("tx", "ty", "roll", "scale", "yaw", "pitch")
"""Pose of the head: pixels of the 320 px crop right and down, degrees clockwise, per cent, twice degrees."""
LIGHT = ("gain", "gamma")
"""Logarithms of a factor on, and of a power of, the picture's brightness."""
SIDES = ("left", "right")
TRACKS = (
    *(f"{name} {side}" for name in NAMES for side in SIDES),
    *(f"blink {side}" for side in SIDES),
    *HEAD,
    *LIGHT,
)
"""Rows of a timeline, all that can move: actions in pixels of the 320 px crop, lids as share closed."""
TRACK = {name: row for row, name in enumerate(TRACKS)}

MICRO_SECONDS = (0.1, 0.5)
"""Shortest and longest micro-expression, onset to offset."""


@dataclass(frozen=True, slots=True)
class TruthEvent:
    """One micro-expression, as it was put in.

    Attributes:
        onset: frame; the last one without it.
        apex: frame where it is strongest.
        offset: frame; the first one without it again. Onset and offset are both inclusive.
        emotion: what its action units tell of.
        action_units: their numbers, rising.
        intensity_px: displacement of the most moved point by its strongest action unit at the apex, in pixels of the
            320 px crop.
    """

    onset: int
    apex: int
    offset: int
    emotion: str
    action_units: tuple[int, ...]
    intensity_px: float


@dataclass(frozen=True, slots=True)
class Distractor:
    """Something else that happened: "blink", "speech", "macro", "head"; frames as in TruthEvent."""

    kind: str
    onset: int
    offset: int

    def within(self, frames: int) -> Distractor:
        """Return as much of it as a clip of so many frames holds: it may begin before and end after."""
        return replace(self, onset=max(self.onset, 0), offset=min(self.offset, frames - 1))


@dataclass(frozen=True, slots=True)
class Rates:
    """How much happens, per minute, and how strongly.

    Attributes:
        micro: micro-expressions, as many as fit without touching.
        blinks: distractor.
        speech: distractor, runs of syllables.
        macros: distractor, the same action units as a micro-expression's, slower.
        head_moves: distractor, nods, shakes and changes of pose.
        drift: factor on the head's slow movement; 0 holds it still.
        flicker: largest relative change of the light from frame to frame, mains against shutter.
        micro_pixels: weakest and strongest micro-expression: displacement of the most moved point at the apex, in
            pixels of the 320 px crop.
        overlap: chance that a macro-expression, speech or a larger head move may fall on a micro-expression.
    """

    micro: float = 14.0
    blinks: float = 15.0
    speech: float = 2.0
    macros: float = 3.0
    head_moves: float = 3.0
    drift: float = 1.0
    flicker: float = 0.004
    micro_pixels: tuple[float, float] = (0.5, 3.0)
    overlap: float = 0.1


MODERATE = Rates()
"""Every distractor, none of them all the time: what the model is evaluated on."""
NOTHING = Rates(micro=0, blinks=0, speech=0, macros=0, head_moves=0, drift=0, flicker=0)
"""A face that only looks."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """All movement over n frames.

    Attributes:
        fps: frames per second.
        tracks: float32 (len(TRACKS), n), units as in TRACKS.
        truth: the micro-expressions, in order.
        distractors: everything else, in order of onset.
    """

    fps: float
    tracks: FloatArray
    truth: tuple[TruthEvent, ...]
    distractors: tuple[Distractor, ...]

    @property
    def frames(self) -> int:
        return int(self.tracks.shape[1])


def draw_rate(rng: np.random.Generator, most: float, never: float) -> float:
    """Draw how often something happens a minute: never, with that probability, or up to ``most`` times."""
    return 0.0 if rng.uniform() < never else float(rng.uniform(0, most))


def pulse(length: int, apex: float, hold: float = 0.0) -> FloatArray:
    """Draw one rise and fall, smooth at both ends and at the top.

    Args:
        length: frames from onset to offset.
        apex: where the top begins, in frames from the onset, 0 < apex < length.
        hold: frames the top lasts; apex + hold < length.

    Returns:
        float32 (length + 1,): 0 at both ends, 1 at the top.
    """
    t = np.arange(length + 1, dtype=np.float32)
    rise = t / apex
    fall = (length - t) / (length - apex - hold)
    out: FloatArray = (0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(rise, fall), 0, 1))).astype(np.float32)
    return out


def draw_timeline(rng: np.random.Generator, frames: int, fps: float = 30.0, rates: Rates = MODERATE) -> Timeline:
    """Draw what happens in ``frames`` frames.

    Raises:
        ValueError: fewer than one frame, or a rate of frames that no micro-expression fits.
    """
    if frames < 1:
        raise ValueError(f"expected at least one frame, got {frames}")
    if not 15 <= fps <= 240:
        raise ValueError(f"expected 15 to 240 frames per second, got {fps}")
    draft = _Draft(rng, frames, fps, rates)
    draft.head_drift()
    draft.light()
    draft.micro_expressions()
    for kind, rate, add in (
        ("macro", rates.macros, draft.macro_expression),
        ("speech", rates.speech, draft.speech),
        ("head", rates.head_moves, draft.head_move),
        ("blink", rates.blinks, draft.blink),
    ):
        for _ in range(rng.poisson(rate * frames / fps / 60)):
            span = add()
            if span:
                draft.distractors.append(Distractor(kind, *span))
    distractors = sorted(draft.distractors, key=lambda d: d.onset)
    return Timeline(fps, draft.tracks, tuple(draft.truth), tuple(distractors))


def scripted_timeline(
    timeline: Timeline, events: Sequence[tuple[TruthEvent, float]], rng: np.random.Generator
) -> Timeline:
    """Put micro-expressions, each with the strength of its weaker side (0 to 1), into a quiet timeline."""
    draft = _Draft(rng, timeline.frames, timeline.fps, NOTHING)
    for event, weaker in events:
        draft.add_micro(event, weaker)
    return replace(timeline, tracks=timeline.tracks + draft.tracks, truth=tuple(draft.truth))


class _Draft:
    """A timeline while it is being drawn."""

    def __init__(self, rng: np.random.Generator, frames: int, fps: float, rates: Rates) -> None:
        self.rng = rng
        self.n = frames
        self.fps = fps
        self.rates = rates
        self.tracks = np.zeros((len(TRACKS), frames), np.float32)
        self.truth: list[TruthEvent] = []
        self.distractors: list[Distractor] = []

    def head_drift(self) -> None:
        """Slow wandering about a middle pose, and a sway of a few seconds."""
        if not self.rates.drift:
            return
        rng, t = self.rng, np.arange(self.n) / self.fps
        # Standard deviations of the wandering, in the units of HEAD: what a seated person does without intent.
        for name, spread in zip(HEAD, (3.0, 2.5, 0.5, 0.5, 0.9, 0.7), strict=True):
            # Three octaves of slow sines: smooth to the second derivative, unlike filtered noise, and cheap.
            track = np.zeros(self.n)
            for slowness in (0.04, 0.11, 0.3):
                f = slowness * rng.uniform(0.6, 1.5)
                track += rng.normal() * (0.04 / f) ** 0.7 * np.sin(2 * np.pi * (f * t + rng.uniform()))
            self.tracks[TRACK[name]] += (self.rates.drift * spread * track).astype(np.float32)

    def light(self) -> None:
        rng, t = self.rng, np.arange(self.n) / self.fps
        if self.rates.flicker:
            beat = rng.uniform(0.3, 12.0)
            size = self.rates.flicker * rng.uniform() ** 2
            self.tracks[TRACK["gain"]] += (size * np.sin(2 * np.pi * (beat * t + rng.uniform()))).astype(np.float32)
        if self.rates.drift:
            for name, size in (("gain", 0.03), ("gamma", 0.02)):
                slow = rng.normal() * np.sin(2 * np.pi * (rng.uniform(0.02, 0.15) * t + rng.uniform()))
                self.tracks[TRACK[name]] += (size * slow).astype(np.float32)

    def micro_expressions(self) -> None:
        rng = self.rng
        wanted = rng.poisson(self.rates.micro * self.n / self.fps / 60)
        for _ in range(wanted):
            length = self.micro_length()
            apart = int(0.3 * self.fps)
            onset = self.free_place(length, apart)
            if onset is not None:
                self.add_micro(*self.draw_micro(onset, length))
        self.truth.sort(key=lambda e: e.onset)

    def micro_length(self) -> int:
        """Frames from onset to offset, in the range of MICRO_SECONDS.

        Half their mean, in frames of SAMM Long Videos' 28.57 per second, is the k_p of 5 published for it.
        """
        shortest, longest = MICRO_SECONDS
        seconds = shortest + (longest - shortest) * self.rng.beta(3.2, 1.55)
        # Two frames at least lie between onset and offset.
        return max(3, round(seconds * self.fps))

    def draw_micro(self, onset: int, length: int) -> tuple[TruthEvent, float]:
        rng = self.rng
        emotion = EMOTIONS[rng.choice(4, p=(0.31, 0.23, 0.23, 0.23))]
        sets = combinations(emotion)
        units = tuple(sorted(sets[rng.integers(len(sets))]))
        # The onset phase is the shorter one, as annotated in CASME II and SAMM.
        apex = onset + int(np.clip(round(length * rng.uniform(0.3, 0.6)), 1, length - 1))
        weakest, strongest = self.rates.micro_pixels
        # Weak ones are more frequent than strong ones, but not by as much as a uniform logarithm would have it.
        intensity = weakest + (strongest - weakest) * rng.beta(1.2, 1.6)
        return TruthEvent(onset, apex, onset + length, emotion_of(units), units, float(intensity)), rng.uniform(0.6, 1)

    def add_micro(self, event: TruthEvent, weaker: float) -> None:
        length = event.offset - event.onset
        top = event.apex - event.onset
        shape = pulse(length, top)
        self.act(event.onset, shape * event.intensity_px, event.action_units, weaker)
        self.truth.append(event)

    def act(self, onset: int, course: FloatArray, units: Sequence[int], weaker: float) -> None:
        """Add action units that follow one course, one of them in full, one side of the face weaker."""
        rng = self.rng
        strengths = rng.uniform(0.6, 1.0, len(units))
        strengths[rng.integers(len(units))] = 1.0
        full = rng.integers(2)
        for unit, strength in zip(units, strengths, strict=True):
            for side in range(2):
                share = 1.0 if side == full else (0.0 if unit in UNILATERAL else weaker)
                self.add(f"AU{unit} {SIDES[side]}", onset, course * strength * share)

    def add(self, track: str, onset: int, course: FloatArray) -> None:
        """Add a course that may begin before the first frame or end after the last."""
        first, last = max(onset, 0), min(onset + len(course), self.n)
        if first < last:
            self.tracks[TRACK[track], first:last] += course[first - onset : last - onset]

    def free_place(self, length: int, apart: int) -> int | None:
        """Return an onset whose span keeps ``apart`` from every micro-expression; None where none is found."""
        for _ in range(12):
            if self.n - length <= 0:
                return None
            onset = int(self.rng.integers(0, self.n - length))
            if all(onset - e.offset > apart or e.onset - (onset + length) > apart for e in self.truth):
                return onset
        return None

    def distractor_place(self, length: int) -> int | None:
        """Return an onset for something that seldom falls on a micro-expression and may run past the end."""
        if self.rng.uniform() < self.rates.overlap or not self.truth:
            return int(self.rng.integers(-length // 2, self.n))
        return self.free_place(length, int(0.1 * self.fps))

    def macro_expression(self) -> tuple[int, int] | None:
        """The same action units, slower; mostly larger."""
        rng = self.rng
        length = round(rng.uniform(0.7, 4.0) * self.fps)
        onset = self.distractor_place(length)
        if onset is None:
            return None
        rise = min(rng.uniform(0.2, 0.9) * self.fps, 0.45 * length)
        fall = min(rng.uniform(0.25, 1.2) * self.fps, 0.45 * length)
        # One in three is as weak as a micro-expression: then only its length tells.
        size = rng.uniform(1.0, 5.0) if rng.uniform() < 0.35 else rng.uniform(5.0, 20.0)
        course = size * pulse(length, rise, length - rise - fall)
        if rng.uniform() < 0.7:
            sets = combinations(EMOTIONS[rng.integers(4)])
            units = tuple(sorted(sets[rng.integers(len(sets))]))
        else:
            units = (int(rng.choice(ACTION_UNITS)),)
        # A pressed or raised lip cannot travel as far as a lip corner.
        self.act(onset, course * (0.4 if {23, 24, 5, 7} & set(units) else 1.0), units, rng.uniform(0.7, 1.0))
        return onset, onset + length

    def speech(self) -> tuple[int, int] | None:
        """A run of syllables: the jaw opens at each, the lips take one shape after the other."""
        rng = self.rng
        length = round(rng.uniform(1.0, 5.0) * self.fps)
        onset = self.distractor_place(length)
        if onset is None:
            return None
        loud = rng.uniform(2.0, 8.0)
        at = 0.0
        while at < length:
            # Four to seven syllables a second, each overlapping the next.
            syllable = max(4, round(rng.uniform(0.18, 0.36) * self.fps))
            top = syllable * rng.uniform(0.35, 0.6)
            shape = pulse(syllable, top)
            self.both("open", onset + int(at), shape * loud * rng.uniform(0.4, 1.0))
            lips = ("AU20", "pucker", "AU24", "AU25", "AU10")[rng.integers(5)]
            self.both(lips, onset + int(at), shape * loud * rng.uniform(0.1, 0.6))
            at += syllable * rng.uniform(0.55, 1.0)
        return onset, onset + length

    def both(self, action: str, onset: int, course: FloatArray) -> None:
        for side in SIDES:
            self.add(f"{action} {side}", onset, course)

    def blink(self) -> tuple[int, int] | None:
        """Lids close quickly and open more slowly; the brow may follow a little."""
        rng = self.rng
        length = max(3, round(rng.uniform(0.12, 0.4) * self.fps))
        onset = int(rng.integers(-length, self.n))
        course = pulse(length, length * rng.uniform(0.25, 0.42), length * rng.uniform(0, 0.12)) * rng.uniform(0.7, 1.0)
        self.both("blink", onset, course)
        if rng.uniform() < 0.3:
            self.both("AU4", onset, course * rng.uniform(0.0, 0.35))
        return onset, onset + length

    def head_move(self) -> tuple[int, int] | None:
        """A nod, a shake, or a change of pose."""
        rng = self.rng
        kind = rng.uniform()
        if kind < 0.45:
            cycles, period = int(rng.integers(1, 4)), rng.uniform(0.4, 0.9)
            length = round(cycles * period * self.fps)
            onset = self.distractor_place(length)
            if onset is None:
                return None
            t = np.arange(length + 1) / length
            wave = np.sin(2 * np.pi * cycles * t) * np.sin(np.pi * t)
            sign = rng.choice((-1, 1))
            turn, shift = ("pitch", "ty") if kind < 0.3 else ("yaw", "tx")
            self.add(turn, onset, (sign * rng.uniform(1, 5) * wave).astype(np.float32))
            self.add(shift, onset, (sign * rng.uniform(2, 12) * wave).astype(np.float32))
            return onset, onset + length
        length = round(rng.uniform(0.4, 1.5) * self.fps)
        onset = self.distractor_place(length)
        if onset is None:
            return None
        step = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, length + 1))
        # The new pose is left again after a while, so that the head stays in the picture.
        back = length + round(rng.uniform(0.5, 4) * self.fps)
        whole = np.concatenate((step, np.ones(back - length - 1), step[::-1])).astype(np.float32)
        for name, size in (("tx", 12), ("ty", 8), ("roll", 2.5), ("scale", 2), ("yaw", 5), ("pitch", 3)):
            if rng.uniform() < 0.6:
                self.add(name, onset, whole * rng.uniform(-size, size))
        return onset, onset + back + length
