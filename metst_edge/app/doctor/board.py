"""Probes of the machine itself: processor, memory, a Jetson's release and power mode, heat, cameras."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

from metst_edge.app import machine
from metst_edge.app.doctor import packages
from metst_edge.app.doctor.children import run_tool
from metst_edge.app.doctor.diagnosis import Finding
from metst_edge.app.doctor.evidence import Evidence

OLDEST_L4T = (36, 4)
"""The Jetson Linux that brings the TensorRT which is needed: JetPack 6.1."""
GIB = 1 << 30


def processor(here: Evidence) -> Finding:
    """Look at the processor, and how much of it this process may use."""
    name, cores, usable = machine.processor(here.root), os.cpu_count(), machine.usable_cores()
    text = f"{name}, {cores} cores" + ("" if usable == cores else f", {usable} of them for this process")
    details = {"name": name, "cores": cores, "usable": usable, "architecture": platform.machine()}
    return Finding("processor", "ok", text, details=details)


def memory(here: Evidence) -> Finding:
    """Look at the memory there is."""
    found = machine.memory(here.root)
    if found is None:
        return Finding("memory", "wrong", "the system does not tell", details={"total": None, "available": None})
    total, available = found
    text = f"{total / GIB:.1f} GiB, {available / GIB:.1f} GiB of it free"
    return Finding("memory", "ok", text, details={"total": total, "available": available})


def jetpack(here: Evidence) -> Finding:
    """Look at a Jetson's release."""
    version = here.packages.get("nvidia-jetpack")
    details = {"board": here.board or None, "l4t": here.l4t or None, "jetpack": version}
    if not here.jetson:
        return Finding("jetpack", "unneeded", "not a Jetson", details=details)
    release = f"Jetson Linux {here.l4t}" if here.l4t else "a Jetson Linux that does not tell its release"
    text = f"{here.board or 'a Jetson'}, {release}, "
    text += f"JetPack {version}" if version else "package nvidia-jetpack not installed"
    if here.l4t and packages.numbers(here.l4t) < OLDEST_L4T:
        text += "; expected JetPack 6.1 (Jetson Linux 36.4) or newer"
        return Finding("jetpack", "wrong", text, "flash it: docs/jetson.md", details)
    return Finding("jetpack", "ok", text, details=details)


def power(here: Evidence) -> Finding:
    """Look at a Jetson's power mode and clocks; a slower one may be meant."""
    mode, modes = machine.power_mode(here.root), machine.power_modes(here.root)
    tool = here.tool("nvpmodel")
    if mode is None and tool is not None:
        _, out = run_tool([str(tool), "-q"], 10.0)
        number = re.search(r"^\s*(\d+)\s*$", out, re.MULTILINE)
        mode = int(number[1]) if number else None
    cores = machine.sensors(here.root).get("cpu_mhz", {})
    slow = [core for core, (now, most) in cores.items() if most and now < most]
    names = {str(number): name for number, name in modes.items()}
    details = {"mode": mode, "name": names.get(str(mode)), "modes": names, "cpu_mhz": cores}
    if not here.jetson:
        return Finding("power", "unneeded", "no power modes but a Jetson's are known", details=details)
    if mode is None:
        return Finding("power", "wrong", "the power mode cannot be read", "sudo nvpmodel -q", details)
    best = next((n for n, name in reversed(modes.items()) if name.startswith("MAXN")), None)
    text = f"mode {modes.get(mode, 'of unknown name')} ({mode})"
    text += f"; {len(slow)} of {len(cores)} cores below their highest clock" if slow else ""
    hints = [f"sudo nvpmodel -m {best}   ({modes[best]})"] if best is not None and best != mode else []
    hints += ["sudo jetson_clocks   (fixes the clocks until the next start)"] if slow else []
    return Finding("power", "ok", text, "; ".join(hints), details)


def temperature(here: Evidence) -> Finding:
    """Look at how hot it is."""
    found = machine.sensors(here.root).get("temperature_c", {})
    if not found:
        return Finding("temperature", "unneeded", "no sensor tells", details={"celsius": {}})
    name, hottest = max(found.items(), key=lambda item: item[1])
    return Finding("temperature", "ok", f"{hottest:.0f} degrees at most ({name})", details={"celsius": found})


def cameras(here: Evidence) -> Finding:
    """Look at the cameras, and whether this user may open one."""
    found = []
    for path in machine.matches(here.root, "dev/video[0-9]*"):
        name = machine.text_of(here.root / "sys/class/video4linux" / path.name / "name").strip()
        found.append({"device": f"/dev/{path.name}", "name": name, "allowed": os.access(path, os.R_OK | os.W_OK)})
    details = {"cameras": found}
    if not found:
        text = "none: there is no /dev/video*"
        return Finding("cameras", "missing", text, "connect one, or use metst-edge --source FILE", details)
    texts = [f"{camera['device']} ({camera['name'] or 'no name'})" for camera in found]
    if any(camera["allowed"] for camera in found):
        return Finding("cameras", "ok", ", ".join(texts), details=details)
    group = _group(here.root / str(found[0]["device"]).lstrip("/"))
    fix = f"sudo usermod -aG {group} $USER   (then log in again)"
    return Finding("cameras", "wrong", f"{', '.join(texts)}: this user may not open them", fix, details)


def gstreamer(here: Evidence) -> Finding:
    """Look at what a Jetson's CSI cameras are read with."""
    tool = here.tool("gst-launch-1.0")
    argus = machine.matches(here.root, "usr/lib/*/gstreamer-1.0/libgstnvarguscamerasrc.so")
    details = {"gst_launch": str(tool) if tool else None, "nvarguscamerasrc": bool(argus)}
    fix = "sudo apt install gstreamer1.0-tools" + (" nvidia-l4t-gstreamer" if here.jetson else "")
    if tool is None:
        state = "missing" if here.jetson else "unneeded"
        return Finding("gstreamer", state, "no gst-launch-1.0; a Jetson's CSI cameras need it", fix, details)
    if here.jetson and not argus:
        return Finding("gstreamer", "wrong", f"{tool}, but not nvarguscamerasrc for CSI cameras", fix, details)
    return Finding("gstreamer", "ok", str(tool), details=details)


def _group(path: Path) -> str:
    """Return the group that may open a device; the usual one where it has no name."""
    with suppress(Exception):
        return path.group()
    return "video"
