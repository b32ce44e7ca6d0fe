"""Types of the compiled CPU kernels (csrc/python)."""

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

class Network:
    def __init__(
        self, sizes: dict[str, int], weights: dict[str, NDArray[np.float32]], *, path: str = "auto"
    ) -> None: ...

class NetworkStream:
    def __init__(self, network: Network, lanes: int) -> None: ...
    def step(
        self, features: NDArray[np.float32], reset: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def reset(self) -> None: ...

def simd_paths() -> tuple[str, ...]: ...
def simd_path() -> str: ...
