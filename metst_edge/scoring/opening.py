"""What an analyzer's options mean for scoring: where flow is measured, and what an operator's calibration sets."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from metst_edge import calibration
from metst_edge.bundle import Bundle
from metst_edge.decode import DecodeSettings
from metst_edge.engine import Engine
from metst_edge.engine.lanes import LANES
from metst_edge.engine.types import DeviceEngine
from metst_edge.errors import EngineError, SettingsError
from metst_edge.face.rois import STEADY
from metst_edge.scoring.device import DeviceLanes
from metst_edge.scoring.host import HostLanes
from metst_edge.scoring.stages import OnStage

_LOG = logging.getLogger(__name__)

STEADY_ON_CPU = f"the {STEADY!r} regions of this model are measured on the CPU only"


def open_lanes(
    bundle: Bundle, engine: Engine, flow: str, threads: int, on_stage: OnStage | None
) -> HostLanes | DeviceLanes:
    """Open a stream of an engine, with flow where it is wanted.

    Args:
        bundle: the engine's.
        engine: what runs the network.
        flow: one of `metst_edge.choices.FLOWS`.
        threads: that a picture's flow is spread over on the CPU, at most.
        on_stage: told how long each call of a stage took.

    Raises:
        EngineError: flow cannot be measured there.
    """
    why_not: str | None = f"engine {engine.name!r} takes features from the host only; use 'tensorrt' or 'cuda'"
    if isinstance(engine, DeviceEngine) and flow != "cpu":
        why_not = engine.why_no_flow() if bundle.roi_set != STEADY else STEADY_ON_CPU
        if why_not is None:
            return DeviceLanes(engine.open_stream(lanes=LANES), bundle.k, on_stage, bundle.delay)
        _LOG.info("optical flow is measured on the CPU: %s", why_not)
    if flow == "cuda":
        raise EngineError(f"expected to measure optical flow on the GPU, but {why_not}")
    stream = engine.open_stream(lanes=LANES)
    return HostLanes(stream, bundle.k, bundle.roi_set, bundle.compat, threads, on_stage, bundle.delay)


def expect_reachable(settings: DecodeSettings, bundle: Bundle) -> None:
    """Make sure that there are events at all with the least score that is asked for.

    Raises:
        SettingsError: the model tells no score so high.
    """
    table = bundle.calibration
    if table is not None and settings.min_score > table.highest:
        raise SettingsError(
            f"expected min_score (--min-score) to be {table.highest:.2f} at most, the highest score that {bundle.name} "
            f"tells (the share of such events that are true), got {settings.min_score:g}; lower it"
        )


def calibrated(
    settings: DecodeSettings, bundle: Bundle, path: str | Path, ratio: float | None, floor: float | None
) -> DecodeSettings:
    """Return settings with floor and ratio as a calibration has them.

    Args:
        settings: to be changed.
        bundle: that the calibration must be of.
        path: of its file.
        ratio: that was asked for beside it.
        floor: likewise.

    Raises:
        CalibrationError: it is none, or of another model.
        SettingsError: a ratio or floor was asked for; the rate that was calibrated would not hold.
    """
    for name, given in (("ratio", ratio), ("floor", floor)):
        if given is not None:
            raise SettingsError(f"expected {name} or a calibration, which sets it, got {name} {given} and {path}")
    found = calibration.load(path)
    found.check_model(bundle.name, bundle.manifest_sha256, path)
    return replace(settings, floor=found.floor, ratio=found.ratio)
