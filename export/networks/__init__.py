"""Which networks can be exported: each is a file here, and a line in the table below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from export.networks import metst
from export.networks.from_torch import Arrays
from metst_edge.engine.networks.shape import Network
from training.models import MeTst

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

    sizes: Callable[[MeTst], dict[str, int]]
    weights: Callable[[MeTst], Arrays]
    window: Graph
    step: Graph


_METST = Exporter(metst.sizes, metst.weights, metst.window, metst.step)
EXPORTERS = {"metst64": _METST, "metst128": _METST}
"""By the network's name, as manifests and checkpoints hold it."""
