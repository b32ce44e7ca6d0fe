"""TensorRT's Python module: which one is here, its logger, its plugins, and what differs between its versions.

Written against what TensorRT 10.3 to 11 and TensorRT-RTX have in common; where they differ, what a module has is looked
at, never its version.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from metst_edge.engine.tensorrt.gpu import Gpu
from metst_edge.engine.tensorrt.plugin import PLUGIN, PLUGIN_NAMESPACE, PLUGIN_VERSION
from metst_edge.errors import EngineError

MODULES = ("tensorrt", "tensorrt_rtx")

# TensorRT calls much a warning that is none, and what stops a build is raised: shown only where somebody asks for it.
_TENSORRT_LOG = logging.getLogger("metst_edge.tensorrt")
_TENSORRT_LOG.addHandler(logging.NullHandler())


def load_tensorrt() -> Any:
    """Import TensorRT, or TensorRT-RTX where that is what is installed.

    Raises:
        EngineError: neither is installed, or what is cannot be loaded.
    """
    reasons = []
    for name in MODULES:
        try:
            return import_module(name)
        except Exception as error:  # besides ImportError, what its own loading of libraries may raise
            reasons.append(f"{name}: {error}")
    raise EngineError(
        f"expected TensorRT, which cannot be loaded ({'; '.join(reasons)}); on a Jetson it is part of JetPack: "
        "sudo apt install python3-libnvinfer, and make the virtual environment with --system-site-packages; "
        "on a PC: pip install tensorrt"
    )


@cache
def logger_of(trt: Any) -> Any:
    """One logger for each module: TensorRT keeps the first it is given. Collects errors until they are cleared."""
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.INFO,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(message)
            _TENSORRT_LOG.log(level, "%s", message)

    return Logger()


def why(logger: Any, otherwise: str = "it does not say why") -> str:
    """What TensorRT logged as errors, in one line."""
    return " ".join("; ".join(logger.errors[-3:]).split()) or otherwise


def takes_plugins(trt: Any) -> bool:
    """Whether networks may have plugins of version 3, which the scan's is."""
    return hasattr(trt.INetworkDefinition, "add_plugin_v3")


_LOADED: WeakKeyDictionary[Any, tuple[Path, str]] = WeakKeyDictionary()
"""The plugin's file and its sha256, for the TensorRT that this process has loaded it into; it stays there."""


def load_plugin(trt: Any, path: Path, digest: str) -> None:
    """Load the plugin's library, once a process.

    Args:
        trt: TensorRT's module.
        path: the library.
        digest: its sha256.

    Raises:
        EngineError: another one has been loaded, or TensorRT cannot load it.
    """
    loaded, of = _LOADED.get(trt, (path, digest))
    if of != digest:
        raise EngineError(
            f"{path}: expected the plugin that this process has loaded from {loaded}, got another one; "
            "start the process again to use it"
        )
    if trt in _LOADED:
        return
    registry = trt.get_plugin_registry()
    if registry is None:
        raise EngineError("TensorRT gives no plugin registry")
    logger = logger_of(trt)
    logger.errors.clear()
    registry.load_library(str(path))  # refused where the application has done it itself, which is as good
    if registry.get_creator(PLUGIN, PLUGIN_VERSION, PLUGIN_NAMESPACE) is None:
        raise EngineError(
            f"expected a library with the plugin {PLUGIN_NAMESPACE}::{PLUGIN} {PLUGIN_VERSION}, but TensorRT "
            f"{trt.__version__} cannot load it from {path} ({why(logger)}); build it again for this TensorRT, or move "
            "it away to do without"
        )
    _LOADED[trt] = path, digest


def network_flags(trt: Any) -> int:
    """Flags that make a network strongly typed."""
    # Where networks could be weakly typed too, builders have a flag FP16.
    if hasattr(trt.BuilderFlag, "FP16"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    return 0


def gpu_to_build_for(trt: Any, target: str) -> Gpu:
    """Return the GPU that `target` names, such as "sm89".

    Raises:
        EngineError: this TensorRT cannot build for it elsewhere.
    """
    known = [name for name in dir(getattr(trt, "ComputeCapability", None)) if name.startswith("SM")]
    if target.upper() not in known:
        what = ", ".join(name.lower() for name in known) or "none"
        raise EngineError(
            f"expected a GPU that {trt.__name__} {trt.__version__} can build for elsewhere ({what}), got {target!r}; "
            "leave it away to build for the GPU of this machine"
        )
    digits = target[2:]
    return Gpu(f"any {target.lower()}", f"{digits[:-1]}.{digits[-1]}", None)
