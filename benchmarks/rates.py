"""What one core of this machine does at best, measured by rates.cpp: nothing that is timed can beat it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Rate:
    """What one core does at best.

    Attributes:
        multiply_adds: elements a second.
        exponentials: elements a second, of the project's own exp2.
    """

    multiply_adds: float
    exponentials: float


class Rates:
    """Measures the machine's rates with a small program.

    Args:
        folder: where to build it.

    Attributes:
        best: vector unit, widest first -> the highest rates measured so far; empty without a compiler.
    """

    def __init__(self, folder: Path) -> None:
        self.best: dict[str, Rate] = {}
        compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
        self._program = folder / "rates"
        if compiler is None:
            print("rates.cpp: skipped, there is no C++ compiler (c++, g++, clang++)")
            return
        # -w: GCC's own AVX-512 headers warn about values they leave undefined on purpose.
        command = [compiler, "-O3", "-march=native", "-std=c++17", "-w", "-I", str(ROOT / "csrc" / "cpu")]
        subprocess.run([*command, str(ROOT / "benchmarks" / "rates.cpp"), "-o", str(self._program)], check=True)
        self.measure()

    def measure(self) -> None:
        """Measure again and keep the higher of each rate."""
        if not self._program.exists():
            return
        output = subprocess.run([str(self._program)], check=True, capture_output=True, text=True).stdout
        for line in output.splitlines():
            unit, *figures = line.split()
            new = Rate(*map(float, figures))
            old = self.best.get(unit, new)
            self.best[unit] = Rate(max(old.multiply_adds, new.multiply_adds), max(old.exponentials, new.exponentials))

    def of(self, implementation: str) -> Rate | None:
        """Return the rates of a native path's own unit, else of the widest one."""
        return self.best.get(implementation.removeprefix("native "), next(iter(self.best.values()), None))
