"""`metst-edge doctor`: what it says of machines that are made up, and that nothing keeps it from saying something."""

import io
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import metst_edge
from metst_edge.app import cli
from metst_edge.app.doctor import board, children, packages, software
from metst_edge.app.doctor.examination import PROBES, examine
from metst_edge.app.doctor.lines import show
from metst_edge.app.doctor.packages import fits
from metst_edge.engine.tensorrt import plugin
from metst_edge.engine.tensorrt.cache import EngineCache

LIBRARIES = {
    "numpy": {"version": "2.2.6"},
    "opencv": {"version": "5.0.0"},
    "av": {"version": "17.1.0"},
    "rich": {},
    "face": {},
    "mediapipe": {"error": "No module named 'mediapipe'", "absent": "mediapipe"},
    "matplotlib": {"version": "3.10.0"},
    "native": {"path": "neon", "paths": ["neon", "scalar"]},
    "models": {"demo": {"files": {"weights.bin": "ab" * 32}, "fp16": True}},
    "onnxruntime": {"version": "1.20.0"},
}
ORIN = {"name": "Orin", "compute_capability": "8.7", "multiprocessors": 16, "cuda": "12.6"}
GPU = {
    "gpu": ORIN,
    "tensorrt": {"version": "10.3.0", "file": "/usr/lib/python3.10/dist-packages/tensorrt/__init__.py"},
    "tensorrt_rtx": {"error": "No module named 'tensorrt_rtx'", "absent": "tensorrt_rtx"},
    "pycuda": {"version": "2024.1"},
    "plugin": {"step": True},
}
NO_GPU = {
    "gpu": {"error": "expected an NVIDIA GPU and its driver, but libcuda.so.1 cannot be loaded"},
    **{name: {"error": f"No module named '{name}'", "absent": name} for name in ("tensorrt", "tensorrt_rtx", "pycuda")},
    "plugin": {},
}
JETPACK = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/meminfo": "MemTotal: 7802000 kB\nMemFree: 1 kB\nMemAvailable: 5000000 kB\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/os-release": 'NAME="Ubuntu"\nID=ubuntu\n',
    "etc/nvpmodel.conf": "".join(
        f"< POWER_MODEL ID={i} NAME={n} >\n" for i, n in enumerate(("15W", "25W", "MAXN_SUPER"))
    ),
    "var/lib/nvpmodel/status": "pmode:0001",
    "var/lib/dpkg/status": "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2+b77\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
    "Package: libnvinfer-headers-dev\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n",
    "usr/bin/apt-get": "",
    "usr/local/cuda-12.6/bin/nvcc": "#!/bin/sh\necho 'Cuda compilation tools, release 12.6, V12.6.68'\n",
    "usr/bin/gst-launch-1.0": "#!/bin/sh\n",
    "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so": "",
    "dev/video0": "",
    "sys/class/video4linux/video0/name": "UVC Camera (046d:0825)\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "45500\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1510400",
}
DEBIAN = {"etc/os-release": "ID=debian\n", "usr/bin/apt-get": "", "proc/cpuinfo": "model name\t: A PC\n"}
NVIDIA_CARD = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    """Neither this user's engines and plugin nor this machine's CUDA are part of a machine that is made up."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(plugin, "PLUGIN_FOLDERS", ())
    for name in ("METST_EDGE_PLUGIN", "METST_EDGE_SIMD", "CUDACXX", "CUDA_PATH", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def look(tmp_path):
    """Examine a machine of these files, whose child processes answer this; return the findings by name."""
    root = tmp_path / "root"

    def examined(files, *answers):
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if text.startswith("#!"):
                path.chmod(0o755)
        merged = {name: answer for given in answers for name, answer in given.items()}
        report = examine(root, merged.__getitem__)
        return report, {finding.name: finding for finding in report.findings}

    return examined


def states(found, *names):
    return {found[name].state for name in names}


def test_a_jetson_that_has_everything_runs_everything(look, monkeypatch, tmp_path):
    library = tmp_path / "libmetst_edge_plugin.so"
    library.write_bytes(b"")
    monkeypatch.setenv("METST_EDGE_PLUGIN", str(library))
    report, found = look(JETPACK, LIBRARIES, GPU)
    assert {finding.name for finding in report.findings if finding.state != "ok"} <= {
        "metst-edge",
        "cache",
        "mediapipe",
    }
    assert report.blocked is None and set(report.engines.values()) == {""}
    assert report.flow == "cuda" and "and optical flow on the GPU." in shown(report)
    assert found["gpu"].text == (
        "Orin, compute capability 8.7, 16 multiprocessors; driver 540.4.0 runs CUDA up to 12.6"
    )
    assert found["cuda"].text.startswith("12.6, ") and found["cuda"].text.endswith("/usr/local/cuda-12.6/bin/nvcc")
    assert found["tensorrt"].text == "10.3.0, /usr/lib/python3.10/dist-packages/tensorrt"
    assert found["tensorrt"].details["headers"] == "10.3.0.30-1+cuda12.5"
    assert found["jetpack"].text == ("NVIDIA Jetson Orin Nano Developer Kit, Jetson Linux 36.4.3, JetPack 6.2+b77")
    assert found["memory"].text == "7.4 GiB, 4.8 GiB of it free"
    assert found["temperature"].text == "46 degrees at most (cpu-thermal)"
    assert found["cameras"].text == "/dev/video0 (UVC Camera (046d:0825))"
    # A slower mode may be meant: it is said, and not called wrong.
    assert found["power"].text == "mode 25W (1); 1 of 1 cores below their highest clock"
    assert "sudo nvpmodel -m 2   (MAXN_SUPER)" in found["power"].fix and "sudo jetson_clocks" in found["power"].fix


def shown(report):
    text = io.StringIO()
    show(report, text)
    return text.getvalue()


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_on_a_terminal_lines_end_between_words(look, monkeypatch, columns):
    """A command without room below what it is for begins further left; a broken one can be copied all the same."""
    files = {k: v for k, v in JETPACK.items() if "nvcc" not in k}
    report, found = look(files, LIBRARIES, {**NO_GPU, "gpu": ORIN})
    whole = shown(report)
    monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((columns, 24)))
    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda self: True, "fileno": lambda self: 1})()
    show(report, terminal)
    text = terminal.getvalue()
    assert text.replace(" \\\n", "\n").split() == whole.split(), "no word is broken, none is lost"
    longest = max(map(len, whole.split()))
    assert len(text.splitlines()) > len(whole.splitlines())
    assert all(len(line) <= max(columns, 28 + longest) for line in text.splitlines())
    broken = [line for line in text.splitlines() if line.endswith(" \\")]
    assert broken and all(line.lstrip().startswith("-> ") or line.startswith("       ") for line in broken)
    commands = " ".join(text.replace(" \\\n", " ").split())
    assert " ".join(found["tensorrt"].fix.split()) in commands


def test_how_a_choice_is_got_is_shown_though_nothing_needs_it(look, monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda name: None)
    gone = {name: {"error": f"No module named '{name}'", "absent": name} for name in ("onnxruntime", "matplotlib")}
    report, _ = look(DEBIAN, LIBRARIES, gone, NO_GPU)
    lines = shown(report).splitlines()
    for name in "onnxruntime", "matplotlib", "mediapipe":
        (at,) = (i for i, line in enumerate(lines) if line.startswith(f"-        {name} "))
        assert "not installed; only " in lines[at] and f"-m pip install '{name}" in lines[at + 1]


def test_what_a_jetson_lacks_comes_from_jetpack(look):
    _, found = look({k: v for k, v in JETPACK.items() if "nvcc" not in k}, LIBRARIES, {**NO_GPU, "gpu": ORIN})
    assert states(found, "cuda", "tensorrt", "plugin", "pycuda") == {"missing"}
    assert found["cuda"].fix == "sudo apt update && sudo apt install nvidia-jetpack"
    assert "sudo apt install python3-libnvinfer libnvinfer-headers-dev" in found["tensorrt"].fix
    assert "pip install pycuda" in found["pycuda"].fix and found["pycuda"].fix.startswith(
        "PATH=/usr/local/cuda/bin:$PATH "
    )
    assert "cmake --preset jetson-orin" in found["plugin"].fix


@pytest.mark.parametrize(
    ("model", "preset"), [("NVIDIA Jetson AGX Thor", "jetson-thor"), ("NVIDIA Jetson AGX Orin", "jetson-orin")]
)
def test_the_plugin_is_built_by_the_preset_of_the_board(look, model, preset):
    _, found = look({**JETPACK, "proc/device-tree/model": model}, LIBRARIES, NO_GPU)
    assert (
        f"cmake --preset {preset} &&" in found["plugin"].fix
        and f"cmake --install build/{preset} " in found["plugin"].fix
    )


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("35 (release), REVISION: 4.1", "wrong"),
        ("36 (release), REVISION: 3.0", "wrong"),
        ("38 (release), REVISION: 2.0", "ok"),
    ],
)
def test_jetpack_6_1_is_the_oldest(look, release, state):
    _, found = look({**JETPACK, "etc/nv_tegra_release": f"# R{release}, GCID: 1"}, LIBRARIES, GPU)
    assert found["jetpack"].state == state
    assert ("expected JetPack 6.1 (Jetson Linux 36.4) or newer" in found["jetpack"].text) == (state == "wrong")


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """A virtual environment that does not see the system's packages."""
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3\n")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "base_prefix", "/usr")


def test_a_tensorrt_that_the_environment_does_not_see_is_made_seen_by_the_command(look, venv):
    mine = f"usr/lib/python3.{sys.version_info.minor}/dist-packages/tensorrt/__init__.py"
    _, found = look({**JETPACK, mine: ""}, LIBRARIES, {**GPU, "tensorrt": NO_GPU["tensorrt"]})
    assert found["tensorrt"].state == "wrong" and "does not see the system's packages" in found["tensorrt"].text
    assert found["python"].details["system_packages"] is False
    subprocess.run(found["tensorrt"].fix, shell=True, check=True)
    _, found = look({}, LIBRARIES, GPU)
    assert found["python"].details["system_packages"] is True and "with the system's packages" in found["python"].text


def test_a_tensorrt_of_another_python_is_told(look, venv):
    other = "usr/lib/python3.8/dist-packages/tensorrt/__init__.py"
    _, found = look({**JETPACK, other: ""}, LIBRARIES, {**GPU, "tensorrt": NO_GPU["tensorrt"]})
    assert found["tensorrt"].state == "wrong" and "for another Python than this" in found["tensorrt"].text
    assert found["tensorrt"].fix.startswith("/usr/bin/python3 -m venv --system-site-packages")


def test_a_tensorrt_that_is_too_old_or_does_not_load_is_wrong(look):
    _, found = look(JETPACK, LIBRARIES, {**GPU, "tensorrt": {"version": "8.6.2", "file": "/a/b"}})
    assert (found["tensorrt"].state, found["tensorrt"].text) == ("wrong", "8.6.2; expected 10.3 or newer")
    broken = {"error": "ImportError: libnvdla_compiler.so: cannot open shared object file", "absent": False}
    report, found = look(JETPACK, LIBRARIES, {**GPU, "tensorrt": broken})
    assert found["tensorrt"].state == "wrong" and "libnvdla_compiler.so" in found["tensorrt"].text
    assert report.engines["tensorrt"] == "no usable TensorRT"


def test_a_pc_without_a_gpu_lacks_nothing(look):
    report, found = look(DEBIAN, LIBRARIES, NO_GPU)
    assert report.blocked is None and report.engines["tensorrt"] == "no usable GPU, TensorRT, pycuda"
    assert report.engines["cuda"] == "no usable GPU, CUDA kernels (plugin above), pycuda"
    unneeded = "gpu", "cuda", "tensorrt", "plugin", "pycuda", "cache", "jetpack", "power", "temperature", "gstreamer"
    assert states(found, *unneeded) == {"unneeded"}
    text = shown(report)
    assert "-        pycuda" in text and "install pycuda" not in text
    assert found["plugin"].text == "not installed; only a GPU uses it"
    assert report.flow == "cpu" and "and optical flow on the CPU." in text


@pytest.mark.parametrize(
    ("distribution", "fix"),
    [
        ("debian", "sudo apt install nvidia-driver"),
        ("ubuntu", "sudo ubuntu-drivers install"),
        ("arch", "install NVIDIA's driver"),
    ],
)
def test_a_card_without_a_driver_is_told_how_to_get_one(look, distribution, fix):
    files = {**NVIDIA_CARD, "etc/os-release": f'NAME=x\nID="{distribution}"\n'}
    if distribution != "arch":
        files["usr/bin/apt-get"] = ""
    _, found = look(files, LIBRARIES, NO_GPU)
    assert found["gpu"].state == "wrong" and found["gpu"].fix.startswith(fix)
    assert states(found, "cuda", "tensorrt", "plugin", "pycuda") == {"missing"}
    assert found["tensorrt"].fix.endswith("-m pip install tensorrt")
    assert ("sudo apt" in found["cuda"].fix) == (distribution != "arch")


def test_a_compiler_older_than_the_gpu_or_newer_than_the_driver_is_wrong(look):
    thor = {**ORIN, "name": "Thor", "compute_capability": "11.0", "cuda": "13.0"}
    _, found = look(JETPACK, LIBRARIES, {**GPU, "gpu": thor})
    assert found["cuda"].state == "wrong" and "Thor needs 13.0 or newer" in found["cuda"].text
    newer = {"usr/local/cuda/bin/nvcc": "#!/bin/sh\necho 'release 13.0, V13.0.88'\n"}
    _, found = look({**JETPACK, **newer}, LIBRARIES, GPU)
    assert found["cuda"].state == "wrong" and "the driver runs programs of CUDA 12 at most" in found["cuda"].text
    silent = {"usr/local/cuda/bin/nvcc": "#!/bin/sh\nexit 3\n"}
    _, found = look({**JETPACK, **silent}, LIBRARIES, GPU)
    assert found["cuda"].state == "wrong" and "(exit status 3)" in found["cuda"].text


def test_an_opencv_that_was_compiled_for_an_older_numpy_is_installed_again(look, installed):
    installed(opencv_python_headless="4.8.1.78", numpy="2.1.0")
    clash = {"error": "ImportError: numpy.core.multiarray failed to import", "absent": False}
    report, found = look(DEBIAN, {**LIBRARIES, "opencv": clash, "face": clash}, NO_GPU)
    assert states(found, "opencv", "face") == {"wrong"} and found["numpy"].state == "ok"
    for name in ("opencv", "face"):
        fix = found[name].fix
        assert "uninstall -y opencv-python-headless && " in fix and fix.endswith(
            "install 'opencv-python-headless>=4.8'"
        )
    assert report.blocked == "see opencv, face above" and set(report.engines.values()) == {report.blocked}


def test_an_opencv_or_a_pyav_that_is_too_old_is_told_what_is_expected(look):
    old = {"opencv": {"version": "4.5.4"}, "av": {"version": "16.1.0"}}
    _, found = look(DEBIAN, {**LIBRARIES, **old}, NO_GPU)
    assert (found["opencv"].state, found["opencv"].text) == ("wrong", "4.5.4; expected >=4.8")
    assert (found["av"].state, found["av"].text) == ("wrong", "16.1.0; expected <19,>=17.1")
    assert found["av"].fix.endswith("-m pip install 'av<19,>=17.1'")


def test_a_library_that_is_missing_blocks_and_says_how_to_get_it(look, monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda name: None)
    monkeypatch.setattr(packages, "opencv_wheels", dict)
    absent = {
        name: {"error": f"No module named '{module}'", "absent": module}
        for name, module in (("opencv", "cv2"), ("av", "av"), ("face", "cv2"))
    }
    report, found = look(DEBIAN, {**LIBRARIES, **absent}, NO_GPU)
    assert states(found, "opencv", "av") == {"missing"} and report.blocked == "see opencv, av, face above"
    for name in ("opencv", "face"):
        assert found[name].fix.endswith("-m pip install 'opencv-python-headless>=4.8'")


def test_mediapipe_is_of_no_use_until_it_is_asked_for(look, installed):
    installed(numpy="2.2.6")
    report, found = look(DEBIAN, LIBRARIES, NO_GPU)
    assert found["mediapipe"].state == "unneeded" and report.blocked is None
    assert found["mediapipe"].fix.endswith("-m pip install 'mediapipe>=0.10.14'")
    for models, text in (True, "0.10.21"), (False, "0.10.21, without face models: --face mediapipe wants --face-model"):
        _, found = look(DEBIAN, {**LIBRARIES, "mediapipe": {"version": "0.10.21", "models": models}}, NO_GPU)
        assert found["mediapipe"].state == "ok" and found["mediapipe"].text.startswith(text)
    installed(mediapipe="0.10.21")
    clash = {"error": "AttributeError: _ARRAY_API not found in numpy.core", "absent": False}
    report, found = look(DEBIAN, {**LIBRARIES, "mediapipe": clash}, NO_GPU)
    assert found["mediapipe"].state == "wrong" and report.blocked is None
    assert "'numpy<2' 'mediapipe>=0.10.14' 'opencv-python-headless>=4.8'" in found["mediapipe"].fix


def test_onnxruntime_is_for_its_own_engine_and_recognisers_only(look, monkeypatch):
    monkeypatch.setattr(packages, "installed", lambda name: None)
    absent = {"error": "ModuleNotFoundError: No module named 'onnxruntime'", "absent": "onnxruntime"}
    report, found = look(DEBIAN, {**LIBRARIES, "onnxruntime": absent}, NO_GPU)
    assert (found["onnxruntime"].state, report.blocked) == ("unneeded", None), "as all that is a choice"
    assert found["onnxruntime"].text == "not installed; only --engine onnxruntime and --recognizer need it"
    assert report.engines["onnxruntime"] == "onnxruntime is missing"


def test_matplotlib_is_for_pictures_only(look, monkeypatch):
    _, found = look(DEBIAN, LIBRARIES, NO_GPU)
    assert (found["matplotlib"].state, found["matplotlib"].text) == ("ok", "3.10.0")
    monkeypatch.setattr(packages, "installed", lambda name: None)
    absent = {"error": "ModuleNotFoundError: No module named 'matplotlib'", "absent": "matplotlib"}
    report, found = look(DEBIAN, {**LIBRARIES, "matplotlib": absent}, NO_GPU)
    assert found["matplotlib"].state == "unneeded" and report.blocked is None
    assert found["matplotlib"].text == "not installed; only --plot and the demo's picture need it"
    assert "-m pip install" in found["matplotlib"].fix and "matplotlib" in found["matplotlib"].fix


def test_face_models_are_those_of_the_notice(look, tmp_path, monkeypatch):
    _, found = look(DEBIAN, LIBRARIES, NO_GPU)
    assert found["face"].state == "ok"
    assert found["face"].text == "face_detection_short_range.tflite, face_landmark.tflite"
    shutil.copytree(Path(metst_edge.__file__).parent / "models/face", tmp_path / "models/face")
    monkeypatch.setattr(software, "_folder", lambda: tmp_path)
    (tmp_path / "models/face/face_landmark.tflite").write_bytes(b"cut off")
    _, found = look(DEBIAN, LIBRARIES, NO_GPU)
    assert found["face"].state == "wrong" and "face_landmark.tflite missing or damaged" in found["face"].text
    assert found["face"].details["damaged"] == ["face_landmark.tflite"] and "--force-reinstall" in found["face"].fix
    refused = {"error": "expected an OpenCV that reads the face model"}
    monkeypatch.undo()
    report, found = look(DEBIAN, {**LIBRARIES, "face": refused}, NO_GPU)
    assert found["face"].state == "wrong" and found["face"].text == refused["error"]
    assert report.blocked == "see face above"


def test_libraries_of_the_system_that_opencv_wants_come_from_apt(look):
    broken = {"error": "ImportError: libGL.so.1: cannot open shared object file", "absent": False}
    _, found = look(DEBIAN, {**LIBRARIES, "opencv": broken, "face": broken, "mediapipe": broken}, NO_GPU)
    for name in ("opencv", "face", "mediapipe"):
        assert found[name].fix == "sudo apt install libgl1 libglib2.0-0"


def test_what_is_broken_by_itself_is_installed_again(look):
    crash = {"error": "loading it ends the process (signal 11)"}
    broken = {name: crash for name in ("numpy", "opencv", "av", "rich", "native", "mediapipe", "onnxruntime")}
    for name in broken:
        _, found = look(DEBIAN, {**LIBRARIES, name: crash}, NO_GPU)
        assert found[name].state == "wrong" and "signal 11" in found[name].text
        assert "install --force-reinstall" in found[name].fix or "uninstall -y opencv" in found[name].fix
    _, found = look(DEBIAN, {**LIBRARIES, **broken}, NO_GPU)
    for name in ("opencv", "av", "native", "face", "mediapipe", "onnxruntime"):
        assert found[name].fix == found["numpy"].fix, "numpy first"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Have these distributions found before any others: name -> version."""
    folder = tmp_path / "site"

    def install(**versions):
        for name, version in versions.items():
            (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
            (folder / f"{name}-{version}.dist-info/METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
        monkeypatch.setattr(packages, "opencv_wheels", lambda: of_folder(str(folder)))

    found_before = packages.opencv_wheels

    def of_folder(wanted):
        return {where: names for where, names in found_before().items() if Path(where) == Path(wanted)}

    monkeypatch.syspath_prepend(folder)
    return install


def test_opencv_wheels_that_lie_over_one_another_are_told(look, installed):
    installed(opencv_python_headless="4.11.0.86", opencv_contrib_python="4.11.0.86", numpy="1.26.4")
    two = "opencv-contrib-python", "opencv-python-headless"
    report, found = look(DEBIAN, {**LIBRARIES, "opencv": {"version": "4.11.0"}}, NO_GPU)
    assert found["opencv"].state == "wrong" and report.blocked is None
    assert found["opencv"].text == f"4.11.0, but {' and '.join(two)} lie over one another"
    # Both go, one comes back, and numpy stays what MediaPipe wants.
    again = f"uninstall -y {' '.join(two)} && {packages.install('opencv-python-headless')} numpy==1.26.4"
    assert again in found["opencv"].fix and found["opencv"].details["wheels"] == list(two)
    assert found["opencv"].fix.endswith(f"(any one of {', '.join(two)} will do)")
    broken = {"error": "ImportError: libGL.so.1: cannot open shared object file", "absent": False}
    _, found = look(DEBIAN, {**LIBRARIES, "opencv": broken}, NO_GPU)
    assert again in found["opencv"].fix, "no root is needed"


def test_the_build_with_windows_will_do(look, installed):
    installed(opencv_python="4.14.0.94")
    _, found = look(DEBIAN, {**LIBRARIES, "opencv": {"version": "4.14.0"}}, NO_GPU)
    assert (found["opencv"].state, found["opencv"].text) == ("ok", "4.14.0 (opencv-python)")


def test_the_source_folder_that_hides_the_installed_package_is_told_with_what_to_do(look):
    error = "expected the compiled part, metst_edge._native, but this is the source folder /a/metst_edge, which hides "
    error += "the installed package /b/metst_edge; run from another folder, or ..."
    report, found = look(DEBIAN, {**LIBRARIES, "native": {"error": error, "absent": False}}, NO_GPU)
    assert states(found, "metst-edge", "native") == {"wrong"} and report.blocked == "see native above"
    assert found["metst-edge"].text.endswith("is the source folder, which hides the installed package")
    assert found["native"].text == error
    for name in ("metst-edge", "native"):
        assert found[name].fix.startswith("run it from another folder, or in this one: ")
        assert found[name].fix.endswith("-m pip install -e .")


def test_a_broken_model_is_told_and_blocks_where_there_is_no_other(look):
    broken = {"demo": {"error": "models/demo: weights.bin differs"}}
    report, found = look(DEBIAN, {**LIBRARIES, "models": broken}, NO_GPU)
    assert found["models"].state == "wrong" and "weights.bin differs" in found["models"].text
    assert report.blocked == "see models above"


def test_cameras_that_this_user_may_not_open_name_the_group(look, monkeypatch):
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "/dev/video" not in str(path) and allowed(path, mode))
    monkeypatch.setattr(board, "_group", lambda path: "video")
    _, found = look(JETPACK, LIBRARIES, GPU)
    assert found["cameras"].state == "wrong" and found["cameras"].fix.startswith("sudo usermod -aG video $USER")
    assert found["cameras"].details["cameras"][0]["allowed"] is False


def test_a_jetson_without_gstreamer_is_told_what_its_csi_cameras_need(look, tmp_path):
    argus, tool = "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so", "usr/bin/gst-launch-1.0"
    _, found = look({k: v for k, v in JETPACK.items() if k != argus}, LIBRARIES, GPU)
    assert found["gstreamer"].state == "wrong" and "nvidia-l4t-gstreamer" in found["gstreamer"].fix
    (tmp_path / "root" / tool).unlink()
    _, found = look({}, LIBRARIES, GPU)
    assert found["gstreamer"].state == "missing" and "nvidia-l4t-gstreamer" in found["gstreamer"].fix


def test_the_power_mode_is_asked_of_nvpmodel_where_no_file_tells(look):
    files = {k: v for k, v in JETPACK.items() if "nvpmodel/status" not in k}
    _, found = look(files, LIBRARIES, GPU)
    assert found["power"].state == "wrong" and found["power"].fix == "sudo nvpmodel -q"
    _, found = look({"usr/sbin/nvpmodel": "#!/bin/sh\necho 'NV Power Mode: MAXN_SUPER'\necho 2\n"}, LIBRARIES, GPU)
    assert found["power"].text.startswith("mode MAXN_SUPER (2)")


@pytest.fixture
def engines(tmp_path):
    cache = EngineCache(tmp_path / "cache/metst_edge/engines")
    here = {
        "gpu": "Orin",
        "compute_capability": "8.7",
        "multiprocessors": 16,
        "tensorrt": "10.3.0 (tensorrt)",
        "plugin": None,
    }
    here["system"] = f"{os.uname().sysname} {os.uname().machine}"
    parts = {"bundle": "demo", "precision": "fp32", "weights.bin": "ab" * 32, **here}
    for graph in ("step", "window"):
        cache.write({**parts, "graph": graph}, b"plan of " + graph.encode(), 1.0)
    return cache


def test_engines_are_counted_and_those_of_another_machine_told(look, engines):
    _, found = look(JETPACK, LIBRARIES, GPU)
    assert found["cache"].state == "ok" and found["cache"].text.startswith("2 engines, 0.0 MiB in ")
    assert found["cache"].details["mode"] == "0700" and found["cache"].details["stale"] == {}
    changed = {**GPU, "gpu": {**ORIN, "multiprocessors": 8}, "tensorrt": {**GPU["tensorrt"], "version": "10.4.0"}}
    _, found = look({}, LIBRARIES, changed)
    assert found["cache"].text.endswith("2 not for what is here now (multiprocessors, tensorrt differ)")
    models = {"demo": {"files": {"weights.bin": "cd" * 32, "new": "ef" * 32}, "fp16": False}}
    _, found = look({}, {**LIBRARIES, "models": models}, GPU)
    assert found["cache"].text.endswith("2 not for what is here now (weights.bin differ)")


def test_a_damaged_engine_is_told_and_removed_by_the_command(look, engines):
    damaged = min(engines.folder.glob("*.plan"))
    damaged.write_bytes(b"plan")
    (engines.folder / ("0" * 64 + ".json")).write_text("{")
    _, found = look(JETPACK, LIBRARIES, GPU)
    assert found["cache"].state == "wrong"
    assert sorted(found["cache"].details["damaged"]) == ["0" * 64 + ".plan", damaged.name]
    subprocess.run(found["cache"].fix, shell=True, check=True)
    _, found = look({}, LIBRARIES, GPU)
    assert found["cache"].state == "ok" and found["cache"].text.startswith("1 engine, ")


def test_a_cache_that_others_may_write_to_is_wrong(look, engines):
    engines.folder.chmod(0o777)
    _, found = look(JETPACK, LIBRARIES, GPU)
    assert found["cache"].state == "wrong" and "nobody else may write to" in found["cache"].text
    subprocess.run(found["cache"].fix, shell=True, check=True)
    assert stat.S_IMODE(engines.folder.stat().st_mode) == 0o700


def test_a_plugin_that_is_not_one_is_wrong(look, tmp_path, monkeypatch):
    library = tmp_path / "libmetst_edge_plugin.so"
    monkeypatch.setenv("METST_EDGE_PLUGIN", str(library))
    _, found = look(JETPACK, LIBRARIES, {**GPU, "plugin": children.ask_child("plugin")})
    assert (found["plugin"].state, found["plugin"].fix) == ("wrong", "unset METST_EDGE_PLUGIN")
    library.write_bytes(b"no library")
    _, found = look({}, LIBRARIES, {**GPU, "plugin": children.ask_child("plugin")})
    assert found["plugin"].state == "wrong" and "cannot be loaded: OSError" in found["plugin"].text
    assert "cmake --install" in found["plugin"].fix
    report, _ = look(JETPACK, LIBRARIES, {**GPU, "plugin": {"error": "AttributeError: no metst_roi_flow_version"}})
    assert report.engines["tensorrt"] == "" and report.flow == "cpu"


@pytest.mark.parametrize(
    ("compiled", "state", "told"),
    [
        ([], "ok", ""),
        (["80", "87"], "ok", ""),
        (["80-real", "90a"], "ok", "; its code for this GPU (sm_87) is made when it is loaded"),
        (["90", "110"], "wrong", " has no code for this GPU (sm_87), only for sm_90, 110"),
    ],
)
def test_a_plugin_is_compared_with_the_gpu(look, tmp_path, monkeypatch, compiled, state, told):
    library = tmp_path / "libmetst_edge_plugin.so"
    library.write_bytes(b"")
    monkeypatch.setenv("METST_EDGE_PLUGIN", str(library))
    _, found = look(JETPACK, LIBRARIES, {**GPU, "plugin": {"architectures": compiled}})
    assert found["plugin"].state == state and found["plugin"].text.startswith(f"{library}{told}")
    assert ("cmake --install" in str(found["plugin"].fix)) == (state == "wrong")


def test_kernels_without_tensorrt_run_their_own_engine_and_measure_flow(look, tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "PLUGIN_FOLDERS", (tmp_path,))
    library = tmp_path / plugin.CUDA_LIBRARY
    library.write_bytes(b"no library")
    answers = {**GPU, "tensorrt": NO_GPU["tensorrt"]}
    report, found = look(JETPACK, LIBRARIES, answers)
    assert (found["plugin"].state, found["plugin"].text) == ("ok", str(library))
    assert (report.engines["cuda"], report.engines["tensorrt"], report.flow) == ("", "no usable TensorRT", "cuda")
    report, _ = look(JETPACK, LIBRARIES, {**answers, "plugin": {"step": False}})
    assert (report.engines["cuda"], report.flow) == ("no usable CUDA kernels (plugin above)", "cpu")


def test_the_json_has_the_same_keys_on_every_machine(look):
    nothing = {name: {"error": "no"} for name in children.QUESTIONS}
    told = [
        look(*machine)[0].to_dict()
        for machine in (({}, nothing), (DEBIAN, LIBRARIES, NO_GPU), (JETPACK, LIBRARIES, GPU))
    ]
    told.append(examine().to_dict())
    for report in told:
        assert json.loads(json.dumps(report)) == report
        assert set(report) == {"format", "version", "runs", "blocked", "engines", "flow", "findings"}
        assert {"native", "onnxruntime", "tensorrt", "cuda"} <= set(report["engines"])
        assert [finding["name"] for finding in report["findings"]] == list(PROBES)
        for finding in report["findings"]:
            assert list(finding) == ["name", "state", "text", "fix", "details"]
            assert finding["state"] in ("ok", "missing", "wrong", "unneeded")
            assert not finding["text"].startswith("could not be looked at"), finding
            assert finding["fix"] or finding["state"] in ("ok", "unneeded") or finding["name"] == "memory", finding
    keys = [{f["name"]: set(f["details"]) for f in report["findings"]} for report in told]
    assert all(each == keys[0] for each in keys)


def test_a_look_that_fails_is_a_line_of_the_report(look, monkeypatch):
    def fail(here):
        raise RuntimeError("the sky fell")

    monkeypatch.setitem(PROBES, "memory", fail)
    report, found = look(DEBIAN, LIBRARIES, NO_GPU)
    assert found["memory"].text == "could not be looked at (RuntimeError: the sky fell)"
    assert len(report.findings) == len(PROBES)

    def refuse(name):
        raise OSError("no processes left")

    report = examine(ask=refuse)
    assert report.blocked is not None and len(report.findings) == len(PROBES)


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ("import time; time.sleep(60)", "does not load within 0.5 s"),
        ("import os; os.abort()", "loading it ends the process (signal 6)"),
        ("import os; os._exit(3)", "loading it ends the process (exit status 3)"),
        ("import sys; sys.exit('enough')", "SystemExit: enough"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("answer['x'] = object()", "loading it ends the process (exit status 1)"),
    ],
)
def test_a_library_that_hangs_or_crashes_only_costs_its_line(monkeypatch, question, error):
    monkeypatch.setitem(children.QUESTIONS, "numpy", question)
    patience = 0.5 if "sleep" in question else 30.0
    began = time.monotonic()
    assert children.ask_child("numpy", patience)["error"] == error
    assert time.monotonic() - began < 20


def test_what_a_library_prints_is_not_taken_for_the_answer(monkeypatch):
    monkeypatch.setitem(children.QUESTIONS, "numpy", "print('{', end=''); answer['version'] = '1.2'")
    assert children.ask_child("numpy") == {"version": "1.2"}


def test_a_child_process_sees_the_modules_this_one_sees(tmp_path, monkeypatch):
    (tmp_path / "onlyhere.py").write_text("")
    monkeypatch.setitem(children.QUESTIONS, "numpy", "import onlyhere")
    assert children.ask_child("numpy")["absent"] == "onlyhere"
    monkeypatch.syspath_prepend(tmp_path)
    assert children.ask_child("numpy") == {}


def test_a_tool_that_hangs_is_given_up_with_what_it_started():
    began = time.monotonic()
    assert children.run_tool(["sh", "-c", "sleep 30 & wait"], 0.3) == (None, "")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("1.26.4", "<2,>=1.24", True),
        ("5.0.0", ">=4.8", True),
        ("2.0", "<2,>=1.24", False),
        ("2", "<2.0.0", False),
        ("0.10.30", "<0.10.30,>=0.10.14", False),
        ("0.10.9", ">=0.10.14", False),
        ("3.13.0rc1", "<3.13,>=3.10", False),
        ("1.0", "", True),
        ("1.0", "==1.0.0", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version, wanted, expected):
    assert fits(version, wanted) is expected


BLOCKER = """\
import sys
import termios

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED or name in BLOCKED:
            raise ImportError(f"{name} is broken here")

BLOCKED = %r
sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "metst_edge.app.doctor"], [str(Path(sys.executable).with_name("metst-edge")), "doctor"]],
    ids=["module", "script"],
)
@pytest.mark.parametrize(
    "blocked",
    [  # alone, and with everything else that has compiled parts
        ["numpy"],
        [
            "numpy",
            "cv2",
            "av",
            "mediapipe",
            "rich",
            "onnxruntime",
            "matplotlib",
            "tensorrt",
            "tensorrt_rtx",
            "metst_edge._native",
        ],
    ],
)
def test_a_report_comes_whatever_cannot_be_imported(tmp_path, command, blocked):
    (tmp_path / "sitecustomize.py").write_text(BLOCKER % blocked)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, "--json"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert not report["runs"] and "numpy" in report["blocked"]
    assert found["numpy"]["state"] == "wrong" and "numpy is broken here" in found["numpy"]["text"]
    assert found["numpy"]["fix"].endswith("-m pip install --force-reinstall 'numpy>=1.24'")
    # The GPU, the plugin and the cache are looked at without numpy.
    for name in ("gpu", "plugin", "cache", "tensorrt", "pycuda"):
        assert "broken here" not in found[name]["text"] or (name == "tensorrt" and len(blocked) > 1)


def test_other_verbs_point_to_the_doctor_when_a_library_cannot_be_imported(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCKER % ["numpy"])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "metst_edge", "demo"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "metst-edge: error: numpy is broken here; metst-edge doctor says what is missing\n"


def test_this_machine_is_told_in_aligned_lines(capsys):
    assert cli.main(["doctor"]) == 0
    first, blank, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("metst-edge ") and not blank
    column = lines[0].index(platform.python_version())
    for name in PROBES:
        line = next(line for line in lines if line[9:].startswith(f"{name} "))
        assert line[:8].strip() in ("ok", "missing", "wrong", "-") and line[column - 2 : column] == "  "
        assert line[column] != " "
    # Engines that do not run here follow, a line each.
    assert any(line.startswith("This machine runs --engine native") for line in lines[-3:])


def test_the_command_line_says_what_the_exit_status_means(capsys):
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--help"])
    assert "Exit status: 0 where video can be analysed on the CPU" in capsys.readouterr().out
