"""Two results side by side: how their times compare, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metst_edge.app.bench.results import RATIOS

CONDITIONS = (
    ("complete",),
    ("bundle", "manifest_sha256"),
    ("engine",),
    ("flow",),
    ("face",),
    ("recognizer",),
    ("machine", "processor"),
    ("machine", "power mode"),
    ("machine", "simd"),
    ("threads",),
    ("source", "name"),
    ("source", "width"),
    ("source", "height"),
    ("source", "fps"),
)
"""What two runs must have in common for their times to be comparable."""


def compare(new: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Set two results side by side.

    Returns:
        ratios: stage -> p50 and p99 of ``new`` by those of ``base``, None where either has no samples or takes no time.
        differences: what else changed between the runs, so that the ratios tell of it too: name -> [base, new].
    """
    ratios = {}
    for stage, values in new["stages"].items():
        before = base["stages"].get(stage, {})
        ratios[stage] = {
            name: values[name] / before[name] if values[name] is not None and before.get(name) else None
            for name in RATIOS
        }
    differences = {}
    for path in CONDITIONS:
        was, now = _at(base, path), _at(new, path)
        if was != now:
            differences[" ".join(path)] = [was, now]
    return {"ratios": ratios, "differences": differences}


def _at(content: Any, path: Sequence[str]) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content
