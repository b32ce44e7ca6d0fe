"""``metst-edge info``: a bundle's manifest for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.bundle import Bundle, RecognizerBundle


HEADLINES = (
    ("spotting", "f1", "spotting F1"),
    ("recognition", "uf1", "recognition UF1"),
    ("", "uf1", "UF1"),
    ("", "uar", "UAR"),
    ("", "strs", "STRS"),
    ("", "per_minute", "false alarms a minute"),
)
"""Of a set of clips: where a figure is, what it is called there, and here."""


def show(console: Console, bundle: Bundle | RecognizerBundle, everything: bool = False) -> None:
    """Print what a bundle holds: what it does, what it was trained on and how it did; and, if asked, all the rest.

    Args:
        console: to print on.
        bundle: to show.
        everything: all figures of training, metrics and parity, and every file with its hash.
    """
    from rich.table import Table
    from rich.text import Text

    from metst_edge.bundle import RecognizerBundle

    table = Table(title=Text(f"{bundle.name} ({bundle.path})"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = _recogniser(bundle) if isinstance(bundle, RecognizerBundle) else _spotter(bundle)
    rows |= _all_else(bundle) if everything else _in_short(bundle)
    for name, value in rows.items():
        table.add_row(name, Text(value))
    console.print(table)
    if not everything:
        console.print("More, with every figure: the same with --all", highlight=False)


def _in_short(bundle: Bundle | RecognizerBundle) -> dict[str, str]:
    manifest = bundle.manifest
    rows = {"precision": ", ".join(bundle.precisions)}
    training = manifest.get("training")
    if isinstance(training, Mapping) and "data" in training:
        rows["trained on"] = _plain(training["data"])
    if manifest.get("licence"):
        rows["licence"] = "\n".join(_lines(manifest["licence"]))
    results = "\n".join(_headlines(manifest.get("metrics")))
    rows["measured"] = results or "nothing"
    files = manifest["files"]
    megabytes = sum(entry["bytes"] for entry in files.values()) / 1e6
    rows["files"] = f"{', '.join(files)}: {megabytes:.1f} MB, the sha256 of each is checked"
    return rows


def _headlines(metrics: Any) -> Iterator[str]:
    """Yield a line for each set of clips that a model was measured on: the field's figures, where they are there."""
    for name, measured in metrics.items() if isinstance(metrics, Mapping) else ():
        if not isinstance(measured, Mapping):
            continue
        figures = [
            f"{words} {_plain(part[figure])}"
            for place, figure, words in HEADLINES
            if isinstance(part := measured.get(place) if place else measured, Mapping) and figure in part
        ]
        said = _without_truth(measured) or ", ".join(figures)
        if said:
            yield f"{name.replace('_', ' ')}: {said}"


def _without_truth(measured: Mapping[str, Any]) -> str:
    """Say how much was found in clips in which nothing is true; nothing where something is."""
    match measured:
        case {
            "spotting": {"tp": 0, "fn": 0, "fp": count},
            "figures": {"false_alarms_per_minute": {"value": float(rate)}},
        }:
            return f"{count} false alarms, {rate:.2g} a minute"
    return ""


def _all_else(bundle: Bundle | RecognizerBundle) -> dict[str, str]:
    manifest = bundle.manifest
    rows = {"format": str(manifest["format_version"])}
    for name in ("training", "licence", "metrics", "parity"):
        if manifest.get(name):
            rows[name] = "\n".join(_lines(manifest[name]))
    for name, entry in manifest["files"].items():
        rows[name] = f"{entry['bytes']} bytes, sha256 {entry['sha256']}"
    return rows


def _spotter(bundle: Bundle) -> dict[str, str]:
    settings = bundle.decode_settings.to_dict()
    priors = settings.pop("class_priors")
    ahead = bundle.look_ahead + bundle.delay
    rows = {
        "model": f"{bundle.model}, {bundle.channels} channels ({bundle.roi_set})",
        "emotions": ", ".join(bundle.labels),
        "time": f"{bundle.fps:g} frames per second, windows of {bundle.k}, look-ahead {ahead} frames",
        "interval": _interval(bundle),
        "decoding": ", ".join(f"{name}: {_plain(value)}" for name, value in settings.items()),
    }
    if bundle.calibration is not None:
        table = bundle.calibration
        rows["score"] = (
            f"share of events that are true, of {table.events} events at a base rate of {table.base_rate:.0%}"
        )
    if priors:
        rows["class priors"] = ", ".join(f"{label} {value:+g}" for label, value in priors.items())
    return rows


def _interval(bundle: Bundle) -> str:
    if bundle.decode_settings.decoder == "fixed":
        return f"peak -+ {bundle.k_p} frames"
    return f"fitted to the curve around a peak, k_p {bundle.k_p} frames"


def _recogniser(bundle: RecognizerBundle) -> dict[str, str]:
    side, sizes = bundle.input_size, bundle.sizes
    flow = {name: value for name, value in bundle.images.items() if name not in ("input_size", "mean", "std")}
    return {
        "model": f"{bundle.model}, a recogniser: {sizes['aggregation']} over the frames of an interval",
        "emotions": ", ".join(bundle.labels),
        "pictures": f"{bundle.frames} of {side}x{side} an interval, the flow from its onset in colours",
        "flow": ", ".join(_lines(flow)),
        "share": f"{bundle.weight:g} of the combined opinion; the rest is the frames' vote",
        "sizes": ", ".join(_lines(sizes)),
    }


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    """Yield a JSON value as lines: a nested object indented below its name, a plain list on one line."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if isinstance(item, Mapping) or _holds_objects(item):
                yield f"{indent}{name}:"
                yield from _lines(item, indent + "  ")
            else:
                yield f"{indent}{name}: {_plain(item)}"
    elif _holds_objects(value):
        for item in value:
            yield indent + ", ".join(f"{name} {_plain(part)}" for name, part in item.items())
    else:
        yield indent + _plain(value)


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, Mapping) for item in value)


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
