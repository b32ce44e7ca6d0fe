"""TensorRT engines of a bundle's graphs for the GPU at hand: taken from the cache, or built and put there.

All networks are strongly typed: precision is that of the graphs. What TensorRT's versions differ in is in module.py.
"""

from __future__ import annotations

import _thread
import logging
import platform
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metst_edge.bundle import HALF_WEIGHTS, Bundle, RecognizerBundle, sha256
from metst_edge.engine.tensorrt.cache import EngineCache, key_of, user_folder
from metst_edge.engine.tensorrt.gpu import find_gpu
from metst_edge.engine.tensorrt.module import (
    gpu_to_build_for,
    load_plugin,
    load_tensorrt,
    logger_of,
    network_flags,
    takes_plugins,
    why,
)
from metst_edge.engine.tensorrt.monitor import OnBuildProgress, monitor_of
from metst_edge.engine.tensorrt.onnx_function import without_function
from metst_edge.engine.tensorrt.plugin import PLUGIN, PLUGIN_NAMESPACE, find_plugin
from metst_edge.engine.types import check_lanes
from metst_edge.errors import EngineError

WORKSPACE_MIB = 256  # a limit; networks of this size use a few
MAX_WINDOWS = 32
"""Windows in a batch of the "window" engine, at most; their length is 1 to the bundle's k."""

USER_ALLOCATION = "REQUIRE_USER_ALLOCATION"
"""A builder flag of TensorRT-RTX, without which an engine may allocate while it runs: a recording would end."""

Say = Callable[[str], None]
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A serialised engine.

    Attributes:
        graph: "step", "window" or "clip".
        content: what TensorRT deserialises.
        key: sha256 over what it depends on.
        path: where it is kept, None where it could not be.
        built: now, not taken from the cache.
        seconds: that building took, now or then.
        created: when (ISO 8601), None where it is not kept.
    """

    graph: str
    content: bytes
    key: str
    path: Path | None
    built: bool
    seconds: float
    created: str | None


class EngineBuilder:
    """Makes TensorRT engines of a bundle's graphs.

    Args:
        bundle: what to build, of either kind.
        precision: "fp32", or "fp16" where the bundle has such graphs.
        lanes: of the step, fixed when it is built; a recogniser has none.
        workspace_mib: what a layer may use beside its tensors, at most.
        target: such as "sm89", to build for that GPU instead of the one here, where TensorRT can (RTX).
        folder: of the cache; default: the user's.
        progress: told how far a build is.
        say: told in one line what takes long or is not as it should be; default: a log record of level WARNING, which
            Python prints where nothing else is set up.

    Raises:
        EngineError: TensorRT or the GPU is missing, the bundle has no such precision, the plugin cannot be loaded, or
            the cache folder belongs to somebody else.
    """

    def __init__(
        self,
        bundle: Bundle | RecognizerBundle,
        *,
        precision: str = "fp32",
        lanes: int = 2,
        workspace_mib: int = WORKSPACE_MIB,
        target: str | None = None,
        folder: Path | None = None,
        progress: OnBuildProgress | None = None,
        say: Say | None = None,
    ) -> None:
        self.bundle, self.precision, self.target = bundle, precision, target
        self.lanes, self.workspace_mib = check_lanes(lanes), workspace_mib
        self._graphs = {graph: bundle.graph_file(graph, precision) for graph in bundle.graphs}
        self._progress, self._say = progress, say or _LOG.warning
        self.tensorrt = load_tensorrt()
        self.logger = logger_of(self.tensorrt)
        self.gpu = find_gpu() if target is None else gpu_to_build_for(self.tensorrt, target)
        self.plugin = find_plugin() if takes_plugins(self.tensorrt) else None
        if self.plugin is not None:
            self._plugin_sha256 = sha256(self.plugin)
            load_plugin(self.tensorrt, self.plugin, self._plugin_sha256)
        self._cache: EngineCache | None = None
        try:
            self._cache = EngineCache(user_folder() if folder is None else folder)
        except OSError as error:
            self._say(f"engines cannot be kept and are built every time: {error}")

    def engine(self, graph: str, *, force: bool = False) -> Any:
        """Return an ICudaEngine, which keeps what it needs alive. One that TensorRT refuses is built once more.

        Args:
            graph: one of the bundle's `graphs`.
            force: build, whatever the cache has.

        Raises:
            EngineError: it cannot be built, or not be used when it is.
        """
        plan = self.plan(graph, force=force)
        engine = self._deserialise(plan)
        if engine is None and not plan.built:
            self._say(
                f"{plan.path}: expected an engine, but TensorRT refuses it ({why(self.logger)}); building it again"
            )
            plan = self.plan(graph, force=True)
            engine = self._deserialise(plan)
        if engine is None:
            raise EngineError(
                f"{self.bundle.path}: TensorRT built the {graph} engine and then refuses it: {why(self.logger)}"
            )
        return engine

    def plan(self, graph: str, *, force: bool = False) -> Plan:
        """Return the serialised engine, from the cache or built now, which may take minutes. Ctrl-C stops a build.

        Args:
            graph: one of the bundle's `graphs`.
            force: build, whatever the cache has.

        Raises:
            EngineError: TensorRT refuses the graph, or cannot build it.
        """
        parts = self.parts(graph)
        # First without the lock: whoever builds an engine does not keep another one from starting.
        found, reason = (None, None) if force else self._cached(graph, parts)
        if found is not None:
            return found
        with nullcontext() if self._cache is None else self._cache.lock(self._say):
            if not force:
                found, reason = self._cached(graph, parts)  # another process may just have built it
                if found is not None:
                    return found
            if reason is not None:
                self._say(f"{reason}; building it again")
            self._say(f"building the {graph} engine of {self.bundle.name} in {self.precision}; this can take minutes")
            began = time.monotonic()
            content = self._in_thread(graph)
            return self._kept(graph, parts, content, time.monotonic() - began)

    def parts(self, graph: str) -> dict[str, Any]:
        """Return everything the engine depends on, as plain JSON values."""
        files = self.bundle.manifest["files"]
        used = [*self._graphs.values(), "weights.bin"]
        used += [HALF_WEIGHTS] if self.precision == "fp16" else []
        return {
            "format": 1,  # of what this file asks TensorRT for, beyond the parts below
            "bundle": self.bundle.name,
            "graph": graph,
            "precision": self.precision,
            **{name: files[name]["sha256"] for name in used},
            **self._machine(),
            "profile": {name: _sizes(shapes) for name, shapes in self.profile(graph).items()},
            "scan": self._scan(),
            "flags": ["strongly typed", "no TF32", "fixed sizes are static", *self._flags(graph)],
            "workspace_mib": self.workspace_mib,
        }

    def profile(self, graph: str) -> dict[str, Shapes]:
        """Return the smallest, usual and largest shape of every input."""
        bundle = self.bundle
        if isinstance(bundle, RecognizerBundle):
            # One interval at a time: its frames are a batch already, of pictures.
            picture = (3, bundle.input_size, bundle.input_size)
            usual = (1, bundle.frames, *picture)
            return {"images": ((1, 1, *picture), usual, usual)}
        if graph == "window":
            channels, k = bundle.channels, bundle.k
            return {"features": ((1, channels, 1), (MAX_WINDOWS // 2, channels, k), (MAX_WINDOWS, channels, k))}
        inputs = {"features": (bundle.channels,), "reset": (), **{s.name: s.shape for s in bundle.state}}
        return {name: ((self.lanes, *shape),) * 3 for name, shape in inputs.items()}

    def _flags(self, graph: str) -> list[str]:
        """What is asked for because steps are recorded as CUDA graphs.

        Auxiliary streams would part and join again in every one of them, for kernels of a few microseconds each.
        """
        if graph != "step":
            return []
        known = hasattr(self.tensorrt.BuilderFlag, USER_ALLOCATION)
        return ["no auxiliary streams", *([USER_ALLOCATION] if known else [])]

    def _machine(self) -> dict[str, Any]:
        """What timings hold for. A kernel of another plugin would go by the same name."""
        return {
            "tensorrt": f"{self.tensorrt.__version__} ({self.tensorrt.__name__})",
            "gpu": self.gpu.name,
            "compute_capability": self.gpu.compute_capability,
            "multiprocessors": self.gpu.multiprocessors,
            "system": f"{platform.system()} {platform.machine()}",
            "plugin": None if self.plugin is None else self._plugin_sha256,
        }

    def _scan(self) -> str:
        """What serves for the node metst::SelectiveScan."""
        if self.plugin is None:
            return "standard operators"
        return "plugin, function stripped"

    def _cached(self, graph: str, parts: dict[str, Any]) -> tuple[Plan | None, str | None]:
        """Return the engine from the cache, or None and why there is none, where there is more to say than that."""
        if self._cache is None:
            return None, None
        stored, reason = self._cache.read(parts)
        if stored is None:
            return None, reason
        return Plan(graph, stored.plan, key_of(parts), stored.path, False, stored.seconds, stored.created), None

    def _kept(self, graph: str, parts: dict[str, Any], content: bytes, seconds: float) -> Plan:
        path = created = None
        if self._cache is not None:
            try:
                stored = self._cache.write(parts, content, seconds)
                path, created = stored.path, stored.created
            except OSError as error:
                self._say(f"the {graph} engine cannot be kept and will be built again next time: {error}")
        return Plan(graph, content, key_of(parts), path, True, seconds, created)

    def _in_thread(self, graph: str) -> bytes:
        """Build in a thread of its own, so that this one hears of Ctrl-C while TensorRT is at work."""
        monitor = monitor_of(self.tensorrt, self._progress)
        built: list[bytes] = []
        failed: list[BaseException] = []
        ended: list[bool] = []
        # Bare locks and a bare thread: Ctrl-C may leave those of threading half-way, with an error of their own.
        go, over = threading.Lock(), threading.Lock()
        go.acquire()
        over.acquire()

        def work() -> None:
            go.acquire()
            try:
                if not monitor.cancelled:
                    built.append(self._build(graph, monitor))
            except BaseException as error:
                # Its frames hold TensorRT's objects, which crash where they live until the interpreter ends.
                traceback.clear_frames(error.__traceback__)
                failed.append(error)
            finally:
                ended.append(True)
                over.release()

        _thread.start_new_thread(work, ())  # interrupted here, it waits for ever, which the interpreter does not mind
        try:
            go.release()
            over.acquire()
        except BaseException:
            monitor.cancelled = True
            with suppress(KeyboardInterrupt):
                self._say("stopping the build; TensorRT is heard of only after the step it is at")
            with suppress(RuntimeError):  # where it has been released already, and not been taken yet
                go.release()
            while not ended:
                with suppress(KeyboardInterrupt):  # of who is impatient: TensorRT must end before the interpreter does
                    over.acquire(timeout=0.1)
            raise
        if monitor.error is not None:
            raise monitor.error
        if failed:
            raise failed[0]
        return built[0]

    def _build(self, graph: str, monitor: Any) -> bytes:
        trt, file = self.tensorrt, self._graphs[graph]
        builder = self._new(trt.Builder)
        network = self._given(builder.create_network(network_flags(trt)), "network")
        parser = trt.OnnxParser(network, self.logger)
        model = self.bundle.graph_bytes(graph, self.precision)
        if self.plugin is not None:
            model = without_function(model, PLUGIN_NAMESPACE, PLUGIN)
        # The path is where external weights would be looked for; these are in the model.
        if not parser.parse(model, str(self.bundle.path / file)):
            raise EngineError(f"{self.bundle.path}: TensorRT refuses {file}: {_parser_errors(parser, self.logger)}")
        config = self._given(builder.create_builder_config(), "builder configuration")
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self.workspace_mib << 20)
        # fp32 means fp32: TF32 rounds factors to 11 bits, and scores are compared with those of the CPU.
        config.clear_flag(trt.BuilderFlag.TF32)
        if self.target is not None:
            config.num_compute_capabilities = 1
            if not config.set_compute_capability(getattr(trt.ComputeCapability, self.target.upper()), 0):
                raise EngineError(f"TensorRT cannot build for {self.target}: {why(self.logger)}")
        flags = self._flags(graph)
        if "no auxiliary streams" in flags:
            config.max_aux_streams = 0
        if USER_ALLOCATION in flags:
            config.set_flag(getattr(trt.BuilderFlag, USER_ALLOCATION))
        if hasattr(config, "progress_monitor"):
            config.progress_monitor = monitor
        self._add_profile(builder, config, network, graph)
        timing = {"timing": 1, **self._machine()}
        self._read_timing(config, timing)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineError(f"{self.bundle.path}: TensorRT cannot build {file}: {why(self.logger)}")
        self._write_timing(config, timing)
        return bytes(plan)

    def _add_profile(self, builder: Any, config: Any, network: Any, graph: str) -> None:
        shapes = self.profile(graph)
        inputs = {tensor.name: tensor for tensor in map(network.get_input, range(network.num_inputs))}
        if set(inputs) != set(shapes):
            raise EngineError(
                f"{self.bundle.path}: expected {self._graphs[graph]} with inputs {', '.join(sorted(shapes))}, "
                f"got {', '.join(sorted(inputs))}; export the bundle again"
            )
        for name, (smallest, _, largest) in shapes.items():
            if smallest == largest:
                inputs[name].shape = smallest  # nothing is left to be worked out at run time
        profile = self._given(builder.create_optimization_profile(), "optimisation profile")
        try:
            for name, (smallest, usual, largest) in shapes.items():
                profile.set_shape(name, smallest, usual, largest)
            index = config.add_optimization_profile(profile)
        except ValueError as error:
            raise EngineError(
                f"{self.bundle.path}: TensorRT refuses shapes {shapes} of {graph}: {why(self.logger, str(error))}"
            ) from error
        if index < 0:
            raise EngineError(f"{self.bundle.path}: TensorRT refuses shapes {shapes} of {graph}: {why(self.logger)}")

    def _read_timing(self, config: Any, parts: dict[str, Any]) -> None:
        """Give the builder what earlier builds measured; it may refuse that, and measures again."""
        content = b"" if self._cache is None else self._cache.timing(parts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # RTX has the calls and does nothing
            timing = config.create_timing_cache(content)
            if timing is None or not config.set_timing_cache(timing, False):
                _LOG.info("TensorRT refuses the timing cache; it measures everything again")

    def _write_timing(self, config: Any, parts: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            timing = config.get_timing_cache()
            content = None if timing is None else timing.serialize()
        if content is None or self._cache is None:
            return
        try:
            self._cache.write_timing(parts, bytes(content))
        except OSError as error:
            _LOG.info("the timing cache cannot be written: %s", error)

    def _deserialise(self, plan: Plan) -> Any:
        # engine_host_code_allowed stays False: a plan must not bring code of its own to the host.
        return self._new(self.tensorrt.Runtime).deserialize_cuda_engine(plan.content)

    def _new(self, kind: Any) -> Any:
        self.logger.errors.clear()
        try:
            return kind(self.logger)
        except Exception as error:  # a TypeError of pybind11, where the library gives nothing
            raise EngineError(f"TensorRT gives no {kind.__name__}: {why(self.logger, str(error))}") from error

    def _given(self, made: Any, what: str) -> Any:
        if made is None:
            raise EngineError(f"TensorRT gives no {what}: {why(self.logger)}")
        return made


def _sizes(shapes: Shapes) -> str:
    """Shapes as a record shows them, such as "1x10x1 16x10x30 32x10x30"; three that are the same, once."""
    return " ".join(dict.fromkeys("x".join(map(str, shape)) for shape in shapes))


def _parser_errors(parser: Any, logger: Any) -> str:
    errors = [parser.get_error(i) for i in range(min(parser.num_errors, 3))]
    texts = []
    for error in errors:
        node = f"node {error.node_name() or error.node()} ({error.node_operator()}): " if error.node_operator() else ""
        texts.append(f"{node}{error.desc()} ({error.code()}, {error.file()}:{error.line()})")
    return "; ".join(texts).replace("\n", " ") or why(logger)
