"""Probes of what analysing on the CPU needs: Python, this package and its models, and the libraries it stands on."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from pathlib import Path

import metst_edge
from metst_edge.app import machine
from metst_edge.app.doctor import packages
from metst_edge.app.doctor.diagnosis import Finding
from metst_edge.app.doctor.evidence import Evidence


def python(here: Evidence) -> Finding:
    """Look at Python itself, and whether it is a virtual environment that sees the system's packages."""
    venv = sys.prefix != sys.base_prefix
    system = packages.sees_system()
    version, wanted = platform.python_version(), packages.requires_python()
    text = f"{version}, {sys.executable}"
    if venv:
        text += f"; virtual environment {'with' if system else 'without'} the system's packages"
    details = {"version": version, "executable": sys.executable, "venv": venv, "system_packages": system}
    if packages.fits(version, wanted):
        return Finding("python", "ok", text, details=details)
    fix = "make the virtual environment with another Python: python3.10 -m venv .venv   (3.11, 3.12)"
    return Finding("python", "wrong", f"{text}; expected {wanted}", fix, details)


def package(here: Evidence) -> Finding:
    """Look at how metst-edge is installed."""
    folder = str(_folder())
    details = {"version": metst_edge.__version__, "folder": folder}
    if packages.installed(packages.DISTRIBUTION) is not None:
        return Finding("metst-edge", "ok", f"{metst_edge.__version__}, {folder}", details=details)
    return Finding(
        "metst-edge", "wrong", f"{folder} is not installed", f"{packages.pip()} install .   (in a checkout)", details
    )


def numpy(here: Evidence) -> Finding:
    """Look at numpy, on which the other libraries stand."""
    return _library(here, "numpy")


def opencv(here: Evidence) -> Finding:
    """Look at OpenCV, of which there may be several that overwrite each other."""
    wheels = sorted({name for names in packages.opencv_wheels().values() if len(names) > 1 for name in names})
    answer = here.answer("opencv")
    details = {"version": answer.get("version"), "wheels": wheels}
    # All of them own the folder cv2: taking one away damages the other, so both go and one comes back.
    # Newer ones would bring a newer numpy along.
    install = f"{packages.pip()} install opencv-contrib-python {shlex.quote(packages.required('numpy'))}"
    again = f"{packages.pip()} uninstall -y {' '.join(wheels or packages.OPENCV)} && {install}"
    error = answer.get("error")
    if error is None:
        if wheels:
            text = f"{answer['version']}, but {' and '.join(wheels)} overwrite each other"
            return Finding("opencv", "wrong", text, again, details)
        return Finding("opencv", "ok", str(answer["version"]), details=details)
    if not wheels and answer.get("absent") == "cv2":
        return Finding("opencv", "missing", "not installed", install, details)
    return Finding("opencv", "wrong", error, _cause(here, error) or again, details)


def mediapipe(here: Evidence) -> Finding:
    """Look at MediaPipe, which must be one that has the face models inside."""
    return _library(here, "mediapipe")


def rich(here: Evidence) -> Finding:
    """Look at what draws tables and bars."""
    return _library(here, "rich")


def onnxruntime(here: Evidence) -> Finding:
    """Look at ONNX Runtime, which only its own engine needs."""
    return _library(here, "onnxruntime")


def native(here: Evidence) -> Finding:
    """Look at the compiled part, and the vector path it takes."""
    answer = here.answer("native")
    details = {"simd": answer.get("path"), "available": list(answer.get("paths", ()))}
    if here.works("native"):
        text = f"vector path {answer['path']} (of {' '.join(answer['paths'])})"
        return Finding("native", "ok", text, details=details)
    error = str(answer["error"])
    if "METST_EDGE_SIMD" in error:
        return Finding("native", "wrong", error, "unset METST_EDGE_SIMD", details)
    fix = f"{packages.pip()} install --force-reinstall --no-deps .   (in a checkout; needs a C++ compiler)"
    state = "missing" if "_native" in error and "cannot import" in error else "wrong"
    return Finding("native", state, error, _cause(here, error) or fix, details)


def models(here: Evidence) -> Finding:
    """Look at the shipped models, whose files have been checked."""
    answer = here.answer("models")
    names = [path.name for path in machine.matches(_folder(), "models/*") if path.is_dir()]
    again = f"{packages.pip()} install --force-reinstall --no-deps .   (in a checkout)"
    if not here.works("models"):
        error = str(answer["error"])
        text = f"{', '.join(names) or 'none'}; not checked: {error}"
        return Finding("models", "wrong", text, _cause(here, error) or again, {"shipped": names, "broken": {}})
    good = [name for name, about in answer.items() if "error" not in about]
    broken = {name: about["error"] for name, about in answer.items() if "error" in about}
    details = {"shipped": sorted(answer), "broken": broken}
    if broken:
        return Finding("models", "wrong", "; ".join(broken.values()), again, details)
    if not good:
        return Finding("models", "missing", "none in this installation", again, details)
    texts = [f"{name} (fp32{', fp16' if answer[name]['fp16'] else ''})" for name in good]
    return Finding("models", "ok", ", ".join(texts), details=details)


def _library(here: Evidence, name: str) -> Finding:
    """Look at a Python library that metst-edge requires in a range of versions."""
    answer = here.answer(name)
    installed = packages.installed(name)
    version = answer.get("version") or installed
    details = {"version": version, "required": packages.required(name)}
    range_ = packages.required(name).removeprefix(name)
    if "error" not in answer:
        if version and not packages.fits(version, range_):
            return Finding(name, "wrong", f"{version}; expected {range_}", packages.install(name), details)
        return Finding(name, "ok", str(version or "loads"), details=details)
    if installed is None and answer.get("absent") == name:
        return Finding(name, "missing", "not installed", packages.install(name), details)
    if version and not packages.fits(version, range_):
        text = f"{version}; expected {range_} ({answer['error']})"
        return Finding(name, "wrong", text, packages.install(name), details)
    fix = packages.install(name).replace(" install ", " install --force-reinstall ", 1)
    if name != "numpy":
        fix = _cause(here, str(answer["error"])) or fix
    return Finding(name, "wrong", f"{version or ''} cannot be loaded: {answer['error']}".strip(), fix, details)


def _cause(here: Evidence, error: str) -> str:
    """Return what puts right another thing that keeps a library from loading; empty where it seems its own fault."""
    if re.search(r"lib(GL|glib|gthread)[\w.-]*\.so", error):
        return "sudo apt install libgl1 libglib2.0-0" if here.has_apt else "install libGL.so.1 and libgthread-2.0.so.0"
    return numpy(here).fix


def _folder() -> Path:
    """Return where this package lies."""
    return Path(metst_edge.__file__).parent
