"""The scan: its error against float64, its time against peers (peers.py), and the floor under both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.library import Library, Scan, Tensors
from benchmarks.gpu.peers import Mamba, by_steps, one_step
from benchmarks.gpu.timing import Call, Rates, median_ms, time_events, time_graph
from benchmarks.results import text, verdict
from csrc.testing.selective_scan_reference import reference, relative_error

NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
ROUNDING = {torch.float32: 0.0, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Half a unit in the last place of y, of its value; the state is float32 throughout."""
TOLERANCE = 1e-4
SHORT = (64, 4)
"""L and B up to which a call is short: bound by launch and latency."""
LONG = 1024
TIMES_MAMBA_SHORT, TIMES_MAMBA_LONG, OF_COPY_RATE = 2.0, 1.0, 70.0
SETS = 4096
"""Sets of inputs at most: three times an L2 of 50 MB for the smallest shape in 16 bits."""
GRAPH_CALLS = 64
"""Captured calls at least."""
EAGER_CALLS = 4
"""Captured calls, and sets of inputs, of a peer that takes a launch or more per step."""
UNFINISHED = "unfinished: shapes, or torch's times, are missing"

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """B, L, D and N of a scan."""

    batch: int
    length: int
    channels: int
    states: int

    @property
    def short(self) -> bool:
        """Whether launch and latency decide."""
        return self.length <= SHORT[0] and self.batch <= SHORT[1]

    def bytes_moved(self, width: int) -> int:
        """Return the least a scan moves: u, delta, z, B, C, weights and h0 read once, y and h written once.

        Args:
            width: bytes of an element of u, delta, z, B, C and y.
        """
        steps = self.batch * self.length
        weights = 4 * self.channels * (self.states + 2)
        state = 2 * 4 * self.batch * self.channels * self.states
        return width * steps * (4 * self.channels + 2 * self.states) + weights + state

    def exponentials(self) -> int:
        """Return how many a scan takes: one per state and step, one each for softplus and the gate."""
        return self.batch * self.length * self.channels * (self.states + 2)

    def floor(self, width: int, rates: Rates) -> tuple[float, str]:
        """Return the seconds that no version beats, and what sets them: bytes, exponentials or one kernel's launch."""
        bounds = {
            "bytes": self.bytes_moved(width) / rates.copy,
            "exponentials": self.exponentials() / rates.exponentials,
            "launch": rates.node,
        }
        what = max(bounds, key=lambda name: bounds[name])
        return bounds[what], what


SIZES = (
    (2, 1, 128),
    (2, 1, 256),
    (2, 30, 128),
    (2, 50, 256),
    (4, 64, 256),
    (2, 512, 256),
    (1, 1024, 128),
    (8, 1024, 1024),
    (1, 8192, 2048),
    (16, 4096, 2048),
    (64, 8192, 2048),
)
STATES = (64, 16)
QUICK_SIZES = ((2, 1, 128), (2, 30, 128), (8, 1024, 1024), (64, 8192, 2048))
CHECKED = (
    Shape(2, 1, 128, 64),
    Shape(2, 30, 128, 64),
    Shape(4, 64, 256, 16),
    Shape(3, 33, 77, 100),
    Shape(1, 600, 128, 64),
    Shape(2, 2048, 64, 16),
    Shape(2, 50, 2000, 64),
    Shape(2, 50, 5000, 64),
    Shape(2, 40, 4000, 16),
    Shape(2, 40, 16000, 16),
)
"""Short, chunked, medium and wide sequences (selective_scan.cu, on 132 multiprocessors), and sizes that fit nothing."""


def shapes(quick: bool) -> list[Shape]:
    """Return what is timed, smallest first."""
    sizes, states = (QUICK_SIZES, STATES[:1]) if quick else (SIZES, STATES)
    return [Shape(*size, n) for size in sizes for n in states]


def layer(shape: Shape, dtype: torch.dtype, device: str, seed: int) -> Tensors:
    """Return inputs as a trained layer has them: A = -(1 .. N), dt around 0.02, everything else normal."""
    generator = torch.Generator(device).manual_seed(seed)
    steps = (shape.batch, shape.length)

    def normal(*size: int, of: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*size, dtype=of, device=device, generator=generator)

    return {
        "u": normal(*steps, shape.channels, of=dtype),
        "delta": normal(*steps, shape.channels, of=dtype),
        "A": -torch.arange(1.0, shape.states + 1, device=device).repeat(shape.channels, 1),
        "B": normal(*steps, shape.states, of=dtype),
        "C": normal(*steps, shape.states, of=dtype),
        "D": normal(shape.channels),
        "z": normal(*steps, shape.channels, of=dtype),
        "delta_bias": normal(shape.channels) - 4.0,
        "h0": normal(shape.batch, shape.channels, shape.states),
    }


def errors(library: Library, checked: Iterable[Shape] = CHECKED, seed: int = 0) -> list[Row]:
    """Compare our kernel with the definition in float64, in every type; fresh inputs for every shape."""
    rows: list[Row] = []
    for shape in checked:
        for dtype, name in NAMES.items():
            seed += 1
            x = layer(shape, dtype, library.device, seed)
            y, h = Scan(library, x)()
            exact = {key: tensor.double().cpu().numpy() for key, tensor in x.items()}
            expected_y, expected_h, *_ = reference(**exact)
            y_, h_ = y.double().cpu().numpy(), h.double().cpu().numpy()
            row = {"B": shape.batch, "L": shape.length, "D": shape.channels, "N": shape.states, "type": name}
            bound = TOLERANCE + ROUNDING[dtype]
            row |= {"y error": relative_error(y_, expected_y), "h error": relative_error(h_, expected_h)}
            row |= {"y bound": bound, "h bound": TOLERANCE}
            rows.append(row)
    return rows


def judge_errors(rows: Sequence[Row]) -> list[str]:
    """Compare the largest errors of each type with what is allowed; NaN, an element nobody wrote, is an error too."""
    lines = []
    for name in NAMES.values():
        some = [row for row in rows if row["type"] == name]
        for what in ("y", "h"):
            # max() would pass over a NaN, which compares with nothing.
            found = [row[f"{what} error"] for row in some]
            worst = max((error if error == error else float("inf")) for error in found)
            title = f"{what} of the scan, {name}, largest difference from float64 over the largest value"
            lines.append(verdict(title, worst, "relative", most=some[0][f"{what} bound"]))
    return lines


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference over the largest value; NaN where there is one."""
    # A sequence at a time: the largest shape leaves no room for a copy of it all.
    pairs = zip(got, expected, strict=True)
    differences = torch.stack([(one.float() - other.float()).abs().max() for one, other in pairs])
    values = torch.stack([other.float().abs().max() for other in expected])
    return float(differences.max() / values.max())


def check_peer(name: str, call: Callable[[], tuple[torch.Tensor, torch.Tensor]], library: Library, x: Tensors) -> None:
    """Raise where a peer differs from our kernel, both from a zero state: times of different results mean nothing."""
    y, h = Scan(library, x)()
    bound = 1e-3 + 2 * ROUNDING[x["u"].dtype]
    for what, got, expected in zip("yh", call(), (y, h), strict=True):
        error = difference(got, expected)
        if not error <= bound:
            raise RuntimeError(f"{name}: {what} differs from our kernel's by {error:.1e} of its largest value")


def in_one_line(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def input_sets(shape: Shape, width: int, cache: int) -> int:
    """Return how many sets of inputs, in turns, have left a cache of so many bytes before they come round again."""
    return max(1, min(SETS, -(-3 * cache // shape.bytes_moved(width))))


def time_calls(calls: Sequence[Call], captured: int) -> float:
    """Return the median milliseconds of a call; ``captured`` of them at a time in a graph, or one by one for 0."""
    return median_ms(time_graph(calls, captured) if captured else time_events(calls))


def time_peer(
    name: str,
    calls: Callable[[], Sequence[Call]],
    captured: int,
    library: Library,
    x: Tensors,
    where: str,
    notes: list[str],
) -> float | None:
    """Time a peer as `time_calls` does, after a comparison on its first inputs; None and a note where it fails."""
    try:
        made = calls()
        check_peer(name, made[0], library, x)
        return time_calls(made, captured)
    except Exception as error:  # of a peer: it costs its figure, not the run
        notes.append(f"{name}, {where}: {in_one_line(error)}")
        return None
    finally:
        torch.cuda.empty_cache()


def time_kernels(
    shape: Shape, dtype: torch.dtype, library: Library, rates: Rates, mamba: Mamba | None, notes: list[str]
) -> Row:
    """Time one shape in one type: our kernel, mamba_ssm's, then ours again."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    count = input_sets(shape, dtype.itemsize, cache)
    x = [layer(shape, dtype, library.device, seed) for seed in range(count)]
    # Calls that take no longer than enqueueing them.
    captured = max(GRAPH_CALLS, count) if shape.short or count > 1 else 0
    ours = [Scan(library, inputs) for inputs in x]
    ms, theirs = time_calls(ours, captured), None
    if mamba:
        zero = {**x[0], "h0": torch.zeros_like(x[0]["h0"])}
        where = f"{shape}, {NAMES[dtype]}"
        bind = mamba.bind
        theirs = time_peer("mamba_ssm", lambda: [bind(inputs) for inputs in x], captured, library, zero, where, notes)
    return row_of(shape, dtype, ms, time_calls(ours, captured), theirs, rates, count)


def time_torch(shape: Shape, library: Library, compiled: bool, notes: list[str]) -> Row:
    """Time torch, in float32, in which it computes any type; return its columns."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    count = min(EAGER_CALLS, input_sets(shape, torch.float32.itemsize, cache))
    x = [layer(shape, torch.float32, library.device, seed) for seed in range(count)]
    captured = EAGER_CALLS if shape.short else 0  # one by one where the steps are many
    steps: dict[str, Callable[..., Any]] = {"torch eager": one_step}
    if compiled:
        torch.compiler.reset()
        steps = {"torch compiled": torch.compile(one_step, dynamic=False), **steps}
    row: Row = {}
    for name, step in steps.items():
        ms = time_peer(
            name,
            lambda step=step: [lambda i=i: by_steps(step, i) for i in x],
            captured,
            library,
            x[0],
            f"{shape}, float32",
            notes,
        )
        row[f"{name} us"] = _us(ms)
    return row


def row_of(
    shape: Shape, dtype: torch.dtype, ms: float, again: float, mamba: float | None, rates: Rates, sets: int
) -> Row:
    """Return a row of the table from medians in milliseconds, None where not timed; torch's columns come later."""
    floor, what = shape.floor(dtype.itemsize, rates)
    mean = (ms + again) / 2  # what is compared with one figure; the lesser of two would be luckier
    row: Row = {"B": shape.batch, "L": shape.length, "D": shape.channels, "N": shape.states, "type": NAMES[dtype]}
    row |= {"timed": "graph" if shape.short or sets > 1 else "events", "input sets": sets}
    row |= {"ours us": 1e3 * ms, "again us": 1e3 * again, "mamba_ssm us": _us(mamba)}
    row |= {"torch compiled us": "-", "torch eager us": "-"}
    row |= {"x mamba_ssm": "-" if mamba is None else mamba / mean, "floor us": 1e6 * floor, "floor set by": what}
    row |= {"of floor %": 1e5 * floor / mean}
    row |= {"of copy rate %": 1e5 * shape.bytes_moved(dtype.itemsize) / rates.copy / mean}
    return row


def _us(ms: float | None) -> float | str:
    return "-" if ms is None else 1e3 * ms


def run(
    library: Library,
    rates: Rates,
    mamba: Mamba | None,
    quick: bool,
    save: Callable[[list[Row], list[str]], None],
) -> tuple[list[Row], list[str]]:
    """Time all shapes that fit in memory, type by type: first the kernels, then torch, without its compiler if quick.

    Args:
        library: has our kernel.
        rates: of this GPU, for the floor.
        mamba: mamba_ssm's kernel, where it is there.
        quick: few shapes, one type, without torch's compiler.
        save: given the rows and notes so far after every row, so that they outlive a run that is stopped.

    Returns:
        The rows, and what had to be left out.
    """
    rows: list[Row] = []
    notes = [f"torch's captured loops (L <= {SHORT[0]}, B <= {SHORT[1]}) rotate {EAGER_CALLS} sets of inputs, which "
             "may stay in the L2 cache; that favours them"]  # fmt: skip
    by_torch: list[tuple[Row, Shape]] = []

    def done(row: Row) -> None:
        torch.cuda.empty_cache()
        print("  " + ", ".join(f"{name} {text(value)}" for name, value in row.items()), file=sys.stderr, flush=True)
        save(rows, notes)

    for dtype in list(NAMES)[: 1 if quick else None]:
        for shape in shapes(quick):
            free = torch.cuda.mem_get_info()[0]
            # Inputs, a copy of them in mamba_ssm's order of axes, and its outputs.
            if 3 * shape.bytes_moved(dtype.itemsize) > free:
                notes.append(f"{shape}, {NAMES[dtype]}: left out, {free / 2**30:.0f} GiB of the GPU's memory are free")
                continue
            with torch.no_grad():
                rows.append(time_kernels(shape, dtype, library, rates, mamba, notes))
            if dtype == torch.float32:
                by_torch.append((rows[-1], shape))
            done(rows[-1])
    for row, shape in by_torch:
        with torch.no_grad():
            row.update(time_torch(shape, library, not quick, notes))
        done(row)
    return rows, notes


def run_paired(library: Library, paired: Library, rates: Rates, quick: bool) -> tuple[list[Row], list[str]]:
    """Time both layouts for 64 states (METST_SCAN_PAIRED of selective_scan.cu) one after the other, long scans only.

    Args:
        library: with one channel a thread.
        paired: with two.
        rates: of this GPU, for the floor.
        quick: few shapes, one type.

    Returns:
        Two rows for each shape and type, and what had to be left out.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for shape in shapes(quick):
        if shape.short or shape.states != STATES[0]:
            continue
        for dtype in list(NAMES)[: 1 if quick else None]:
            if 2 * shape.bytes_moved(dtype.itemsize) > torch.cuda.mem_get_info()[0]:
                notes.append(f"{shape}, {NAMES[dtype]}: left out, the GPU's memory is short")
                continue
            for layout, of in (("16 states", library), ("2 x 8 states", paired)):
                with torch.no_grad():
                    rows.append({"a thread": layout} | time_kernels(shape, dtype, of, rates, None, notes))
                torch.cuda.empty_cache()
    return rows, notes


def judge(rows: Sequence[Row], rates: Rates) -> list[str]:
    """Compare the times with what was asked for: the worst shape of each kind counts."""
    lines = []
    kinds = (
        ("L <= 64, B <= 4", lambda row: row["L"] <= SHORT[0] and row["B"] <= SHORT[1], TIMES_MAMBA_SHORT),
        ("L >= 1024", lambda row: row["L"] >= LONG, TIMES_MAMBA_LONG),
    )
    for what, belongs, least in kinds:
        some = [row for row in rows if belongs(row) and row["x mamba_ssm"] != "-"]
        if not some:
            asked = f"asked: at least {least:g} times as fast"
            lines.append(f"not measured: the scan against mamba_ssm's kernel, {what} ({asked})")
            continue
        worst = min(some, key=lambda row: row["x mamba_ssm"])
        title = f"the scan against mamba_ssm's kernel, {what}, worst of {len(some)}: {_where(worst)}"
        lines.append(verdict(title, worst["x mamba_ssm"], "times as fast", least=least))
    for row in rows:
        if (row["B"], row["L"], row["D"]) != SIZES[-1]:
            continue
        shape = Shape(*(row[name] for name in ("B", "L", "D", "N")))
        width = next(dtype.itemsize for dtype, name in NAMES.items() if name == row["type"])
        possible = shape.bytes_moved(width) / rates.copy / shape.floor(width, rates)[0]
        title = f"the scan of the largest shape, {_where(row)}, share of the measured copy rate"
        line = verdict(title, row["of copy rate %"], "%", least=OF_COPY_RATE)
        if 100 * possible < OF_COPY_RATE:
            line += f"; its exponentials at the measured rate allow {100 * possible:.0f} %"
        lines.append(line)
    return lines


def _where(row: Row) -> str:
    return f"(B, L, D) = ({row['B']}, {row['L']}, {row['D']}), N {row['N']}, {row['type']}"
