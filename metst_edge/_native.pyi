"""Types of the compiled CPU kernels (csrc/python/module.cpp)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

def selective_scan(
    u: ArrayLike,
    delta: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    D: ArrayLike | None = None,
    z: ArrayLike | None = None,
    delta_bias: ArrayLike | None = None,
    h0: ArrayLike | None = None,
    *,
    delta_softplus: bool = True,
    path: str = "auto",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
def simd_paths() -> tuple[str, ...]: ...
def simd_path() -> str: ...
