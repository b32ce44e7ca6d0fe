"""Asks child processes what would take this one along if it went wrong: loading a library, running a tool."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

PATIENCE = 60.0
"""Seconds for a library to load; from a slow SD card OpenCV takes a good part of them."""

Answer = Mapping[str, Any]
"""What a child process found; {"error": text, "absent": whether there is no such module} where it failed."""
Ask = Callable[[str], Answer]

QUESTIONS = {
    "numpy": "import numpy; answer['version'] = numpy.__version__",
    "opencv": "import cv2; answer['version'] = cv2.__version__",
    "av": "import av; answer['version'] = av.__version__",
    "face": "from metst_edge.face import open_finder\nopen_finder().close()",
    "mediapipe": "import mediapipe; answer['version'] = getattr(mediapipe, '__version__', None)\n"
    "try:\n"
    "    from mediapipe.python.solutions.face_mesh import FaceMesh\n"
    "    answer['models'] = True\n"
    "except ModuleNotFoundError:\n"
    "    from mediapipe.tasks.python import vision\n"
    "    answer['models'] = False",
    "matplotlib": "import matplotlib.figure; answer['version'] = matplotlib.__version__",
    "rich": "import rich.console, rich.table, rich.progress",
    "native": "from metst_edge import _native; answer.update(path=_native.simd_path(), paths=_native.simd_paths())",
    "models": "from metst_edge.bundle import HALF_FILES, open_bundle, shipped_models\n"
    "for name, path in shipped_models().items():\n"
    "    try:\n"
    "        bundle = open_bundle(path)\n"
    "        files = {n: f['sha256'] for n, f in bundle.manifest['files'].items()}\n"
    "        answer[name] = {'kind': bundle.kind, 'files': files, 'fp16': set(HALF_FILES) <= set(files)}\n"
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
    "from metst_edge.engine.tensorrt.plugin import find_cuda_library, find_plugin\n"
    "path = find_cuda_library()\n"
    "if path is not None:\n"
    "    library = ctypes.CDLL(str(path))\n"
    "    of_tensorrt = ('getCreators', 'setLoggerFinder') if find_plugin() else ()\n"
    "    for name in (*of_tensorrt, 'metst_roi_flow_version'):\n"
    "        getattr(library, name)\n"
    "    answer['step'] = hasattr(library, 'metst_network_step_version')\n"  # which older ones have not
    "    if hasattr(library, 'metst_cuda_architectures'):\n"  # which older ones have not
    "        library.metst_cuda_architectures.restype = ctypes.c_char_p\n"
    "        answer['architectures'] = library.metst_cuda_architectures().decode().split()",
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
    name = type(error).__name__
    ours = str(error) and name in ("EngineError", "FaceModelError", "NotCompiledError")
    what = error if ours else f"{name}: {error}"
    answer.update(error=" ".join(str(what).split()), absent=isinstance(error, ModuleNotFoundError) and error.name)
print("\\n" + json.dumps(answer))
"""


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
    return {"error": f"loading it ends the process ({ending(status)})"}


def ask_all(ask: Ask) -> dict[str, Answer]:
    """Have every question answered, several at a time; whatever ``ask`` raises becomes the answer."""

    def guarded(name: str) -> Answer:
        try:
            return ask(name)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(QUESTIONS, pool.map(guarded, QUESTIONS), strict=True))


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


def ending(status: int | None) -> str:
    """Return how a program ended, of the exit status that `run_tool` gives."""
    if status is None:
        return "it does not answer"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
