"""A module with TensorRT's Python API that does nothing but write down what is asked of it.

For what no machine without a GPU can show: plugins, real TensorRT's generations, engines that TensorRT refuses, calls
that give nothing. Whether TensorRT takes what it is given is asked of TensorRT-RTX.
"""

from types import ModuleType, SimpleNamespace
from typing import Any

SCAN = ("SelectiveScan", "1", "metst")


def fake_tensorrt(*, plugins: bool = True, weak: bool = True, rtx: bool = False, nothing: str = "") -> Any:
    """Make the module.

    Args:
        plugins: networks take plugins (all but RTX).
        weak: networks may be weakly typed (before 11).
        rtx: it has the builder flag that only TensorRT-RTX has.
        nothing: name of the call that logs an error and gives None, False or -1, or raises for a constructor.

    Returns:
        The module; `calls` is a list of (name, arguments), `creators` what the plugin registry knows, `tensors` a
        network's inputs.
    """
    trt = ModuleType("tensorrt")
    trt.__version__ = "10.3.0"
    trt.calls, trt.creators, trt.refused, trt.tensors = [], set(), set(), {}
    trt.library = {SCAN}  # what a plugin library brings

    def call(name, result, *arguments, failed=None):
        trt.calls.append((name, arguments))
        if name == nothing:
            trt.logger.log(Logger.ERROR, f"no {name}\ntoday")
            return failed
        return result

    class Logger:
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        def __init__(self):
            trt.logger = self

    class Registry:
        def get_creator(self, *name):
            return "creator" if name in trt.creators else None

        def load_library(self, path):
            if call("load_library", "handle", path) is None:
                return None
            trt.creators |= trt.library
            return "handle"

    class Network:
        num_inputs = property(lambda self: len(trt.inputs))

        def get_input(self, i):
            tensor = SimpleNamespace(name=trt.inputs[i], shape=None)
            trt.tensors[tensor.name] = tensor
            return tensor

    if plugins:
        Network.add_plugin_v3 = lambda self: None

    class Parser:
        num_errors = 0

        def __init__(self, network, logger):
            pass

        def set_flag(self, flag):
            call("set_flag", None, flag)

        def parse(self, model, path):
            return call("parse", True, model, path, failed=False)

    class Profile:
        def set_shape(self, *shapes):
            call("set_shape", None, *shapes)

    class Config:
        progress_monitor = None
        max_aux_streams = None

        def set_flag(self, flag):
            call("set_builder_flag", None, flag)

        def set_memory_pool_limit(self, pool, size):
            call("set_memory_pool_limit", None, pool, size)

        def clear_flag(self, flag):
            call("clear_flag", None, flag)

        def add_optimization_profile(self, profile):
            return call("add_optimization_profile", 0, failed=-1)

        def create_timing_cache(self, content):
            return call("create_timing_cache", "timing", content)

        def set_timing_cache(self, timing, ignore_mismatch):
            return call("set_timing_cache", True, timing, ignore_mismatch, failed=False)

        def get_timing_cache(self):
            return SimpleNamespace(serialize=lambda: b"measured")

    class Builder:
        def __init__(self, logger):
            call("Builder", True)
            if nothing == "Builder":
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags):
            return call("create_network", Network(), flags)

        def create_builder_config(self):
            return call("create_builder_config", Config())

        def create_optimization_profile(self):
            return call("create_optimization_profile", Profile())

        def build_serialized_network(self, network, config):
            call("max_aux_streams", None, config.max_aux_streams)
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 2)
            monitor.phase_start("Timing", "Building", 4)
            going_on = all([monitor.step_complete("Timing", step) for step in range(4)])
            monitor.phase_finish("Timing")
            built = [call for call, _ in trt.calls].count("build_serialized_network")
            return call("build_serialized_network", f"plan {built}".encode() if going_on else None)

    class Runtime:
        def __init__(self, logger):
            call("Runtime", True)
            if nothing == "Runtime":
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize_cuda_engine(self, plan):
            if plan in trt.refused:
                trt.logger.log(Logger.ERROR, "magic tag does not match")
                return None
            return call("deserialize_cuda_engine", f"engine of {plan.decode()}", plan)

    trt.ILogger, trt.INetworkDefinition, trt.OnnxParser, trt.Builder, trt.Runtime = (
        Logger,
        Network,
        Parser,
        Builder,
        Runtime,
    )
    trt.IProgressMonitor = type("IProgressMonitor", (), {})
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    flags = ["TF32", *(["FP16"] if weak else []), *(["REQUIRE_USER_ALLOCATION"] if rtx else [])]
    trt.BuilderFlag = SimpleNamespace(**{flag: flag for flag in flags})
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    trt.OnnxParserFlag = SimpleNamespace(ENABLE_PLUGIN_OVERRIDE="override")  # from 10.15 on; never to be set
    trt.get_plugin_registry = Registry
    return trt
