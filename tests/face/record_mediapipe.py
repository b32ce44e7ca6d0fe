"""Write down what MediaPipe finds, so that tests can compare without it: tests/face/mediapipe.npz.

    python -m venv oracle && . oracle/bin/activate && pip install . 'mediapipe==0.10.21' 'numpy<2'
    METST_EDGE_TEST_DATA=... python tests/face/record_mediapipe.py

Of every real clip each 15th frame, where the SDK would look at 30 frames a second; of the packaged clip its events. To
be remade where clips are added, or the way from a file to its frames changes.
"""

import os
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("mediapipe.npz")
EVERY = 15
STEPS = 32
"""Of a pixel, that landmarks are rounded to."""


def clips(folder: Path) -> list[Path]:
    """Return the real clips."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".mp4", ".mov", ".mpg"))


def landmarks(finder, path: Path) -> np.ndarray:
    """Return float32 (n, 68, 2), x and y in pixels of each looked-at frame; NaN where there is no face."""
    from metst_edge.capture import open_source

    rows = []
    with open_source(path) as source:
        for frame in source:
            if frame.index % EVERY == 0:
                face = finder.find(frame.image)
                rows.append(np.full((68, 2), np.nan, np.float32) if face is None else face.landmarks)
    return np.stack(rows)


def events(face: str) -> list[tuple[str, int, int, int]]:
    """Return emotion, onset, apex and offset (frames) of each micro-expression found in the packaged clip."""
    from metst_edge import Analyzer
    from metst_edge.app.demo import demo_clip

    with Analyzer("demo", face=face) as analyzer:
        found = analyzer.analyze(demo_clip()).micro_expressions
    return [(e.emotion, e.onset_frame, e.apex_frame, e.offset_frame) for e in found]


def main() -> None:
    """Record everything."""
    from metst_edge.face import open_finder

    folder, finder = Path(os.environ["METST_EDGE_TEST_DATA"]), open_finder("mediapipe")
    found = {}
    for path in clips(folder):
        found[path.relative_to(folder).as_posix()] = np.round(landmarks(finder, path) * STEPS) / np.float32(STEPS)
        print(path.name, *found[path.relative_to(folder).as_posix()].shape)
    np.savez_compressed(FILE, **found, events=np.array(events("mediapipe"), "U12"))


if __name__ == "__main__":
    main()
