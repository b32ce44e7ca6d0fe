"""A diagnosis as lines for people."""

from __future__ import annotations

from typing import TextIO

from metst_edge import __version__
from metst_edge.app.doctor.diagnosis import Diagnosis


def show(diagnosis: Diagnosis, file: TextIO) -> None:
    """Print a diagnosis for people."""
    print(f"metst-edge {__version__}\n", file=file)
    width = max(len(finding.name) for finding in diagnosis.findings)
    for finding in diagnosis.findings:
        mark = "-" if finding.state == "unneeded" else finding.state
        print(f"{mark:<7}  {finding.name:<{width}}  {finding.text}", file=file)
        if finding.fix and finding.state != "unneeded":
            print(f"{'':<7}  {'':<{width}}  -> {finding.fix}", file=file)
    print(file=file)
    if diagnosis.blocked is not None:
        print(f"metst-edge cannot run here: {diagnosis.blocked}", file=file)
        return
    runs = [name for name, why in diagnosis.engines.items() if not why]
    flow = "GPU" if diagnosis.flow == "cuda" else "CPU"
    print(f"This machine runs --engine {', '.join(runs)}, and optical flow on the {flow}.", file=file)
    for name, why in diagnosis.engines.items():
        if why:
            print(f"Not --engine {name}: {why}.", file=file)
