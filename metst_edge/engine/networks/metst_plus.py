"""ME-TST+ (arXiv 2508.08082): two convolutions, slow and fast Mamba blocks side by side, two heads on every frame.

With two pathways each head reads its own, as published; with one both read it (arXiv 2508.18834).
"""

from __future__ import annotations

from collections.abc import Mapping

from metst_edge.engine.networks.shape import Convolution, Head, MambaBlock, Network, SlowFast

SIZES = (
    "channels",
    "dim",
    "slow_dim",
    "stages",
    "depth",
    "pathways",
    "d_state",
    "d_conv",
    "expand",
    "dt_rank",
    "slow_dt_rank",
    "classes",
)
"""What the manifest's `sizes` must hold; `depth` is that of a stage."""


def describe(sizes: Mapping[str, int]) -> Network:
    """Return the network's shape.

    Args:
        sizes: as in the manifest, SIZES among them.
    """
    dim = sizes["dim"]
    pathways = tuple(_pathway(sizes, index) for index in range(sizes["pathways"]))
    outputs = pathways[0].outputs
    return Network(
        stem=(Convolution("stem.0", sizes["channels"], dim), Convolution("stem.1", dim, dim)),
        pathways=pathways,
        spot=Head("spot", outputs, 1),
        emotion=Head("emotion", outputs, sizes["classes"]),
    )


def _pathway(sizes: Mapping[str, int], index: int) -> SlowFast:
    name = f"pathway_{index}"
    dim, slow_dim = sizes["dim"], sizes["slow_dim"]
    count = sizes["stages"] * sizes["depth"]
    first = 2 * count * index

    def blocks(start: int, width: int, dt_rank: int) -> tuple[MambaBlock, ...]:
        inner = sizes["expand"] * width
        return tuple(
            MambaBlock(start + i, width, inner, sizes["d_state"], dt_rank, sizes["d_conv"]) for i in range(count)
        )

    return SlowFast(
        name=name,
        entry=Convolution(f"{name}.entry", dim, slow_dim),
        laterals=tuple(Convolution(f"{name}.laterals.{i}", dim, slow_dim) for i in range(sizes["stages"] - 1)),
        fast=blocks(first, dim, sizes["dt_rank"]),
        slow=blocks(first + count, slow_dim, sizes["slow_dt_rank"]),
    )
