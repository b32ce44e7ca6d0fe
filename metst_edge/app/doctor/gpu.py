"""Probes of an NVIDIA GPU, and of what programs for it are compiled and run with."""

from __future__ import annotations

import re
import shlex

from metst_edge.app import machine
from metst_edge.app.doctor import packages
from metst_edge.app.doctor.children import ending, run_tool
from metst_edge.app.doctor.diagnosis import Finding
from metst_edge.app.doctor.evidence import Evidence

JETPACK = "sudo apt update && sudo apt install nvidia-jetpack"
OLDEST_CUDA = {"8.7": (11, 4), "9.0": (11, 8), "11.0": (13, 0)}
"""The first CUDA that compiles for a compute capability."""


def gpu(here: Evidence) -> Finding:
    """Look at the GPU and its driver."""
    answer = here.answer("gpu")
    driver = re.search(r"\s(\d{3,}\.\d+(?:\.\d+)?)\s", machine.text_of(here.path("/proc/driver/nvidia/version")))
    details = {
        "name": answer.get("name"),
        "compute_capability": answer.get("compute_capability"),
        "multiprocessors": answer.get("multiprocessors"),
        "driver": driver[1] if driver else None,
        "driver_cuda": answer.get("cuda"),
    }
    if here.works("gpu"):
        text = (
            f"{answer['name']}, compute capability {answer['compute_capability']}, "
            f"{answer['multiprocessors']} multiprocessors; driver {driver[1] if driver else 'of unknown version'} "
            f"runs CUDA up to {answer['cuda']}"
        )
        return Finding("gpu", "ok", text, details=details)
    if not here.has_gpu:
        return Finding("gpu", "unneeded", "no NVIDIA GPU; the CPU does everything", details=details)
    if here.jetson:
        fix = "sudo apt update && sudo apt install nvidia-l4t-cuda"
    elif driver or "cuInit" in str(answer["error"]):
        fix = "see what nvidia-smi says; after an update of the driver: sudo reboot"
    elif here.distribution == "ubuntu":
        fix = "sudo ubuntu-drivers install && sudo reboot"
    elif here.has_apt:
        fix = "sudo apt install nvidia-driver && sudo reboot   (Debian: from non-free)"
    else:
        fix = "install NVIDIA's driver"
    return Finding("gpu", "wrong", f"not usable: {answer['error']}", fix, details)


def cuda(here: Evidence) -> Finding:
    """Look at the compiler: whether it knows the GPU, and the driver runs what it makes."""
    if here.jetson:
        fix = JETPACK
    elif here.has_apt:
        fix = "sudo apt install nvidia-cuda-toolkit"
    else:
        fix = "install NVIDIA's CUDA toolkit, or set CUDACXX=/path/to/nvcc"
    if here.nvcc is None:
        text = "no nvcc; it compiles the TensorRT plugin and pycuda"
        return Finding("cuda", here.unless_useless("missing"), text, fix, {"nvcc": None, "version": None})
    status, out = run_tool([str(here.nvcc), "--version"], 10.0)
    release = re.search(r"release (\d+\.\d+)", out)
    details = {"nvcc": str(here.nvcc), "version": release[1] if release else None}
    if release is None:
        return Finding("cuda", "wrong", f"{here.nvcc} does not tell its version ({ending(status)})", fix, details)
    text = f"{release[1]}, {here.nvcc}"
    device = here.answer("gpu")
    compiles, runs = packages.numbers(release[1]), packages.numbers(device.get("cuda", "999"))
    least = OLDEST_CUDA.get(str(device.get("compute_capability")))
    if least and compiles < least:
        text += f"; {device['name']} needs {least[0]}.{least[1]} or newer"
        return Finding("cuda", "wrong", text, fix, details)
    if compiles[0] > runs[0]:
        text += f"; the driver runs programs of CUDA {runs[0]} at most"
        fix = f"update the driver, or set CUDACXX to an nvcc of CUDA {runs[0]}"
        return Finding("cuda", "wrong", text, fix, details)
    return Finding("cuda", "ok", text, details=details)


def pycuda(here: Evidence) -> Finding:
    """Look at pycuda, which engines "tensorrt" and "cuda" talk to the GPU with."""
    answer = here.answer("pycuda")
    details = {"version": answer.get("version")}
    if here.works("pycuda"):
        return Finding("pycuda", "ok", str(answer["version"]), details=details)
    # It is compiled when it is installed, by whatever nvcc is on the PATH.
    folder = "/usr/local/cuda/bin" if here.nvcc is None else str(here.nvcc.parent)
    install = f"PATH={shlex.quote(folder)}:$PATH {packages.pip()} install"
    if answer.get("absent") == "pycuda":
        return Finding("pycuda", here.unless_useless("missing"), "not installed", f"{install} pycuda", details)
    fix = f"{install} --force-reinstall --no-deps --no-cache-dir pycuda"
    return Finding("pycuda", here.unless_useless("wrong"), str(answer["error"]), fix, details)
