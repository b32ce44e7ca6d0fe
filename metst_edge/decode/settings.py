"""How scores become intervals: the one place for the settings' names, defaults and checks.

A bundle's manifest holds them, training writes them, both decoders read them. Knows no scores and no frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from metst_edge.choices import SYNERGIES

Synergy = Literal["spotting_mainly", "recognition_mainly", "none"]
"""One of `metst_edge.choices.SYNERGIES`."""

RATIO = 0.55
"""Height of the threshold between the curve's mean and maximum (ME-TST, arXiv 2409.09707)."""

EXPECTED = f"ratio, floor, synergy ({', '.join(SYNERGIES)}) and window_seconds"
"""What `DecodeSettings.from_dict` wants, in words."""


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What a model's scores are decoded with; by default the published rule, online with that of a sliding minute.

    Attributes:
        ratio: the threshold is mean + ratio * (maximum - mean) of the smoothed curve.
        floor: absolute threshold on the smoothed curve, whatever its statistics say.
        synergy: "spotting_mainly" votes among the emotions only; "recognition_mainly" deletes an interval that votes
            neutral; "none" keeps it without an emotion.
        window_seconds: length of the sliding window that stands for the clip in a stream.

    Raises:
        ValueError: an unknown synergy.
    """

    ratio: float = RATIO
    floor: float = 0.0
    synergy: Synergy = "spotting_mainly"
    window_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.synergy not in SYNERGIES:
            raise ValueError(f"expected synergy to be one of {', '.join(SYNERGIES)}; got {self.synergy!r}")

    @classmethod
    def from_dict(cls, values: object) -> DecodeSettings:
        """Read the object that a manifest or a checkpoint's meta data holds; names that are not known are left alone.

        Raises:
            ValueError: it is no object, a name is missing, or a value is out of its range.
        """
        if not (
            isinstance(values, Mapping)
            and _is_number(values.get("ratio"), 0.0)
            and _is_number(values.get("floor"), 0.0)
            and values.get("synergy") in SYNERGIES
            and _is_number(values.get("window_seconds"), 1.0)
        ):
            raise ValueError(f"expected {EXPECTED}, got {values!r}")
        return cls(values["ratio"], values["floor"], values["synergy"], values["window_seconds"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict."""
        return asdict(self)


DEFAULTS = DecodeSettings()


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < float("inf")
