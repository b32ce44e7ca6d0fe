"""What a bundle says about itself beyond its weights, checked before anything is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metst_edge.decode.settings import DEFAULTS
from metst_edge.errors import MetstError
from metst_edge.labels import LABELS

# Farneback as the models were trained with (both papers); the flow stage has these as its defaults.
FLOW = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 5, "poly_n": 7, "poly_sigma": 1.5}


class ExportError(MetstError):
    """A checkpoint cannot be exported, or the exported bundle does not compute what the checkpoint does."""


@dataclass(frozen=True)
class Description:
    """The manifest's fields that do not follow from the weights.

    Attributes:
        name: of the bundle.
        fps: frame rate of the training data.
        k: frames in a window.
        k_p: half a typical ME, frames.
        roi_set: one of `metst_edge.face.ROI_SETS`: the regions whose flow the features are.
        compat: whether features are measured as the published code does.
        delay: frames by which the network was trained to lag behind what its scores are of.
        labels: in the order of the logits.
        decode: defaults of the decoder.
        training: on what it was trained, any plain JSON value, shown in the model card.
        licence: of the weights, shown in the model card.
        metrics: how it did, any plain JSON value, shown in the model card.
        calibration: what makes scores of heights, as `metst_edge.decode.table.ScoreTable` reads it; None for nothing.

    Raises:
        ExportError: the frame rate is not finite.
    """

    name: str
    fps: float
    k: int
    k_p: int
    roi_set: str = "metst"
    compat: bool = False
    delay: int = 0
    labels: tuple[str, ...] = LABELS
    decode: Mapping[str, Any] = field(default_factory=DEFAULTS.to_dict)
    training: Any = None
    licence: str = "not stated"
    metrics: Any = None
    calibration: Any = None

    def __post_init__(self) -> None:
        # JSON has no word for it, so no manifest could be written that is then refused by name.
        if isinstance(self.fps, float) and not math.isfinite(self.fps):
            raise ExportError(f"expected fps to be a frame rate, got {self.fps}")

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], name: str) -> Description:
        """Read the meta data that `training fit` stored with a checkpoint.

        Args:
            meta: must hold fps, k and k_p; the rest has defaults.
            name: used where meta has none.

        Raises:
            ExportError: a field is missing or its value cannot be written as JSON.
        """
        missing = [key for key in ("fps", "k", "k_p") if key not in meta]
        if missing:
            raise ExportError(
                f"expected {', '.join(missing)} in the checkpoint's meta data, "
                f"found {', '.join(meta) or 'none'}; "
                "write the checkpoint with `python -m training fit`"
            )
        try:
            json.dumps(dict(meta), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ExportError(f"expected plain finite values in the checkpoint's meta data ({error})") from error
        for key, kind, wanted in (("labels", list, "a list"), ("decode", dict, "an object")):
            if not isinstance(meta.get(key, kind()), kind):
                raise ExportError(f"expected '{key}' in the checkpoint's meta data as {wanted}, got {meta[key]!r}")
        known = ("fps", "k", "k_p", "roi_set", "compat", "delay", "training", "licence", "metrics", "calibration")
        fields = {key: meta[key] for key in known if key in meta}
        return cls(
            name=meta.get("name", name),
            labels=tuple(meta.get("labels", LABELS)),
            decode={**DEFAULTS.to_dict(), **meta.get("decode", {})},
            **fields,
        )
