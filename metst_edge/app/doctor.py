"""``metst-edge doctor``: what this machine has, what is missing or wrong, and the command that gets it.

Needs the standard library only, and nothing here raises. Libraries are loaded by child processes under a time limit, so
that one which is broken, crashes or hangs becomes a line of the report; whatever a look at the machine stumbles over
becomes one too.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import metst_edge
from metst_edge.app import machine
from metst_edge.engine import ENGINES
from metst_edge.engine.tensorrt import cache
from metst_edge.engine.tensorrt.plugin import PLUGIN_VARIABLE, find_plugin
from metst_edge.errors import EngineError

FORMAT = 1
PATIENCE = 60.0
"""Seconds for a library to load; from a slow SD card MediaPipe takes a good part of them."""
DISTRIBUTION = "metst-edge"
OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
LEAST_TENSORRT, LEAST_L4T = (10, 3), (36, 4)
"""What `metst-edge build` needs, and the Jetson Linux that brings it: JetPack 6.1."""
OLDEST_CUDA = {"8.7": (11, 4), "9.0": (11, 8), "11.0": (13, 0)}
"""The first CUDA that compiles for a compute capability."""
JETPACK = "sudo apt update && sudo apt install nvidia-jetpack"
MIB, GIB = 1 << 20, 1 << 30

Answer = Mapping[str, Any]
"""What a child process found; {"error": text, "absent": whether there is no such module} where it failed."""
Ask = Callable[[str], Answer]

QUESTIONS = {
    "numpy": "import numpy; answer['version'] = numpy.__version__",
    "opencv": "import cv2; answer['version'] = cv2.__version__",
    "mediapipe": "import mediapipe; answer['version'] = mediapipe.__version__\n"
    "from mediapipe.python.solutions.face_mesh import FaceMesh",
    "rich": "import rich.console, rich.table, rich.progress",
    "native": "from metst_edge import _native; answer.update(path=_native.simd_path(), paths=_native.simd_paths())",
    "models": "from metst_edge.bundle import HALF_FILES, Bundle, shipped_models\n"
    "for name, path in shipped_models().items():\n"
    "    try:\n"
    "        files = {n: f['sha256'] for n, f in Bundle.load(path).manifest['files'].items()}\n"
    "        answer[name] = {'files': files, 'fp16': set(HALF_FILES) <= set(files)}\n"
    "    except Exception as error:\n"
    "        answer[name] = {'error': str(error)}",
    "onnxruntime": "import onnxruntime; answer['version'] = onnxruntime.__version__",
    "gpu": "from metst_edge.engine.tensorrt.gpu import driver_cuda, find_gpu\n"
    "answer['cuda'] = driver_cuda()\n"
    "answer.update(vars(find_gpu()))",
    "tensorrt": "import tensorrt; answer['version'] = tensorrt.__version__; answer['file'] = tensorrt.__file__",
    "tensorrt_rtx": "import tensorrt_rtx; answer['version'] = tensorrt_rtx.__version__",
    "pycuda": "import pycuda; answer['version'] = pycuda.VERSION_TEXT\nimport pycuda.driver",
    "plugin": "import ctypes\n"
    "from metst_edge.engine.tensorrt.plugin import find_plugin\n"
    "path = find_plugin()\n"
    "if path is not None:\n"
    "    library = ctypes.CDLL(str(path))\n"
    "    for name in ('getCreators', 'setLoggerFinder', 'metst_roi_flow_version'):\n"
    "        getattr(library, name)",
}
"""What a child process runs; it fills `answer`."""

_CHILD = """\
import sys
sys.path[:] = sys.argv[1].splitlines()
import json
answer = {}
try:
    exec(sys.argv[2], {"answer": answer})
except BaseException as error:
    what = error if str(error) and type(error).__name__.endswith("EngineError") else f"{type(error).__name__}: {error}"
    answer.update(error=" ".join(str(what).split()), absent=isinstance(error, ModuleNotFoundError) and error.name)
print("\\n" + json.dumps(answer))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: stable, for programs. state: "ok", "missing", "wrong", or "unneeded": not there, and of no use here.
        text: what was found. fix: a command, or what else to do; empty where nothing is to be done.
        details: the same for programs, as plain JSON values.
    """

    name: str
    state: str
    text: str
    fix: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What `examine` found.

    Attributes:
        engines: name -> why it does not run here, empty where it does.
        blocked: what keeps everything from running, None where video can be analysed on the CPU.
    """

    findings: tuple[Finding, ...]
    engines: Mapping[str, str]
    blocked: str | None

    @property
    def flow(self) -> str:
        """Where optical flow is measured unless told otherwise: "cuda" or "cpu"."""
        plugin = any(finding.name == "plugin" and finding.state == "ok" for finding in self.findings)
        return "cuda" if plugin and self.engines.get("tensorrt") == "" else "cpu"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return {
            "format": FORMAT,
            "version": metst_edge.__version__,
            "runs": self.blocked is None,
            "blocked": self.blocked,
            "engines": {name: {"runs": not why, "why": why or None} for name, why in self.engines.items()},
            "flow": self.flow,
            "findings": [asdict(finding) for finding in self.findings],
        }


def examine(root: Path = machine.ROOT, ask: Ask | None = None) -> Report:
    """Look at everything and never raise.

    Args:
        root: the folder that /proc, /sys, /etc, /usr, /var and /dev lie in.
        ask: answers a key of QUESTIONS; by default a child process does.
    """
    here = _Here(root, _ask_all(ask or ask_child))
    findings = tuple(_guarded(name, probe, here) for name, probe in PROBES.items())
    blocked = _blocked(here)
    return Report(findings, {name: blocked or _why_not(name, here) for name in ("native", *_others())}, blocked)


def show(report: Report, file: TextIO) -> None:
    """Print a report for people."""
    print(f"metst-edge {metst_edge.__version__}\n", file=file)
    width = max(len(finding.name) for finding in report.findings)
    for finding in report.findings:
        mark = "-" if finding.state == "unneeded" else finding.state
        print(f"{mark:<7}  {finding.name:<{width}}  {finding.text}", file=file)
        if finding.fix and finding.state != "unneeded":
            print(f"{'':<7}  {'':<{width}}  -> {finding.fix}", file=file)
    print(file=file)
    if report.blocked is not None:
        print(f"metst-edge cannot run here: {report.blocked}", file=file)
        return
    runs = [name for name, why in report.engines.items() if not why]
    flow = "GPU" if report.flow == "cuda" else "CPU"
    print(f"This machine runs --engine {', '.join(runs)}, and optical flow on the {flow}.", file=file)
    for name, why in report.engines.items():
        if why:
            print(f"Not --engine {name}: {why}.", file=file)


def ask_child(name: str, patience: float = PATIENCE) -> Answer:
    """Have a child process answer QUESTIONS[name], seeing the modules that this process sees."""
    command = [sys.executable, "-c", _CHILD, "\n".join(map(str, sys.path)), QUESTIONS[name]]
    try:
        status, out = run_tool(command, patience)
    except (OSError, ValueError) as error:
        return {"error": f"no child process can be started ({error})"}
    if status is None:
        return {"error": f"does not load within {patience:g} s"}
    with suppress(ValueError, IndexError):
        answer = json.loads(out.splitlines()[-1])
        if isinstance(answer, dict):
            return answer
    return {"error": f"loading it ends the process ({_status(status)})"}


def run_tool(command: list[str], patience: float) -> tuple[int | None, str]:
    """Run a program without input and return its exit status, None where its time was up, and its output."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="replace",
    )
    try:
        out, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)  # one that hangs in a driver does not even die
        return None, ""
    return process.returncode, out


class _Here:
    """What probes look at: the machine's files, and what the child processes answered."""

    def __init__(self, root: Path, answers: Mapping[str, Answer]) -> None:
        self.root, self._answers = root, answers

    def answer(self, name: str) -> Answer:
        return self._answers[name]

    def works(self, name: str) -> bool:
        return "error" not in self._answers[name]

    @cached_property
    def l4t(self) -> str:
        return machine.l4t(self.root)

    @cached_property
    def board(self) -> str:
        return machine.board(self.root)

    @property
    def jetson(self) -> bool:
        return bool(self.l4t) or "Jetson" in self.board

    @cached_property
    def distribution(self) -> str:
        """ID of /etc/os-release: "debian", "ubuntu" ..."""
        found = re.search(r'^ID="?([\w-]+)', machine.text_of(self.root / "etc/os-release"), re.MULTILINE)
        return found[1] if found else ""

    @cached_property
    def has_apt(self) -> bool:
        return self.path("/usr/bin/apt-get").exists()

    @cached_property
    def has_gpu(self) -> bool:
        """Whether there is an NVIDIA GPU, with or without a driver."""
        if self.jetson or self.works("gpu"):
            return True
        devices = machine.matches(self.root, "sys/bus/pci/devices/*")
        return any(
            machine.text_of(device / "vendor").strip() == "0x10de"
            and machine.text_of(device / "class").startswith("0x03")
            for device in devices
        )

    @cached_property
    def packages(self) -> Mapping[str, str]:
        """Debian packages installed: name -> version."""
        found = {}
        for entry in machine.text_of(self.root / "var/lib/dpkg/status").split("\n\n"):
            fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", entry, re.MULTILINE))
            if fields.get("Status", "").endswith(" installed"):
                found[fields.get("Package", "")] = fields.get("Version", "")
        return found

    @cached_property
    def nvcc(self) -> Path | None:
        """Where csrc/cuda/enable_cuda.cmake finds nvcc."""
        folders = [os.environ.get(name, "") + "/bin" for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
        folders += os.environ.get("PATH", "").split(os.pathsep)
        places = [self.path(folder) / "nvcc" for folder in folders if folder]
        if os.environ.get("CUDACXX"):
            places.insert(0, self.path(os.environ["CUDACXX"]))
        places.append(self.path("/usr/local/cuda/bin/nvcc"))
        places += reversed(machine.matches(self.root, "usr/local/cuda-*/bin/nvcc"))
        places.append(self.path("/opt/cuda/bin/nvcc"))
        return next((place for place in places if place.is_file()), None)

    def tool(self, name: str) -> Path | None:
        """A program on the PATH or where administrators have theirs."""
        folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/sbin", "/sbin"]
        places = (self.path(folder) / name for folder in folders if folder)
        return next((place for place in places if os.access(place, os.X_OK) and place.is_file()), None)

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def unless_useless(self, state: str) -> str:
        """`state`, or "unneeded" where no NVIDIA GPU could use what is missing."""
        return state if self.has_gpu else "unneeded"


def _python(here: _Here) -> Finding:
    venv = sys.prefix != sys.base_prefix
    system = _sees_system()
    version, wanted = platform.python_version(), _about("Requires-Python")
    text = f"{version}, {sys.executable}"
    if venv:
        text += f"; virtual environment {'with' if system else 'without'} the system's packages"
    details = {"version": version, "executable": sys.executable, "venv": venv, "system_packages": system}
    if fits(version, wanted):
        return Finding("python", "ok", text, details=details)
    fix = "make the virtual environment with another Python: python3.10 -m venv .venv   (3.11, 3.12)"
    return Finding("python", "wrong", f"{text}; expected {wanted}", fix, details)


def _package(here: _Here) -> Finding:
    folder = str(_folder())
    details = {"version": metst_edge.__version__, "folder": folder}
    with suppress(metadata.PackageNotFoundError):
        metadata.version(DISTRIBUTION)
        return Finding("metst-edge", "ok", f"{metst_edge.__version__}, {folder}", details=details)
    return Finding(
        "metst-edge", "wrong", f"{folder} is not installed", f"{_pip()} install .   (in a checkout)", details
    )


def _processor(here: _Here) -> Finding:
    name, cores, usable = machine.processor(here.root), os.cpu_count(), machine.usable_cores()
    text = f"{name}, {cores} cores" + ("" if usable == cores else f", {usable} of them for this process")
    details = {"name": name, "cores": cores, "usable": usable, "architecture": platform.machine()}
    return Finding("processor", "ok", text, details=details)


def _memory(here: _Here) -> Finding:
    found = machine.memory(here.root)
    if found is None:
        return Finding("memory", "wrong", "the system does not tell", details={"total": None, "available": None})
    total, available = found
    text = f"{total / GIB:.1f} GiB, {available / GIB:.1f} GiB of it free"
    return Finding("memory", "ok", text, details={"total": total, "available": available})


def _numpy(here: _Here) -> Finding:
    return _library(here, "numpy", "numpy")


def _opencv(here: _Here) -> Finding:
    wheels = sorted({name for names in _opencv_wheels().values() if len(names) > 1 for name in names})
    answer = here.answer("opencv")
    details = {"version": answer.get("version"), "wheels": wheels}
    # All of them own the folder cv2: taking one away damages the other, so both go and one comes back.
    # Newer ones would bring a newer numpy along.
    install = f"{_pip()} install opencv-contrib-python {shlex.quote(_required('numpy'))}"
    again = f"{_pip()} uninstall -y {' '.join(wheels or OPENCV)} && {install}"
    error = answer.get("error")
    if error is None:
        if wheels:
            text = f"{answer['version']}, but {' and '.join(wheels)} overwrite each other"
            return Finding("opencv", "wrong", text, again, details)
        return Finding("opencv", "ok", str(answer["version"]), details=details)
    if not wheels and answer.get("absent") == "cv2":
        return Finding("opencv", "missing", "not installed", install, details)
    return Finding("opencv", "wrong", error, _cause(here, error) or again, details)


def _mediapipe(here: _Here) -> Finding:
    return _library(here, "mediapipe", "mediapipe")


def _rich(here: _Here) -> Finding:
    return _library(here, "rich", "rich")


def _native(here: _Here) -> Finding:
    answer = here.answer("native")
    details = {"simd": answer.get("path"), "available": list(answer.get("paths", ()))}
    if here.works("native"):
        text = f"vector path {answer['path']} (of {' '.join(answer['paths'])})"
        return Finding("native", "ok", text, details=details)
    error = str(answer["error"])
    if "METST_EDGE_SIMD" in error:
        return Finding("native", "wrong", error, "unset METST_EDGE_SIMD", details)
    fix = f"{_pip()} install --force-reinstall --no-deps .   (in a checkout; needs a C++ compiler)"
    state = "missing" if "_native" in error and "cannot import" in error else "wrong"
    return Finding("native", state, error, _cause(here, error) or fix, details)


def _models(here: _Here) -> Finding:
    answer = here.answer("models")
    names = [path.name for path in machine.matches(_folder(), "models/*") if path.is_dir()]
    again = f"{_pip()} install --force-reinstall --no-deps .   (in a checkout)"
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


def _onnxruntime(here: _Here) -> Finding:
    return _library(here, "onnxruntime", "onnxruntime")


def _gpu(here: _Here) -> Finding:
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


def _cuda(here: _Here) -> Finding:
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
        return Finding("cuda", "wrong", f"{here.nvcc} does not tell its version ({_status(status)})", fix, details)
    text = f"{release[1]}, {here.nvcc}"
    gpu = here.answer("gpu")
    compiles, runs = _numbers(release[1]), _numbers(gpu.get("cuda", "999"))
    least = OLDEST_CUDA.get(str(gpu.get("compute_capability")))
    if least and compiles < least:
        text += f"; {gpu['name']} needs {least[0]}.{least[1]} or newer"
        return Finding("cuda", "wrong", text, fix, details)
    if compiles[0] > runs[0]:
        text += f"; the driver runs programs of CUDA {runs[0]} at most"
        fix = f"update the driver, or set CUDACXX to an nvcc of CUDA {runs[0]}"
        return Finding("cuda", "wrong", text, fix, details)
    return Finding("cuda", "ok", text, details=details)


def _tensorrt(here: _Here) -> Finding:
    answer = here.answer("tensorrt")
    system = _system_tensorrt(here)
    details = {
        "version": answer.get("version"),
        "module": "tensorrt" if here.works("tensorrt") else None,
        "system_packages": [str(path) for path in system],
        "headers": next((v for n, v in here.packages.items() if n == "libnvinfer-headers-dev"), None),
    }
    if here.works("tensorrt"):
        version = str(answer["version"])
        if _numbers(version) < LEAST_TENSORRT:
            fix = "flash JetPack 6.1 or newer" if here.jetson else f"{_pip()} install --upgrade tensorrt"
            return Finding("tensorrt", "wrong", f"{version}; expected 10.3 or newer", fix, details)
        return Finding("tensorrt", "ok", f"{version}, {Path(answer['file']).parent}", details=details)
    if here.jetson:
        fix = "sudo apt update && sudo apt install python3-libnvinfer libnvinfer-headers-dev"
    else:
        fix = f"{_pip()} install tensorrt"
    if answer.get("absent") != "tensorrt":
        return Finding("tensorrt", "wrong", str(answer["error"]), JETPACK if here.jetson else fix, details)
    mine = f"python{sys.version_info.major}.{sys.version_info.minor}"
    fitting = [path for path in system if path.parts[-3] in (mine, "python3")]
    if fitting and sys.prefix != sys.base_prefix and not _sees_system():
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


def _plugin(here: _Here) -> Finding:
    build = _plugin_command(here)
    try:
        path = find_plugin()
    except EngineError as refused:
        return Finding("plugin", "wrong", str(refused), f"unset {PLUGIN_VARIABLE}", {"path": None})
    details = {"path": None if path is None else str(path)}
    if path is None:
        text = "not installed; the scan is built of standard operators and flow is measured on the CPU: both are slower"
        return Finding("plugin", here.unless_useless("missing"), text, build, details)
    error = here.answer("plugin").get("error")
    if error is not None:
        return Finding("plugin", "wrong", f"{path} cannot be loaded: {error}", build, details)
    return Finding("plugin", "ok", str(path), details=details)


def _pycuda(here: _Here) -> Finding:
    answer = here.answer("pycuda")
    details = {"version": answer.get("version")}
    if here.works("pycuda"):
        return Finding("pycuda", "ok", str(answer["version"]), details=details)
    # It is compiled when it is installed, by whatever nvcc is on the PATH.
    folder = "/usr/local/cuda/bin" if here.nvcc is None else str(here.nvcc.parent)
    install = f"PATH={shlex.quote(folder)}:$PATH {_pip()} install"
    if answer.get("absent") == "pycuda":
        return Finding("pycuda", here.unless_useless("missing"), "not installed", f"{install} pycuda", details)
    fix = f"{install} --force-reinstall --no-deps --no-cache-dir pycuda"
    return Finding("pycuda", here.unless_useless("wrong"), str(answer["error"]), fix, details)


def _cache(here: _Here) -> Finding:
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
        return Finding("cache", "unneeded", f"no engines yet in {folder}", "metst-edge build demo", details)
    records = cache.records(folder)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    details["mode"], details["bytes"] = f"{folder.stat().st_mode & 0o7777:04o}", size
    details["engines"] = [f"{r.path.name} {' '.join(str(r.parts.get(n)) for n in cache.SAME_ENGINE)}" for r in records]
    details["damaged"] = [record.path.name for record in records if not record.whole()]
    details["stale"] = {r.path.name: names for r in records if (names := _stale(here, r.parts))}
    text = f"{len(records)} engines, {size / MIB:.1f} MiB in {folder}, mode {details['mode']}"
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


def _jetpack(here: _Here) -> Finding:
    version = here.packages.get("nvidia-jetpack")
    details = {"board": here.board or None, "l4t": here.l4t or None, "jetpack": version}
    if not here.jetson:
        return Finding("jetpack", "unneeded", "not a Jetson", details=details)
    release = f"Jetson Linux {here.l4t}" if here.l4t else "a Jetson Linux that does not tell its release"
    text = f"{here.board or 'a Jetson'}, {release}, "
    text += f"JetPack {version}" if version else "package nvidia-jetpack not installed"
    if here.l4t and _numbers(here.l4t) < LEAST_L4T:
        text += "; expected JetPack 6.1 (Jetson Linux 36.4) or newer"
        return Finding("jetpack", "wrong", text, "flash it: docs/jetson.md", details)
    return Finding("jetpack", "ok", text, details=details)


def _power(here: _Here) -> Finding:
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


def _temperature(here: _Here) -> Finding:
    found = machine.sensors(here.root).get("temperature_c", {})
    if not found:
        return Finding("temperature", "unneeded", "no sensor tells", details={"celsius": {}})
    name, hottest = max(found.items(), key=lambda item: item[1])
    return Finding("temperature", "ok", f"{hottest:.0f} degrees at most ({name})", details={"celsius": found})


def _cameras(here: _Here) -> Finding:
    cameras = []
    for path in machine.matches(here.root, "dev/video[0-9]*"):
        name = machine.text_of(here.root / "sys/class/video4linux" / path.name / "name").strip()
        cameras.append({"device": f"/dev/{path.name}", "name": name, "allowed": os.access(path, os.R_OK | os.W_OK)})
    details = {"cameras": cameras}
    if not cameras:
        text = "none: there is no /dev/video*"
        return Finding("cameras", "missing", text, "connect one, or use metst-edge --source FILE", details)
    texts = [f"{camera['device']} ({camera['name'] or 'no name'})" for camera in cameras]
    if any(camera["allowed"] for camera in cameras):
        return Finding("cameras", "ok", ", ".join(texts), details=details)
    group = _group(here.root / str(cameras[0]["device"]).lstrip("/"))
    fix = f"sudo usermod -aG {group} $USER   (then log in again)"
    return Finding("cameras", "wrong", f"{', '.join(texts)}: this user may not open them", fix, details)


def _gstreamer(here: _Here) -> Finding:
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


PROBES: Mapping[str, Callable[[_Here], Finding]] = {
    "python": _python,
    "metst-edge": _package,
    "processor": _processor,
    "memory": _memory,
    "numpy": _numpy,
    "opencv": _opencv,
    "mediapipe": _mediapipe,
    "rich": _rich,
    "native": _native,
    "models": _models,
    "onnxruntime": _onnxruntime,
    "gpu": _gpu,
    "cuda": _cuda,
    "tensorrt": _tensorrt,
    "plugin": _plugin,
    "pycuda": _pycuda,
    "cache": _cache,
    "jetpack": _jetpack,
    "power": _power,
    "temperature": _temperature,
    "cameras": _cameras,
    "gstreamer": _gstreamer,
}


def fits(version: str, wanted: str) -> bool:
    """Return whether a version is one that a requirement such as ">=1.24,<2" takes; clauses it cannot read are met."""
    found = _numbers(version)
    for sign, text in re.findall(r"(>=|<=|==|<|>)\s*([\d.]+)", wanted):
        limit = _numbers(text)
        length = max(len(found), len(limit))
        a, b = (numbers + (0,) * (length - len(numbers)) for numbers in (found, limit))
        if not {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[sign]:
            return False
    return True


def _guarded(name: str, probe: Callable[[_Here], Finding], here: _Here) -> Finding:
    try:
        return probe(here)
    except Exception as error:
        return Finding(name, "wrong", f"could not be looked at ({type(error).__name__}: {error})")


def _ask_all(ask: Ask) -> dict[str, Answer]:
    def guarded(name: str) -> Answer:
        try:
            return ask(name)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(QUESTIONS, pool.map(guarded, QUESTIONS), strict=True))


def _blocked(here: _Here) -> str | None:
    """What keeps video from being analysed on the CPU."""
    broken = [name for name in ("numpy", "opencv", "mediapipe", "rich", "native", "models") if not here.works(name)]
    if not broken and all("error" in about for about in here.answer("models").values()):
        broken = ["models"]
    return f"see {', '.join(broken)} above" if broken else None


def _others() -> Iterator[str]:
    yield from (name for name in ENGINES if name != "native")
    if "tensorrt" not in ENGINES:
        yield "tensorrt"


def _why_not(engine: str, here: _Here) -> str:
    if engine == "onnxruntime":
        return "" if here.works("onnxruntime") else "onnxruntime is missing"
    if engine == "tensorrt":
        lacking = ["GPU"] if not here.works("gpu") else []
        lacking += [] if here.works("tensorrt") or here.works("tensorrt_rtx") else ["TensorRT"]
        lacking += [] if here.works("pycuda") else ["pycuda"]
        if lacking:
            return f"no usable {', '.join(lacking)}"
        return "" if engine in ENGINES else "this version of metst-edge builds engines, but does not run them yet"
    return ""


def _library(here: _Here, name: str, distribution: str) -> Finding:
    """A Python library that metst-edge requires in a range of versions."""
    answer = here.answer(name)
    installed = _installed(distribution)
    version = answer.get("version") or installed
    details = {"version": version, "required": _required(distribution)}
    range_ = _required(distribution).removeprefix(distribution)
    if "error" not in answer:
        if version and not fits(version, range_):
            return Finding(name, "wrong", f"{version}; expected {range_}", _install(distribution), details)
        return Finding(name, "ok", str(version or "loads"), details=details)
    if installed is None and answer.get("absent") == name:
        return Finding(name, "missing", "not installed", _install(distribution), details)
    if version and not fits(version, range_):
        text = f"{version}; expected {range_} ({answer['error']})"
        return Finding(name, "wrong", text, _install(distribution), details)
    fix = _install(distribution).replace(" install ", " install --force-reinstall ", 1)
    if name != "numpy":
        fix = _cause(here, str(answer["error"])) or fix
    return Finding(name, "wrong", f"{version or ''} cannot be loaded: {answer['error']}".strip(), fix, details)


def _cause(here: _Here, error: str) -> str:
    """What puts another thing right that keeps a library from loading; empty where it seems to be the library's own."""
    if re.search(r"lib(GL|glib|gthread)[\w.-]*\.so", error):
        return "sudo apt install libgl1 libglib2.0-0" if here.has_apt else "install libGL.so.1 and libgthread-2.0.so.0"
    return _numpy(here).fix


def _opencv_wheels() -> dict[str, set[str]]:
    """OpenCV wheels by the folder that they are in: those of one folder overwrite each other."""
    found: dict[str, set[str]] = {}
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name in OPENCV:
            found.setdefault(str(distribution.locate_file("")), set()).add(name)
    return found


def _system_tensorrt(here: _Here) -> list[Path]:
    """Where Debian packages have put TensorRT's Python module."""
    places = ("usr/lib/python3*/dist-packages/tensorrt", "usr/local/lib/python3*/dist-packages/tensorrt")
    return [path for pattern in places for path in machine.matches(here.root, pattern)]


def _plugin_command(here: _Here) -> str:
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


def _stale(here: _Here, parts: Mapping[str, Any]) -> list[str]:
    """Names of the parts in which an engine differs from what would be built now; of those that are known."""
    now: dict[str, Any] = {"system": f"{platform.system()} {platform.machine()}"}
    for module in ("tensorrt", "tensorrt_rtx"):
        if here.works(module):
            now["tensorrt"] = f"{here.answer(module)['version']} ({module})"
            plugin = find_plugin() if module == "tensorrt" else None
            now["plugin"] = None if plugin is None else hashlib.sha256(plugin.read_bytes()).hexdigest()
            break
    if here.works("gpu"):
        gpu = here.answer("gpu")
        now.update(gpu=gpu["name"], compute_capability=gpu["compute_capability"])
        now.update(multiprocessors=gpu["multiprocessors"])
    models = here.answer("models") if here.works("models") else {}
    files = models.get(str(parts.get("bundle")), {}).get("files", {})
    now.update({name: digest for name, digest in files.items() if name in parts})
    return [name for name, value in now.items() if parts.get(name) != value]


def _folder() -> Path:
    return Path(metst_edge.__file__).parent


def _sees_system() -> bool:
    if sys.prefix == sys.base_prefix:
        return True
    settings = machine.text_of(Path(sys.prefix) / "pyvenv.cfg")
    return bool(re.search(r"^include-system-site-packages\s*=\s*true", settings, re.MULTILINE | re.IGNORECASE))


def _group(path: Path) -> str:
    with suppress(Exception):
        return path.group()
    return "video"


def _pip() -> str:
    return f"{shlex.quote(sys.executable or 'python3')} -m pip"


def _install(distribution: str) -> str:
    return f"{_pip()} install {shlex.quote(_required(distribution))}"


def _required(distribution: str) -> str:
    """The requirement as metst-edge states it, such as "numpy<2,>=1.24"; the bare name where it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        for line in metadata.requires(DISTRIBUTION) or ():
            requirement = line.partition(";")[0].strip()
            if re.fullmatch(rf"{re.escape(distribution)}(?![\w-]).*", requirement):
                return requirement
    return distribution


def _installed(distribution: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return None


def _about(name: str) -> str:
    with suppress(metadata.PackageNotFoundError, KeyError):
        return metadata.metadata(DISTRIBUTION)[name] or ""
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "10.3.0.30" -> (10, 3, 0, 30)."""
    found = re.match(r"\d+(?:\.\d+)*", version.strip())
    return tuple(map(int, found[0].split("."))) if found else ()


def _status(status: int | None) -> str:
    if status is None:
        return "it does not answer"
    return f"signal {-status}" if status < 0 else f"exit status {status}"


if __name__ == "__main__":
    from metst_edge.app.cli import main

    sys.exit(main(["doctor", *sys.argv[1:]]))
