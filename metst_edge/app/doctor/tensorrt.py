"""Probes of TensorRT, the plugin, and the engines that have been built."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import metst_edge
from metst_edge.app import machine
from metst_edge.app.doctor import packages
from metst_edge.app.doctor.diagnosis import Finding
from metst_edge.app.doctor.evidence import Evidence
from metst_edge.app.doctor.gpu import JETPACK
from metst_edge.choices import MODEL
from metst_edge.counting import how_many
from metst_edge.engine.tensorrt import cache
from metst_edge.engine.tensorrt.plugin import PLUGIN_VARIABLE, find_cuda_library, find_plugin
from metst_edge.errors import EngineError

OLDEST_TENSORRT = (10, 3)
"""What ``metst-edge build`` needs."""
MIB = 1 << 20


def tensorrt(here: Evidence) -> Finding:
    """Look at TensorRT, which a Jetson has as a package of the system that this Python may not see."""
    answer = here.answer("tensorrt")
    system = _system_tensorrt(here)
    details = {
        "version": answer.get("version"),
        "module": "tensorrt" if here.works("tensorrt") else None,
        "system_packages": [str(path) for path in system],
        "headers": here.packages.get("libnvinfer-headers-dev"),
    }
    if here.works("tensorrt"):
        version = str(answer["version"])
        if packages.numbers(version) < OLDEST_TENSORRT:
            fix = "flash JetPack 6.1 or newer" if here.jetson else f"{packages.pip()} install --upgrade tensorrt"
            return Finding("tensorrt", "wrong", f"{version}; expected 10.3 or newer", fix, details)
        return Finding("tensorrt", "ok", f"{version}, {Path(answer['file']).parent}", details=details)
    if here.jetson:
        fix = "sudo apt update && sudo apt install python3-libnvinfer libnvinfer-headers-dev"
    else:
        fix = f"{packages.pip()} install tensorrt"
    if answer.get("absent") != "tensorrt":
        return Finding("tensorrt", "wrong", str(answer["error"]), JETPACK if here.jetson else fix, details)
    mine = f"python{sys.version_info.major}.{sys.version_info.minor}"
    fitting = [path for path in system if path.parts[-3] in (mine, "python3")]
    if fitting and sys.prefix != sys.base_prefix and not packages.sees_system():
        settings = shlex.quote(str(Path(sys.prefix) / "pyvenv.cfg"))
        fix = f"sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' {settings}"
        text = f"in {fitting[0]}, but this virtual environment does not see the system's packages"
        return Finding("tensorrt", "wrong", text, fix, details)
    if system and not fitting:
        text = f"in {system[0]}, for another Python than this {mine}"
        fix = "/usr/bin/python3 -m venv --system-site-packages .venv   (and install metst-edge there)"
        return Finding("tensorrt", "wrong", text, fix, details)
    if here.works("tensorrt_rtx"):
        version = str(here.answer("tensorrt_rtx")["version"])
        text = f"TensorRT for RTX {version}, which takes no plugins"
        return Finding("tensorrt", "ok", text, details={**details, "version": version, "module": "tensorrt_rtx"})
    return Finding("tensorrt", here.unless_useless("missing"), "not installed", fix, details)


def plugin(here: Evidence) -> Finding:
    """Look at the plugin's library: the scan as one layer, the network in one kernel, and flow on the GPU."""
    build = _plugin_command(here)
    compiled = here.answer("plugin").get("architectures")
    details = {"path": None, "architectures": compiled}
    try:
        path = find_cuda_library()
    except EngineError as refused:
        return Finding("plugin", "wrong", str(refused), f"unset {PLUGIN_VARIABLE}", details)
    details["path"] = None if path is None else str(path)
    if path is None:
        state = here.unless_useless("missing")
        text = "not installed; the scan is built of standard operators and flow is measured on the CPU: both are slower"
        if state == "unneeded":
            text = "not installed; only a GPU uses it"
        return Finding("plugin", state, text, build, details)
    error = here.answer("plugin").get("error")
    if error is not None:
        return Finding("plugin", "wrong", f"{path} cannot be loaded: {error}", build, details)
    capability = here.answer("gpu").get("compute_capability")
    text = str(path)
    if compiled and capability is not None:
        this, known = _number(capability), [_number(name) for name in compiled]
        if this < min(known):
            text += f" has no code for this GPU (sm_{this}), only for sm_{', '.join(map(str, known))}"
            return Finding("plugin", "wrong", text, build, details)
        if this not in known:
            text += f"; its code for this GPU (sm_{this}) is made when it is loaded, from that for an older one"
    return Finding("plugin", "ok", text, details=details)


def engines(here: Evidence) -> Finding:
    """Look at the engines in the cache: whole, for what is here now, and nobody else's to write to."""
    folder = cache.user_folder()
    details: dict[str, Any] = {
        "folder": str(folder),
        "mode": None,
        "bytes": 0,
        "engines": [],
        "damaged": [],
        "stale": {},
    }
    if not folder.is_dir():
        return Finding("cache", "unneeded", f"no engines yet in {folder}", f"metst-edge build {MODEL}", details)
    records = cache.records(folder)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    details["mode"], details["bytes"] = f"{folder.stat().st_mode & 0o7777:04o}", size
    details["engines"] = [f"{r.path.name} {' '.join(str(r.parts.get(n)) for n in cache.SAME_ENGINE)}" for r in records]
    details["damaged"] = [record.path.name for record in records if not record.whole()]
    details["stale"] = {r.path.name: names for r in records if (names := _stale(here, r.parts))}
    text = f"{how_many(len(records), 'engine')}, {size / MIB:.1f} MiB in {folder}, mode {details['mode']}"
    try:
        cache.check_owned(folder.parent)
        cache.check_owned(folder)
    except Exception as error:
        return Finding("cache", "wrong", str(error), f"chmod 700 {shlex.quote(str(folder))}", details)
    if details["damaged"]:
        files = " ".join(name.replace(".plan", ".*") for name in details["damaged"])
        text += f"; damaged: {', '.join(details['damaged'])}"
        return Finding("cache", "wrong", text, f"cd {shlex.quote(str(folder))} && rm {files}", details)
    if details["stale"]:
        changed = sorted({name for names in details["stale"].values() for name in names})
        text += f"; {len(details['stale'])} not for what is here now ({', '.join(changed)} differ)"
    return Finding("cache", "ok", text, details=details)


def _system_tensorrt(here: Evidence) -> list[Path]:
    """Return where Debian packages have put TensorRT's Python module."""
    places = ("usr/lib/python3*/dist-packages/tensorrt", "usr/local/lib/python3*/dist-packages/tensorrt")
    return [path for pattern in places for path in machine.matches(here.root, pattern)]


def _number(capability: str) -> int:
    """The 87 of "8.7", "87" and "87-real"."""
    return int("".join(filter(str.isdigit, capability)))


def _plugin_command(here: Evidence) -> str:
    """Return the command that compiles the plugin for this board and installs it into this package."""
    capability = here.answer("gpu").get("compute_capability")
    preset = "cuda"
    if here.jetson:
        thor = capability == "11.0" or "Thor" in here.board
        preset = "jetson-thor" if thor else "jetson-orin"
    prefix = shlex.quote(str(Path(metst_edge.__path__[0]).parent))
    return (
        f"cmake --preset {preset} && cmake --build --preset {preset} --target metst_edge_plugin && "
        f"cmake --install build/{preset} --prefix {prefix}   (in a checkout)"
    )


def _stale(here: Evidence, parts: Mapping[str, Any]) -> list[str]:
    """Return the parts, of those that are known, in which an engine differs from what would be built now."""
    now: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}"}
    for module in ("tensorrt", "tensorrt_rtx"):
        if here.works(module):
            now["tensorrt"] = f"{here.answer(module)['version']} ({module})"
            library = find_plugin() if module == "tensorrt" else None
            now["plugin"] = None if library is None else hashlib.sha256(library.read_bytes()).hexdigest()
            break
    if here.works("gpu"):
        device = here.answer("gpu")
        now.update(gpu=device["name"], compute_capability=device["compute_capability"])
        now.update(multiprocessors=device["multiprocessors"])
    models = here.answer("models") if here.works("models") else {}
    files = models.get(str(parts.get("bundle")), {}).get("files", {})
    now.update({name: digest for name, digest in files.items() if name in parts})
    return [name for name, value in now.items() if parts.get(name) != value]
