"""Where the TensorRT plugin of csrc/tensorrt and the other CUDA kernels are, and what it is called. Loads nothing."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import metst_edge
from metst_edge.errors import EngineError

PLUGIN, PLUGIN_VERSION, PLUGIN_NAMESPACE = "SelectiveScan", "1", "metst"
PLUGIN_LIBRARY = "libmetst_edge_plugin.so"
CUDA_LIBRARY = "libmetst_edge_cuda.so"
"""The same without what TensorRT needs: what is built where its headers are not there."""
PLUGIN_VARIABLE = "METST_EDGE_PLUGIN"
PLUGIN_FOLDERS = tuple(Path(folder) for folder in metst_edge.__path__)
"""The package's folders: an editable installation has two, the checkout's and that of its compiled parts."""

_LOG = logging.getLogger(__name__)


def find_plugin() -> Path | None:
    """Return the plugin's file: METST_EDGE_PLUGIN, else in the package; None where it is not installed.

    Raises:
        EngineError: METST_EDGE_PLUGIN names no file.
    """
    named = os.environ.get(PLUGIN_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise EngineError(f"expected {PLUGIN_VARIABLE} to name the plugin's file, got {named!r}, which is none")
        return Path(named).absolute()
    places = [folder / PLUGIN_LIBRARY for folder in PLUGIN_FOLDERS]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        _LOG.info("no plugin at %s: the scan is built of standard operators", " or ".join(map(str, places)))
    return found


def find_cuda_library() -> Path | None:
    """Return the library with the CUDA kernels: the plugin's, else that without TensorRT; None where there is neither.

    Raises:
        EngineError: as `find_plugin`.
    """
    places = (folder / CUDA_LIBRARY for folder in PLUGIN_FOLDERS)
    return find_plugin() or next((path for path in places if path.is_file()), None)
