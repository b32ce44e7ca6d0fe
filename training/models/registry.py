"""Which networks there are, and how to build one by name."""

from __future__ import annotations

from dataclasses import replace

from training.models.metst import MeTst, Sizes

# Tensor sizes of the published networks (arXiv 2409.09707: first release and 2025 release).
MODELS = {"metst64": Sizes(dim=64), "metst128": Sizes(dim=128)}


def build(name: str, *, init: str = "mamba", **sizes: int) -> MeTst:
    """Build a network with fresh weights.

    Args:
        name: a key of MODELS.
        init: "mamba" (standard Mamba initialisation) or "published" (truncated-normal, std 0.02).
        sizes: fields of Sizes that differ from the published ones, e.g. channels=10.

    Raises:
        ValueError: the name or the initialisation is unknown.
    """
    if name not in MODELS:
        raise ValueError(f"expected a model name out of {', '.join(MODELS)}, got {name!r}")
    if init not in ("mamba", "published"):
        raise ValueError(f"expected init 'mamba' or 'published', got {init!r}")
    return MeTst(name, replace(MODELS[name], **sizes), init)
