"""The resident memory of a process without torch that pushes a clip over and over, real faces and gaps included."""

from __future__ import annotations

import resource
import time
from collections import Counter
from pathlib import Path

from benchmarks.results import Rows, missed, verdict
from metst_edge import Analyzer, Gap
from metst_edge.capture import Frame, open_source

EVERY = 5000
"""Frames between two samples."""
MOST_MB = 5.0
"""Growth from the first sample to any other."""


def resident_mb() -> float:
    """Return the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(clip: Path, frames: int, every: int) -> tuple[Rows, list[str]]:
    """Push a clip over and over; one row every so many frames, the first of them the warm-up's end."""
    rows: Rows = []
    found: Counter[str] = Counter()
    start = time.perf_counter()
    pushed = 0
    with Analyzer(engine="native") as analyzer:
        while pushed < frames:
            with open_source(clip) as source:
                period = 1 / (source.fps or analyzer.bundle.fps)
                for frame in source:
                    assert isinstance(frame, Frame), "only live sources are interrupted"
                    found.update(
                        type(event).__name__
                        for event in analyzer.push(frame.image, pushed * period)
                        if not (isinstance(event, Gap) and event.end is None)
                    )
                    pushed += 1
                    if pushed % every == 0:
                        rows.append(
                            {
                                "frames": pushed,
                                "resident MB": resident_mb(),
                                "growth MB": resident_mb() - (rows[0]["resident MB"] if rows else resident_mb()),
                                "micro-expressions": found["MicroExpression"],
                                "gaps": found["Gap"],
                                "frames/s": pushed / (time.perf_counter() - start),
                            }
                        )
                        print(", ".join(f"{name} {value:.6g}" for name, value in rows[-1].items()), flush=True)
                    if pushed >= frames:
                        break
    if len(rows) < 2:
        raise RuntimeError(f"expected at least {2 * every} frames to tell growth from warm-up, got {pushed}")
    largest = max(row["growth MB"] for row in rows)
    what = f"growth of resident memory from frame {every} to {rows[-1]['frames']}, largest sample"
    notes = [verdict(what, largest, "MB", most=MOST_MB)]
    if missed(notes[0]):
        half = rows[len(rows) // 2]["growth MB"]
        notes.append(f"{half:.1f} MB of it up to the middle, {rows[-1]['growth MB']:.1f} MB to the end")
    notes.append("the clip is begun again at its end: a scene cut and a new search for the face each time")
    return rows, notes
