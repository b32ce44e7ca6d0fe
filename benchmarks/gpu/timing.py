"""Time of work on a GPU, from events on its stream; and the rates that nothing there can beat."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gpu.library import Library

WARM_UP = (3, 0.2)
"""Calls and seconds of work, at least, before anything is timed: clocks rise, caches fill."""
AHEAD = 64
"""Calls enqueued before the host waits, at most, in the warm-up."""
ROUNDS = (5, 200)
"""Timed rounds, at least and at most."""
EXPONENTIAL_ROUNDS = 4096

Call = Callable[[], object]


@dataclass(frozen=True)
class Rates:
    """What the GPU does at best."""

    copy: float
    """bytes a second, read and written, of a large device-to-device copy"""
    exponentials: float
    """a second, of independent ones in registers"""
    node: float
    """seconds from one kernel of a captured graph to the next, when neither does anything"""


def median_ms(samples: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(samples)


def time_events(calls: Sequence[Call], seconds: float = 0.5, before: Call | None = None) -> list[float]:
    """Time calls one by one between two events each, in turns, so that the inputs of one have left the cache.

    Args:
        calls: the same work on different inputs.
        seconds: to spend, at least 5 rounds.
        before: what is enqueued before every call and not timed.

    Returns:
        Milliseconds of each call. The host enqueues ahead of the device, except where that is what takes the time.
    """
    prepare = before or (lambda: None)
    start = begun = time.perf_counter()
    done, at_once, each = 0, 1, 0.0
    while (done < WARM_UP[0] or begun - start < WARM_UP[1]) and begun - start <= seconds:
        for _ in range(at_once):  # more and more, so that the device does not wait for the host between short calls
            prepare()
            calls[done % len(calls)]()
            done += 1
        torch.cuda.synchronize()
        now = time.perf_counter()
        each, begun = (now - begun) / at_once, now
        at_once = 1 if each > WARM_UP[1] else min(2 * at_once, AHEAD)
    # One at a time where a call takes long, else several, so that the host is ahead of the device.
    at_once = 1 if each * ROUNDS[0] > seconds else ROUNDS[0]
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < ROUNDS[0] or (len(times) < ROUNDS[1] and time.perf_counter() < end):
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(at_once)]
        for i, (first, last) in enumerate(events):
            prepare()
            first.record()
            calls[(len(times) + i) % len(calls)]()
            last.record()
        torch.cuda.synchronize()
        times += [first.elapsed_time(last) for first, last in events]
    return times


def capture(calls: Sequence[Call], count: int) -> torch.cuda.CUDAGraph:
    """Capture ``count`` calls, in turns, in one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # the capture's own: libraries make their handles and workspaces here
        for i in range(max(WARM_UP[0], min(count, len(calls)))):
            calls[i % len(calls)]()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(count):
            calls[i % len(calls)]()
    return graph


def time_graph(calls: Sequence[Call], count: int, seconds: float = 0.5) -> list[float]:
    """Time ``count`` calls captured in one graph, so that the gaps between launches from the host do not count.

    Returns:
        Milliseconds per call, one for each replay.
    """
    graph = capture(calls, count)
    return [ms / count for ms in time_events([graph.replay], seconds)]


def measure_rates(library: Library) -> Rates:
    """Measure the three rates; the highest of each counts, because nothing must beat it."""
    properties = torch.cuda.get_device_properties(0)
    copy = _copy_rate(min(4 << 30, properties.total_memory // 8), library.device)
    blocks = 16 * properties.multi_processor_count
    out = torch.empty(128 * blocks, device=library.device)
    ms = min(time_events([lambda: library.call("exponentials", out, blocks, EXPONENTIAL_ROUNDS)]))
    if not torch.isfinite(out).all():
        raise RuntimeError("the exponentials that are timed end in numbers that are not finite")
    exponentials = 1e3 * 128 * 8 * blocks * EXPONENTIAL_ROUNDS / ms
    node = 1e-3 * min(time_graph([lambda: library.call("nothing")], 1000))
    return Rates(copy, exponentials, node)


def _copy_rate(size: int, device: str) -> float:
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2e3 * size / min(time_events([lambda: target.copy_(source)]))
