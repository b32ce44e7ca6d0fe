"""Which GPU is here: what an engine is built for. Asked of the driver itself, which every machine with a GPU has."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from metst_edge.errors import EngineError

DRIVER = "libcuda.so.1"
# CUdevice_attribute of cuda.h.
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76


@dataclass(frozen=True)
class Gpu:
    """A GPU; Orin's boards share their compute capability and differ in the number of multiprocessors.

    Attributes:
        name: as the driver gives it. compute_capability: such as "8.7". multiprocessors: None where any number will do.
    """

    name: str
    compute_capability: str
    multiprocessors: int | None


def find_gpu() -> Gpu:
    """Return the first GPU that the driver shows (CUDA_VISIBLE_DEVICES chooses).

    Raises:
        EngineError: there is no driver or no GPU.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise EngineError(
            f"expected an NVIDIA GPU and its driver, but {DRIVER} cannot be loaded ({error}); use engine='native'"
        ) from error
    device, name, value = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int()

    def ask(function: str, *arguments: object) -> None:
        status = getattr(driver, function)(*arguments)
        if status != 0:
            raise EngineError(
                f"expected an NVIDIA GPU, but the driver's {function} fails with CUDA error {status}; "
                "see what nvidia-smi says, or use engine='native'"
            )

    def attribute(number: int) -> int:
        ask("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    ask("cuInit", 0)
    ask("cuDeviceGet", ctypes.byref(device), 0)
    ask("cuDeviceGetName", name, len(name), device)
    capability = f"{attribute(_MAJOR)}.{attribute(_MINOR)}"
    return Gpu(name.value.decode(errors="replace"), capability, attribute(_MULTIPROCESSORS))
