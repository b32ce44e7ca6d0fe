"""Running an engine that TensorRT has built: what it takes and gives is checked, and so is every call that may refuse.

Knows no memory and no pycuda: addresses and the raw stream are numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metst_edge.engine.tensorrt.builder import EngineBuilder
from metst_edge.engine.tensorrt.module import why
from metst_edge.errors import EngineError

Shape = tuple[int, ...]


class LoadedEngine:
    """An ICudaEngine of a bundle's graph.

    Args:
        builder: that gives it.
        graph: one of the `graphs` of its bundle.

    Raises:
        EngineError: as `EngineBuilder.engine`.
    """

    def __init__(self, builder: EngineBuilder, graph: str) -> None:
        self.what = f"{builder.bundle.path}: the {graph} engine"
        self.logger, self._trt = builder.logger, builder.tensorrt
        self._engine = builder.engine(graph)

    def context(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> Context:
        """Return a context for these shapes, after checking that the engine has these float32 tensors and no others.

        Raises:
            EngineError: it has others, or TensorRT gives no context or refuses a shape.
        """
        trt, engine = self._trt, self._engine
        kinds = {True: trt.TensorIOMode.INPUT, False: trt.TensorIOMode.OUTPUT}
        expected = {name: kinds[name in inputs] for name in {**inputs, **outputs}}
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        if {name: engine.get_tensor_mode(name) for name in names} != expected:
            raise EngineError(
                f"{self.what}: expected tensors {', '.join(sorted(expected))}, got {', '.join(sorted(names))}; "
                "export the bundle again"
            )
        others = [name for name in names if engine.get_tensor_dtype(name) != trt.DataType.FLOAT]
        if others:
            found = ", ".join(f"{name} as {engine.get_tensor_dtype(name)}" for name in others)
            raise EngineError(f"{self.what}: expected float32 tensors, got {found}; export the bundle again")
        self.logger.errors.clear()
        context = Context(self, engine.create_execution_context())
        try:
            context.set_shapes(inputs, outputs)
        except BaseException:
            context.release()  # the traceback would keep it
            raise
        return context


class Context:
    """An execution context: what may run beside others of the same engine.

    Raises:
        EngineError: TensorRT gave none.
    """

    def __init__(self, engine: LoadedEngine, context: Any) -> None:
        if context is None:
            raise EngineError(
                f"{engine.what}: TensorRT gives no execution context ({why(engine.logger)}); free GPU memory, or "
                "build it again with `metst-edge build --force`"
            )
        self._engine, self._context = engine, context

    def set_shapes(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
        """Choose the shapes of the inputs, which must give those of the outputs. Raises EngineError."""
        for name, shape in inputs.items():
            self._check(self._context.set_input_shape(name, shape), f"takes {name} as {shape}")
        for name, shape in outputs.items():
            found = tuple(self._context.get_tensor_shape(name))
            if found != shape:
                raise EngineError(f"{self._engine.what}: expected {name} as {shape}, got {found}; export it again")

    def set_addresses(self, addresses: Mapping[str, int]) -> None:
        """Choose where tensors lie in device memory. Raises EngineError."""
        for name, address in addresses.items():
            self._check(self._context.set_tensor_address(name, address), f"takes {name} at {address:#x}")

    def enqueue(self, stream: int) -> None:
        """Enqueue a run on the raw stream. Raises EngineError."""
        self._check(self._context.execute_async_v3(stream), "runs")

    def why_not_recorded(self, stream: int) -> str | None:
        """Return why a run on the raw stream cannot be recorded as a CUDA graph, None where TensorRT does not say."""
        asks = getattr(self._context, "is_stream_capturable", None)  # of TensorRT-RTX
        if asks is None or asks(stream):
            return None
        return f"{self._engine.what}: TensorRT says that its runs cannot be captured"

    def release(self) -> None:
        """Let go of TensorRT's context and engine; nothing may be called after it."""
        del self._context, self._engine

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(
                f"{self._engine.what}: expected that it {what}, but TensorRT refuses ({why(self._engine.logger)}); "
                "build it again with `metst-edge build --force`"
            )
