"""Which networks can be exported: each is a file here, and a line in the table below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx

from export.half import ONE_RATE, TWO_RATES, Tolerance
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
        half: by how much its fp16 graphs may differ from those in fp32.
        paper: what to call the network in a model card, and where it is described.
    """

    sizes: Callable[[Any], dict[str, int]]
    weights: Callable[[Any], Arrays]
    window: Graph
    step: Graph
    half: Tolerance
    paper: str


_METST = Exporter(metst.sizes, metst.weights, metst.window, metst.step, ONE_RATE, "ME-TST, arXiv 2409.09707")
_METST_PLUS = Exporter(
    metst_plus.sizes, metst_plus.weights, metst_plus.window, metst_plus.step, TWO_RATES, "ME-TST+, arXiv 2508.08082"
)
_SHARED = replace(_METST_PLUS, paper="ME-TST+ with one pathway, arXiv 2508.18834")
EXPORTERS = {
    "metst64": _METST,
    "metst128": _METST,
    "metst_plus": _METST_PLUS,
    "metst_plus_shared": _SHARED,
    "metst_plus_small": replace(_SHARED, paper="ME-TST+ with one pathway, arXiv 2508.18834, narrower"),
}
"""By the network's name, as manifests and checkpoints hold it."""
