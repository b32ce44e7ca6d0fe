"""Which networks there are, each described once: `describe` for the exporter, `of_bundle` for whoever loads a bundle.

A network is a file here, which says its shape, and a line in the table below; how the native engine runs any of them is
in cpu.py. Knows no runtime but the compiled part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from metst_edge.bundle import Bundle
from metst_edge.counting import some
from metst_edge.engine.networks import metst, metst_plus
from metst_edge.engine.networks.cpu import CpuNetwork
from metst_edge.engine.networks.shape import Network
from metst_edge.engine.types import Array
from metst_edge.errors import EngineError


@dataclass(frozen=True)
class _Kind:
    """A network.

    Attributes:
        sizes: that the manifest must hold.
        describe: its shape from them.
    """

    sizes: tuple[str, ...]
    describe: Callable[[Mapping[str, int]], Network]


_METST = _Kind(metst.SIZES, metst.describe)
_METST_PLUS = _Kind(metst_plus.SIZES, metst_plus.describe)
_KINDS = {
    "metst64": _METST,
    "metst128": _METST,
    "metst_plus": _METST_PLUS,
    "metst_plus_shared": _METST_PLUS,
    "metst_plus_small": _METST_PLUS,
}

MODELS = tuple(_KINDS)
"""Names of the networks, as manifests hold them."""


def describe(model: str, sizes: Mapping[str, int], source: object) -> Network:
    """Return a network's shape.

    Args:
        model: one of MODELS.
        sizes: as in the manifest.
        source: what to call the bundle in an error.

    Raises:
        EngineError: the network is unknown, or a size is missing.
    """
    if model not in _KINDS:
        raise EngineError(f"{source}: expected a network out of {', '.join(MODELS)}, got {model!r}; update metst_edge")
    kind = _KINDS[model]
    missing = [name for name in kind.sizes if name not in sizes]
    if missing:
        raise EngineError(f"{source}: expected sizes {', '.join(missing)} in the manifest; export the bundle again")
    return kind.describe(sizes)


def of_bundle(bundle: Bundle) -> Network:
    """Return the shape of a bundle's network, after checking that manifest and weights agree with it.

    Raises:
        EngineError: as `describe`; or weights are missing or have other shapes, or the manifest states another
            look-ahead or state.
    """
    network = describe(bundle.model, bundle.sizes, bundle.path)
    found = {tensor.name: tensor.shape for tensor in bundle.tensors}
    missing = [f"{name} {shape}, got none" for name, shape in network.weights.items() if name not in found]
    wrong = [
        f"{name} {shape}, got {found[name]}"
        for name, shape in network.weights.items()
        if name in found and found[name] != shape
    ]
    if missing or wrong:
        raise EngineError(f"{bundle.path}: expected weights {some(missing + wrong)}; export the bundle again")
    if bundle.look_ahead != network.look_ahead:
        raise EngineError(
            f"{bundle.path}: expected look_ahead {network.look_ahead} in the manifest, which is that of "
            f"{bundle.model}, got {bundle.look_ahead}; export the bundle again"
        )
    state = {entry.name: entry.shape for entry in bundle.state}
    if state != network.state:
        names = [name for name in {**network.state, **state} if network.state.get(name) != state.get(name)]
        differing = some([f"{n} {network.state.get(n, 'none')}, got {state.get(n, 'none')}" for n in names])
        raise EngineError(f"{bundle.path}: expected state {differing}; export the bundle again")
    return network


def load(bundle: Bundle, half: bool = False) -> tuple[Network, CpuNetwork]:
    """Return a bundle's network ready to run on the CPU, and its shape.

    Args:
        bundle: what to run.
        half: round its matrices to half precision, in windows as in streams; all that is computed stays single.

    Raises:
        EngineError: as `of_bundle`; or a matrix is beyond half precision.
    """
    network = of_bundle(bundle)
    weights: Mapping[str, Array] = bundle.weights()
    if half:
        weights = halved(network, weights, bundle.path)
    return network, CpuNetwork(network, bundle.sizes, weights, half)


def halved(network: Network, weights: Mapping[str, Array], source: object) -> dict[str, Array]:
    """Return a network's weights with its matrices rounded to half precision; all of them are single still.

    Args:
        network: its shape.
        weights: by name.
        source: what to call the bundle in an error.

    Raises:
        EngineError: a matrix is beyond half precision.
    """
    return {**weights, **{name: _halved(weights[name], name, source) for name in network.matrices}}


def _halved(weight: Array, name: str, source: object) -> Array:
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise EngineError(
            f"{source}: expected weights {name} of {np.finfo(np.float16).max:.0f} at most for precision 'fp16', got "
            f"{np.abs(weight).max():.3g}; use precision='fp32'"
        )
    return rounded.astype(np.float32)
