"""Which networks can be exported: each is a file here, and a line in the table below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from export.networks import metst, metst_plus
from export.networks.from_torch import Arrays
from metst_edge.engine.networks.shape import Network

Graph = Callable[[Network, Mapping[str, int], Mapping[str, int] | None], onnx.ModelProto]
"""Builds a graph of a network's shape, its weights' offsets in weights.bin, and of those in weights.fp16.bin if any."""


@dataclass(frozen=True)
class Exporter:
    """How a network becomes a bundle.

    Attributes:
        sizes: of a trained network, as the manifest holds them.
        weights: of a trained network in evaluation mode, in the order of weights.bin.
        window: builds window.onnx.
        step: builds step.onnx.
    """

    sizes: Callable[[Any], dict[str, int]]
    weights: Callable[[Any], Arrays]
    window: Graph
    step: Graph


_METST = Exporter(metst.sizes, metst.weights, metst.window, metst.step)
_METST_PLUS = Exporter(metst_plus.sizes, metst_plus.weights, metst_plus.window, metst_plus.step)
EXPORTERS = {
    "metst64": _METST,
    "metst128": _METST,
    "metst_plus": _METST_PLUS,
    "metst_plus_shared": _METST_PLUS,
    "metst_plus_small": _METST_PLUS,
}
"""By the network's name, as manifests and checkpoints hold it."""
