"""``metst-edge info``: a bundle's manifest for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.bundle import Bundle


def show(console: Console, bundle: Bundle) -> None:
    """Print what a bundle holds: sizes, time, regions, labels, decoding, training and parity, and its files."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{bundle.name} ({bundle.path})"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    manifest = bundle.manifest
    settings = bundle.decode_settings.to_dict()
    priors = settings.pop("class_priors")
    rows = {
        "model": f"{bundle.model}, {bundle.channels} channels ({bundle.roi_set})",
        "emotions": ", ".join(bundle.labels),
        "time": f"{bundle.fps:g} frames per second, windows of {bundle.k}, look-ahead {bundle.look_ahead} frames",
        "interval": _interval(bundle),
        "decoding": ", ".join(f"{name}: {_plain(value)}" for name, value in settings.items()),
        "format": str(manifest["format_version"]),
    }
    if priors:
        rows["class priors"] = ", ".join(f"{label} {value:+g}" for label, value in priors.items())
    for name in ("training", "licence", "metrics", "parity"):
        if manifest.get(name):
            rows[name] = "\n".join(_lines(manifest[name]))
    for name, value in rows.items():
        table.add_row(name, Text(value))
    for name, entry in manifest["files"].items():
        table.add_row(name, f"{entry['bytes']} bytes, sha256 {entry['sha256']}")
    console.print(table)


def _interval(bundle: Bundle) -> str:
    if bundle.decode_settings.decoder == "fixed":
        return f"peak -+ {bundle.k_p} frames"
    return f"fitted to the curve around a peak, k_p {bundle.k_p} frames"


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
