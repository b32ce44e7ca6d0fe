"""What a new process takes until it has scored its first frame, files in the page cache."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.results import Rows, verdict
from metst_edge.engine import ENGINES, why_missing

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_SECONDS = 2.0
"""Without the face model."""

PROGRAM = """
import sys
import time
python = time.time() - float(sys.argv[1])
start = time.perf_counter()
import numpy as np
from metst_edge.bundle import Bundle
from metst_edge.choices import MODEL
from metst_edge.engine import load_engine
from metst_edge.flow import Farneback
imported = time.perf_counter()
bundle = Bundle.find(MODEL)
stream = load_engine(bundle, "{engine}").open_stream(2)
stream.step(np.zeros((2, bundle.channels), np.float32))
stepped = time.perf_counter()
picture = np.random.default_rng(0).integers(0, 256, (90, 130), np.uint8)
Farneback(picture).to(picture)
flowed = time.perf_counter()
from metst_edge import Analyzer
Analyzer(engine="{engine}")
ready = time.perf_counter()
print(python, imported - start, stepped - imported, flowed - stepped, ready - flowed)
"""


def measure(runs: int) -> tuple[Rows, list[str]]:
    """Time the start of new processes, files in the page cache: medians of each part."""
    rows: Rows = []
    notes: list[str] = []
    for engine in [name for name in ENGINES if why_missing(name) is None]:
        command = [sys.executable, "-c", PROGRAM.format(engine=engine)]
        parts = []
        for _ in range(runs + 1):  # the first one fills the page cache
            output = subprocess.run(
                [*command, repr(time.time())], check=True, capture_output=True, text=True, cwd=ROOT
            ).stdout
            parts.append([float(part) for part in output.split()])
        python, imports, first_step, first_flow, face = np.median(parts[1:], axis=0).tolist()
        whole = python + imports + first_step + first_flow
        rows.append(
            {
                "engine": engine,
                "python s": python,
                "import s": imports,
                "bundle, engine, first step s": first_step,
                "first flow s": first_flow,
                "without face model s": whole,
                "face model s": face,
            }
        )
        notes.append(verdict(f"start-up without the face model, {engine}", whole, "s", most=MOST_SECONDS))
    return rows, notes
