"""Has every probe look at the machine, and makes a diagnosis of what they find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from metst_edge.app import machine
from metst_edge.app.doctor import board, gpu, software, tensorrt
from metst_edge.app.doctor.children import Ask, ask_all, ask_child
from metst_edge.app.doctor.diagnosis import Diagnosis, Finding
from metst_edge.app.doctor.evidence import Evidence
from metst_edge.choices import ENGINES

PROBES: Mapping[str, Callable[[Evidence], Finding]] = {
    "python": software.python,
    "metst-edge": software.package,
    "processor": board.processor,
    "memory": board.memory,
    "numpy": software.numpy,
    "opencv": software.opencv,
    "av": software.av,
    "rich": software.rich,
    "native": software.native,
    "models": software.models,
    "face": software.face,
    "mediapipe": software.mediapipe,
    "matplotlib": software.matplotlib,
    "onnxruntime": software.onnxruntime,
    "gpu": gpu.gpu,
    "cuda": gpu.cuda,
    "tensorrt": tensorrt.tensorrt,
    "plugin": tensorrt.plugin,
    "pycuda": gpu.pycuda,
    "cache": tensorrt.engines,
    "jetpack": board.jetpack,
    "power": board.power,
    "temperature": board.temperature,
    "cameras": board.cameras,
    "gstreamer": board.gstreamer,
}


BASE = ("numpy", "opencv", "av", "rich", "native", "models", "face")
"""What must work for video to be analysed on the CPU."""


def examine(root: Path = machine.ROOT, ask: Ask | None = None) -> Diagnosis:
    """Look at everything and never raise.

    Args:
        root: the folder that /proc, /sys, /etc, /usr, /var and /dev lie in.
        ask: answers a key of `children.QUESTIONS`; by default a child process does.
    """
    here = Evidence(root, ask_all(ask or ask_child))
    findings = tuple(_guarded(name, probe, here) for name, probe in PROBES.items())
    blocked = _blocked(here)
    return Diagnosis(findings, {engine: blocked or _why_not(engine, here) for engine in ENGINES}, blocked)


def _guarded(name: str, probe: Callable[[Evidence], Finding], here: Evidence) -> Finding:
    """Return what a probe finds; whatever it raises is a finding too."""
    try:
        return probe(here)
    except Exception as error:
        return Finding(name, "wrong", f"could not be looked at ({type(error).__name__}: {error})")


def _blocked(here: Evidence) -> str | None:
    """Return what keeps video from being analysed on the CPU, None where nothing does."""
    broken = [name for name in BASE if not here.works(name)]
    if not broken and all("error" in about for about in here.answer("models").values()):
        broken = ["models"]
    return f"see {', '.join(broken)} above" if broken else None


def _why_not(engine: str, here: Evidence) -> str:
    """Return why an engine does not run here, empty where it does; every engine needs what "native" needs."""
    if engine == "onnxruntime":
        return "" if here.works("onnxruntime") else "onnxruntime is missing"
    if engine == "tensorrt":
        lacking = [] if here.works("gpu") else ["GPU"]
        lacking += [] if here.works("tensorrt") or here.works("tensorrt_rtx") else ["TensorRT"]
        lacking += [] if here.works("pycuda") else ["pycuda"]
        return f"no usable {', '.join(lacking)}" if lacking else ""
    if engine == "cuda":
        lacking = [] if here.works("gpu") else ["GPU"]
        lacking += [] if here.works("plugin") and here.answer("plugin").get("step") else ["CUDA kernels (plugin above)"]
        lacking += [] if here.works("pycuda") else ["pycuda"]
        return f"no usable {', '.join(lacking)}" if lacking else ""
    return ""
