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
        name: as the driver gives it.
        compute_capability: such as "8.7".
        multiprocessors: how many, None where any number will do.
    """

    name: str
    compute_capability: str
    multiprocessors: int | None


def find_gpu() -> Gpu:
    """Return the first GPU that the driver shows (CUDA_VISIBLE_DEVICES chooses).

    Raises:
        EngineError: there is no driver or no GPU.
    """
    driver = _Driver()
    device, name, value = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int()

    def attribute(number: int) -> int:
        driver.ask("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    driver.ask("cuInit", 0)
    driver.ask("cuDeviceGet", ctypes.byref(device), 0)
    driver.ask("cuDeviceGetName", name, len(name), device)
    capability = f"{attribute(_MAJOR)}.{attribute(_MINOR)}"
    return Gpu(name.value.decode(errors="replace"), capability, attribute(_MULTIPROCESSORS))


def driver_cuda() -> str:
    """Return the newest CUDA that the driver runs, such as "12.6". Raises EngineError where there is no driver."""
    version = ctypes.c_int()
    _Driver().ask("cuDriverGetVersion", ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


class _Driver:
    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(DRIVER)
        except OSError as error:
            raise EngineError(
                f"expected an NVIDIA GPU and its driver, but {DRIVER} cannot be loaded ({error}); use engine='native'"
            ) from error

    def ask(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise EngineError(
                f"expected an NVIDIA GPU, but the driver's {function} fails with CUDA error {status}; "
                "see what nvidia-smi says, or use engine='native'"
            )
