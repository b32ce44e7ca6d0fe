"""A result, alone or beside another, for people: header, table, notes, and a row to paste into an issue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from metst_edge.app.bench.results import END_TO_END, PERCENTILES, RATIOS
from metst_edge.app.opinions import missing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def show(console: Console, result: Mapping[str, Any], comparison: Mapping[str, Any] | None = None) -> None:
    """Print a result for people, and a row of it to paste."""
    for line in _header(result):
        tell(console, line)
    console.print(stage_table(result, comparison))
    for line in [*_summary_lines(result), *(comparison_lines(comparison) if comparison else ())]:
        tell(console, line)
    for note in notes(result):
        tell(console, f"note: {note}")
    tell(console, "")
    for line in markdown(result):
        tell(console, line)


def stage_table(result: Mapping[str, Any], comparison: Mapping[str, Any] | None = None) -> Table:
    """Return the stages' times as a table, beside those of another run where there is a comparison."""
    from rich import box
    from rich.table import Table

    columns = ("n", *(f"p{percent}" for percent in PERCENTILES), "max")
    # Narrow enough for 80 characters, the ratios included.
    table = Table("ms a call", box=box.SIMPLE, collapse_padding=True, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    if comparison:
        for name in RATIOS:
            table.add_column(f"{name} / base", justify="right")
    for stage, values in result["stages"].items():
        cells = [str(values["n"]), *(_ms(values[column]) for column in columns[1:])]
        if comparison:
            cells += [_ratio(comparison["ratios"][stage][name]) for name in RATIOS]
        if stage == END_TO_END:
            table.add_section()
        table.add_row(stage, *cells)
    return table


def tell(console: Console, line: str) -> None:
    """Print a line as it is."""
    # Names may hold what rich takes for markup, and a row to paste must stay one line.
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _header(result: Mapping[str, Any]) -> Iterator[str]:
    source = result["source"]
    parts = f"engine {result['engine']}, flow on {result['flow']}, face by {result['face']}"
    if result.get("recognizer"):
        parts += f", second opinion of {result['recognizer']}"
    yield f"metst-edge {result['version']}, {parts}"
    yield from conditions(result)
    played = f", played {result['passes']} times" if result["passes"] > 1 else ""
    size = f", {source['width']}x{source['height']}" if "width" in source else ""
    fps = f", {source['fps']:.4g} frames/s" if source.get("fps") else ""
    kind = "camera " if source.get("live") else ""
    yield f"{kind}{source['name']}{size}{fps}{played}; {result['frames']} frames after {result['warm_up']} of warm-up"


def conditions(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines that tell of the bundle and the machine."""
    machine, digest = result["machine"], result["bundle"]["manifest_sha256"]
    yield f"bundle {result['bundle']['name']}, sha256 of its manifest {digest[:16]}"
    threads = ", ".join(f"{count} {name}" for name, count in result["threads"].items())
    yield f"{machine['processor']}, {machine['cores']} cores; threads: {threads}; SIMD {machine['simd']}"
    board = [machine.get("board"), machine.get("l4t") and f"L4T {machine['l4t']}"]
    board.append(machine.get("power mode") and f"power mode {machine['power mode']}")
    if any(board):
        yield ", ".join(filter(None, board))
    yield f"{machine['system']}, Python {machine['python']}"
    for moment in "start", "end":
        line = _sensor_line(result["sensors"][moment])
        if line:
            yield f"at the {moment}: {line}"


def _sensor_line(found: Mapping[str, Any]) -> str:
    parts = [f"load {found['load']:.2f}"] if "load" in found else []
    for name, key in ("CPU", "cpu_mhz"), ("GPU", "gpu_mhz"):
        clocks = list(found.get(key, {}).values())
        if clocks:
            now = [clock for clock, _ in clocks]
            span = f"{min(now):.0f}" if min(now) == max(now) else f"{min(now):.0f} to {max(now):.0f}"
            highest = [most for _, most in clocks if most is not None]
            parts.append(f"{name} {span}{f' of {max(highest):.0f}' if highest else ''} MHz")
    parts += [f"{name} {degrees:.1f} °C" for name, degrees in found.get("temperature_c", {}).items()]
    return ", ".join(parts)


def _summary_lines(result: Mapping[str, Any]) -> Iterator[str]:
    deadline, memory = result["deadline"], result["memory"]
    if result["frames"]:
        came = result["arriving_per_second"]
        yield f"throughput       {result['frames_per_second']:.1f} frames/s" + (f", {came:.1f} came" if came else "")
        late = f"{deadline['misses']} of {result['frames']} frames ({deadline['share']:.1%})"
        limit = f"{1e3 / deadline['rate']:.1f} ms ({deadline['rate']:g} frames/s)"
        yield f"deadline misses  {late} took longer than {limit}"
    if result["source"].get("live"):
        dropped = "not known" if result["dropped"] is None else str(result["dropped"])
        yield f"drops            {dropped}; interruptions {result['interruptions']}"
    else:
        yield "drops            none (a file waits to be read)"
    growth = "" if memory["growth"] is None else f", {memory['growth']:.1f} of it since the warm-up"
    yield f"memory           {memory['high_water']:.0f} MiB at most{growth}"


def comparison_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield what keeps two runs from being compared as they stand."""
    changed = [f"{name} {_plain(was)} -> {_plain(now)}" for name, (was, now) in comparison["differences"].items()]
    if changed:
        yield f"not comparable   with the base as they stand: {'; '.join(changed)}"


def notes(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader must know to read the figures right."""
    stages, lost = result["stages"], result["gaps"].get("face_lost", 0)
    if not result["complete"]:
        yield f"incomplete: it ended after {result['frames']} of {result['frames_wanted']} frames"
    if result["frames"] and not stages["network"]["n"]:
        yield "no face was found, so flow, network and decode had nothing to do: use a source with a face throughout"
    elif lost:
        yield f"the face was lost {lost} times; frames without one cost less: use a source with a face throughout"
    if result["flow"] == "cuda":
        yield "flow was measured on the GPU: its time is in network, which waits for it; flow is only the asking"
    unasked = missing(result["opinions"]) if result.get("opinions") else None
    if unasked:
        yield unasked
    if result["passes"] > 1:
        yield f"the source was played {result['passes']} times; each time windows and decoding begin anew"


def markdown(result: Mapping[str, Any]) -> list[str]:
    """Return a table of one row to paste into an issue: heading, rule and row."""
    stages, machine, deadline = result["stages"], result["machine"], result["deadline"]
    power, dropped = machine.get("power mode"), result["dropped"]
    cells = {
        "machine": machine.get("board") or machine["processor"],
        **({"power mode": power} if power else {}),
        "version": result["version"],
        "bundle": f"{result['bundle']['name']} {result['bundle']['manifest_sha256'][:8]}",
        "engine": f"{result['engine']}, {machine['simd'].split()[0]}",
        "source": result["source"]["name"],
        "n": str(result["frames"]) + ("" if result["complete"] else " (incomplete)"),
        **{f"{stage} p50 ms": _ms(values["p50"]) for stage, values in stages.items() if stage != END_TO_END},
        **{f"end to end {name} ms": _ms(stages[END_TO_END][name]) for name in ("p50", "p90", "p95", "p99", "max")},
        "frames/s": "-" if result["frames_per_second"] is None else f"{result['frames_per_second']:.1f}",
        f"late at {deadline['rate']:g}/s": "-" if deadline["share"] is None else f"{deadline['share']:.1%}",
        "drops": "-" if dropped is None else str(dropped),
        "MiB": f"{result['memory']['high_water']:.0f}",
    }
    rows = [list(cells), ["---"] * len(cells), [cell.replace("|", "\\|") for cell in cells.values()]]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{part} {name}" for name, part in value.items())
    return "unknown" if value is None else str(value)
