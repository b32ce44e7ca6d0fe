"""Runs a bundle's network: `load_engine` picks the runtime, `lanes` makes a stream per-frame scores."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from metst_edge.errors import EngineError

if TYPE_CHECKING:
    from metst_edge.bundle import Bundle
    from metst_edge.engine.types import Engine, Scores, StepScores, Stream

ENGINES = ("native", "onnxruntime")

__all__ = ["ENGINES", "Engine", "Scores", "StepScores", "Stream", "load_engine", "why_missing"]


def __getattr__(name: str) -> Any:
    # Late, because they need numpy: `metst-edge doctor` asks this package for the GPU where numpy is broken.
    if name in ("Engine", "Scores", "StepScores", "Stream"):
        from metst_edge.engine import types

        return getattr(types, name)
    raise AttributeError(f"module 'metst_edge.engine' has no attribute {name!r}")


def load_engine(bundle: Bundle | str | os.PathLike[str], engine: str = "auto") -> Engine:
    """Make a bundle ready to run.

    Args:
        bundle: a bundle, the name of a shipped one, or a path.
        engine: "native" (numpy and the compiled part), "onnxruntime", or "auto": the best one here, "native"
            so far.

    Raises:
        EngineError: the engine is unknown or not installed.
        BundleError, ModelNotFoundError: as `Bundle.find`.
    """
    if engine not in ("auto", *ENGINES):
        raise EngineError(f"expected engine 'auto', {', '.join(map(repr, ENGINES))}, got {engine!r}")
    from metst_edge.bundle import Bundle

    found = bundle if isinstance(bundle, Bundle) else Bundle.find(bundle)
    if engine == "onnxruntime":
        from metst_edge.engine.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(found)
    from metst_edge.engine.native import NativeEngine

    return NativeEngine(found)


def why_missing(engine: str) -> str | None:
    """Return why an engine of ENGINES cannot run here and what to do, or None where it can."""
    if engine == "onnxruntime":
        return None if find_spec("onnxruntime") else "not installed: pip install 'metst-edge[onnxruntime]'"
    try:
        import metst_edge._native  # noqa: F401
    except ImportError as error:
        return f"the compiled part cannot be loaded ({error}): pip install ."
    return None
