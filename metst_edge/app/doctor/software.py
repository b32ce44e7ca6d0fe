"""Probes of what analysing on the CPU needs: Python, this package and its models, and the libraries it stands on."""

from __future__ import annotations

import hashlib
import platform
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import metst_edge
from metst_edge import installing
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
    fix = "make the virtual environment with another Python: python3.12 -m venv .venv   (3.10 to 3.14)"
    return Finding("python", "wrong", f"{text}; expected {wanted}", fix, details)


def package(here: Evidence) -> Finding:
    """Look at how metst-edge is installed."""
    folder = str(_folder())
    details = {"version": metst_edge.__version__, "folder": folder}
    if _hidden(here):
        text = f"{folder} is the source folder, which hides the installed package"
        return Finding("metst-edge", "wrong", text, _elsewhere(), details)
    if packages.installed(installing.DISTRIBUTION) is not None:
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
    install = packages.install(packages.HEADLESS) + packages.keep_numpy()
    there = wheels or sorted(set().union(*packages.opencv_wheels().values()))
    again = f"{packages.pip()} uninstall -y {' '.join(there or packages.OPENCV)} && {install}"
    again += f"   (any one of {', '.join(wheels)} will do)" if wheels else ""
    wanted = installing.required(packages.HEADLESS).removeprefix(packages.HEADLESS)
    error = answer.get("error")
    if error is None:
        version = str(answer["version"])
        if not packages.fits(version, wanted):
            return Finding("opencv", "wrong", f"{version}; expected {wanted}", again, details)
        if wheels:
            text = f"{version}, but {' and '.join(wheels)} lie over one another"
            return Finding("opencv", "wrong", text, again, details)
        return Finding("opencv", "ok", f"{version}{f' ({there[0]})' if there else ''}", details=details)
    if not there and answer.get("absent") == "cv2":
        return Finding("opencv", "missing", "not installed", install, details)
    fix = again if wheels else _cause(here, error) or again
    return Finding("opencv", "wrong", error, fix, details)


def av(here: Evidence) -> Finding:
    """Look at PyAV, which reads video files."""
    return _library(here, "av")


def face(here: Evidence) -> Finding:
    """Look at the models that find a face: whether they are those of the notice beside them, and OpenCV reads them."""
    folder = _folder() / "models" / "face"
    notice = machine.text_of(folder / "NOTICE")
    digests = {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", notice, re.MULTILINE)}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in machine.matches(folder, "*.tflite")}
    damaged = [name for name, digest in digests.items() if found.get(name) != digest]
    details = {"files": sorted(found), "damaged": damaged}
    if damaged or not digests:
        text = f"{folder}: {', '.join(damaged or ['NOTICE'])} missing or damaged"
        return Finding("face", "wrong", text, _again(), details)
    if not here.works("opencv"):
        return Finding("face", "wrong", "not tried: OpenCV does not load", opencv(here).fix, details)
    error = here.answer("face").get("error")
    if error is not None:
        return Finding("face", "wrong", str(error), _cause(here, str(error)) or opencv(here).fix or _again(), details)
    return Finding("face", "ok", ", ".join(digests), details=details)


def mediapipe(here: Evidence) -> Finding:
    """Look at MediaPipe, which only --face mediapipe needs; most of its packages have no face model inside."""
    answer = here.answer("mediapipe")
    installed = packages.installed("mediapipe")
    details = {"version": answer.get("version") or installed, "models": answer.get("models")}
    install = packages.install("mediapipe") + packages.keep_numpy()
    if here.works("mediapipe"):
        text = str(details["version"] or "loads")
        text += "" if answer["models"] else ", without face models: --face mediapipe wants --face-model FILE, too"
        return Finding("mediapipe", "ok", text, details=details)
    error = str(answer["error"])
    if answer.get("absent") == "mediapipe":
        return Finding("mediapipe", "unneeded", "not installed; only --face mediapipe needs it", install, details)
    if installed and re.search(r"\bnumpy\b", error) and here.works("numpy"):  # compiled for an older one
        all_three = ("numpy<2", installing.required("mediapipe"), installing.required(packages.HEADLESS))
        fix = f"{packages.pip()} install {' '.join(map(shlex.quote, all_three))}"
    else:
        fix = _cause(here, error) or install.replace(" install ", " install --force-reinstall ", 1)
    return Finding("mediapipe", "wrong", f"{installed or ''} cannot be loaded: {error}".strip(), fix, details)


def rich(here: Evidence) -> Finding:
    """Look at what draws tables and bars."""
    return _library(here, "rich")


def matplotlib(here: Evidence) -> Finding:
    """Look at matplotlib, which only pictures of a score curve need."""
    found = _library(here, "matplotlib")
    if found.state != "missing":
        return found
    return replace(found, state="unneeded", text="not installed; only --plot and the demo's picture need it")


def onnxruntime(here: Evidence) -> Finding:
    """Look at ONNX Runtime, which its own engine needs, and a recogniser without TensorRT."""
    found = _library(here, "onnxruntime")
    if found.state != "missing":
        return found
    return replace(found, state="unneeded", text="not installed; only --engine onnxruntime and --recognizer need it")


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
    if _hidden(here):
        return Finding("native", "wrong", error, _elsewhere(), details)
    fix = f"{packages.pip()} install --force-reinstall --no-deps .   (in a checkout; needs a C++ compiler)"
    state = "missing" if error.startswith("expected the compiled part") else "wrong"
    return Finding("native", state, error, _cause(here, error) or fix, details)


def models(here: Evidence) -> Finding:
    """Look at the shipped models, whose files have been checked."""
    answer = here.answer("models")
    names = [path.parent.name for path in machine.matches(_folder(), "models/*/manifest.json")]
    again = _again()
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
    texts = []
    for name in good:
        about = answer[name]
        kind = "recogniser, " if about.get("kind") == "recogniser" else ""
        texts.append(f"{name} ({kind}fp32{', fp16' if about['fp16'] else ''})")
    return Finding("models", "ok", ", ".join(texts), details=details)


def _library(here: Evidence, name: str) -> Finding:
    """Look at a Python library that metst-edge requires in a range of versions."""
    answer = here.answer(name)
    installed = packages.installed(name)
    version = answer.get("version") or installed
    details = {"version": version, "required": installing.required(name)}
    range_ = installing.required(name).removeprefix(name)
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


def _hidden(here: Evidence) -> bool:
    """Return whether Python took the source folder, which has no compiled part, for the package that is installed."""
    return "hides the installed package" in str(here.answer("native").get("error", ""))


def _elsewhere() -> str:
    return f"run it from another folder, or in this one: {packages.pip()} install -e ."


def _again() -> str:
    return f"{packages.pip()} install --force-reinstall --no-deps .   (in a checkout)"


def _folder() -> Path:
    """Return where this package lies."""
    return Path(metst_edge.__file__).parent
