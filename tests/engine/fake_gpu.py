"""A GPU made of NumPy: pycuda's driver, TensorRT's run time and CUDA graphs, as far as the engine uses them.

Device memory is known by addresses that mean nothing to the host. What is enqueued on a stream runs when somebody waits
for it, no earlier, so a missing wait shows as scores of yesterday. Engines run the bundle's own graphs in ONNX Runtime.
What the real ones forbid is refused: calls without a current context, memory that was given back, waiting or clearing
while recording, recording a context that has not run since its addresses changed.
"""

import itertools
import json
import sys
import threading
import weakref
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime

from metst_edge.engine.cuda import library as step_library
from metst_edge.engine.cuda import runtime as cuda_runtime
from metst_edge.engine.tensorrt import builder, device, device_flow, plugin, roi_flow, runtime
from metst_edge.engine.tensorrt.gpu import Gpu
from metst_edge.errors import EngineError
from metst_edge.flow import RoiFlow, channels, measure
from tests.engine.fake_tensorrt import fake_tensorrt

GUARD = 4096  # bytes between allocations that belong to nobody
POISON = np.float32(1e30)


class FakeGpu:
    """The machine: what is alive on it, and what was asked of it.

    Attributes:
        log: what happened, in order: ("upload", bytes), ("download", bytes), ("clear", bytes), ("run", addresses),
            ("launch", operations), ("wait",), ("record",), ("free",), ("destroy", kind), ("detach",), ("start", lane),
            ("measure", lanes), ("blend",), ("step", addresses).
        failing: names of calls that fail.
        one_memory: whether the GPU is one of a board whose memory is the host's.
        pushes: of the primary context.
        pops: of the primary context.
        detached: how often it was given back.
    """

    def __init__(self, monkeypatch, cache_folder):
        self.log, self.failing = [], set()
        self.one_memory = False
        self.alive = {}  # kind -> count
        self.memory = {}  # address -> uint8 array
        self.views = {}  # of it, as long as nothing is allocated or given back
        self.streams = weakref.WeakValueDictionary()  # by handle
        self.handles = itertools.count(1)
        self.stacks = threading.local()
        self.pushes = self.pops = self.detached = 0
        self.driver = self._driver()
        self.tensorrt = self._tensorrt()
        pycuda = ModuleType("pycuda")
        pycuda.__spec__, pycuda.__path__, pycuda.driver = ModuleSpec("pycuda", None), [], self.driver
        for module in (pycuda, self.driver, self.tensorrt):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(builder, "find_gpu", lambda: Gpu("Fake", "8.7", 8))
        monkeypatch.setattr("metst_edge.engine.tensorrt.gpu.find_gpu", lambda: Gpu("Fake", "8.7", 8))
        monkeypatch.setattr("metst_edge._native.CudaGraph", lambda: Graph(self))
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache_folder))
        monkeypatch.delenv("METST_EDGE_PLUGIN", raising=False)
        monkeypatch.setattr(plugin, "PLUGIN_FOLDERS", ())
        device.open_device.cache_clear()
        self.monkeypatch = monkeypatch

    def give_flow(self, library=None):
        """Have a plugin's library with the flow: CUDA's kernels in an emulation, or the CPU's flow in their place."""
        loaded = library and roi_flow.load(library)
        self.monkeypatch.setattr(runtime, "find_plugin", lambda: "the plugin")
        for module in (runtime, device_flow):
            self.monkeypatch.setattr(module, "load", lambda path: loaded)
        self.monkeypatch.setattr(device_flow, "CudaRoiFlow", lambda *arguments: Flow(self, *arguments))
        self.monkeypatch.setattr(cuda_runtime.roi_flow, "load", lambda path: loaded)

    def give_step(self, library):
        """Have a library with the fused step: CUDA's kernel in an emulation."""
        loaded = step_library.load(library)
        self.monkeypatch.setattr(cuda_runtime, "find_cuda_library", lambda: library)
        self.monkeypatch.setattr(cuda_runtime, "FusedStep", lambda found, network: Step(self, loaded, network))

    def count(self, kind, change):
        self.alive[kind] = self.alive.get(kind, 0) + change
        assert self.alive[kind] >= 0, f"{kind} was given back twice"

    def destroyed(self, kind):
        """Take note of what Python gives back; a destructor cannot raise."""
        if self.stack:
            self.count(kind, -1)
            self.log.append(("destroy", kind))

    @property
    def left(self):
        """What was not given back, or not while a context was current."""
        return {kind: count for kind, count in self.alive.items() if count}

    def named(self, name):
        return [entry for entry in self.log if entry[0] == name]

    @property
    def stack(self):
        if not hasattr(self.stacks, "entries"):
            self.stacks.entries = []
        return self.stacks.entries

    def current(self, what, name=None):
        """Refuse a call without a current context, or one that is to fail."""
        if not self.stack:
            raise self.driver.LogicError(f"{what} failed: no currently active context?")
        if (name or what) in self.failing:
            raise self.driver.LogicError(f"{what} failed: not today")

    def at(self, address, size):
        """Return the bytes of device memory, which must be of one living allocation."""
        for start, content in self.memory.items():
            if start <= address and address + size <= start + content.size:
                return content[address - start : address - start + size]
        raise AssertionError(f"illegal memory access: {size} bytes at {address:#x}")

    def floats(self, address, shape):
        key = address, shape
        if key not in self.views:
            self.views[key] = self.at(address, 4 * int(np.prod(shape))).view(np.float32).reshape(shape)
        return self.views[key]

    def allocate(self, size):
        content = np.zeros(-(-size // 4) * 4, np.uint8)
        content.view(np.float32)[:] = POISON
        return self.map(content[:size])

    def map(self, content):
        """Give bytes an address on the device."""
        address = 1 << 32 if not self.memory else max(start + known.size for start, known in self.memory.items())
        address = -(-(address + GUARD) // 256) * 256
        self.memory[address] = content
        self.views.clear()
        return address

    def unmap(self, address):
        del self.memory[address]
        self.views.clear()

    def _driver(gpu):
        driver = ModuleType("pycuda.driver")
        driver.Error = type("Error", (Exception,), {})
        driver.LogicError = type("LogicError", (driver.Error,), {})
        driver.event_flags = SimpleNamespace(DISABLE_TIMING=2)
        driver.host_alloc_flags = SimpleNamespace(DEVICEMAP=2)
        driver.device_attribute = SimpleNamespace(INTEGRATED=18)

        def native(function):
            """Have a function that raises leave no frame behind that keeps its arguments, as those in C do."""

            def call(*arguments, **options):
                try:
                    return function(*arguments, **options)
                except driver.Error as error:
                    del arguments, options
                    raise error.with_traceback(None) from None

            return call

        class Context:
            def push(self):
                assert not gpu.detached, "the primary context was given back"
                gpu.stack.append(self)
                gpu.pushes += 1

            @staticmethod
            def pop():
                gpu.stack.pop()
                gpu.pops += 1

            def detach(self):
                gpu.detached += 1
                gpu.log.append(("detach",))

        class Device:
            def __init__(self, number):
                assert number == 0

            def get_attribute(self, attribute):
                assert attribute == driver.device_attribute.INTEGRATED
                return int(gpu.one_memory)

            def retain_primary_context(self):
                if "retain_primary_context" in gpu.failing:
                    raise driver.LogicError("cuDevicePrimaryCtxRetain failed: device is busy")
                return Context()

        class Owned:
            """Given back when nobody refers to it, as pycuda's objects are: only while a context is current."""

            kind = ""

            def __init__(self):
                gpu.current(self.kind)
                gpu.count(self.kind, 1)

            def __del__(self):
                gpu.destroyed(self.kind)

        class Stream(Owned):
            kind = "stream"

            def __init__(self, flags=0):
                assert flags == 1, "the default stream would wait for this one"
                super().__init__()
                self.handle = next(gpu.handles)
                self.operations, self.recording = [], None
                gpu.streams[self.handle] = self

            def __del__(self):
                super().__del__()
                if self.operations:
                    gpu.log.append(("destroyed with work under way",))

            def enqueue(self, operation):
                (self.operations if self.recording is None else self.recording).append(operation)

            def run(self, upto=None):
                if self.recording is not None:
                    self.recording = "invalid"
                    raise driver.LogicError("cuEventSynchronize failed: the stream is capturing")
                count = len(self.operations) if upto is None else upto
                todo, self.operations = self.operations[:count], self.operations[count:]
                for operation in todo:
                    operation()

            def synchronize(self):
                gpu.current("synchronize")
                self.run()

        class Event(Owned):
            kind = "event"

            def __init__(self, flags):
                assert flags == driver.event_flags.DISABLE_TIMING
                super().__init__()

            def record(self, stream):
                gpu.current("record")
                self.stream, self.upto = stream, len(stream.operations)

            @native
            def synchronize(self):
                gpu.current("wait")
                gpu.log.append(("wait",))
                self.stream.run(self.upto)

        class Allocation:
            def __init__(self, size):
                self.address = gpu.allocate(size)
                gpu.count("device memory", 1)

            def __int__(self):
                return self.address

            def free(self):
                gpu.current("free")
                gpu.count("device memory", -1)
                gpu.log.append(("free",))
                gpu.unmap(self.address)

        class Pinned:
            def __init__(self, shape, dtype, mem_flags):
                self.content = np.full(shape, POISON, dtype)
                self.__array_interface__ = self.content.__array_interface__
                gpu.count("pinned memory", 1)
                assert mem_flags == (driver.host_alloc_flags.DEVICEMAP if gpu.one_memory else 0)
                self.address = gpu.map(self.content.view(np.uint8)) if mem_flags else None

            def get_device_pointer(self):
                return self.address

            def free(self):
                gpu.current("free")
                gpu.count("pinned memory", -1)
                self.content[:] = POISON
                if self.address:
                    gpu.unmap(self.address)

        def mem_alloc(size):
            gpu.current("mem_alloc")
            return Allocation(size)

        def pagelocked_empty(shape, dtype, mem_flags=0):
            gpu.current("pagelocked_empty")
            return np.asarray(Pinned(shape, dtype, mem_flags))

        def memcpy_htod_async(dest, src, stream):
            gpu.current("memcpy_htod_async")

            def copy():
                gpu.log.append(("upload", src.nbytes))
                gpu.at(dest, src.nbytes)[:] = src.view(np.uint8)

            stream.enqueue(copy)

        def memcpy_dtoh_async(dest, src, stream):
            gpu.current("memcpy_dtoh_async")

            def copy():
                gpu.log.append(("download", dest.nbytes))
                dest.view(np.uint8)[:] = gpu.at(src, dest.nbytes)

            stream.enqueue(copy)

        def memset_d8_async(dest, data, size, stream):
            gpu.current("memset_d8_async")

            def clear():
                gpu.log.append(("clear", size))
                gpu.at(dest, size)[:] = data

            stream.enqueue(clear)

        driver.init = lambda: None
        driver.Context, driver.Device, driver.Stream, driver.Event = Context, Device, Stream, Event
        for function in (mem_alloc, pagelocked_empty, memcpy_htod_async, memcpy_dtoh_async, memset_d8_async):
            setattr(driver, function.__name__, native(function))
        return driver

    def _tensorrt(gpu):
        trt = fake_tensorrt()
        trt.__spec__ = ModuleSpec("tensorrt", None)
        trt.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
        trt.DataType = SimpleNamespace(FLOAT="float32", HALF="float16")

        class Parser(trt.OnnxParser):
            def __init__(self, network, logger):
                self.network = network

            def parse(self, model, path):
                self.network.path = path
                return super().parse(model, path)

        class Network(trt.INetworkDefinition):
            num_inputs = property(lambda self: len(session(self.path).get_inputs()))

            def get_input(self, i):
                return SimpleNamespace(name=session(self.path).get_inputs()[i].name)

        class Builder(trt.Builder):
            def create_network(self, flags):
                return Network()

            def build_serialized_network(self, network, config):
                assert super().build_serialized_network(network, config) is not None
                inputs = [value.name for value in session(network.path).get_inputs()]
                shapes = [arguments for name, arguments in trt.calls if name == "set_shape"][-len(inputs) :]
                return json.dumps({"path": network.path, "profile": {s[0]: [s[1], s[3]] for s in shapes}}).encode()

        class Runtime(trt.Runtime):
            def deserialize_cuda_engine(self, plan):
                gpu.current("deserialize_cuda_engine")
                return Engine(gpu, json.loads(plan))

        trt.OnnxParser, trt.INetworkDefinition, trt.Builder, trt.Runtime = Parser, Network, Builder, Runtime
        return trt


@cache
def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Engine:
    """ICudaEngine."""

    def __init__(self, gpu, plan):
        self.gpu, self.profile, self.session = gpu, plan["profile"], session(plan["path"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.types = {}
        gpu.count("engine", 1)

    def __del__(self):
        self.gpu.destroyed("engine")

    num_io_tensors = property(lambda self: len(self.inputs + self.outputs))

    def get_tensor_name(self, i):
        return (self.inputs + self.outputs)[i]

    def get_tensor_mode(self, name):
        return "input" if name in self.inputs else "output"

    def get_tensor_dtype(self, name):
        return self.types.get(name, "float32")

    def create_execution_context(self):
        if "create_execution_context" in self.gpu.failing:
            self.gpu.tensorrt.logger.log(1, "out of memory")
            return None
        return Context(self.gpu, self)


class Context:
    """IExecutionContext."""

    def __init__(self, gpu, engine):
        self.gpu, self.engine = gpu, engine
        self.shapes, self.addresses, self.ran = {}, {}, None
        gpu.count("execution context", 1)

    def __del__(self):
        self.gpu.destroyed("execution context")

    def refused(self, name):
        if name in self.gpu.failing:
            self.gpu.tensorrt.logger.log(1, f"no {name}")
            return True
        return False

    def set_input_shape(self, name, shape):
        smallest, largest = self.engine.profile[name]
        fits = len(shape) == len(smallest)
        fits = fits and all(a <= n <= b for a, n, b in zip(smallest, shape, largest, strict=True))
        self.shapes[name] = tuple(shape)
        return fits and not self.refused("set_input_shape")

    def get_tensor_shape(self, name):
        (output,) = (value for value in self.engine.session.get_outputs() if value.name == name)
        (first, *_, frames), *_ = self.shapes.values()  # of "features", or a recogniser's "images"
        known = [first, frames] if len(self.shapes.get("features", ())) == 3 else [first]
        return known + list(output.shape)[len(known) :]

    def set_tensor_address(self, name, address):
        assert isinstance(address, int) and address % 256 == 0
        if self.addresses.get(name) != address:
            self.ran = None
        self.addresses[name] = address
        return not self.refused("set_tensor_address")

    def is_stream_capturable(self, handle):
        """TensorRT-RTX's; the others have none, and what they say is learnt by trying."""
        assert self.ran == self.addresses, "asked before a run"
        return not self.refused("is_stream_capturable")

    def execute_async_v3(self, handle):
        gpu, engine = self.gpu, self.engine
        gpu.current("execute_async_v3", "nothing")
        if self.refused("execute_async_v3"):
            return False
        stream = gpu.streams[handle]
        if stream.recording is not None and self.refused("recording"):
            return False
        assert set(self.addresses) == {*engine.inputs, *engine.outputs}
        assert stream.recording is None or self.ran == self.addresses, "recorded without a run before"
        assert len(set(self.addresses.values())) == len(self.addresses), "two tensors at one address"
        self.ran = dict(self.addresses)
        addresses, shapes = dict(self.addresses), dict(self.shapes)

        def run():
            gpu.log.append(("run", addresses))
            inputs = {name: gpu.floats(addresses[name], shapes[name]) for name in engine.inputs}
            outputs = engine.session.run(engine.outputs, inputs)
            for name, value in zip(engine.outputs, outputs, strict=True):
                gpu.floats(addresses[name], value.shape)[:] = value

        stream.enqueue(run)
        return True


class Flow:
    """roi_flow.CudaRoiFlow on this GPU's memory: that of an emulated library, or with the CPU's flow."""

    def __init__(self, gpu, library, shape, lanes, roi_set, addresses, compat):
        if "flow" in gpu.failing:
            raise EngineError("expected optical flow on the GPU, but its memory is short")
        self.gpu, self.closed = gpu, False
        self.frame = gpu.at(addresses.frame, shape[0] * shape[1]).reshape(shape)
        self.requests = gpu.floats(addresses.requests, (lanes, roi_flow.REQUEST))
        self.features = gpu.floats(addresses.features, (lanes, channels(roi_set)))
        self.likeness = gpu.floats(addresses.likeness, (lanes,))
        arrays = (self.frame, self.requests, self.features, self.likeness)
        self.real = None
        if library:
            on_host = roi_flow.Addresses(*(array.ctypes.data for array in arrays))
            self.real = roi_flow.CudaRoiFlow(library, shape, lanes, roi_set, on_host, compat)
        self.make = lambda box, landmarks: RoiFlow(self.frame.copy(), box, landmarks, roi_set, compat)
        self.flows = [None] * lanes
        self.before, self.last = np.zeros((2, *self.features.shape), np.float32)
        gpu.count("flow", 1)

    def enqueue(self, handle, operation):
        self.gpu.current("flow", "nothing")
        assert not self.closed
        self.gpu.streams[handle].enqueue(operation)

    def start(self, lane, box, landmarks, stream):
        assert self.gpu.streams[stream].recording is None, "starting cannot be recorded"

        def start():
            self.gpu.log.append(("start", lane))
            if self.real:
                return self.real.start(lane, box, landmarks, None)
            self.flows[lane] = self.make(box, landmarks)
            self.before[lane] = self.last[lane] = 0.0
            self.likeness[lane] = 1.0

        self.enqueue(stream, start)

    def measure(self, stream):
        def run():
            lanes = [n for n, flow in enumerate(self.flows) if self.requests[n, 0]]
            self.gpu.log.append(("measure", lanes))
            if self.real:
                return self.real.measure(None)
            for lane in lanes:
                if self.flows[lane]:
                    self.before[lane], self.last[lane] = self.last[lane], measure([self.flows[lane]], self.frame, 1)[0]
                    self.likeness[lane] = self.flows[lane].likeness
            self.blend_now()

        self.enqueue(stream, run)

    def blend(self, stream):
        def run():
            self.gpu.log.append(("blend",))
            self.real.blend(None) if self.real else self.blend_now()

        self.enqueue(stream, run)

    def blend_now(self):
        self.features[:] = self.requests[:, 1:2] * self.before + self.requests[:, 2:3] * self.last

    def close(self):
        self.gpu.current("close", "nothing")
        assert not self.closed
        self.closed = True
        self.gpu.count("flow", -1)
        if self.real:
            self.real.close()


class Step(step_library.FusedStep):
    """library.FusedStep on this GPU's memory."""

    def __init__(self, gpu, library, network):
        super().__init__(library, network)
        self.gpu, self.channels, self.classes = gpu, network.channels, network.classes

    def enqueue(self, lanes, weights, arrays, stream, blocks=1):
        gpu = self.gpu
        gpu.current("step")
        floats = {"features": self.channels, "reset": 1, "state": self.state, "next_state": self.state, "spot": 1}
        floats["emotion"] = self.classes
        assert set(arrays) == set(step_library.ARRAYS) and all(address % 256 == 0 for address in arrays.values())

        def run():
            gpu.log.append(("step", arrays))
            views = {name: gpu.floats(address, (lanes, floats[name])) for name, address in arrays.items()}
            on_host = {name: view.ctypes.data for name, view in views.items()}
            packed = gpu.floats(weights, (self.weights,))
            super(Step, self).enqueue(lanes, packed.ctypes.data, on_host, 0, blocks)

        gpu.streams[stream].enqueue(run)


class Graph:
    """metst_edge._native.CudaGraph."""

    def __init__(self, gpu):
        self.gpu, self.operations, self.stream = gpu, None, None
        if "CudaGraph" in gpu.failing:
            raise RuntimeError("libcuda.so.1 cannot be loaded")

    def begin(self, handle):
        self.gpu.current("begin", "nothing")
        self.stream = self.gpu.streams[handle]
        assert self.stream.recording is None
        self.stream.recording = []
        self.thread = threading.get_ident()

    def end(self):
        assert self.thread == threading.get_ident()
        recorded, self.stream.recording = self.stream.recording, None
        if recorded == "invalid" or "end" in self.gpu.failing:
            raise RuntimeError("the recording failed: invalidated")
        self.operations = recorded
        self.gpu.count("graph", 1)
        self.gpu.log.append(("record",))

    def launch(self, handle):
        self.gpu.current("launch", "nothing")
        if "launch" in self.gpu.failing:
            raise RuntimeError("the graph cannot be launched: no")
        assert self.operations is not None
        self.gpu.log.append(("launch", len(self.operations)))
        for operation in self.operations:
            self.gpu.streams[handle].enqueue(operation)

    def close(self):
        self.gpu.current("close", "nothing")
        if self.operations is not None:
            self.operations = None
            self.gpu.count("graph", -1)

    def __del__(self):
        if self.operations is not None:
            self.close()
