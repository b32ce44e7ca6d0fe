"""Spot micro-expressions in face video and name their emotion, on edge devices and plain CPUs.

`Analyzer` takes video and gives events; `load_engine` runs a model on features of your own; `flow` measures them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metst_edge import errors, flow
    from metst_edge.analyzer import Analyzer
    from metst_edge.bundle import Bundle
    from metst_edge.engine import load_engine
    from metst_edge.errors import MetstError
    from metst_edge.events import Event, Gap, MicroExpression
    from metst_edge.report import Report

    __version__: str

__all__ = [
    "Analyzer",
    "Bundle",
    "Event",
    "Gap",
    "MetstError",
    "MicroExpression",
    "Report",
    "errors",
    "flow",
    "load_engine",
]

_LATE = {
    "Analyzer": "metst_edge.analyzer",
    "Bundle": "metst_edge.bundle",
    "Event": "metst_edge.events",
    "Gap": "metst_edge.events",
    "MetstError": "metst_edge.errors",
    "MicroExpression": "metst_edge.events",
    "Report": "metst_edge.report",
    "load_engine": "metst_edge.engine",
}


def __getattr__(name: str) -> Any:
    # Each stage brings libraries of its own; importing the package loads none of them until it is used.
    if name == "__version__":
        return _version()
    from importlib import import_module

    if name in ("errors", "flow"):
        return import_module(f"metst_edge.{name}")
    if name == "_native":
        try:
            return import_module("metst_edge._native")
        except ModuleNotFoundError as error:
            from metst_edge.compiled import missing

            raise missing() from error
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module 'metst_edge' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("metst-edge")
    except PackageNotFoundError:
        return "unknown"  # of a checkout that is not installed
