"""The CUDA kernels on this machine's GPU: built, checked and timed, in one go.

Usage: python benchmarks/gpu/run.py [--quick] [--only PART ...] [--mamba DIR] [--build DIR] [--out [FOLDER]]

Needs an NVIDIA GPU, nvcc (CUDA 12 or 13), CMake with make or ninja, a torch with CUDA, numpy, rich, and this package
installed in place, for which scikit-build-core and pybind11 must be there and a network need not:

    pip install --no-deps --no-build-isolation -e .

(Installed otherwise, the checkout that this script lies in would hide it, and has no compiled module.) Parts:

errors  the scan in float32, float16 and bfloat16 against float64 on the CPU
scan    its time, for (B, L, D) from (2, 1, 128) to (64, 8192, 2048), N = 64 and 16, against mamba_ssm's CUDA kernel;
        the definition step by step in torch, eager and with the step compiled (a loop over time does not compile in
        reasonable time; both in float32 only, in which they compute any type); and the floor: the bytes that must move
        at the measured copy rate, the exponentials at the measured rate, or one launch, whichever takes longest
paired  the scan's two layouts for N = 64 beside each other: a thread holds 16 states of a channel, or 8 of two, which
        reads B and C half as often; checked against float64, timed for the longer sequences
step    a whole step of ME-TST, two lanes, captured in one CUDA graph: our scan, torch's matrix products, small kernels
fused   a whole step of every network as one kernel, for 1 to 32 lanes, a block or a cluster of eight each, against the
        CPU's step; and a frame of 1, 4 and 16 cameras, a graph each: upload, flow, step, download of the scores
flow    the regions' optical flow for 1, 2, 16 and 64 lanes, captured
tests   the C++ tests on the GPU, and under compute-sanitizer where that is there

Times are medians between events on the stream, after 0.2 s of the same work. The scan's inputs rotate among so many
sets (4096 at most) that three times the L2 cache is used before they come round again; a step and the flow are replayed
again and again and find what they use in the caches: they are warm. Calls short enough to need several sets are timed
inside one captured graph of many, so that the gaps between launches from the host do not hide the kernel (torch's loops
only for L <= 64, B <= 4, and with 4 sets of inputs, which favours them); ours are timed twice, before and after
mamba_ssm, the difference is the noise, and the mean of both is what is compared. A part that fails does not stop the
others; the exit status is 1 then.

mamba_ssm is used where it is installed, or its forward kernel is compiled (minutes) from its source distribution,
unpacked in the folder that --mamba names. For a machine without a network, on another that has one and a torch:

    MAMBA_SKIP_CUDA_BUILD=TRUE pip download --no-deps --no-binary :all: --no-build-isolation mamba-ssm
    tar xf mamba_ssm-*.tar.gz

The plugin's enqueue, one of the C++ tests, needs TensorRT's headers, not TensorRT: installed, or where the environment
variable TENSORRT_ROOT (an unpacked TensorRT) or TENSORRT_INCLUDE_DIR (the folder of NvInfer.h) says, such as the folder
include/tensorrt in the PyPI wheel kernel-lens, unpacked.

--out writes DATE-gpu-PART.json and .md in FOLDER (benchmarks/results), each as soon as the part is done; the scan's
after every shape, ours and mamba_ssm for all shapes before torch, and the fused step's after every row. --quick: four
shapes, N = 64, float32, no compiled peer, one camera, no compute-sanitizer. On a machine that is lent for minutes, one
process per part, so that none costs the others:

    for part in errors flow step fused tests paired scan; do
        timeout -k 10 580 python benchmarks/gpu/run.py --only $part --build /tmp/built --out /tmp/results
    done
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from csrc.cuda import shared_library

PARTS = ("errors", "scan", "paired", "step", "fused", "flow", "tests")
INSTALL = "pip install --no-deps --no-build-isolation -e ."
"""In place: what finds such an installation is asked before sys.path, whose first folder is this checkout."""


def why_not() -> str | None:
    """Return one line that says what this machine lacks; None where everything can run."""
    needs = "benchmarks/gpu/run.py needs"
    try:
        import torch
    except ImportError:
        return f"{needs} torch with CUDA, found no torch: see https://pytorch.org/get-started"
    if not torch.cuda.is_available():
        built = "without CUDA" if torch.version.cuda is None else f"with CUDA {torch.version.cuda}"
        return f"{needs} an NVIDIA GPU that torch can use, found none (torch {torch.__version__}, built {built})"
    try:
        import benchmarks.gpu.library  # the package's compiled module too
        import benchmarks.results  # noqa: F401
    except ImportError as error:
        what = str(error).partition("\n")[0]
        return f"{needs} numpy, rich and the package metst-edge installed in place ({what}): {INSTALL}"
    if shared_library.find_nvcc() is None:
        return f"{needs} nvcc, found none: install the CUDA toolkit or set CUDACXX to nvcc"
    return None


def gpu(nvcc: str) -> dict[str, str]:
    """Return what of the GPU and its software decides the times."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "compute capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": str(properties.multi_processor_count),
        "gpu memory": f"{properties.total_memory / 2**30:.0f} GiB, L2 {properties.L2_cache_size / 2**20:.0f} MiB",
        "driver": driver(),
        "nvcc": subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout.strip().splitlines()[-1],
        "cuda of torch": str(torch.version.cuda),
    }


def driver() -> str:
    """Return the version of the driver, by nvidia-smi."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip() or "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown (no nvidia-smi)"


class Run:
    """What the parts share: the library, the rates, the machine, and where results go.

    Args:
        folder: for what is compiled.
        out: for results; an empty name stands for benchmarks/results, None writes none.
        mamba: an unpacked source distribution of mamba_ssm.
        quick: few shapes, the fast peers only.
    """

    def __init__(self, *, folder: Path, out: str | None, mamba: Path | None, quick: bool) -> None:
        import torch

        from benchmarks.gpu import timing

        nvcc = shared_library.find_nvcc()
        assert nvcc is not None
        major, minor = torch.cuda.get_device_capability()
        self.folder, self.out, self.mamba, self.quick = folder, out, mamba, quick
        self.nvcc, self.architecture = nvcc, f"{major}{minor}"
        self.about = gpu(nvcc)
        self.library = self._built("libmetst_gpu_bench.so")
        self.rates = timing.measure_rates(self.library)
        self.about["measured rates"] = (
            f"copy {self.rates.copy / 1e9:.0f} GB/s (read and written), {self.rates.exponentials / 1e12:.3g}e12 "
            f"exponentials/s, {1e6 * self.rates.node:.3g} us from kernel to kernel in a graph"
        )
        print(self.about["measured rates"], flush=True)

    def _built(self, name: str, define: str | None = None) -> Any:
        """Compile the library, with a macro of its sources defined or none, and load it."""
        from benchmarks.gpu import library

        path, more = self.folder / name, [library.SOURCE]
        command = shared_library.nvcc_command(self.nvcc, self.architecture, path, more)
        command += [f"-D{define}"] if define else []
        shared_library.build_once(command, path, more)
        return library.Library(path)

    def show(self, title: str, rows: list[dict[str, Any]], part: str, notes: list[str]) -> None:
        """Print a part's table and write it down where asked."""
        from benchmarks.results import show

        show(f"{title}, {self.about['gpu']}", rows, f"gpu-{part}", False, notes)
        self.write(title, rows, part, notes)

    def write(self, title: str, rows: list[dict[str, Any]], part: str, notes: list[str]) -> None:
        """Write a part's rows down where asked, over what it wrote before."""
        from benchmarks.results import write

        if self.out is not None:
            folder = Path(self.out) if self.out else None
            write(f"{title}, {self.about['gpu']}", rows, f"gpu-{part}", notes, more=self.about, folder=folder)

    def errors(self) -> None:
        """Check the scan."""
        from benchmarks.gpu import scan

        rows = scan.errors(self.library)
        self.show("Error of the scan against float64", rows, "errors", scan.judge_errors(rows))

    def scan(self) -> None:
        """Time the scan."""
        from benchmarks.gpu import peers, scan

        notes = []
        try:
            mamba = peers.Mamba(self.mamba, self.folder / "mamba")
        except (ImportError, RuntimeError) as error:  # torch's builder raises RuntimeError
            mamba = None
            notes.append(f"mamba_ssm is not there: {scan.in_one_line(error)}")
        title = "One SelectiveScan layer"

        def save(rows: list[dict[str, Any]], others: list[str]) -> None:
            self.write(title, rows, "scan", [*scan.judge(rows, self.rates), *notes, *others, scan.UNFINISHED])

        rows, others = scan.run(self.library, self.rates, mamba, self.quick, save)
        self.show(title, rows, "scan", [*scan.judge(rows, self.rates), *notes, *others])

    def paired(self) -> None:
        """Check the scan with two channels a thread, and time it beside the one with one."""
        from benchmarks.gpu import scan

        paired = self._built("libmetst_gpu_paired.so", "METST_SCAN_PAIRED")
        notes = scan.judge_errors(scan.errors(paired))
        rows, others = scan.run_paired(self.library, paired, self.rates, self.quick)
        self.show("The scan with one channel a thread and with two", rows, "paired", [*notes, *others])

    def step(self) -> None:
        """Check and time a step."""
        from benchmarks.gpu import step

        rows = step.run(self.library, self.rates)
        self.show("A captured step of ME-TST", rows, "step", step.judge(rows))

    def fused(self) -> None:
        """Check and time the step as one kernel."""
        from benchmarks.gpu import fused

        title = "The fused step"

        def save(rows: list[dict[str, Any]]) -> None:
            self.write(title, rows, "fused", fused.judge(rows))

        rows = fused.run(self.library, self.rates, self.quick, save)
        self.show(title, rows, "fused", fused.judge(rows))

    def flow(self) -> None:
        """Check and time the regions' flow."""
        from benchmarks.gpu import flow

        rows = flow.run(self.library, self.rates)
        self.show("Flow of the regions of a frame, captured", rows, "flow", flow.judge(rows))

    def tests(self) -> None:
        """Run the C++ tests."""
        from benchmarks.gpu import tests

        sanitize = not self.quick
        rows, notes = tests.run(self.folder / "tests", self.nvcc, self.architecture, sanitize)
        self.show("C++ tests on the GPU", rows, "tests", [*tests.judge(rows), *notes])


def main(arguments: list[str] | None = None) -> int:
    """Run every part, or those asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few shapes, fast peers, one camera")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--mamba", type=Path, metavar="DIR", help="an unpacked source distribution of mamba_ssm")
    parser.add_argument("--build", type=Path, metavar="DIR", help="keep what is compiled there, and use it again")
    parser.add_argument(
        "--out",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="write DATE-gpu-PART.json and .md there, benchmarks/results of this checkout where none is named",
    )
    options = parser.parse_args(arguments)
    missing = why_not()
    if missing is not None:
        print(missing)
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.build or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(folder=folder, out=options.out, mamba=options.mamba, quick=options.quick)
        parts: dict[str, Callable[[], None]] = {name: getattr(run, name) for name in PARTS}
        failed = []
        for name in options.only:
            try:
                parts[name]()
            except Exception:  # the others' figures are worth having all the same
                traceback.print_exc()
                failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}; no results of these were written")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # of timeout: as an interruption, which stops the tests too
    sys.exit(main())
