# Shortcuts. What each does is one command; `bash .ci/run` is what must pass before anything lands.
PYTHON ?= python
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help test lint native sanitize neon docs bench

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

test:  ## the Python tests
	$(PYTHON) -m pytest

lint:  ## style, types, and the direction of imports
	ruff check .
	ruff format --check .
	git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror
	mypy
	lint-imports

native:  ## build the C++ part without Python, and run its tests
	cmake -S . -B build/cpp
	cmake --build build/cpp --parallel $(JOBS)
	ctest --test-dir build/cpp --output-on-failure

sanitize:  ## the C++ tests under the address and undefined-behaviour sanitizers, then under the thread sanitizer
	cmake -S . -B build/sanitize -DMETST_SANITIZE=address
	cmake --build build/sanitize --parallel $(JOBS)
	ctest --test-dir build/sanitize --output-on-failure
	cmake -S . -B build/thread -DMETST_SANITIZE=thread
	cmake --build build/thread --parallel $(JOBS)
	ctest --test-dir build/thread --output-on-failure

# Without the CUDA kernels: their emulation inside qemu takes long and shows nothing of NEON.
neon:  ## the C++ tests of the NEON path, under qemu (apt-get install g++-aarch64-linux-gnu qemu-user)
	cmake -S . -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=csrc/tests/aarch64.cmake
	cmake --build build/aarch64 --parallel $(JOBS)
	ctest --test-dir build/aarch64 --output-on-failure --exclude-regex cuda

docs:  ## the documentation, into build/docs
	$(PYTHON) -m sphinx -W --keep-going -b html docs build/docs

bench:  ## how long every stage of a frame takes on this machine
	$(PYTHON) -m metst_edge bench
