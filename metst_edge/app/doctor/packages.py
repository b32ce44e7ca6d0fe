"""Python packages: what metst-edge requires, what is installed, which versions fit, and the command that gets one."""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from metst_edge.app.machine import text_of
from metst_edge.installing import DISTRIBUTION, required

HEADLESS = "opencv-python-headless"
OPENCV = (HEADLESS, "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Distributions that bring OpenCV, each of them as the folder cv2. Any of them will do; the first is required."""


def pip() -> str:
    """Return the command of this Python's pip."""
    return f"{shlex.quote(sys.executable or 'python3')} -m pip"


def install(distribution: str) -> str:
    """Return the command that installs what metst-edge requires of a distribution."""
    return f"{pip()} install {shlex.quote(required(distribution))}"


def installed(distribution: str) -> str | None:
    """Return the version of a distribution, None where it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return None


def keep_numpy() -> str:
    """Return the argument that has pip leave an older numpy as it is, where another package may need it; or nothing."""
    version = installed("numpy") or ""
    return f" numpy=={version}" if (0,) < numbers(version) < (2,) else ""


def requires_python() -> str:
    """Return the versions of Python that metst-edge takes; empty where it is not installed."""
    with suppress(metadata.PackageNotFoundError, KeyError):
        return metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    return ""


def sees_system() -> bool:
    """Return whether this Python sees the system's packages: it is no virtual environment, or one made so."""
    if sys.prefix == sys.base_prefix:
        return True
    settings = text_of(Path(sys.prefix) / "pyvenv.cfg")
    return bool(re.search(r"^include-system-site-packages\s*=\s*true", settings, re.MULTILINE | re.IGNORECASE))


def opencv_wheels() -> dict[str, set[str]]:
    """Return OpenCV wheels by the folder that they are in: those of one folder overwrite each other."""
    found: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name in OPENCV:
            found.setdefault(str(distribution.locate_file("")), set()).add(name)
    return found


def fits(version: str, wanted: str) -> bool:
    """Return whether a version is one that a requirement such as ">=1.24,<2" takes; clauses it cannot read are met."""
    found = numbers(version)
    for sign, text in re.findall(r"(>=|<=|==|<|>)\s*([\d.]+)", wanted):
        limit = numbers(text)
        length = max(len(found), len(limit))
        a, b = (each + (0,) * (length - len(each)) for each in (found, limit))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[sign]:
            return False
    return True


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "10.3.0.30" -> (10, 3, 0, 30)."""
    found = re.match(r"\d+(?:\.\d+)*", version.strip())
    return tuple(map(int, found[0].split("."))) if found else ()
