"""The CUDA kernels on a machine with a GPU: built, checked and timed by run.py."""
