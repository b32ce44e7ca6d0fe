"""What the NEON paths would take on an ARM core, estimated without one: instructions as executed, cycles as modelled.

    python -m benchmarks.arm.estimate flow metst64 metst_plus_small --model cortex-a78

A program for aarch64 runs a stage for a few frames under qemu, which writes down every piece of straight-line code that
it comes to. llvm-mca says how many cycles each piece takes when it is run again and again and all data are in the first
cache; their sum is the estimate. Beside it stands the least that any model allows: two vector instructions a cycle and
two loads, as A76 and A78 have units.

Neither knows of cache misses, mispredicted branches or what a piece owes the one before it. LLVM 14 schedules A76 and
A78 by the model of A57, whose latencies are longer and which issues three instructions a cycle.

Needs Debian's g++-aarch64-linux-gnu, qemu-user and llvm, and a build of the library:

    cmake -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=csrc/tests/aarch64.cmake -DMETST_TESTS=OFF
    cmake --build build/aarch64 --target metst_cpu
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/aarch64"
WARM, COUNTED = 3, 6
"""Frames of the shorter run, and how many more the longer one has: what comes before the first frame cancels out."""
REPEATS = 100
SHARE = 0.995
"""Of the instructions whose pieces are modelled; the others take what these take on average."""

_TRACE = re.compile(r"^Trace \d+: \S+ \[\w+/(\w+)/")
_INSTRUCTION = re.compile(r"^0x(\w+):  \w{8}  (.*)$")
_BRANCH = re.compile(r"^(b|bl|b\.\w+|cbn?z|tbn?z)\s")
_VECTOR = re.compile(r"\bv\d+\.|\bq\d+\b|\bd\d+\b|\bs\d+\b")
_LOAD = re.compile(r"^(ld|prfm)")
_STORE = re.compile(r"^st")


@dataclass(frozen=True)
class Estimate:
    """Of one frame in two lanes.

    Attributes:
        instructions: executed.
        vector: of them, those that the vector units execute.
        loads: of them, loads.
        modelled: cycles by llvm-mca.
        least: cycles that two vector units and two load units need.
    """

    instructions: float
    vector: float
    loads: float
    modelled: float
    least: float


def estimate(program: Path, stage: str, model: str) -> Estimate:
    """Run a stage in two lengths and model what the longer one does more."""
    longer, code = executed(program, stage, WARM + COUNTED)
    shorter, _ = executed(program, stage, WARM)
    more = Counter({at: (count - shorter[at]) / COUNTED for at, count in longer.items() if count > shorter[at]})
    work = {at: count * len(code[at]) for at, count in more.items()}
    total, kept, covered = sum(work.values()), [], 0.0
    for at, instructions in sorted(work.items(), key=lambda entry: -entry[1]):
        if covered > SHARE * total:
            break
        kept.append(at)
        covered += instructions
    cycles = modelled([code[at] for at in kept], model)
    vector = sum(more[at] * sum(bool(_VECTOR.search(i)) and not _memory(i) for i in code[at]) for at in more)
    loads = sum(more[at] * sum(bool(_LOAD.match(i)) for i in code[at]) for at in more)
    sum_of_cycles = sum(more[at] * c for at, c in zip(kept, cycles, strict=True)) * total / covered
    return Estimate(total, vector, loads, sum_of_cycles, max(vector / 2, loads / 2))


def executed(program: Path, stage: str, frames: int) -> tuple[Counter[str], dict[str, list[str]]]:
    """Return how often each piece of code ran, by its address, and its instructions."""
    first, last = _library(program)
    command = ["qemu-aarch64", "-d", "in_asm,exec,nochain", "-dfilter", f"{first:#x}..{last:#x}"]
    process = subprocess.Popen(
        [*command, str(program), stage, str(frames)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    counts: Counter[str] = Counter()
    code: dict[str, list[str]] = {}
    piece: list[str] | None = None
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Trace"):
            found = _TRACE.match(line)
            assert found is not None, line
            counts[found[1].lstrip("0")] += 1
        elif line.startswith("IN:"):
            piece = None
        elif found := _INSTRUCTION.match(line):
            if piece is None:
                piece = code.setdefault(found[1].lstrip("0"), [])
                piece.clear()
            piece.append(found[2])
    if process.wait() != 0:
        raise SystemExit(f"{stage}: expected it to run under qemu, got status {process.returncode}")
    return counts, code


def modelled(pieces: list[list[str]], model: str) -> list[float]:
    """Return the cycles of each piece, run again and again, by llvm-mca."""
    lines = []
    for number, piece in enumerate(pieces):
        lines += [f"# LLVM-MCA-BEGIN {number}", *map(_for_mca, piece), f"# LLVM-MCA-END {number}"]
    mca = shutil.which("llvm-mca-14") or shutil.which("llvm-mca") or "llvm-mca"
    command = [mca, "-mtriple=aarch64", f"-mcpu={model}", f"-iterations={REPEATS}", "-instruction-info=0"]
    command += ["-resource-pressure=0"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True)
    cycles = [int(count) / REPEATS for count in re.findall(r"^Total Cycles: +(\d+)", done.stdout, re.MULTILINE)]
    if len(cycles) != len(pieces):
        raise SystemExit(f"expected {len(pieces)} pieces from llvm-mca, got {len(cycles)}: {done.stderr[:500]}")
    return cycles


def _library(program: Path) -> tuple[int, int]:
    """The addresses of the CPU library's code in the program."""
    printed = subprocess.run(["aarch64-linux-gnu-nm", "-S", str(program)], capture_output=True, text=True, check=True)
    ranges = [
        (int(fields[0], 16), int(fields[0], 16) + int(fields[1], 16))
        for fields in map(str.split, printed.stdout.splitlines())
        if len(fields) == 4 and fields[2] in "tTwW" and "5metst" in fields[3]
    ]
    return min(first for first, _ in ranges), max(end for _, end in ranges)


def _memory(instruction: str) -> bool:
    return bool(_LOAD.match(instruction) or _STORE.match(instruction))


def _for_mca(instruction: str) -> str:
    """A jump's target is an address here and a distance there; it takes the same time wherever it goes."""
    if _BRANCH.match(instruction) or instruction.startswith("adr "):
        return re.sub(r"#?-?0x\w+$", "#8", instruction)
    return instruction


def build() -> Path:
    """Compile work.cpp against the built library."""
    program = BUILD / "work"
    command = [
        "aarch64-linux-gnu-g++",
        "-O2",
        "-std=c++17",
        "-static",
        f"-I{ROOT}/csrc/include",
        f"-I{ROOT}/csrc/testing",
    ]
    command += [str(ROOT / "benchmarks/arm/work.cpp"), str(BUILD / "libmetst_cpu.a"), "-lpthread", "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def main() -> None:
    """Print a row for every stage."""
    parser = argparse.ArgumentParser(description="Estimate the NEON paths' cycles a frame, two lanes, one core.")
    parser.add_argument("stages", nargs="+", help="flow, metst64, metst128, metst_plus_small, metst_plus; ..._half")
    parser.add_argument("--model", default="cortex-a78", help="of llvm-mca (default: %(default)s)")
    parser.add_argument("--ghz", type=float, default=1.5, help="the core's clock (default: %(default)s)")
    options = parser.parse_args()
    program = build()
    columns = (
        "stage",
        "instructions",
        "vector",
        "loads",
        "cycles, at least",
        "cycles, modelled",
        "ms",
        "of a core, 30 fps",
    )
    print(_row(columns), _row(["---"] * len(columns)), sep="\n")
    for stage in options.stages:
        e = estimate(program, stage, options.model)
        low, high = (cycles / options.ghz / 1e6 for cycles in (e.least, e.modelled))
        counts = [f"{n:,.0f}" for n in (e.instructions, e.vector, e.loads, e.least, e.modelled)]
        share = f"{3 * low:.1f} to {3 * high:.1f} %"  # 30 times so many milliseconds of a thousand
        print(_row([stage, *counts, f"{low:.2f} to {high:.2f}", share]), flush=True)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
