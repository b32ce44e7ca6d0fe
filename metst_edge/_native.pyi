"""Types of the compiled part (csrc/python)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Corners = tuple[int, int, int, int]  # top, bottom, left, right

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
def selective_scan_gradient(
    u: ArrayLike,
    delta: ArrayLike,
    A: ArrayLike,
    B: ArrayLike,
    C: ArrayLike,
    D: ArrayLike,
    z: ArrayLike,
    delta_bias: ArrayLike,
    h0: ArrayLike | None,
    grad_y: ArrayLike,
    grad_h: ArrayLike | None = None,
    *,
    threads: int = 1,
    path: str = "auto",
) -> tuple[NDArray[np.float32] | None, ...]: ...

class Network: ...

class MetstNetwork(Network):
    def __init__(
        self, sizes: dict[str, int], weights: dict[str, NDArray[np.float32]], *, half: bool = False, path: str = "auto"
    ) -> None: ...

class MetstPlusNetwork(Network):
    def __init__(
        self, sizes: dict[str, int], weights: dict[str, NDArray[np.float32]], *, half: bool = False, path: str = "auto"
    ) -> None: ...

class NetworkStream:
    def __init__(self, network: Network, lanes: int) -> None: ...
    def step(
        self, features: NDArray[np.float32], reset: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
    def reset(self) -> None: ...

class CudaGraph:
    def __init__(self) -> None: ...
    def begin(self, stream: int) -> None: ...
    def end(self) -> None: ...
    def launch(self, stream: int) -> None: ...
    def close(self) -> None: ...

def simd_paths() -> tuple[str, ...]: ...
def simd_path() -> str: ...

class Farneback:
    def __init__(
        self,
        anchor: NDArray[np.uint8],
        pyr_scale: float,
        levels: int,
        winsize: int,
        iterations: int,
        poly_n: int,
        poly_sigma: float,
        path: str = "auto",
    ) -> None: ...
    def to(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]: ...

class RoiFlow:
    box: _Corners
    def __init__(
        self,
        anchor: NDArray[np.uint8],
        box: _Corners,
        patches: Sequence[_Corners],
        regions: Sequence[tuple[int, _Corners, float]],
        nose: _Corners,
        nose_inside: _Corners,
        nose_share: float,
        compat: bool,
        path: str = "auto",
    ) -> None: ...
    @property
    def motion(self) -> tuple[float, float]: ...
    @property
    def likeness(self) -> float: ...

class Registration:
    parameters: Sequence[float]
    def __init__(
        self,
        anchor: NDArray[np.uint8],
        box: _Corners,
        middle: float,
        half_width: float,
        nose_row: float,
        weights: NDArray[np.float32],
        spots: Sequence[tuple[float, float, float]],
        path: str = "auto",
    ) -> None: ...

def follow(heads: Sequence[Registration], frame: NDArray[np.uint8], threads: int) -> list[NDArray[np.uint8]]: ...
def measure(lanes: Sequence[RoiFlow], frame: NDArray[np.uint8], threads: int) -> list[NDArray[np.float32]]: ...
def step(
    lanes: Sequence[RoiFlow], before: Sequence[RoiFlow | None], frames: Sequence[NDArray[np.uint8]], threads: int
) -> list[NDArray[np.float32]]: ...
def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.float32]: ...
