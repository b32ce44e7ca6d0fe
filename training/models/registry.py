"""Which networks there are, and how to build one by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from training.models.metst import MeTst, Sizes
from training.models.metst_plus import MetstPlus, MetstPlusShared, PlusSizes

SpottingNetwork = MeTst | MetstPlus | MetstPlusShared
"""One that scores windows: features (B, C, T) to spot (B, T) and emotion logits (B, T, classes)."""


@dataclass(frozen=True)
class Kind:
    """A network.

    Attributes:
        network: makes one of its name, sizes and initialisation.
        sizes: those that it has unless others are asked for.
        unused: what names begin with that published checkpoints hold and no forward pass reads.
    """

    network: Callable[..., SpottingNetwork]
    sizes: Sizes | PlusSizes
    unused: tuple[str, ...] = ()


# Published sizes (arXiv 2409.09707: first release and 2025 release; 2508.08082; 2508.18834), but for the last.
MODELS = {
    "metst64": Kind(MeTst, Sizes(dim=64), unused=("blocks_recog.",)),
    "metst128": Kind(MeTst, Sizes(dim=128), unused=("recog_pathway.",)),
    "metst_plus": Kind(MetstPlus, PlusSizes()),
    "metst_plus_shared": Kind(MetstPlusShared, PlusSizes()),
    "metst_plus_small": Kind(MetstPlusShared, PlusSizes(dim=32, slow_dim=64)),
}


def build(name: str, *, init: str = "mamba", **sizes: int) -> SpottingNetwork:
    """Build a network with fresh weights.

    Args:
        name: a key of MODELS.
        init: "mamba" (standard Mamba initialisation) or "published" (truncated-normal, std 0.02).
        sizes: fields of its sizes that differ from those of that name, e.g. channels=10.

    Raises:
        ValueError: the name or the initialisation is unknown.
    """
    if name not in MODELS:
        raise ValueError(f"expected a model name out of {', '.join(MODELS)}, got {name!r}")
    if init not in ("mamba", "published"):
        raise ValueError(f"expected init 'mamba' or 'published', got {init!r}")
    kind = MODELS[name]
    return kind.network(name, type(kind.sizes)(**{**kind.sizes.to_dict(), **sizes}), init)
