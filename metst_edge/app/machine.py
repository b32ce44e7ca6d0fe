"""What decides how fast this machine is, and how fast and hot it is just now. Nothing here raises, whatever is missing.

Everything is read from files, so that no tool, no root and no library of the board is needed. Names of the machine or
its user are left out: the answers are meant to be published.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path("/")
GPU = re.compile(r"gpu|\.(gv11b|gp10b|ga10b)$")
"""Names of a Jetson's GPU under /sys/class/devfreq, from Nano to Thor."""
COLDEST = -100.0
"""Degrees; Jetsons give -256 for a sensor that is switched off."""


def describe(root: Path = ROOT) -> dict[str, str]:
    """Return what decides the times: name -> text; on a Jetson also its board, L4T release and power mode.

    Args:
        root: the folder that /proc, /sys, /etc and /var lie in.
    """
    about = {
        "processor": processor(root),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "simd": simd(),
    }
    about.update({name: text for name, text in _jetson(root) if text})
    return about


def processor(root: Path = ROOT) -> str:
    """Return the name of the processor, or of the board where the processor does not tell its own (ARM)."""
    for line in text_of(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return board(root) or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def memory(root: Path = ROOT) -> tuple[int, int] | None:
    """Return the bytes of memory there are, and those that programs can still have; None where it is not told."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", text_of(root / "proc/meminfo"), re.MULTILINE))
    if "MemTotal" not in sizes:
        return None
    return int(sizes["MemTotal"]) << 10, int(sizes.get("MemAvailable", 0)) << 10


def sensors(root: Path = ROOT) -> dict[str, Any]:
    """Return what changes while a machine works, as far as it can be read.

    Returns:
        load: processes that wanted a core, mean of the last minute; those of others slow this one down.
        cpu_mhz: core -> [now, highest allowed].
        gpu_mhz: likewise, by the GPU's name.
        temperature_c: sensor -> degrees.
    """
    cores = sorted(
        matches(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"), key=lambda path: _digits(path.parent.name)
    )
    cpus = [(path.parent.name, path / "scaling_cur_freq", path / "scaling_max_freq") for path in cores]
    devices = [path for path in matches(root, "sys/class/devfreq/*") if GPU.search(path.name)]
    gpus = [(path.name, path / "cur_freq", path / "max_freq") for path in devices]
    found = {
        "load": _number(text_of(root / "proc/loadavg").partition(" ")[0]),
        "cpu_mhz": dict(_clocks(cpus, 1e3)),
        "gpu_mhz": dict(_clocks(gpus, 1e6)),
        "temperature_c": dict(_temperatures(root)),
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def simd() -> str:
    """Return the vector path the compiled part takes and those it has, or why there is none."""
    try:
        from metst_edge import _native

        return f"{_native.simd_path()} (of {' '.join(_native.simd_paths())})"
    except (ImportError, ValueError) as error:  # not built for this machine; METST_EDGE_SIMD names what it has not
        return f"none ({error})"


def _jetson(root: Path) -> Iterator[tuple[str, str]]:
    release = l4t(root)
    if release:
        yield "board", board(root)
        yield "l4t", f"R{release}"
    mode = power_mode(root)
    if mode is not None:
        name = power_modes(root).get(mode)
        yield "power mode", f"{name} ({mode})" if name else str(mode)


def l4t(root: Path = ROOT) -> str:
    """Return the release of Jetson Linux, such as "36.4.3"; empty where this is none."""
    release = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text_of(root / "etc/nv_tegra_release"))
    return f"{release[1]}.{release[2]}" if release else ""


def power_mode(root: Path = ROOT) -> int | None:
    """Return the number of a Jetson's power mode, which nvpmodel keeps in a file."""
    number = re.search(r"pmode:(\d+)", text_of(root / "var/lib/nvpmodel/status"))
    return int(number[1]) if number else None


def power_modes(root: Path = ROOT) -> dict[int, str]:
    """Return the names of a Jetson's power modes, from nvpmodel's settings."""
    names = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", text_of(root / "etc/nvpmodel.conf"))
    return {int(number): name for number, name in names}


def board(root: Path = ROOT) -> str:
    """Return what an ARM board calls itself; empty elsewhere."""
    return text_of(root / "proc/device-tree/model").strip("\0 \n")


def _clocks(files: list[tuple[str, Path, Path]], unit: float) -> Iterator[tuple[str, list[float | None]]]:
    for name, now, highest in files:
        clocks = [_number(text_of(file), unit) for file in (now, highest)]
        if clocks[0] is not None:
            yield name, clocks


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    seen = set()
    for zone in sorted(matches(root, "sys/class/thermal/thermal_zone*"), key=lambda path: _digits(path.name)):
        degrees = _number(text_of(zone / "temp"), 1e3)
        if degrees is None or degrees <= COLDEST:
            continue
        name = text_of(zone / "type").strip() or zone.name
        yield name if name not in seen else f"{name} {_digits(zone.name)}", degrees
        seen.add(name)


def text_of(path: Path) -> str:
    """Return what a file holds; empty where it cannot be read."""
    # Sensors that are switched off answer with an error of their own; a damaged file may hold anything.
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _number(text: str, unit: float = 1.0) -> float | None:
    with suppress(ValueError):
        return float(text) / unit
    return None


def matches(root: Path, pattern: str) -> list[Path]:
    """Return the files below a folder that a pattern fits, sorted; none where it cannot be read."""
    with suppress(OSError):
        return sorted(root.glob(pattern))
    return []


def _digits(name: str) -> int:
    return int(re.sub(r"\D", "", name) or 0)
