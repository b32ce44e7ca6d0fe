"""ME-TST (arXiv 2409.09707): two convolutions, one pathway of Mamba blocks, two heads on every frame."""

from __future__ import annotations

from collections.abc import Mapping

from metst_edge.engine.networks.shape import Convolution, Head, MambaBlock, Network, Stack

SIZES = ("channels", "dim", "depth", "d_state", "d_conv", "expand", "dt_rank", "classes")
"""What the manifest's `sizes` must hold."""


def describe(sizes: Mapping[str, int]) -> Network:
    """Return the network's shape.

    Args:
        sizes: as in the manifest, SIZES among them.
    """
    dim, classes = sizes["dim"], sizes["classes"]
    blocks = tuple(
        MambaBlock(i, dim, sizes["expand"] * dim, sizes["d_state"], sizes["dt_rank"], sizes["d_conv"])
        for i in range(sizes["depth"])
    )
    return Network(
        stem=(Convolution("stem.0", sizes["channels"], dim), Convolution("stem.1", dim, dim)),
        pathways=(Stack(blocks),),
        spot=Head("spot", dim, 1),
        emotion=Head("emotion", dim, classes),
    )
