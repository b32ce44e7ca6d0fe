"""The GPU as an engine uses it, by pycuda: the primary context, and a stream with memory that is given back.

The primary context is the one that CUDA's runtime, and with it TensorRT and torch, uses too. Nothing here makes another
one, and none stays current: it is pushed for a call and popped after it, in whatever thread the call is. Knows no
TensorRT.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from math import prod
from typing import Any

import numpy as np

from metst_edge.engine.types import Array
from metst_edge.errors import EngineError
from metst_edge.installing import pip_install

ALIGNMENT = 256
"""Bytes that TensorRT wants addresses to be a multiple of."""
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: others' work on the default stream must not break a capture
_FLOAT = 4

Shape = tuple[int, ...]


@cache
def open_device() -> Device:
    """Return the GPU that engines are built for; the same one always.

    Raises:
        EngineError: pycuda or a GPU is missing.
    """
    return Device()


class Device:
    """The first GPU that the driver shows, and its primary context, which is kept until the process ends.

    Attributes:
        one_memory: whether the GPU's memory is the host's, as on a Jetson. Pinned memory is then used where it lies and
            nothing is copied.

    Raises:
        EngineError: pycuda cannot be loaded, or there is no GPU.
    """

    def __init__(self) -> None:
        try:
            self.driver = import_module("pycuda.driver")
        except Exception as error:  # besides ImportError, what loading libcuda may raise
            raise EngineError(
                f"expected pycuda, which cannot be loaded ({error}): {pip_install('pycuda')}, with the CUDA "
                "toolkit's nvcc in the PATH, or use engine='native'"
            ) from error
        try:
            self.driver.init()
            gpu = self.driver.Device(0)
            self.one_memory = bool(gpu.get_attribute(self.driver.device_attribute.INTEGRATED))
            self._context = gpu.retain_primary_context()
        except self.driver.Error as error:
            raise EngineError(f"expected an NVIDIA GPU, but CUDA says: {error}; see what nvidia-smi says") from error
        # Only detach gives a primary context back; pycuda's destructor calls what is meant for other contexts. It runs
        # at exit, after whatever was made later.
        weakref.finalize(self, self._context.detach)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the primary context this thread's for the body; what CUDA refuses in it is an EngineError."""
        try:
            self._context.push()
            try:
                yield
            finally:
                self.driver.Context.pop()
        except self.driver.Error as error:
            raise EngineError(
                f"expected the GPU to work, but CUDA says: {error}; where memory is short, free some, otherwise start "
                "the process again and see what `dmesg` says of the GPU"
            ) from error


class CudaStream:
    """A CUDA stream of its own and what is used on it, by one thread at a time. All of it is given back by `close`.

    Args:
        device: where.

    Attributes:
        handle: the raw stream (cudaStream_t).
        busy: whether something may be under way that reads or writes pinned memory; `let_go` waits for it.
        unrecorded: why `RecordedGraph` cannot record here, None as long as it can.

    Raises:
        EngineError: CUDA gives no stream.
    """

    def __init__(self, device: Device) -> None:
        self._device, self._driver = device, device.driver
        self._lock = threading.RLock()
        self._held = ExitStack()
        self._open = True
        self.busy = False
        self.unrecorded: str | None = None
        with device.active():
            self._stream = self._driver.Stream(_NON_BLOCKING)
            self._done = self._driver.Event(self._driver.event_flags.DISABLE_TIMING)
        self.handle = int(self._stream.handle)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return not self._open

    @property
    def error(self) -> type[Exception]:
        """What CUDA refuses is raised as this within `use`, and as an EngineError outside it."""
        error: type[Exception] = self._driver.Error
        return error

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep other threads out and the context current for the body.

        Raises:
            EngineError: closed; or CUDA refuses what the body asks.
        """
        with self._lock:
            if not self._open:
                raise EngineError("expected an open engine and stream, got a closed one; call load_engine again")
            with self._device.active():
                yield

    def on_close(self, release: Callable[[], object]) -> None:
        """Have something released by `close`, before what was registered earlier. It must not refer to the owner."""
        self._held.callback(release)

    @contextmanager
    def together(self) -> Iterator[ExitStack]:
        """Have what is taken in the body given back by closing the stack it gets, or by `close` after all."""
        outer, self._held = self._held, ExitStack()
        outer.callback(self._held.close)
        try:
            yield self._held
        finally:
            self._held = outer

    def buffer(self, floats: int, pinned: bool = True) -> DeviceBuffer:
        """Return zeros in device memory, and where `pinned`, as many values on the host to send from or receive into.

        Where both have one memory, those are the same values. Must be called within `use`.
        """
        if pinned and self._device.one_memory:
            mapped = self._driver.host_alloc_flags.DEVICEMAP
            host = self._driver.pagelocked_empty(floats, np.float32, mem_flags=mapped)
            self._held.callback(host.base.free)
            host.fill(0.0)
            return DeviceBuffer(int(host.base.get_device_pointer()), floats, host, copied=False)
        allocation = self._driver.mem_alloc(floats * _FLOAT)
        self._held.callback(allocation.free)
        host = None
        if pinned:
            host = self._driver.pagelocked_empty(floats, np.float32)
            self._held.callback(host.base.free)
            host.fill(0.0)
        buffer = DeviceBuffer(int(allocation), floats, host)
        self.clear(buffer)
        return buffer

    def clear(self, buffer: DeviceBuffer) -> None:
        """Enqueue setting the device's values to zero."""
        self._driver.memset_d8_async(buffer.address, 0, buffer.floats * _FLOAT, self._stream)

    def upload(self, buffer: DeviceBuffer, first: int, end: int) -> None:
        """Enqueue copying floats [first, end) of the buffer from the host, where they are not there already."""
        assert buffer.host is not None, "the buffer has no host side"
        self.busy = True
        if not buffer.copied:
            return
        self._driver.memcpy_htod_async(buffer.address + first * _FLOAT, buffer.host[first:end], self._stream)

    def fill(self, buffer: DeviceBuffer, values: Array) -> None:
        """Copy float32 values, from any memory of the host, to where the buffer begins, and wait for that."""
        self._driver.memcpy_htod_async(buffer.address, values, self._stream)
        self.wait()

    def download(self, buffer: DeviceBuffer, end: int) -> None:
        """Enqueue copying floats [0, end) of the buffer to the host, where they are not there already."""
        assert buffer.host is not None, "the buffer has no host side"
        self.busy = True
        if not buffer.copied:
            return
        self._driver.memcpy_dtoh_async(buffer.host[:end], buffer.address, self._stream)

    def wait(self) -> None:
        """Wait until everything that was enqueued is done; other Python threads go on meanwhile."""
        self._done.record(self._stream)
        self._done.synchronize()
        self.busy = False

    def let_go(self) -> None:
        """Wait until nothing reads or writes pinned memory."""
        if self.busy:
            self.wait()

    def close(self) -> None:
        """Wait for the stream and give everything back, last first. Calling it again is harmless."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            with self._device.active():
                try:
                    self._stream.synchronize()
                finally:
                    try:
                        self._held.close()
                    finally:
                        # pycuda gives them back when nobody refers to them: now, while the context is current.
                        del self._done, self._stream


class RecordedGraph:
    """What is enqueued again and again: once as it is, from then on as the CUDA graph that is recorded of it.

    Where it cannot be recorded, it is enqueued as it is; see `CudaStream.unrecorded`.

    Args:
        stream: that it goes to; the graph is given back with it.
        enqueue: does it, the same every time; must not refer to what closes the stream.
        why_not: why it cannot be recorded, where that is known beforehand; asked once it has been enqueued.

    Attributes:
        enqueue: as given.
    """

    def __init__(
        self, stream: CudaStream, enqueue: Callable[[], None], why_not: Callable[[], str | None] = lambda: None
    ) -> None:
        self._stream, self.enqueue, self._why_not = stream, enqueue, why_not
        self._graph: Any = None
        stream.on_close(self._drop)

    def run(self) -> None:
        """Enqueue it. Must be called within `CudaStream.use`.

        Raises:
            EngineError: the graph cannot be launched; or whatever `enqueue` raises.
        """
        if self._graph is None:
            # As it is, first: TensorRT wants a run before it is recorded; recording itself runs nothing.
            self.enqueue()
            if self._stream.unrecorded is None:
                self._stream.unrecorded = self._why_not()
            if self._stream.unrecorded is None:
                self._record()
            return
        self._stream.busy = True
        try:
            self._graph.launch(self._stream.handle)
        except RuntimeError as error:
            raise EngineError(f"expected the recorded step to run, but {error}; open another stream") from error

    def _record(self) -> None:
        collects = gc.isenabled()
        gc.disable()  # what is collected may free memory, which ends a recording in the same thread
        try:
            from metst_edge._native import CudaGraph

            graph = CudaGraph()
            graph.begin(self._stream.handle)
            try:
                self.enqueue()
            finally:
                graph.end()
        except (ImportError, RuntimeError, EngineError, self._stream.error) as error:
            self._stream.unrecorded = str(error)
        else:
            self._graph = graph
        finally:
            if collects:
                gc.enable()

    def _drop(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None


class DeviceBuffer:
    """Float32 values in device memory, and perhaps the same in pinned host memory.

    Attributes:
        address: on the device, a multiple of ALIGNMENT.
        floats: how many.
        host: float32 (floats,), None where they never travel.
        copied: whether host and device have values of their own.
    """

    def __init__(self, address: int, floats: int, host: Array | None, copied: bool = True) -> None:
        self.address, self.floats, self.host, self.copied = address, floats, host, copied

    def addresses(self, places: Mapping[str, int]) -> dict[str, int]:
        """Return where arrays that begin at these floats lie on the device."""
        return {name: self.address + first * _FLOAT for name, first in places.items()}

    def view(self, first: int, shape: Shape) -> Array:
        """Return the host's floats from `first` on as an array of that shape, good until the stream is closed."""
        assert self.host is not None, "the buffer has no host side"
        view: Array = self.host[first : first + prod(shape)].reshape(shape)
        return view


def packed(shapes: Mapping[str, Shape]) -> tuple[dict[str, int], int]:
    """Lay float32 arrays out side by side: return where each begins, as TensorRT wants it, and the end, in floats."""
    places, end, step = {}, 0, ALIGNMENT // _FLOAT
    for name, shape in shapes.items():
        places[name] = end
        end += -(-prod(shape) // step) * step
    return places, end
