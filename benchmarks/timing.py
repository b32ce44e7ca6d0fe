"""How things are timed: in turns, in one process, and where the time goes when it is too much."""

from __future__ import annotations

import cProfile
import os
import pstats
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def alternate(calls: dict[str, Callable[[int], object]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Time calls in turns, so that a slow moment of the machine hits all of them.

    Args:
        calls: each is called once a round, with the round's number. Who goes first changes from round to round.
        rounds: timed ones. warm_up: untimed calls of round 0 before them.

    Returns:
        The times of each call, milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for call in calls.values():
        for _ in range(warm_up):
            call(0)
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name](i)
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def quantiles(times: list[float]) -> tuple[float, float, float]:
    """Return the 5 %, 50 % and 95 % quantiles."""
    low, median, high = np.quantile(times, (0.05, 0.5, 0.95)).tolist()
    return low, median, high


def profile(call: Callable[[], object], top: int = 6) -> list[str]:
    """Return where the time of a call goes: the functions with the largest own time, as shares.

    The profiler itself slows Python calls down, so only the shares mean something, and short functions look larger
    than they are.
    """
    profiler = cProfile.Profile()
    profiler.enable()
    call()
    profiler.disable()
    stats: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    own = sorted(((entry[2], key) for key, entry in stats.items()), reverse=True)
    total = sum(seconds for seconds, _ in own) or 1.0
    lines = []
    for seconds, (file, _, function) in own[:top]:
        # Names of files, not paths: those are the machine's.
        where = function if file == "~" else f"{Path(file).name} {function}"
        lines.append(f"{100 * seconds / total:.0f} % {where}")
    return lines


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Hold every thread of this process, those of other libraries too, to the first ``count`` cores it may use.

    Raises:
        RuntimeError: it may not use so many.
    """
    allowed = os.sched_getaffinity(0)
    if len(allowed) < count:
        raise RuntimeError(f"expected {count} cores, this process may use {len(allowed)}")
    try:
        _pin(set(sorted(allowed)[:count]))
        yield
    finally:
        _pin(allowed)


def _pin(cpus: set[int]) -> None:
    for task in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cpus)
        except ProcessLookupError:  # it ended in between
            continue
