"""How scores become intervals: the one place for the settings' names, defaults and checks.

A bundle's manifest holds them, training writes them, both decoders read them. Knows no scores and no frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from sys import float_info
from typing import Any, Literal

from metst_edge.choices import DECODERS, SYNERGIES
from metst_edge.errors import SettingsError

Synergy = Literal["spotting_mainly", "recognition_mainly", "none"]
"""One of `metst_edge.choices.SYNERGIES`."""

Method = Literal["fixed", "adaptive"]
"""One of `metst_edge.choices.DECODERS`."""

RATIO = 0.55
"""Height of the threshold between the curve's mean and maximum (ME-TST, arXiv 2409.09707)."""

EXPECTED = f"ratio, floor, synergy ({', '.join(SYNERGIES)}) and window_seconds"
"""What `DecodeSettings.from_dict` wants, in words."""
EXPECTED_LATER = f"decoder ({', '.join(DECODERS)}), class_priors (label: number) and min_score"
"""What it reads where it is there, since manifests of older versions lack it."""


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """What a model's scores are decoded with; by default the published rule, online with that of a sliding minute.

    Attributes:
        ratio: the threshold is mean + ratio * (maximum - mean) of the smoothed curve.
        floor: absolute threshold on the smoothed curve, whatever its statistics say.
        synergy: "spotting_mainly" votes among the emotions only; "recognition_mainly" deletes an interval that votes
            neutral; "none" keeps it without an emotion.
        window_seconds: length of the sliding window that stands for the clip in a stream.
        decoder: "fixed" makes every peak peak -+ k_p (ME-TST, arXiv 2409.09707); "adaptive" fits the interval to the
            curve around it (arXiv 2508.18834).
        class_priors: label -> number added to that label's logit of every frame before the vote; for classes that are
            rare in the data, as arXiv 2508.18834 does. A label that is not there gets 0.
        min_score: intervals with a lower score are left out once all is decoded; `floor` rules their peaks out before.
            Of events it is the score that they tell, which a bundle's calibration may have made of the height.

    Raises:
        SettingsError: an unknown synergy or decoder, or a prior or a least score that is no finite number.
    """

    ratio: float = RATIO
    floor: float = 0.0
    synergy: Synergy = "spotting_mainly"
    window_seconds: float = 60.0
    decoder: Method = "fixed"
    class_priors: Mapping[str, float] = field(default_factory=dict, hash=False)
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if not (isinstance(self.synergy, str) and self.synergy in SYNERGIES):
            raise SettingsError(f"expected synergy to be one of {', '.join(SYNERGIES)}; got {self.synergy!r}")
        if not (isinstance(self.decoder, str) and self.decoder in DECODERS):
            raise SettingsError(f"expected decoder to be one of {', '.join(DECODERS)}; got {self.decoder!r}")
        if not _are_priors(self.class_priors):
            raise SettingsError(
                'expected class_priors to be a finite number for each label, such as {"positive": 0.5}; '
                f"got {self.class_priors!r}"
            )
        if not _is_number(self.min_score, 0.0):
            raise SettingsError(f"expected min_score to be a number from 0 to 1; got {self.min_score!r}")
        object.__setattr__(self, "class_priors", dict(self.class_priors))  # what the caller does to its own is its own

    @classmethod
    def from_dict(cls, values: object) -> DecodeSettings:
        """Read the object that a manifest or a checkpoint's meta data holds; names that are not known are left alone.

        Raises:
            SettingsError: it is no object, a name is missing, or a value is out of its range.
        """
        if not (
            isinstance(values, Mapping)
            and _is_number(values.get("ratio"), 0.0)
            and _is_number(values.get("floor"), 0.0)
            and values.get("synergy") in SYNERGIES
            and _is_number(values.get("window_seconds"), 1.0)
        ):
            raise SettingsError(f"expected {EXPECTED}, got {values!r}")
        later = {name: values[name] for name in ("decoder", "class_priors", "min_score") if name in values}
        return cls(values["ratio"], values["floor"], values["synergy"], values["window_seconds"], **later)

    def changed(
        self,
        decoder: str | None = None,
        synergy: str | None = None,
        class_priors: Mapping[str, float] | None = None,
        ratio: float | None = None,
        floor: float | None = None,
        min_score: float | None = None,
    ) -> DecodeSettings:
        """Return these settings with what is given in place of their own; priors replace all priors.

        Raises:
            SettingsError: as the class, or a threshold that is no number from 0 to 1.
        """
        thresholds = {"ratio": ratio, "floor": floor, "min_score": min_score}
        for name, value in thresholds.items():
            if not (value is None or (_is_number(value, 0.0) and value <= 1.0)):
                raise SettingsError(f"expected {name} to be a number from 0 to 1; got {value!r}")
        given: dict[str, Any] = {"decoder": decoder, "synergy": synergy, "class_priors": class_priors, **thresholds}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object as a dict; a least score only where there is one, as in manifests from before it."""
        return {name: value for name, value in asdict(self).items() if name != "min_score" or value}

    def priors(self, labels: Sequence[str]) -> tuple[float, ...]:
        """Return `class_priors` as one number for each of a model's labels, in the order of its logits.

        Raises:
            SettingsError: a prior is of a label that is not among them.
        """
        unknown = [name for name in self.class_priors if name not in labels]
        if unknown:
            raise SettingsError(f"expected class_priors of the labels {', '.join(labels)}; got {', '.join(unknown)}")
        return tuple(float(self.class_priors.get(label, 0.0)) for label in labels)


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < float("inf")


def _are_priors(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and _is_number(prior, -float_info.max) and prior <= float_info.max
        for name, prior in value.items()
    )


DEFAULTS = DecodeSettings()
