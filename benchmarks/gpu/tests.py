"""The C++ tests on the GPU, and the same under compute-sanitizer: their outcome is a part of the results."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.library import ROOT, build

SKIPPED = 77
FOUND = 99
"""What compute-sanitizer ends with when it found something; no test does."""
TOOLS = ("memcheck", "racecheck")
SECONDS = 240
"""For one test, with a tool or without."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Test:
    """A C++ test of csrc/tests that runs on the GPU.

    Attributes:
        name: of the program, and of its target in CMake. needs: targets it loads, and files it is given, as arguments.
    """

    name: str
    needs: tuple[str, ...] = ()


TESTS = (Test("test_selective_scan_gpu"), Test("test_roi_flow_gpu"), Test("test_plugin", ("metst_edge_plugin",)))
CONTRACT = ROOT / "csrc/tensorrt/selective_scan.json"


def targets(folder: Path) -> set[str]:
    """Return the targets of a configured build folder."""
    command = ["cmake", "--build", str(folder), "--target", "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {word.rstrip(":") for line in done.stdout.splitlines() for word in line.replace("...", "").split()[:1]}


def configure(folder: Path, nvcc: str, architecture: str) -> list[str]:
    """Configure a build of the tests, the plugin's where there are TensorRT headers; return what will not be run."""
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DMETST_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    command += [f"-DCMAKE_CUDA_ARCHITECTURES={architecture}"]
    try:
        build([*command, "-DMETST_TENSORRT=ON"])
    except RuntimeError as error:
        if "NvInfer.h" not in str(error):
            raise
        build([*command, "-DMETST_TENSORRT=OFF"])
        return ["not run: the plugin's enqueue through its C++ driver; there are no TensorRT headers (TENSORRT_ROOT)"]
    return []


def run(folder: Path, nvcc: str, architecture: str, sanitize: bool) -> tuple[list[Row], list[str]]:
    """Build and run every test that this checkout and machine have; return rows, and what was not run.

    Raises:
        RuntimeError: the build fails.
    """
    notes = configure(folder, nvcc, architecture)
    present = targets(folder)
    tests = [test for test in TESTS if {test.name, *test.needs} <= present]
    wanted = [name for test in tests for name in (test.name, *test.needs)]
    build(["cmake", "--build", str(folder), "--parallel", str(os.cpu_count() or 1), "--target", *wanted])
    sanitizer = find_sanitizer(nvcc) if sanitize else None
    if sanitizer is None:
        notes.append("not run: compute-sanitizer, " + ("it is not there" if sanitize else "left out on request"))
    jobs = []
    for test in tests:
        program = [str(next(folder.rglob(test.name)))]
        if test.needs:
            program += [*(str(next(folder.rglob(f"lib{name}.so"))) for name in test.needs), str(CONTRACT)]
        jobs.append((test.name, "-", program))
        for tool in TOOLS if sanitizer else ():
            jobs.append((test.name, tool, [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND), *program]))
    with ThreadPoolExecutor() as pool:  # at the same time: under the tools they take minutes, mostly of the host's
        return list(pool.map(lambda job: outcome(*job), jobs)), notes


def find_sanitizer(nvcc: str) -> str | None:
    """Return compute-sanitizer from the PATH or from nvcc's toolkit."""
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=str(Path(nvcc).resolve().parent))


def outcome(name: str, tool: str, command: Sequence[str], seconds: float = SECONDS) -> Row:
    """Run a test; say how it ended, in how many seconds, and what its last line was."""
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        state, last = f"stopped after {seconds:g} s", ""
    else:
        named = {0: "passed", SKIPPED: "skipped", FOUND: "errors found" if tool != "-" else "failed: status 99"}
        state = named.get(done.returncode, f"failed: status {done.returncode}")
        lines = [line.strip("= ") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        last = lines[-1] if lines else ""
    return {"test": name, "under": tool, "outcome": state, "s": time.perf_counter() - start, "last line": last}


def judge(rows: Sequence[Row]) -> list[str]:
    """Say what did not pass; a test that was skipped or stopped proves nothing and is missed too."""
    lines = []
    for kind, some in (
        ("C++ tests on the GPU", [row for row in rows if row["under"] == "-"]),
        ("compute-sanitizer clean", [row for row in rows if row["under"] != "-"]),
    ):
        if not some:
            continue
        bad = [f"{row['test']} {row['under']}: {row['outcome']}" for row in some if row["outcome"] != "passed"]
        state = f"MISSED by {len(bad)} of {len(some)}" if bad else "met"
        lines.append(f"{state}: {kind}: " + ("; ".join(bad) or f"all {len(some)} runs passed"))
    return lines
