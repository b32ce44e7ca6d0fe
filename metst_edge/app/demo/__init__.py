"""The packaged clip: where it lies, and which micro-expressions were rendered into it.

What an analyzer finds in it is set beside them in `outcome`, and shown by `table`.
"""

from __future__ import annotations

import json
from pathlib import Path

from metst_edge.events import MicroExpression

FOLDER = Path(__file__).parents[1] / "demo_clip"


def demo_clip() -> Path:
    """Return the path of the packaged clip."""
    return FOLDER / "clip.mp4"


def demo_truth() -> tuple[MicroExpression, ...]:
    """Return the micro-expressions rendered into the packaged clip, in order of time."""
    truth = json.loads((FOLDER / "truth.json").read_text(encoding="utf-8"))
    events = []
    for event in sorted(truth["events"], key=lambda event: event["onset"]):
        onset, apex, offset = (int(event[name]) for name in ("onset", "apex", "offset"))
        fps, emotion = truth["fps"], event["emotion"]
        seconds = (onset / fps, apex / fps, offset / fps)
        events.append(MicroExpression(*seconds, onset, apex, offset, emotion, {emotion: 1.0}, score=1.0))
    return tuple(events)
