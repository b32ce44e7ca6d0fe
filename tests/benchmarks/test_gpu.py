"""benchmarks/gpu without a GPU: its arithmetic, its words, and its kernels through the C++ tests' emulation."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import results
from benchmarks.gpu import flow, fused, library, peers, run, scan, step, timing
from benchmarks.gpu import tests as cpp_tests
from benchmarks.gpu.scan import Shape
from benchmarks.gpu.timing import Rates
from csrc.cuda import shared_library
from metst_edge.engine import networks
from training.models import build

RATES = Rates(copy=3e12, exponentials=3.7e12, node=1e-6)
NVCC = shared_library.find_nvcc()
FLOAT32 = torch.float32


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def emulated(emulated_kernels):
    """The library as the GPU's, but compiled for the CPU."""
    return library.Library(emulated_kernels, "cpu")


def test_without_a_gpu_one_line_says_so_and_nothing_is_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.main(["--out"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "needs an NVIDIA GPU that torch can use, found none" in printed
    assert not list(tmp_path.iterdir())


def test_without_nvcc_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(shared_library, "find_nvcc", lambda: None)
    assert run.main([]) == 1
    assert capsys.readouterr().out == (
        "benchmarks/gpu/run.py needs nvcc, found none: install the CUDA toolkit or set CUDACXX to nvcc\n"
    )


def test_without_the_compiled_module_one_line_says_how_to_get_it():
    """As after a plain pip install: the checkout comes first and has the package without what is compiled.

    Hidden here, since where the tests run it may lie in the checkout or be found by an editable install.
    """
    script = shared_library.ROOT / "benchmarks/gpu/run.py"
    code = f"""
import runpy, sys, torch
torch.cuda.is_available = lambda: True
sys.modules["metst_edge._native"] = None  # what an import of a module that is not there ends in
runpy.run_path({str(script)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 1, "")
    assert "_native" in done.stdout
    assert done.stdout.endswith(": pip install --no-deps --no-build-isolation -e .\n")


def test_the_script_runs_from_anywhere(tmp_path):
    """As a user calls it, in a process of its own; a GPU is hidden from it where there is one."""
    done = subprocess.run(
        [sys.executable, str(shared_library.ROOT / "benchmarks/gpu/run.py"), "--quick"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (1, 1, "")


def test_bytes_and_exponentials_are_counted_from_the_definition():
    shape = Shape(2, 3, 5, 7)
    for dtype in scan.NAMES:
        x = scan.layer(shape, dtype, "cpu", 0)
        # y is as large as u, the last state as the first.
        moved = sum(tensor.nbytes for tensor in (*x.values(), x["u"], x["h0"]))
        assert shape.bytes_moved(dtype.itemsize) == moved
    # A step of a channel: one per state, softplus, gate.
    assert shape.exponentials() == 2 * 3 * 5 * (7 + 2)


def test_the_largest_shape_is_bound_by_exponentials_or_bytes_as_its_states_say():
    wide, narrow = Shape(64, 8192, 2048, 64), Shape(64, 8192, 2048, 16)
    seconds, what = wide.floor(4, RATES)
    assert what == "exponentials" and seconds == pytest.approx(64 * 8192 * 2048 * 66 / 3.7e12)
    seconds, what = narrow.floor(4, RATES)
    assert what == "bytes" and seconds == pytest.approx(narrow.bytes_moved(4) / 3e12)
    assert Shape(2, 1, 128, 64).floor(4, RATES) == (1e-6, "launch")


def test_what_is_timed_spans_what_was_asked_for():
    every = scan.shapes(quick=False)
    assert every[0] == Shape(2, 1, 128, 64) and every[-2] == Shape(64, 8192, 2048, 64)
    assert {shape.states for shape in every} == {16, 64}
    assert set(scan.shapes(quick=True)) < set(every)
    assert any(shape.short for shape in every) and any(shape.length >= scan.LONG for shape in every)


def test_inputs_have_left_the_cache_before_they_come_round_again():
    """Three times over, whatever the shape and type; 50 MB is an H100's L2."""
    cache = 50 << 20
    for shape in scan.shapes(quick=False):
        for width in (2, 4):
            sets = scan.input_sets(shape, width, cache)
            assert sets * shape.bytes_moved(width) >= 3 * cache
            assert sets == 1 or (sets - 1) * shape.bytes_moved(width) < 3 * cache


def made_up(shape, ms, mamba, dtype=FLOAT32):
    """A row of a kernel that took a tenth less and a tenth more."""
    return scan.row_of(shape, dtype, 0.9 * ms, 1.1 * ms, mamba, RATES, 4)


def test_the_verdicts_are_about_the_worst_shape_and_say_by_how_much():
    largest = Shape(64, 8192, 2048, 16)
    half = 1e3 * largest.bytes_moved(4) / RATES.copy / 0.5  # half the copy rate
    rows = [
        made_up(Shape(2, 1, 128, 64), 0.004, 0.012),
        made_up(Shape(2, 30, 128, 64), 0.010, 0.015),
        made_up(Shape(8, 1024, 1024, 64), 1.0, 1.1),
        made_up(largest, half, 1.2 * half),
    ]
    lines = scan.judge(rows, RATES)
    assert lines[0].startswith("MISSED by 25 %: the scan against mamba_ssm's kernel, L <= 64, B <= 4, worst of 2")
    assert "(2, 30, 128)" in lines[0]
    assert lines[1].startswith("met: the scan against mamba_ssm's kernel, L >= 1024, worst of 2: (B, L, D) = (8, 1024")
    assert lines[2].startswith("MISSED by 29 %") and "allow" not in lines[2]  # bytes are the bound
    assert len(lines) == 3


def test_a_missed_copy_rate_names_the_exponentials_where_they_forbid_it():
    largest = Shape(64, 8192, 2048, 64)
    row = made_up(largest, 1e3 * largest.exponentials() / RATES.exponentials, None)
    line = scan.judge([row], RATES)[-1]
    allowed = 100 * largest.bytes_moved(4) / RATES.copy / (largest.exponentials() / RATES.exponentials)
    assert line.startswith("MISSED") and line.endswith(f"its exponentials at the measured rate allow {allowed:.0f} %")
    assert row["of floor %"] == pytest.approx(100)


def test_a_peer_that_is_not_there_leaves_a_dash_and_a_sentence():
    rows = [made_up(Shape(2, 1, 128, 64), 0.004, None)]
    assert rows[0]["mamba_ssm us"] == rows[0]["x mamba_ssm"] == rows[0]["torch eager us"] == "-"
    assert rows[0]["ours us"] == pytest.approx(3.6) and rows[0]["timed"] == "graph"
    assert rows[0]["again us"] == pytest.approx(4.4)
    lines = scan.judge(rows, RATES)
    assert len(lines) == 2 and all(line.startswith("not measured: the scan against mamba_ssm's") for line in lines)


def test_an_element_nobody_wrote_is_an_error():
    row = {"type": "float32", "y error": 1e-7, "h error": 1e-7, "y bound": 1e-4, "h bound": 1e-4}
    rows = [{**row, "type": name} for name in scan.NAMES.values()]
    assert all(line.startswith("met") for line in scan.judge_errors(rows))
    lines = scan.judge_errors([*rows, {**row, "y error": float("nan")}])
    assert lines[0].startswith("MISSED") and all(line.startswith("met") for line in lines[1:])


def test_a_fused_step_is_estimated_from_launches_and_bytes():
    launches, ms = step.estimate(12, 2_500_000, 500_000, RATES)
    assert launches == 2 + 12 + 1
    assert ms == pytest.approx(15e-3 + 1e-3)


def test_step_and_flow_are_held_against_what_was_asked_for(emulated):
    torch.manual_seed(0)
    small = step.Step(build("metst64", dim=16, depth=2, d_state=8).eval(), emulated, 2)
    small()
    row = step.row_of("metst64", 2, small, 1e-6, [0.30, 0.33, 0.36], 1.0, RATES)
    assert row["captured, warm ms"] == 0.33 and row["launches at least"] == small.launches > 20
    lines = step.judge([row])
    assert lines[0].startswith("MISSED by 10 %: a captured step of metst64, 2 lanes") and "at best" in lines[1]
    assert f"at least {small.launches} launches, warm" in lines[0]

    row = {"ROIs": 18, "lanes": 2, "still ms": 0.2, "moving ms": 0.6, "largest diff px": 0.03}
    lines = flow.judge([row, {**row, "lanes": 64, "still ms": 9.0, "moving ms": 9.0}])
    assert [line.split(":")[0] for line in lines] == ["MISSED by 50 %", "met", "MISSED by 20 %"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo fine", "passed"),
        ("echo no GPU; exit 77", "skipped"),
        ("exit 1", "failed: status 1"),
        ("echo '========= ERROR SUMMARY: 1 error'; exit 99", "errors found"),
        ("sleep 9", "stopped after 0.2 s"),
    ],
)
def test_every_end_of_a_cpp_test_is_told_apart(script, expected):
    row = cpp_tests.outcome("test", "memcheck", ["bash", "-c", script], seconds=0.2 if "sleep" in script else 60)
    assert row["outcome"] == expected
    line = cpp_tests.judge([row])[0]
    assert line.startswith("met") is (expected == "passed") and line.startswith("MISSED") is (expected != "passed")
    if "ERROR" in script:
        assert row["last line"] == "ERROR SUMMARY: 1 error"


def ends(pid):
    """Wait for a killed process to end, which takes a moment after its pipes are closed."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def test_a_stopped_tool_leaves_no_program_running(tmp_path):
    """compute-sanitizer starts the test in a process of its own, which would keep the GPU."""
    child = tmp_path / "pid"
    row = cpp_tests.outcome("test", "memcheck", ["bash", "-c", f"sleep 60 & echo $! > {child}; wait"], seconds=0.5)
    assert row["outcome"] == "stopped after 0.5 s" and row["s"] < 10
    assert ends(int(child.read_text()))


def test_an_interrupted_run_stops_its_programs(machine, monkeypatch):
    pid = machine / "pid"
    program = next(machine.rglob("test_selective_scan_gpu"))
    program.write_text(f"#!/bin/sh\necho $$ > {pid}.part\nmv {pid}.part {pid}\nexec sleep 60\n")

    class Pool(cpp_tests.ThreadPoolExecutor):
        def map(self, *arguments):
            super().map(*arguments)
            while not pid.exists():
                time.sleep(0.01)
            raise SystemExit(143)  # as the handler of SIGTERM does in the main thread

    monkeypatch.setattr(cpp_tests, "ThreadPoolExecutor", Pool)
    start = time.perf_counter()
    with pytest.raises(SystemExit):
        cpp_tests.run(machine / "tests", "echo", "90", sanitize=False)
    assert time.perf_counter() - start < 30 and ends(int(pid.read_text()))


def test_a_program_that_is_being_started_is_stopped_too(monkeypatch):
    """It is there before whoever starts it knows of it."""
    programs, asked = cpp_tests.Programs(), threading.Event()
    begin = cpp_tests.subprocess.Popen

    def slowly(*arguments, **options):
        program = begin(*arguments, **options)
        asked.set()
        time.sleep(0.2)
        return program

    monkeypatch.setattr(cpp_tests.subprocess, "Popen", slowly)
    with cpp_tests.ThreadPoolExecutor() as pool:
        row = pool.submit(cpp_tests.outcome, "test", "-", ["sleep", "60"], programs=programs)
        assert asked.wait(10)
        programs.stop()
        assert row.result(10)["outcome"] == "failed: status -9"
    with pytest.raises(InterruptedError):
        programs.start(["sleep", "60"])


def test_a_device_that_the_sanitizer_refuses_is_no_failure():
    script = "echo '========= Error: Device not supported. Please refer to the documentation'; exit 255"
    refused = cpp_tests.outcome("test", "memcheck", ["bash", "-c", script])
    assert refused["outcome"] == "not run: the tool refuses the device"
    (line,) = cpp_tests.judge([refused])
    assert line.startswith("not run: compute-sanitizer clean, 1 of 1 runs: Error: Device not supported")
    # Of the test itself, without a tool, the words prove nothing.
    assert cpp_tests.outcome("test", "-", ["bash", "-c", script])["outcome"] == "failed: status 255"
    passed = {**refused, "under": "racecheck", "outcome": "passed"}
    lines = cpp_tests.judge([refused, passed])
    assert lines[0].startswith("not run") and lines[1] == "met: compute-sanitizer clean: all 1 runs passed"


@pytest.mark.parametrize(
    ("there", "generator"), [({"make", "ninja"}, False), ({"ninja"}, True), ({"gmake", "ninja"}, False), (set(), False)]
)
def test_ninja_builds_where_there_is_no_make(monkeypatch, tmp_path, there, generator):
    commands = []
    monkeypatch.setattr(cpp_tests, "build", commands.append)
    monkeypatch.setattr(cpp_tests.shutil, "which", lambda name: f"/bin/{name}" if name in there else None)
    assert cpp_tests.configure(tmp_path, "nvcc", "90") == []
    assert ("-G Ninja" in " ".join(commands[0])) is generator


def test_the_headers_of_tensorrt_are_where_the_environment_says(monkeypatch, tmp_path):
    commands = []

    def no_headers(command):
        commands.append(command)
        if "-DMETST_TENSORRT=ON" in command:
            raise RuntimeError("METST_TENSORRT=ON needs NvInfer.h of TensorRT 10.0 or newer")

    for name in ("TENSORRT_ROOT", "TENSORRT_INCLUDE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cpp_tests, "build", commands.append)
    cpp_tests.configure(tmp_path, "nvcc", "90")
    assert not any("DTENSORRT" in word for word in commands[0])
    monkeypatch.setenv("TENSORRT_INCLUDE_DIR", "/headers")
    assert cpp_tests.configure(tmp_path, "nvcc", "90") == []
    assert {"-DTENSORRT_INCLUDE_DIR=/headers", "-DMETST_TENSORRT=ON"} <= set(commands[1])
    monkeypatch.setattr(cpp_tests, "build", no_headers)
    (note,) = cpp_tests.configure(tmp_path, "nvcc", "90")
    assert note.startswith("not run: the plugin's enqueue") and note.endswith("(/headers)")
    assert "-DMETST_TENSORRT=OFF" in commands[-1]


@pytest.mark.parametrize(("generator", "program"), [("Ninja", "ninja"), ("Unix Makefiles", "make")])
def test_targets_are_read_from_every_generator(tmp_path, generator, program):
    if not (shutil.which("cmake") and shutil.which(program)):
        pytest.skip(f"no cmake or no {program}")
    (tmp_path / "below").mkdir()
    head = "cmake_minimum_required(VERSION 3.20)\nproject(some NONE)\n"
    (tmp_path / "CMakeLists.txt").write_text(head + "add_custom_target(alpha)\nadd_subdirectory(below)\n")
    (tmp_path / "below/CMakeLists.txt").write_text("add_custom_target(test_beta)\n")
    shared_library.build(["cmake", "-S", str(tmp_path), "-B", str(tmp_path / "build"), "-G", generator])
    found = cpp_tests.targets(tmp_path / "build")
    assert {"alpha", "test_beta"} <= found and "test_gamma" not in found


def test_every_test_of_the_gpu_that_ctest_has_is_run_with_its_arguments():
    listed = (shared_library.ROOT / "csrc/tests/CMakeLists.txt").read_text()
    assert "add_test(NAME cuda_graph_gpu COMMAND test_cuda_graph gpu)" in listed
    assert "add_test(NAME plugin_cuda COMMAND test_plugin $<TARGET_FILE:metst_edge_plugin> ${contract})" in listed
    given = {test.name: (*test.needs, *test.arguments) for test in cpp_tests.TESTS}
    assert given["test_cuda_graph"] == ("gpu",)
    assert given["test_plugin"] == ("metst_edge_plugin", str(cpp_tests.CONTRACT)) and cpp_tests.CONTRACT.is_file()


def test_a_library_is_built_again_only_when_something_of_it_changes(monkeypatch, tmp_path):
    source, header = tmp_path / "kernel.cu", tmp_path / "include/deep/kernel.h"
    header.parent.mkdir(parents=True)
    source.write_text("source")
    header.write_text("header")
    monkeypatch.setattr(shared_library, "SOURCES", (source,))
    monkeypatch.setattr(shared_library, "INCLUDES", (tmp_path / "include",))
    built = []
    path = tmp_path / "library.so"

    def build(command):
        built.append(command)
        path.write_text("library")

    monkeypatch.setattr(shared_library, "build", build)
    for expected, change in (
        (1, lambda: None),
        (1, lambda: os.utime(source)),  # a fresh copy of the same checkout
        (2, lambda: source.write_text("another source")),
        (3, lambda: header.write_text("another header")),
        (4, path.unlink),
    ):
        change()
        shared_library.build_once(["nvcc"], path)
        assert len(built) == expected
    shared_library.build_once(["nvcc", "-O3"], path)
    assert len(built) == 5

    def broken(command):
        path.write_text("half of it")
        raise RuntimeError("stopped")

    header.write_text("a third")
    monkeypatch.setattr(shared_library, "build", broken)
    with pytest.raises(RuntimeError, match="stopped"):
        shared_library.build_once(["nvcc", "-O3"], path)
    header.write_text("another header")  # as it was built before, but the library is not that one
    monkeypatch.setattr(shared_library, "build", build)
    shared_library.build_once(["nvcc", "-O3"], path)
    assert len(built) == 6 and path.read_text() == "library"


def test_mamba_is_compiled_without_its_backward_kernels(monkeypatch, tmp_path):
    from torch.utils import cpp_extension

    sources = tmp_path / "csrc/selective_scan"
    sources.mkdir(parents=True)
    for name in ("selective_scan.cpp", "selective_scan_fwd_fp32.cu", "selective_scan_bwd_fp32_real.cu"):
        (sources / name).touch()
    asked = {}

    def load(**options):
        asked.update(options)
        return SimpleNamespace(fwd=None)

    monkeypatch.setattr(cpp_extension, "load", load)
    peers.Mamba(tmp_path, tmp_path / "build")
    names = [Path(name).name for name in asked["sources"]]
    assert names == ["selective_scan.cpp", "selective_scan_fwd_fp32.cu", "no_backward.cpp"]
    # One for each type of u, delta, B, C, with real and complex A.
    written = Path(asked["sources"][-1]).read_text()
    assert all(f"METST_STUB({kind})" in written for kind in ("float", "at::Half", "at::BFloat16"))


def test_work_is_timed_after_a_fifth_of_a_second_of_it(monkeypatch):
    """Short calls are enqueued behind one another, long ones are not made more often than they must."""
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(timing, "ROUNDS", (1, 1))
    # A clock of its own: how long a sleep really takes, a busy machine says.
    calls, waits, clock = [], [], SimpleNamespace(now=0.0, each=0.0)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(clock.now))

    def work():
        calls.append(clock.now)
        clock.now += clock.each

    for clock.each, least, most in ((1e-3, 100, 400), (0.3, 2, 6)):
        calls.clear()
        waits.clear()
        start = clock.now
        timing.time_events([work], seconds=0.5)
        warm = waits[-2] - start  # the last is behind what was timed
        assert warm >= 0.2 and least <= len(calls) <= most and len(waits) <= 12


def test_results_carry_the_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    rows = [made_up(Shape(2, 1, 128, 64), 0.004, None)]
    results.show("Title", rows, "gpu-scan", True, ["a note"], more={"gpu": "NVIDIA H100"})
    kept = json.loads(next(tmp_path.glob("????-??-??-gpu-scan.json")).read_text())
    assert kept["machine"]["gpu"] == "NVIDIA H100" and "processor" in kept["machine"]
    assert "- gpu: NVIDIA H100\n" in next(tmp_path.glob("????-??-??-gpu-scan.md")).read_text()


def test_a_printed_table_shows_whole_numbers_and_any_text(capsys):
    largest = Shape(64, 8192, 2048, 64)
    row = made_up(largest, 12640.1, 23456.7, torch.bfloat16)
    results.show("Title [/b]", [row], "gpu-scan", False)
    printed = capsys.readouterr().out
    assert "…" not in printed and "e+0" not in printed and "Title [/b]" in printed
    for value in row.values():
        assert (f"{value:.0f}" if isinstance(value, float) and value > 1e4 else str(value)[:3]) in printed
    assert "23456700" in printed and "mamba_ssm us" in printed
    line = "ld: cannot find -lcudart [/usr/lib] [red] \\[x] " + 400 * "y"
    results.show("Title", [{"test": "one", "last line": line}], "gpu-tests", False)
    printed = capsys.readouterr().out
    assert "cannot find -lcudart [/usr/lib] [red] \\[x]" in printed and printed.count("y") >= 400


def test_the_scan_s_error_is_measured_against_float64(emulated):
    rows = scan.errors(emulated, [Shape(2, 1, 128, 64), Shape(2, 30, 40, 16), Shape(1, 530, 5, 64)])
    assert len(rows) == 9 and all(0 < row["y error"] < row["y bound"] for row in rows)
    # Rounding of y shows in 16-bit types, so the figures are of what was computed in them.
    errors = {name: max(row["y error"] for row in rows if row["type"] == name) for name in scan.NAMES.values()}
    assert errors["float32"] < 1e-5 < errors["float16"] < errors["bfloat16"]


def test_torch_is_a_peer_and_another_result_is_refused(emulated):
    x = scan.layer(Shape(2, 5, 7, 4), FLOAT32, "cpu", 0)
    scan.check_peer("torch", lambda: peers.by_steps(peers.one_step, x), emulated, x)

    def wrong():
        y, h = peers.by_steps(peers.one_step, x)
        return y, 1.01 * h

    with pytest.raises(RuntimeError, match="torch: h differs from our kernel's"):
        scan.check_peer("torch", wrong, emulated, x)


def test_a_difference_is_of_the_largest_value_and_sees_nan():
    expected = torch.tensor([[1.0, -4.0], [2.0, 0.0]])
    assert scan.difference(expected + torch.tensor([[0.0, 0.0], [0.0, 0.2]]), expected) == pytest.approx(0.05)
    assert np.isnan(scan.difference(expected * float("nan"), expected))


def test_mamba_is_called_in_its_order_of_axes(emulated, monkeypatch):
    """Its interface in torch: channels before time, B and C with a group axis, states interleaved in what it keeps."""

    class Extension:
        @staticmethod
        def fwd(u, delta, a, b, c, d, z, bias, softplus):
            assert all(tensor.is_contiguous() for tensor in (u, delta, b, c, z)) and softplus
            x = {"u": u, "delta": delta, "z": z, "B": b[:, 0], "C": c[:, 0]}
            x = {name: tensor.transpose(1, 2) for name, tensor in x.items()}
            zero = torch.zeros(len(u), *a.shape)
            y, h = peers.by_steps(peers.one_step, {**x, "A": a, "D": d, "delta_bias": bias, "h0": zero})
            kept = torch.stack((torch.ones_like(h), h), -1).flatten(2)[:, :, None]
            return torch.zeros(0), kept, y.transpose(1, 2)

    monkeypatch.setitem(sys.modules, "selective_scan_cuda", Extension)
    x = scan.layer(Shape(2, 5, 7, 4), FLOAT32, "cpu", 0)
    x["h0"] = torch.zeros_like(x["h0"])
    scan.check_peer("mamba_ssm", peers.Mamba(None, None).bind(x), emulated, x)


def test_an_error_is_told_in_one_line_whatever_it_says():
    assert scan.in_one_line(ValueError("one\ntwo")) == "ValueError: one"
    assert scan.in_one_line(AssertionError()) == "AssertionError: "


def test_a_folder_that_is_no_mamba_is_refused(tmp_path):
    with pytest.raises(ImportError, match="expected selective_scan.cpp and .cu files"):
        peers.Mamba(tmp_path, tmp_path / "build")


def test_a_refused_call_is_an_error(emulated):
    args = library.ScanArgs(batch=1, length=1, channels=1, states=1000)
    with pytest.raises(RuntimeError, match="selective_scan: bad size"):
        emulated.scan(args)


@pytest.mark.parametrize("model", ["metst64", "metst128"])
def test_a_step_gives_the_network_s_scores_over_several_windows(emulated, model):
    torch.manual_seed(0)
    network = build(model, dim=16, depth=2, d_state=8).eval()
    for layer in network.Stem:  # as after training: a batch norm that does something
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2.0)
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)
    stream = step.Step(network, emulated, 2)
    assert step.check(stream, network, window=8) < step.AGREEMENT
    stream.reset()
    assert step.check(stream, network, window=8) < step.AGREEMENT
    stream.reset()
    with torch.no_grad():
        network.blocks[1].attn.mamba.D.add_(0.5)  # another network
    assert step.check(stream, network, window=8) > step.AGREEMENT


def test_a_step_counts_every_weight_once(emulated):
    network = build("metst64", dim=16, depth=2, d_state=8).eval()
    stream = step.Step(network, emulated, 2)
    norms = sum(m.weight.numel() for m in network.Stem if isinstance(m, torch.nn.BatchNorm1d))
    folded = 2 * norms  # into the convolutions
    assert stream.weight_bytes == 4 * (sum(p.numel() for p in network.parameters()) - folded)


def test_the_flow_follows_the_head_as_the_cpu_s(emulated):
    assert flow.error(emulated, "metst", 1, (3.0,)) < 1e-2
    assert flow.pixels("metst") < flow.pixels("metst_plus")


def test_the_picture_moves_as_told():
    rest, moved = flow.picture(0.0, 0.0, 0), flow.picture(3.0, 0.0, 0)
    assert rest.shape == (flow.HEIGHT, flow.WIDTH) and rest.std() > 20
    assert np.abs(rest[:, :-3].astype(int) - moved[:, 3:]).max() <= 4  # noise stays where it is


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = time.perf_counter()

    def elapsed_time(self, end):
        return 1e3 * (end.at - self.at)


class Graph:
    """What is captured is called again, so that replays do what a graph's do."""

    def __init__(self, calls, count):
        self.calls = [calls[i % len(calls)] for i in range(count)]

    def replay(self):
        for call in self.calls:
            call()


@pytest.fixture
def machine(emulated, monkeypatch, tmp_path):
    """A machine with a GPU as far as torch tells, small and slow; results go to the folder that is given back."""
    properties = SimpleNamespace(
        name="Emulation", major=9, minor=0, multi_processor_count=1, total_memory=2**20, L2_cache_size=2**12
    )
    for name, value in {
        "is_available": lambda: True,
        "get_device_properties": lambda device: properties,
        "get_device_capability": lambda: (9, 0),
        "mem_get_info": lambda: (2**24, 2**24),
        "synchronize": lambda: None,
        "Stream": lambda: None,
        "stream": lambda stream: nullcontext(),
        "empty_cache": lambda: None,
        "Event": Event,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for module in (timing, step, fused, flow):
        monkeypatch.setattr(module, "capture", Graph)
    monkeypatch.setattr(timing, "ROUNDS", (1, 1))
    monkeypatch.setattr(timing, "WARM_UP", (1, 0.0))
    monkeypatch.setattr(timing, "EXPONENTIAL_ROUNDS", 4)
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    monkeypatch.setattr(shared_library, "find_nvcc", lambda: "echo")
    monkeypatch.setattr(shared_library, "build", lambda command: None)
    monkeypatch.setattr(library, "Library", lambda path: emulated)
    monkeypatch.setattr(scan, "GRAPH_CALLS", 2)
    monkeypatch.setattr(scan, "SIZES", ((2, 1, 16), (1, 1024, 2), (64, 8192, 2048), (1, 70, 3)))
    monkeypatch.setattr(scan, "CHECKED", (Shape(2, 3, 5, 7),))
    monkeypatch.setattr(scan.errors, "__defaults__", (scan.CHECKED, 0))
    monkeypatch.setattr(step, "build", lambda model: build(model, dim=16, depth=2, d_state=8))
    monkeypatch.setattr(step.check, "__defaults__", (6, 1, None))
    small = {"channels": 10, "dim": 16, "depth": 2, "d_state": 8, "d_conv": 4, "expand": 2, "dt_rank": 1}
    monkeypatch.setattr(fused, "SIZES", {"metst64": small})
    monkeypatch.setattr(fused, "LANES", (2,))
    monkeypatch.setattr(fused, "CAMERAS", (1, 2))
    monkeypatch.setattr(fused, "FRAMES", (2, 2))
    monkeypatch.setattr(fused, "CHECKED", 6)
    monkeypatch.setattr(fused, "STEPS", 1)
    monkeypatch.setattr(flow, "SETS", {"metst": 5})
    monkeypatch.setattr(flow, "LANES", (1,))
    monkeypatch.setattr(flow, "MOTIONS", (3.0,))
    monkeypatch.setattr(cpp_tests, "configure", lambda *_: ["not run: the plugin"])
    monkeypatch.setattr(cpp_tests, "targets", lambda _: {"test_selective_scan_gpu"})
    monkeypatch.setattr(cpp_tests, "build", lambda command: None)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    program = tmp_path / "tests" / "csrc" / "test_selective_scan_gpu"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 0 failures\n")
    program.chmod(0o755)
    return tmp_path


def test_a_whole_run_writes_every_part(machine):
    assert run.main(["--build", str(machine), "--out"]) == 0
    kept = {}
    for path in (machine / "results").glob("*.json"):
        kept[path.stem.split("-gpu-")[1]] = json.loads(path.read_text())
    assert set(kept) == set(run.PARTS)
    for content in kept.values():
        assert content["machine"]["gpu"] == "Emulation" and "exponentials/s" in content["machine"]["measured rates"]
        assert content["title"].endswith(", Emulation") and content["rows"]
    notes = kept["scan"]["notes"]
    assert scan.UNFINISHED not in notes and any("that favours them" in note for note in notes)
    assert any(note.startswith("mamba_ssm is not there: ModuleNotFoundError") for note in notes)
    assert sum("left out, 0 GiB" in note for note in notes) == 2 * 3  # the largest shape, N and types
    assert len(kept["scan"]["rows"]) == 3 * 2 * 3
    for row in kept["scan"]["rows"]:
        assert row["ours us"] > 0 and row["of floor %"] > 0
        assert (row["torch eager us"] == "-") is (row["type"] != "float32")
    assert [row["a thread"] for row in kept["paired"]["rows"]] == ["16 states", "2 x 8 states"] * 6
    assert kept["paired"]["notes"][: len(kept["errors"]["notes"])] == kept["errors"]["notes"]
    assert kept["step"]["rows"][0]["largest diff"] < step.AGREEMENT
    told = [(row["what"][:5], row["blocks a lane"], row["cameras"]) for row in kept["fused"]["rows"]]
    assert told == [
        *(("step", 1, "-"), ("frame", 1, 1), ("frame", 1, 2)),
        *(("step", 8, "-"), ("frame", 8, 1), ("frame", 8, 2)),
    ]
    assert max(row["largest diff"] for row in kept["fused"]["rows"] if row["what"] == "step") < 1e-5
    assert "the fused step of metst64, 2 lanes of 8 blocks" in kept["fused"]["notes"][1]
    assert kept["flow"]["rows"][0]["largest diff px"] < 1e-2
    assert kept["tests"]["rows"][0]["outcome"] == "passed" and "not run: the plugin" in kept["tests"]["notes"]


def test_under_a_tool_a_test_runs_briefly(monkeypatch, machine):
    monkeypatch.setattr(cpp_tests, "find_sanitizer", lambda nvcc: "/bin/echo")
    rows, _ = cpp_tests.run(machine / "tests", "echo", "90", sanitize=True)
    assert [(row["under"], row["last line"].endswith("gpu briefly")) for row in rows] == [
        ("-", False),
        ("memcheck", True),
        ("racecheck", True),
    ]


def test_the_fused_step_of_two_rates_is_checked_and_timed_in_lanes_by_turns(emulated, machine):
    small = {"channels": 36, "dim": 8, "slow_dim": 12, "stages": 2, "depth": 1, "d_state": 4, "d_conv": 4}
    sizes = {**small, "pathways": 1, "expand": 2, "dt_rank": 1, "slow_dt_rank": 1, "classes": fused.CLASSES}
    row = fused.time_step("metst_plus_small", sizes, 2, 1, emulated, RATES)
    assert row["largest diff"] < 1e-5 and row["predicted ms"] == 0.080
    stream, begun = fused.Fused("metst_plus_small", sizes, emulated, 2, 1), []
    stream.begin_windows_by_turns([lambda: begun.append(stream.reset.tolist())] * 2)
    assert begun == [[1.0, 0.0], [0.0, 1.0]] and stream.reset.tolist() == [0.0, 0.0]


def test_every_network_s_fused_step_is_measured():
    assert set(fused.SIZES) == set(networks.MODELS)
    assert set(fused.PREDICTED_MS) == {(model, blocks) for model in fused.SIZES for blocks in fused.BLOCKS}
    for model, sizes in fused.SIZES.items():
        shown = build(model).sizes.to_dict()
        assert {name: value for name, value in sizes.items() if name in shown} == {
            name: value for name, value in shown.items() if name != "classes"
        }


def test_a_scan_that_is_stopped_keeps_what_was_timed(machine, monkeypatch, capsys):
    """Ours and mamba_ssm's for all shapes come before torch, which takes longest."""

    def stopped(*_):
        raise KeyboardInterrupt

    folder = machine / "elsewhere/results"
    words = ["--build", str(machine), "--out", str(folder), "--only", "scan"]
    monkeypatch.setattr(scan, "time_torch", stopped)
    with pytest.raises(KeyboardInterrupt):
        run.main(words)
    kept = json.loads(next(folder.glob("*-gpu-scan.json")).read_text())
    assert len(kept["rows"]) == 3 * 2 * 3 and all(row["torch eager us"] == "-" for row in kept["rows"])
    assert kept["notes"][-1] == scan.UNFINISHED and any("left out, 0 GiB" in note for note in kept["notes"])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == len(kept["rows"]) and all("of floor %" in line and "ours us" in line for line in told)

    kernels, count = scan.time_kernels, 0

    def twice(*arguments):
        nonlocal count
        count += 1
        return kernels(*arguments) if count <= 2 else stopped()

    monkeypatch.setattr(scan, "time_kernels", twice)
    with pytest.raises(KeyboardInterrupt):
        run.main(words)
    assert len(json.loads(next(folder.glob("*-gpu-scan.json")).read_text())["rows"]) == 2


def test_a_peer_that_fails_costs_its_figure_and_leaves_a_note(machine, emulated):
    class Broken:
        def bind(self, x):
            raise ValueError("expected another type\nand a trace")

    notes = []
    row = scan.time_kernels(Shape(2, 1, 16, 16), FLOAT32, emulated, RATES, Broken(), notes)
    assert row["ours us"] > 0 and row["mamba_ssm us"] == row["x mamba_ssm"] == "-"
    (note,) = notes
    assert note.startswith("mamba_ssm, Shape(batch=2") and note.endswith("float32: ValueError: expected another type")
    # Without torch's compiler, its column stays as it was.
    assert set(scan.time_torch(Shape(2, 1, 16, 16), emulated, False, notes)) == {"torch eager us"} and len(notes) == 1


def test_a_part_that_fails_does_not_stop_the_others(machine, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("expected nothing of this")

    monkeypatch.setattr(scan, "errors", broken)
    assert run.main(["--build", str(machine), "--out", "--only", "errors", "tests"]) == 1
    printed = capsys.readouterr()
    assert "failed: errors; no results of these were written" in printed.out
    assert "expected nothing of this" in printed.err
    assert [path.suffix for path in sorted((machine / "results").iterdir())] == [".json", ".md"]


@pytest.mark.skipif(NVCC is None, reason="no nvcc")
@pytest.mark.parametrize("source", (library.SOURCE, shared_library.SOURCES[0]), ids=lambda path: path.name)
def test_the_wrappers_compile_with_nvcc(tmp_path, source):
    command = shared_library.nvcc_command(NVCC, "90", tmp_path / "out.o", [library.SOURCE])
    others = {str(path) for path in (*shared_library.SOURCES, library.SOURCE)} - {str(source)}
    done = subprocess.run(
        [*(word for word in command if word not in (*others, "-shared")), "-c"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "warning" not in done.stderr.lower(), done.stderr


@pytest.mark.parametrize("words", [["--help"], ["--only", "nothing"]])
def test_the_script_says_what_it_does(words, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(words)
    printed = capsys.readouterr()
    assert stop.value.code == (0 if words == ["--help"] else 2)
    assert ("Usage: python benchmarks/gpu/run.py" in printed.out) is (words == ["--help"])
