"""The C++ tests on the GPU, and the same under compute-sanitizer: their outcome is a part of the results."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from csrc.cuda.shared_library import ROOT, build

SKIPPED = 77
FOUND = 99
"""What compute-sanitizer ends with when it found something; no test does."""
TOOLS = ("memcheck", "racecheck")
REFUSED = re.compile(r"device (is )?not supported|unsupported device", re.IGNORECASE)
"""What compute-sanitizer says of a GPU that it cannot watch; how it ends then proves nothing."""
NOT_RUN = "not run"
SECONDS = 240
"""For one test, with a tool or without."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Test:
    """A C++ test of csrc/tests that runs on the GPU.

    Attributes:
        name: of the program, and of its target in CMake.
        needs: targets of libraries that it is given, as arguments.
        arguments: that follow.
        briefly: whether under a tool it is told so, by an argument of that name, to run every kernel but once or twice.
    """

    name: str
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    briefly: bool = False


CONTRACT = ROOT / "csrc/tensorrt/selective_scan.json"
TESTS = (
    Test("test_selective_scan_gpu", briefly=True),
    Test("test_network_step_gpu", briefly=True),
    Test("test_roi_flow_gpu", briefly=True),
    Test("test_cuda_graph", arguments=("gpu",)),
    Test("test_plugin", ("metst_edge_plugin",), (str(CONTRACT),)),
)


def targets(folder: Path) -> set[str]:
    """Return the targets of a configured build folder."""
    command = ["cmake", "--build", str(folder), "--target", "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {word.rstrip(":") for line in done.stdout.splitlines() for word in line.replace("...", "").split()[:1]}


def configure(folder: Path, nvcc: str, architecture: str) -> list[str]:
    """Configure a build of the tests, the plugin's where there are TensorRT headers; return what will not be run."""
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DMETST_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    command += [f"-DCMAKE_CUDA_ARCHITECTURES={architecture}"]
    if not (shutil.which("make") or shutil.which("gmake")) and shutil.which("ninja"):
        command += ["-G", "Ninja"]
    # Named on the command line, because CMake keeps what it found once and reads only one of them by itself.
    headers = {name: os.environ[name] for name in ("TENSORRT_ROOT", "TENSORRT_INCLUDE_DIR") if os.environ.get(name)}
    command += [f"-D{name}={value}" for name, value in headers.items()]
    try:
        build([*command, "-DMETST_TENSORRT=ON"])
    except RuntimeError as error:
        if "NvInfer.h" not in str(error):
            raise
        build([*command, "-DMETST_TENSORRT=OFF"])
        where = " and ".join(headers.values()) or "TENSORRT_ROOT and TENSORRT_INCLUDE_DIR are not set"
        return [f"not run: the plugin's enqueue through its C++ driver; no TensorRT headers were found ({where})"]
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
        program = [str(next(folder.rglob(name))) for name in (test.name, *(f"lib{name}.so" for name in test.needs))]
        program += test.arguments
        jobs.append((test.name, "-", program))
        program = [*program, *(["briefly"] if test.briefly else [])]
        for tool in TOOLS if sanitizer else ():
            jobs.append((test.name, tool, [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND), *program]))
    programs = Programs()
    with ThreadPoolExecutor() as pool:  # at the same time: under the tools they take minutes, mostly of the host's
        try:
            return list(pool.map(lambda job: outcome(*job, programs=programs), jobs)), notes
        except BaseException:  # interrupted: what has a session of its own does not hear of it
            programs.stop()
            raise


def find_sanitizer(nvcc: str) -> str | None:
    """Return compute-sanitizer from the PATH or from nvcc's toolkit."""
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=str(Path(nvcc).resolve().parent))


class Programs:
    """Those that threads have started and not seen the end of, so that an interrupted run leaves none behind."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self._lock = Lock()
        self._stopped = False

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start one in a session of its own.

        Raises:
            InterruptedError: all have been stopped.
        """
        with self._lock:  # or one that is just being started would be missed
            if self._stopped:
                raise InterruptedError("all programs have been stopped")
            program = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
            self._running.append(program)
        return program

    def ended(self, program: subprocess.Popen[str]) -> None:
        """Forget one."""
        with self._lock:
            self._running.remove(program)

    def stop(self) -> None:
        """Kill all, and start none any more."""
        with self._lock:
            self._stopped = True
            for program in self._running:
                stop(program)


def stop(program: subprocess.Popen[str]) -> None:
    """Kill a program that leads a session, and what it has started: the test that a tool runs, which holds the GPU."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)


def outcome(
    name: str,
    tool: str,
    command: Sequence[str],
    seconds: float = SECONDS,
    programs: Programs | None = None,
) -> Row:
    """Run a test; say how it ended, in how many seconds, and what its last line was.

    Args:
        name: of the test.
        tool: that it runs under; "-" for none.
        command: the program, or the tool with it.
        seconds: after which it is stopped.
        programs: knows the program while it runs.
    """
    start = time.perf_counter()
    programs = programs or Programs()
    program = programs.start(command)
    try:
        printed, _ = program.communicate(timeout=seconds)
        named = {0: "passed", SKIPPED: "skipped", FOUND: "errors found" if tool != "-" else "failed: status 99"}
        state = named.get(program.returncode, f"failed: status {program.returncode}")
    except subprocess.TimeoutExpired:
        stop(program)
        printed, _ = program.communicate()
        state = f"stopped after {seconds:g} s"
    programs.ended(program)
    lines = [line.strip("= ") for line in printed.splitlines() if line.strip("= ")]
    refused = next((line for line in lines if REFUSED.search(line)), None) if tool != "-" else None
    last = refused or (lines[-1] if lines else "")
    if refused:
        state = f"{NOT_RUN}: the tool refuses the device"
    return {"test": name, "under": tool, "outcome": state, "s": time.perf_counter() - start, "last line": last}


def judge(rows: Sequence[Row]) -> list[str]:
    """Say what did not pass; a test that was skipped or stopped proves nothing and is missed too."""
    lines = []
    for kind, some in (
        ("C++ tests on the GPU", [row for row in rows if row["under"] == "-"]),
        ("compute-sanitizer clean", [row for row in rows if row["under"] != "-"]),
    ):
        refused = [row for row in some if row["outcome"].startswith(NOT_RUN)]
        if refused:
            lines.append(f"{NOT_RUN}: {kind}, {len(refused)} of {len(some)} runs: {refused[0]['last line']}")
        some = [row for row in some if row not in refused]
        if not some:
            continue
        bad = [f"{row['test']} {row['under']}: {row['outcome']}" for row in some if row["outcome"] != "passed"]
        state = f"MISSED by {len(bad)} of {len(some)}" if bad else "met"
        lines.append(f"{state}: {kind}: " + ("; ".join(bad) or f"all {len(some)} runs passed"))
    return lines
