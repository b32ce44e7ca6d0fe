"""Runs a bundle's network: `load_engine` picks the runtime, `lanes` makes a stream per-frame scores."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from metst_edge import checking, compiled
from metst_edge.choices import ENGINES, PRECISIONS
from metst_edge.errors import EngineError
from metst_edge.installing import pip_install

if TYPE_CHECKING:
    from metst_edge.bundle import Bundle
    from metst_edge.engine.types import Engine, Scores, StepScores, Stream

_LOG = logging.getLogger(__name__)

__all__ = ["ENGINES", "Engine", "Scores", "StepScores", "Stream", "load_engine", "why_missing"]


def __getattr__(name: str) -> Any:
    # Late, because they need numpy: `metst-edge doctor` asks this package for the GPU where numpy is broken.
    if name in ("Engine", "Scores", "StepScores", "Stream"):
        from metst_edge.engine import types

        return getattr(types, name)
    raise AttributeError(f"module 'metst_edge.engine' has no attribute {name!r}")


def load_engine(bundle: Bundle | str | os.PathLike[str], engine: str = "auto", precision: str = "fp32") -> Engine:
    """Make a bundle ready to run.

    Args:
        bundle: a bundle, the name of a shipped one, or a path.
        engine: "native" (numpy and the compiled part), "onnxruntime", "tensorrt", "cuda" (a network in one kernel on a
            GPU; nothing is built before), or "auto": "tensorrt" where it, pycuda and a GPU are there, else "cuda" where
            pycuda, a GPU and the compiled kernels are there and run the bundle in this precision, else "native".
        precision: "fp32", or "fp16": "native" rounds the weights that it reads most, "onnxruntime" and "tensorrt" need
            a bundle that has such graphs, "cuda" has none. Features and scores are float32 all the same.

    Raises:
        EngineError: the engine is unknown or not installed, or has no such precision.
        BundleError: as `Bundle.find`.
        ModelNotFoundError: likewise.
        OptionError: an argument of the wrong type.
    """
    checking.text("precision", precision, PRECISIONS)
    if checking.text("engine", engine, ("auto", *ENGINES)) not in ("auto", *ENGINES):
        raise EngineError(f"expected engine 'auto', {', '.join(map(repr, ENGINES))}, got {engine!r}")
    from metst_edge.bundle import Bundle

    found = bundle if isinstance(bundle, Bundle) else Bundle.find(bundle)
    if engine == "auto":
        engine = _chosen(found, precision)
    if engine == "cuda":
        from metst_edge.engine.cuda.runtime import CudaEngine

        return CudaEngine(found, precision)
    if engine == "tensorrt":
        from metst_edge.engine.tensorrt.runtime import TensorRTEngine

        return TensorRTEngine(found, precision)
    if engine == "onnxruntime":
        from metst_edge.engine.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(found, precision=precision)
    from metst_edge.engine.native import NativeEngine

    return NativeEngine(found, precision)


def _chosen(bundle: Bundle, precision: str) -> str:
    """Return what "auto" is for a bundle."""
    if not find_spec("pycuda") and not _LOG.isEnabledFor(logging.INFO):
        # Neither runs without it. What else is missing, and how it is got, takes a third of the time that an Analyzer
        # takes to open, and is only told.
        return "native"
    no_tensorrt = why_missing("tensorrt")
    if no_tensorrt is None:
        _LOG.info("engine 'auto' is 'tensorrt': here, with pycuda and a GPU")
        return "tensorrt"
    no_cuda = why_missing("cuda") or _why_not_cuda(bundle, precision)
    engine = "native" if no_cuda else "cuda"
    _LOG.info("engine 'auto' is %r; TensorRT: %s; CUDA: %s", engine, no_tensorrt, no_cuda or "here")
    return engine


def _why_not_cuda(bundle: Bundle, precision: str) -> str | None:
    from metst_edge.engine.cuda.library import why_not

    return why_not(bundle) if precision == "fp32" else f"it has no precision {precision!r}"


def why_missing(engine: str) -> str | None:
    """Return why an engine of ENGINES cannot run here and what to do, or None where it can."""
    if engine == "onnxruntime":
        return None if find_spec("onnxruntime") else f"not installed: {pip_install('onnxruntime')}"
    if engine == "tensorrt":
        from metst_edge.engine.tensorrt.module import MODULES

        if not any(find_spec(name) for name in MODULES):
            return "not installed: on a Jetson sudo apt install python3-libnvinfer, on a PC pip install tensorrt"
        return _no_gpu()
    if engine == "cuda":
        from metst_edge.engine.cuda.library import load
        from metst_edge.engine.cuda.runtime import cuda_library

        reason = _no_gpu()
        if reason is None:
            try:
                load(cuda_library())
            except EngineError as error:
                reason = str(error)
        return reason
    try:
        import metst_edge._native  # noqa: F401
    except ModuleNotFoundError:
        return str(compiled.missing())
    except ImportError as error:
        return f"the compiled part cannot be loaded ({error}): pip install ."
    return None


def _no_gpu() -> str | None:
    """Return why nothing runs on a GPU here, and what to do; None where something may."""
    from metst_edge.engine.tensorrt.gpu import find_gpu

    if not find_spec("pycuda"):
        return f"needs pycuda: {pip_install('pycuda')}"
    try:
        find_gpu()
    except EngineError as error:
        return str(error)
    return None
