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
        "simd": _simd(),
    }
    about.update({name: text for name, text in _jetson(root) if text})
    return about


def processor(root: Path = ROOT) -> str:
    """Return the name of the processor, or of the board where the processor does not tell its own (ARM)."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return _board(root) or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0))


def sensors(root: Path = ROOT) -> dict[str, Any]:
    """Return what changes while a machine works, as far as it can be read.

    Returns:
        load: processes that wanted a core, mean of the last minute; those of others slow this one down.
        cpu_mhz: core -> [now, highest allowed]. gpu_mhz: likewise, by the GPU's name.
        temperature_c: sensor -> degrees.
    """
    cores = sorted(_glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq"), key=lambda path: _digits(path.parent.name))
    cpus = [(path.parent.name, path / "scaling_cur_freq", path / "scaling_max_freq") for path in cores]
    devices = [path for path in _glob(root, "sys/class/devfreq/*") if GPU.search(path.name)]
    gpus = [(path.name, path / "cur_freq", path / "max_freq") for path in devices]
    found = {
        "load": _number(_text(root / "proc/loadavg").partition(" ")[0]),
        "cpu_mhz": dict(_clocks(cpus, 1e3)),
        "gpu_mhz": dict(_clocks(gpus, 1e6)),
        "temperature_c": dict(_temperatures(root)),
    }
    return {name: value for name, value in found.items() if value not in (None, {})}


def _simd() -> str:
    try:
        from metst_edge import _native

        return f"{_native.simd_path()} (of {' '.join(_native.simd_paths())})"
    except (ImportError, ValueError) as error:  # not built for this machine; METST_EDGE_SIMD names what it has not
        return f"none ({error})"


def _jetson(root: Path) -> Iterator[tuple[str, str]]:
    release = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    if release:
        yield "board", _board(root)
        yield "l4t", f"R{release[1]}.{release[2]}"
    # nvpmodel keeps the number of the mode here, and the names of all modes in its settings.
    number = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    if number:
        names = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", _text(root / "etc/nvpmodel.conf"))
        mode = int(number[1])
        yield "power mode", next((f"{name} ({mode})" for id_, name in names if int(id_) == mode), str(mode))


def _board(root: Path) -> str:
    return _text(root / "proc/device-tree/model").strip("\0 \n")


def _clocks(files: list[tuple[str, Path, Path]], unit: float) -> Iterator[tuple[str, list[float | None]]]:
    for name, now, highest in files:
        clocks = [_number(_text(file), unit) for file in (now, highest)]
        if clocks[0] is not None:
            yield name, clocks


def _temperatures(root: Path) -> Iterator[tuple[str, float]]:
    seen = set()
    for zone in sorted(_glob(root, "sys/class/thermal/thermal_zone*"), key=lambda path: _digits(path.name)):
        degrees = _number(_text(zone / "temp"), 1e3)
        if degrees is None or degrees <= COLDEST:
            continue
        name = _text(zone / "type").strip() or zone.name
        yield name if name not in seen else f"{name} {_digits(zone.name)}", degrees
        seen.add(name)


def _text(path: Path) -> str:
    # Sensors that are switched off answer with an error of their own; a damaged file may hold anything.
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _number(text: str, unit: float = 1.0) -> float | None:
    with suppress(ValueError):
        return float(text) / unit
    return None


def _glob(root: Path, pattern: str) -> list[Path]:
    with suppress(OSError):
        return sorted(root.glob(pattern))
    return []


def _digits(name: str) -> int:
    return int(re.sub(r"\D", "", name) or 0)
