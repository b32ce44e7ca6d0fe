"""From the height of a peak to the share of such events that are true: a rising table, as a manifest may hold it.

Knows numbers only. It is fitted by `training.evaluation.calibration`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from metst_edge.errors import SettingsError

MOST_POINTS = 256
MOST_EVENTS = 10**9

EXPECTED = (
    f"base_rate, 0 to 1, events, at least 1, and points, 1 to {MOST_POINTS} of [height, share], 0 to 1, heights "
    "rising, shares never falling"
)
"""What `ScoreTable.from_dict` wants, in words."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Points of a rising curve; between two of them it is a line, and before the first and after the last it is level.

    Attributes:
        points: (height of the smoothed spotting curve at a peak, share of such events that are true) each.
        base_rate: share of all events that it was fitted on that are true.
        events: how many those were.
    """

    points: tuple[tuple[float, float], ...]
    base_rate: float
    events: int

    @classmethod
    def from_dict(cls, values: object) -> ScoreTable:
        """Read the object that a manifest holds; names that are not known are left alone.

        Raises:
            SettingsError: a name is missing, or a value is not as expected.
        """
        if not (
            isinstance(values, Mapping)
            and _is_share(values.get("base_rate"))
            and _is_count(values.get("events"))
            and _are_points(values.get("points"))
        ):
            raise SettingsError(f"expected {EXPECTED}; got {str(values)[:200]}")
        points = tuple((float(height), float(share)) for height, share in values["points"])
        return cls(points, values["base_rate"], values["events"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict."""
        return {"base_rate": self.base_rate, "events": self.events, "points": [list(point) for point in self.points]}

    @property
    def highest(self) -> float:
        """The largest share: no event has a higher score."""
        return self.points[-1][1]

    def share(self, height: float) -> float:
        """Return the share of events of this height that are true."""
        after = bisect_right(self.points, height, key=lambda point: point[0])
        if after in (0, len(self.points)):
            return self.points[min(after, len(self.points) - 1)][1]
        (left, low), (right, high) = self.points[after - 1 : after + 1]
        return low + (high - low) * (height - left) / (right - left)


def _are_points(value: object) -> bool:
    if not (isinstance(value, list) and 1 <= len(value) <= MOST_POINTS):
        return False
    if not all(isinstance(point, list) and len(point) == 2 and all(map(_is_share, point)) for point in value):
        return False
    return all(before[0] < after[0] and before[1] <= after[1] for before, after in pairwise(value))


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_EVENTS
