"""How things are timed: in turns, by stage, in one process, on so many cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Give every name once a round; who goes first changes from round to round."""
    for i in range(rounds):
        first = i % len(names)
        yield from (*names[first:], *names[:first])


def alternate(
    calls: dict[str, Callable[[int], object]],
    rounds: int,
    warm_up: int = 1,
    blocks: Mapping[str, tuple[int, int]] | None = None,
) -> dict[str, list[float]]:
    """Time calls in turns, so that a slow moment of the machine hits all of them.

    Args:
        calls: each has its turn once a round. Who goes first changes from round to round.
        rounds: timed ones.
        warm_up: untimed calls of number 0 before them.
        blocks: name -> how often it is called in its turn, untimed and then timed; (0, 1) of those not named. The calls
            of one name are numbered from 0 throughout.

    Returns:
        The times of each call, milliseconds.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(warm_up):
            call(0)
    for turn, name in enumerate(turns(list(calls), rounds)):
        untimed, timed = (blocks or {}).get(name, (0, 1))
        for j in range(untimed + timed):
            number = turn // len(calls) * (untimed + timed) + j
            start = time.perf_counter()
            calls[name](number)
            if j >= untimed:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def quantiles(times: list[float]) -> tuple[float, float, float]:
    """Return the 5 %, 50 % and 95 % quantiles."""
    low, median, high = np.quantile(times, (0.05, 0.5, 0.95)).tolist()
    return low, median, high


class Clock:
    """Adds up what each stage of a run takes.

    Args:
        stages: names of all there are.

    Attributes:
        seconds: stage -> spent in it.
        calls: stage -> how often it was called.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._stages = stages
        self.restart()

    def restart(self) -> None:
        """Forget what was counted."""
        self.seconds: dict[str, float] = dict.fromkeys(self._stages, 0.0)
        self.calls = dict.fromkeys(self._stages, 0)

    def add(self, stage: str, seconds: float) -> None:
        """Count one call of a stage; the SDK's `OnStage`."""
        self.seconds[stage] += seconds
        self.calls[stage] += 1

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``call`` with every call of it timed."""

        def wrapped(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                self.add(stage, time.perf_counter() - start)

        return wrapped


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
