"""The operator's own threshold: from the peaks of neutral footage to a floor, and what so much footage can say of it.

All that is found in footage without micro-expressions is a false alarm, so the peaks' heights say how many alarms a
floor would give. A calibration is kept in a small JSON file. Knows numbers and that file, nothing of video.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metst_edge.counting import how_many
from metst_edge.errors import CalibrationError

KIND = "metst-edge calibrate"
FORMAT = 1
LOWEST = 0.05
"""The floor that peaks are collected with. Lower ones are noise, and no floor is set lower."""
STEP = 1e-4
"""Floors are whole multiples of it."""
CONFIDENCE = 0.95
"""Of the interval of a rate."""
LIMIT_BYTES = 2**20
"""A calibration is less than a kilobyte."""
MOST_LETTERS, MOST_HOURS, MOST_ALARMS = 100, 1e6, 10**9
MOST_RATIO = 1000
"""As in a manifest."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A floor that keeps false alarms as rare as was asked, in the footage that it was found with.

    Attributes:
        model: name of the bundle.
        model_sha256: of its manifest.
        floor: what the smoothed curve must reach.
        ratio: that peaks were decoded with; see `metst_edge.decode.DecodeSettings`.
        asked: false alarms an hour, at most.
        alarms: peaks that reach the floor in the footage.
        hours: of visible face in it.
    """

    model: str
    model_sha256: str
    floor: float
    ratio: float
    asked: float
    alarms: int
    hours: float

    @property
    def rate(self) -> float:
        """False alarms an hour in the footage."""
        return self.alarms / self.hours

    @property
    def interval(self) -> tuple[float, float]:
        """Between what the rate may lie, an hour, with CONFIDENCE; see `poisson_interval`.

        The floor was chosen on the same footage: with n alarms, just above the peak that is next in height. How many
        alarms are to be expected at the height of that peak is gamma-distributed with n + 1, as the waiting time of a
        Poisson process, and its interval lies inside this one.
        """
        least, most = poisson_interval(self.alarms)
        return least / self.hours, most / self.hours

    @property
    def shown(self) -> bool:
        """Whether the footage is long enough: without one alarm in it, the rate would be shown to be what was asked."""
        return self.hours >= self.hours_needed

    @property
    def hours_needed(self) -> float:
        """Hours without an alarm that show the rate to be what was asked, with CONFIDENCE."""
        return poisson_interval(0)[1] / self.asked

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict."""
        least, most = self.interval
        return {
            "calibration": KIND,
            "format": FORMAT,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "floor": self.floor,
            "ratio": self.ratio,
            "false_alarms_per_hour": self.asked,
            "alarms": self.alarms,
            "hours": self.hours,
            "rate": round(self.rate, 4),
            "rate_least": round(least, 4),
            "rate_most": round(most, 4),
            "shown": self.shown,
        }

    def in_words(self) -> list[str]:
        """Return lines for people: what the floor is and does, and what the footage is too short for."""
        least, most = self.interval
        lines = [
            f"floor {self.floor:g}: {how_many(self.alarms, 'false alarm')} in {_time(self.hours)} of visible face, "
            f"{self.rate:.3g} an hour ({least:.3g} to {most:.3g} with {CONFIDENCE:.0%} confidence); "
            f"{self.asked:g} an hour were asked for"
        ]
        if not self.shown:
            could = poisson_interval(0)[1] / self.hours
            lines.append(
                f"{_time(self.hours)} cannot show {self.asked:g} an hour: without one alarm in it the rate might still "
                f"be {could:.3g} an hour; take {_time(self.hours_needed)} or more"
            )
        return lines

    def check_model(self, model: str, model_sha256: str, path: str | Path) -> None:
        """Refuse to be used with another model.

        Args:
            model: name of the bundle that is used.
            model_sha256: of its manifest.
            path: of the calibration's file, for the message.

        Raises:
            CalibrationError: it is another one.
        """
        if model_sha256 != self.model_sha256:
            raise CalibrationError(
                f"{path}: expected a calibration of the model {model!r} (sha256 {model_sha256[:12]}...), got one of "
                f"{self.model!r} ({self.model_sha256[:12]}...), whose heights mean something else: run metst-edge "
                "calibrate with this model"
            )

    def to_text(self) -> str:
        """Return what a file of it holds."""
        return json.dumps(self.to_dict(), indent=1) + "\n"


def calibrated(
    heights: Sequence[float],
    hours: float,
    asked: float,
    *,
    model: str,
    model_sha256: str,
    ratio: float,
    own_floor: float = LOWEST,
) -> Calibration:
    """Find the lowest floor that keeps false alarms at the rate that is asked, or under it.

    Args:
        heights: of all peaks of the footage that reach LOWEST.
        hours: of visible face, above 0.
        asked: false alarms an hour, above 0.
        model: see `Calibration`.
        model_sha256: likewise.
        ratio: likewise.
        own_floor: the model's, which footage that is too short to show the rate may raise but not lower.

    Returns:
        With a floor just above the highest peak that would be one too many; LOWEST where none would.
    """
    falling = sorted(heights, reverse=True)
    allowed = math.floor(asked * hours + 1e-9)
    floor = LOWEST
    if len(falling) > allowed:
        steps = math.floor(falling[allowed] / STEP) + 1
        floor = round(steps * STEP, 4)
        if floor <= falling[allowed]:  # the division was rounded down
            floor = round((steps + 1) * STEP, 4)
        floor = min(max(floor, LOWEST), 1.0)
    found = Calibration(model, model_sha256, floor, ratio, asked, 0, hours)
    if not found.shown:
        floor = max(floor, own_floor)
    return replace(found, floor=floor, alarms=sum(height >= floor for height in falling))


def load(path: str | Path) -> Calibration:
    """Read a file that holds what `Calibration.to_text` gives.

    Raises:
        CalibrationError: it cannot be read, is something else, or of a later format, or a value is out of its range.
    """
    what = f"{path}: expected what 'metst-edge calibrate' writes"
    try:
        with open(path, "rb") as file:
            content = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        raise CalibrationError(f"{what}, but it cannot be read ({error.strerror or error})") from error
    if len(content) > LIMIT_BYTES:
        raise CalibrationError(f"{what}, less than a kilobyte, got a huge file")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{what}, got no JSON; run it again") from error
    if not isinstance(values, dict) or values.get("calibration") != KIND:
        raise CalibrationError(f"{what}, got other JSON")
    if values.get("format") != FORMAT:
        raise CalibrationError(
            f"{what}, format {FORMAT}, got {str(values.get('format'))[:20]!r}; update metst_edge, or run it again"
        )
    for name, fits in _FIELDS.items():
        if not fits(values.get(name)):
            got = ascii(values.get(name))[:80]
            raise CalibrationError(f"{what}, with a sensible {name}, got {got}; run it again")
    return Calibration(
        values["model"],
        values["model_sha256"],
        float(values["floor"]),
        float(values["ratio"]),
        float(values["false_alarms_per_hour"]),
        values["alarms"],
        float(values["hours"]),
    )


def poisson_interval(count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return between what the mean of a Poisson variable may lie that came out as a count.

    The exact interval of Garwood (Biometrika 28, 1936): at its lower end as many or more come, at its upper end as many
    or fewer come, with a probability of (1 - confidence) / 2. For no events and 0.95 it is 0 to 3.69.

    Args:
        count: 0 or more.
        confidence: between 0 and 1.
    """
    tail, beyond = (1 - confidence) / 2, count + 10 * math.sqrt(count + 1) + 30
    least = 0.0 if count == 0 else _crossing(lambda mean: _at_least(count, mean) < tail, 0.0, float(count))
    return least, _crossing(lambda mean: _at_most(count, mean) > tail, float(count), beyond)


def _crossing(before: Callable[[float], bool], low: float, high: float) -> float:
    """Return where a condition that holds at first holds no more, by bisection."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if before(middle) else (low, middle)


def _at_least(count: int, mean: float) -> float:
    """Return the probability that a Poisson variable is a count or more, for a mean of at most the count."""
    if mean == 0:
        return 0.0
    terms, n = [_probability(count, mean)], count
    while terms[-1] > terms[0] * 1e-17:
        n += 1
        terms.append(terms[-1] * mean / n)
    return math.fsum(terms)


def _at_most(count: int, mean: float) -> float:
    """Return the probability that it is a count or less, for a mean of at least the count."""
    if mean == 0:
        return 1.0
    terms, n = [_probability(count, mean)], count
    while n > 0 and terms[-1] > terms[0] * 1e-17:
        terms.append(terms[-1] * n / mean)
        n -= 1
    return math.fsum(terms)


def _probability(count: int, mean: float) -> float:
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))


def _time(hours: float) -> str:
    """Return a stretch of time in the unit that suits it."""
    if hours >= 1.0:
        return f"{hours:.1f} hours"
    return f"{hours * 60:.1f} minutes" if hours >= 1 / 60 else f"{hours * 3600:.0f} seconds"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_LETTERS and value.isprintable()


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "model": _is_name,
    "model_sha256": _is_hash,
    "floor": lambda value: _is_number(value, 0.0, 1.0),
    "ratio": lambda value: _is_number(value, 0.0, MOST_RATIO),
    "false_alarms_per_hour": lambda value: _is_number(value, 1e-9, 1e9),
    "alarms": lambda value: isinstance(value, int) and _is_number(value, 0, MOST_ALARMS),
    "hours": lambda value: _is_number(value, 1e-9, MOST_HOURS),
}
"""What a file must hold; all else in it follows from these."""
