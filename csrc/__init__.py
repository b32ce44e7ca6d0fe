"""C++ and CUDA sources. What is Python here serves tests and benchmarks: it compiles the kernels and judges them."""
