"""What ``metst-edge bench`` writes as JSON: the names in it, what is made of a stage's times, and reading it back.

A result is a JSON object as it stands in the file, so that one of yesterday and one of now are the same kind of thing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metst_edge.errors import BenchFileError

KIND = "metst-edge bench"
FORMAT = 1
END_TO_END = "end to end"
STAGES = ("capture", "prepare", "face", "flow", "network", "decode", END_TO_END)
PERCENTILES = (50, 90, 95, 99)
RATIOS = ("p50", "p99")
"""What is set side by side with another run, and must be in its file."""


def summary(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Return n, the percentiles (linear between samples) and the maximum, in milliseconds; None where n is 0."""
    names = [f"p{percent}" for percent in PERCENTILES]
    if not seconds:
        return {"n": 0, **dict.fromkeys([*names, "max"])}
    values = np.percentile(seconds, [*PERCENTILES, 100]) * 1e3
    return {"n": len(seconds), **dict(zip([*names, "max"], values.tolist(), strict=True))}


def load(path: Path) -> dict[str, Any]:
    """Read what ``bench --json`` wrote.

    Raises:
        BenchFileError: it is something else, or of a later format.
        OSError: it cannot be read.
    """
    what = f"{path}: expected what 'metst-edge bench --json' writes"
    again = "write one with: metst-edge bench --json base.json"
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BenchFileError(f"{what}, got no JSON ({error}); {again}") from error
    if not isinstance(content, dict) or content.get("benchmark") != KIND:
        raise BenchFileError(f"{what}, got other JSON; {again}")
    if content.get("format") != FORMAT:
        raise BenchFileError(f"{what}, format {FORMAT}, got format {content.get('format')!r}; {again}")
    stages = content.get("stages")
    if not isinstance(stages, dict) or not all(_is_summary(stage) for stage in stages.values()):
        raise BenchFileError(f"{what}, got one whose stages are damaged; {again}")
    return content


def _is_summary(stage: object) -> bool:
    return isinstance(stage, dict) and all(isinstance(stage.get(name), (int, float, type(None))) for name in RATIOS)
