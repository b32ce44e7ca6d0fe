"""``metst-edge info``: a bundle's manifest for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.bundle import Bundle


def show(console: Console, bundle: Bundle) -> None:
    """Print what a bundle holds: sizes, time, regions, labels, decoding, training and parity, and its files."""
    from rich.table import Table

    table = Table(title=f"{bundle.name} ({bundle.path})", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    manifest = bundle.manifest
    rows = {
        "model": f"{bundle.model}, {bundle.channels} channels ({bundle.roi_set})",
        "emotions": ", ".join(bundle.labels),
        "time": f"{bundle.fps:g} frames per second, windows of {bundle.k}, look-ahead {bundle.look_ahead} frames",
        "interval": f"peak ± {bundle.k_p} frames",
        "decoding": _pairs(bundle.decode),
        "format": str(manifest["format_version"]),
    }
    for name in ("training", "parity"):
        if isinstance(manifest.get(name), dict):
            rows[name] = _pairs(manifest[name])
    for name, value in rows.items():
        table.add_row(name, value)
    for name, entry in manifest["files"].items():
        table.add_row(name, f"{entry['bytes']} bytes, sha256 {entry['sha256']}")
    console.print(table)


def _pairs(values: object, depth: int = 0) -> str:
    if not isinstance(values, dict):
        return f"{values:.3g}" if isinstance(values, float) else str(values)
    lines = [f"{name}: {_pairs(value, depth + 1)}" for name, value in values.items()]
    return "\n".join(lines) if depth == 0 else "; ".join(lines)
