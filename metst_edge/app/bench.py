"""``metst-edge bench``: how long every stage of a frame takes on this machine, and how that compares with another run.

Nothing is clipped, smoothed or left out: every sample after the warm-up counts, the slowest one too.
"""

from __future__ import annotations

import datetime
import json
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metst_edge import __version__
from metst_edge.app.demo import demo_clip
from metst_edge.app.machine import describe, sensors, usable_cores
from metst_edge.bundle import MANIFEST, sha256
from metst_edge.capture import Interruption, Source, open_source
from metst_edge.capture.camera import Camera
from metst_edge.errors import BenchFileError
from metst_edge.events import Event, Gap

if TYPE_CHECKING:
    from rich.console import Console

    from metst_edge.analyzer import Analyzer, Progress
    from metst_edge.engine import Engine

KIND = "metst-edge bench"
FORMAT = 1
END_TO_END = "end to end"
STAGES = ("capture", "prepare", "face", "flow", "network", "decode", END_TO_END)
PERCENTILES = (50, 90, 95, 99)
RATIOS = ("p50", "p99")
"""What is set side by side with another run."""
CONDITIONS = (
    ("complete",),
    ("bundle", "manifest_sha256"),
    ("engine",),
    ("flow",),
    ("machine", "processor"),
    ("machine", "power mode"),
    ("machine", "simd"),
    ("threads",),
    ("source", "name"),
    ("source", "width"),
    ("source", "height"),
    ("source", "fps"),
)
"""What two runs must have in common for their times to be comparable."""


class Bench:
    """Plays a source through an analyzer and keeps every time after the warm-up.

    Args:
        source: camera index, video file or folder of images; None for the packaged clip.
        frames: to measure. A file that is shorter is played again.
        warm_up: frames before those.

    Attributes:
        times: stage -> seconds of each call so far.
        complete: whether all frames were measured.
    """

    def __init__(self, source: str | None, frames: int, warm_up: int) -> None:
        self.times: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self.complete = False
        self._uri: str | Path = demo_clip() if source is None else source
        self._frames, self._warm_up = frames, warm_up
        self._taken = 0  # frames, those of the warm-up too
        self._passes = 0
        # Not the whole path: results are published.
        self._source: dict[str, Any] = {"name": "packaged clip" if source is None else Path(source).name}
        self._gaps: Counter[str] = Counter()
        self._arrivals: list[float] = []
        self._dropped: int | None = None
        self._interruptions = 0
        self._memory_before: float | None = None
        self._sensors_before: dict[str, Any] = {}

    @property
    def measured(self) -> int:
        """Frames measured so far."""
        return len(self.times[END_TO_END])

    @property
    def _warm(self) -> bool:
        return self._taken >= self._warm_up

    def on_stage(self, stage: str, seconds: float) -> None:
        """Take the time of one call; for `Analyzer`."""
        # What the analyzer still decodes after the last frame belongs to none.
        if self._warm and self._taken < self._warm_up + self._frames:
            self.times[stage].append(seconds)

    def play(self, analyzer: Analyzer, progress: Progress | None = None) -> None:
        """Measure; what is measured stays when this is interrupted.

        Args:
            analyzer: made with ``on_stage`` of this object.
            progress: called with the frames done and in all.

        Raises:
            SourceError: the source cannot be opened, is too slow for the model, or broke off.
        """
        while self._taken < self._warm_up + self._frames:
            with open_source(self._uri) as source:
                analyzer.check_rate(source)
                self._passes += 1
                self._source.update(fps=source.fps, live=source.live)
                self._play_once(analyzer, source, progress)
            self._saw(analyzer.flush())
        self.complete = True

    def _play_once(self, analyzer: Analyzer, source: Source, progress: Progress | None) -> None:
        total = self._warm_up + self._frames
        dropped_before = None
        while self._taken < total:
            if self._warm and self._memory_before is None:
                self._memory_before, self._sensors_before = _high_water(), sensors()
            if self._warm and dropped_before is None and isinstance(source, Camera):
                dropped_before = source.dropped
            asked = time.perf_counter()
            frame = next(source, None)
            had = time.perf_counter()
            if frame is None:
                return
            if isinstance(frame, Interruption):
                self._interruptions += self._warm
                self._saw([Gap(frame.start, frame.end, frame.reason), *analyzer.flush()])
                continue
            events = analyzer.push(frame.image, frame.timestamp)
            done = time.perf_counter()
            self._saw(events)
            if self._warm:
                self.times["capture"].append(had - asked)
                self.times[END_TO_END].append(done - (had if source.live else asked))
                self._arrivals.append(frame.timestamp)
            if dropped_before is not None and isinstance(source, Camera):
                self._dropped = source.dropped - dropped_before
            height, width = frame.image.shape[:2]
            self._source.update(width=width, height=height)
            self._taken += 1
            if progress is not None:
                progress(self._taken, total)

    def _saw(self, events: Sequence[Event]) -> None:
        if self._warm:
            self._gaps.update(event.reason for event in events if isinstance(event, Gap))

    def result(self, analyzer: Analyzer, rate: float | None = None) -> dict[str, Any]:
        """Return what was measured so far, as it is written to JSON: times in milliseconds, memory in MiB.

        Args:
            analyzer: that was played through.
            rate: frames per second to be kept up with; the model's by default.
        """
        bundle = analyzer.bundle
        rate = bundle.fps if rate is None else rate
        whole = self.times[END_TO_END]
        misses = sum(seconds > 1 / rate for seconds in whole)
        memory = _high_water()
        live = self._source.get("live", False)
        return {
            "benchmark": KIND,
            "format": FORMAT,
            "complete": self.complete,
            "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "version": __version__,
            # The manifest holds the sha256 of every other file, and loading checked them: its own stands for all.
            "bundle": {"name": bundle.name, "manifest_sha256": sha256(bundle.file(MANIFEST))},
            "engine": _engine(analyzer.engine),
            "flow": analyzer.flow,
            "machine": describe(),
            "threads": {"usable cores": usable_cores(), "for flow": analyzer.threads},
            "sensors": {"start": self._sensors_before, "end": sensors()},
            "source": self._source,
            "warm_up": min(self._taken, self._warm_up),
            "frames": self.measured,
            "frames_wanted": self._frames,
            "passes": self._passes,
            "stages": {stage: summary(seconds) for stage, seconds in self.times.items()},
            "frames_per_second": len(whole) / sum(whole) if whole else None,
            "arriving_per_second": _rate(self._arrivals) if live else None,
            "deadline": {"rate": rate, "misses": misses, "share": misses / len(whole) if whole else None},
            "dropped": self._dropped,
            "interruptions": self._interruptions if live else None,
            "gaps": dict(self._gaps),
            "memory": {
                "high_water": memory,
                "growth": None if self._memory_before is None else memory - self._memory_before,
            },
        }


def _engine(engine: Engine) -> str:
    return engine.name if engine.precision == "fp32" else f"{engine.name} {engine.precision}"


def summary(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Return n, the percentiles (linear between samples) and the maximum, in milliseconds; None where n is 0."""
    names = [f"p{percent}" for percent in PERCENTILES]
    if not seconds:
        return {"n": 0, **dict.fromkeys([*names, "max"])}
    values = np.percentile(seconds, [*PERCENTILES, 100]) * 1e3
    return {"n": len(seconds), **dict(zip([*names, "max"], values.tolist(), strict=True))}


def _high_water() -> float:
    """Return the most memory this process has held so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _rate(times: Sequence[float]) -> float | None:
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else None


def load(path: Path) -> dict[str, Any]:
    """Read what ``bench --json`` wrote.

    Raises:
        BenchFileError: it is something else, or of a later format.
        OSError: it cannot be read.
    """
    what = f"{path}: expected what 'metst-edge bench --json' writes"
    again = "write one with: metst-edge bench --json base.json"
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BenchFileError(f"{what}, got no JSON ({error}); {again}") from error
    if not isinstance(content, dict) or content.get("benchmark") != KIND:
        raise BenchFileError(f"{what}, got other JSON; {again}")
    if content.get("format") != FORMAT:
        raise BenchFileError(f"{what}, format {FORMAT}, got format {content.get('format')!r}; {again}")
    stages = content.get("stages")
    if not isinstance(stages, dict) or not all(_is_summary(stage) for stage in stages.values()):
        raise BenchFileError(f"{what}, got one whose stages are damaged; {again}")
    return content


def _is_summary(stage: object) -> bool:
    return isinstance(stage, dict) and all(isinstance(stage.get(name), (int, float, type(None))) for name in RATIOS)


def compare(new: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Set two results side by side.

    Returns:
        ratios: stage -> p50 and p99 of ``new`` by those of ``base``, None where either has no samples or takes no time.
        differences: what else changed between the runs, so that the ratios tell of it too: name -> [base, new].
    """
    ratios = {}
    for stage, values in new["stages"].items():
        before = base["stages"].get(stage, {})
        ratios[stage] = {
            name: values[name] / before[name] if values[name] is not None and before.get(name) else None
            for name in RATIOS
        }
    differences = {}
    for path in CONDITIONS:
        was, now = _at(base, path), _at(new, path)
        if was != now:
            differences[" ".join(path)] = [was, now]
    return {"ratios": ratios, "differences": differences}


def _at(content: Any, path: Sequence[str]) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def show(console: Console, result: Mapping[str, Any], comparison: Mapping[str, Any] | None = None) -> None:
    """Print a result for people, and a row of it to paste."""
    from rich import box
    from rich.table import Table

    for line in _header(result):
        _print(console, line)
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
    console.print(table)
    for line in [*_summary_lines(result), *(_comparison_lines(comparison) if comparison else ())]:
        _print(console, line)
    for note in notes(result):
        _print(console, f"note: {note}")
    _print(console, "")
    for line in markdown(result):
        _print(console, line)


def _print(console: Console, line: str) -> None:
    # Names may hold what rich takes for markup, and a row to paste must stay one line.
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _header(result: Mapping[str, Any]) -> Iterator[str]:
    machine, source = result["machine"], result["source"]
    digest = result["bundle"]["manifest_sha256"]
    yield f"metst-edge {result['version']}, engine {result['engine']}, flow on {result['flow']}"
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
    played = f", played {result['passes']} times" if result["passes"] > 1 else ""
    size = f", {source['width']}x{source['height']}" if "width" in source else ""
    fps = f", {source['fps']:.4g} frames/s" if source.get("fps") else ""
    kind = "camera " if source.get("live") else ""
    yield f"{kind}{source['name']}{size}{fps}{played}; {result['frames']} frames after {result['warm_up']} of warm-up"


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


def _comparison_lines(comparison: Mapping[str, Any]) -> Iterator[str]:
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
