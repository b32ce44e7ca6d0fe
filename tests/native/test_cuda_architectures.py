"""csrc/cuda/architectures.cmake with a compiler that only answers: which GPUs the kernels are compiled for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "csrc/cuda/architectures.cmake"
NVCC = """#!/bin/sh
case "$*" in
  --list-gpu-arch) for known in {known}; do echo compute_$known; done ;;
  "-arch=native --dryrun -x cu -c /dev/null") {native} ;;
  *) exit 9 ;;
esac
"""
NO_GPU = """echo "nvcc warning : Cannot find valid GPU for '-arch=native', default arch is used" >&2
    echo '#$ ptxas -arch=sm_75 -m64 x.ptx' >&2"""
TELL = 'message("chosen ${CMAKE_CUDA_ARCHITECTURES}")'
TOO_OLD = "exit 1"  # before CUDA 11.5

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake")


def chosen(folder, known, native, *options, **environment):
    """What the file chooses, or what it says where it refuses."""
    nvcc = folder / "nvcc"
    nvcc.write_text(NVCC.format(known=known, native=native))
    nvcc.chmod(0o755)
    script = folder / "ask.cmake"
    lines = (
        "cmake_minimum_required(VERSION 3.20)",
        f'include("{FILE}")',
        'message("chosen ${CMAKE_CUDA_ARCHITECTURES}")',
    )
    script.write_text("\n".join(lines))
    command = ["cmake", f"-DCMAKE_CUDA_COMPILER={nvcc}", *options, "-P", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment})
    return done.stderr.partition("chosen ")[2].strip() if done.returncode == 0 else " ".join(done.stderr.split())


def test_the_gpus_of_this_machine_are_what_is_compiled_for(tmp_path):
    one = "echo '#$ ptxas  -arch=sm_87 -m64  x.ptx' >&2"
    assert chosen(tmp_path, "80 87 90", one) == "87"
    two = f"{one}; echo '#$ ptxas -arch=sm_90 -m64 x.ptx' >&2; {one}"
    assert chosen(tmp_path, "80 87 90", two) == "87;90"


@pytest.mark.parametrize("native", [NO_GPU, TOO_OLD])
def test_without_a_gpu_all_that_the_compiler_knows_are(tmp_path, native):
    assert chosen(tmp_path, "75 80 86 87 88 89 90 100 110 120", native) == "80;86;87;89;90;110;120"
    assert chosen(tmp_path, "50 75 80 86 87 89 90", native) == "80;86;87;89;90"


def test_who_names_some_gets_those_or_is_told_that_the_compiler_does_not_know_them(tmp_path):
    assert chosen(tmp_path, "87 90", NO_GPU, "-DCMAKE_CUDA_ARCHITECTURES=90") == "90"
    assert chosen(tmp_path, "87 90", NO_GPU, CUDAARCHS="87") == "87"
    assert chosen(tmp_path, "87 90", NO_GPU, CUDAARCHS="87-real;90a") == "87-real;90a"
    refused = chosen(tmp_path, "87 90", NO_GPU, "-DCMAKE_CUDA_ARCHITECTURES=110")
    assert "does not compile for sm_110, only for 87, 90" in refused
