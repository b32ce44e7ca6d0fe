"""The binding of CUDA graphs; recording and launching are tested in C++ (csrc/tests/test_cuda_graph.cpp)."""

import ctypes

import pytest

from metst_edge._native import CudaGraph


def test_without_a_driver_it_says_so():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(RuntimeError, match=r"libcuda.so.1 cannot be loaded"):
            CudaGraph()
    else:
        graph = CudaGraph()
        for call in (graph.end, lambda: graph.launch(1)):
            with pytest.raises(RuntimeError, match="nothing is recorded"):
                call()
