"""``metst-edge info``: a bundle's manifest for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.bundle import Bundle, RecognizerBundle


def show(console: Console, bundle: Bundle | RecognizerBundle) -> None:
    """Print what a bundle holds: network, labels, what it is given and how that is decoded, training, parity, files."""
    from rich.table import Table
    from rich.text import Text

    from metst_edge.bundle import RecognizerBundle

    table = Table(title=Text(f"{bundle.name} ({bundle.path})"), title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    manifest = bundle.manifest
    rows = _recogniser(bundle) if isinstance(bundle, RecognizerBundle) else _spotter(bundle)
    rows["format"] = str(manifest["format_version"])
    for name in ("training", "licence", "metrics", "parity"):
        if manifest.get(name):
            rows[name] = "\n".join(_lines(manifest[name]))
    for name, value in rows.items():
        table.add_row(name, Text(value))
    for name, entry in manifest["files"].items():
        table.add_row(name, f"{entry['bytes']} bytes, sha256 {entry['sha256']}")
    console.print(table)


def _spotter(bundle: Bundle) -> dict[str, str]:
    return {
        "model": f"{bundle.model}, {bundle.channels} channels ({bundle.roi_set})",
        "emotions": ", ".join(bundle.labels),
        "time": f"{bundle.fps:g} frames per second, windows of {bundle.k}, look-ahead {bundle.look_ahead} frames",
        "interval": f"peak -+ {bundle.k_p} frames",
        "decoding": ", ".join(_lines(bundle.decode)),
    }


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
