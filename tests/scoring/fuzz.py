"""Callers as nobody should have them, drawn from seeds: frames, times, broken-off calls, streams left and closed.

    python -m tests.scoring.fuzz [RUNS [FIRST]]

runs the seeds from FIRST on and prints each that fails. A run is some twenty calls of an Analyzer, a function of its
seed alone: the Analyzer is reset, and now and then closed and made anew. Only documented errors may come, and what is
told must make sense: every gap that begins ends, nothing crosses one, and in the end a plain video is as it ever was.
"""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np

import metst_edge
import metst_edge.analyzer
from metst_edge.capture import Frame, Interruption
from metst_edge.errors import MetstError, StateError
from metst_edge.events import Event, Gap
from metst_edge.face import Box, Face

REASONS = {"face_lost", "no_frames", "too_slow", "scene_cut", "camera_lost", "camera_stalled", "size_changed"}
LANDMARKS = np.random.default_rng(1).uniform(60, 260, (68, 2)).astype(np.float32)
WAVES = np.add.outer(np.sin(np.arange(96) / 3) * 40, np.cos(np.arange(128) / 4) * 40)


class Finder:
    """A picture that is bright on average shows a face; where, the brightness of its corner says."""

    def find(self, image: Any) -> Face | None:
        gray = image if image.ndim == 2 else image[..., 0]
        if gray.mean() < 100:
            return None
        height, width = gray.shape
        side = min(height, width) - 8
        at = int(gray[0, 0]) % 8
        return Face(LANDMARKS * side / 320, Box(at, at + side, 8 - at, 8 - at + side), LANDMARKS)

    def close(self) -> None:
        pass


class Fake:
    """A source of what it is given; live or not, and with an error at its end or not."""

    uri, frame_count, dropped = "fake", None, None

    def __init__(self, items: list[Any], live: bool, fps: float | None, error: BaseException | None) -> None:
        self._items, self.live, self.fps, self._error = iter(items), live, fps, error

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for item in self._items:
            return item
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def close(self) -> None:
        self._items = iter(())


class Told:
    """Checks what an Analyzer tells of one video."""

    def __init__(self) -> None:
        self.lasting: Gap | None = None
        self._gaps: list[Gap] = []

    def take(self, events: list[Event]) -> None:
        for event in events:
            event.to_json()
            if not isinstance(event, Gap):
                assert event.onset <= event.apex <= event.offset and event.onset_frame <= event.offset_frame, event
                assert math.isclose(sum(event.probabilities.values()), 1, abs_tol=1e-5), event
                crossed = [gap for gap in self._gaps if gap.start < event.offset and gap.end > event.onset]
                assert not crossed, f"{event} crosses {crossed}"
                continue
            assert event.reason in REASONS and math.isfinite(event.start), event
            if event.end is None:
                assert self.lasting is None, f"{event} begins while {self.lasting} lasts"
                self.lasting = event
                continue
            assert event.end >= event.start, event
            if self.lasting is not None:
                begun, self.lasting = self.lasting, None
                assert (begun.start, begun.reason) == (event.start, event.reason), f"{event} ends {begun}"
            self._gaps.append(event)

    def end(self) -> None:
        assert self.lasting is None, f"{self.lasting} never ended"


def picture(draw: Random) -> Any:
    """A picture, mostly one that may be pushed."""
    shift = draw.choice((0, 0, 0, 1, 2, 20))
    level = draw.choice((150, 150, 150, 150, 151, 40, 250))
    gray = np.clip(np.roll(WAVES, shift, 1) + level, 0, 255).astype(np.uint8)
    kind = draw.randrange(40)
    if kind < 24:
        return gray
    good = {
        24: lambda: np.repeat(gray[..., None], 3, 2),
        25: lambda: np.asfortranarray(gray),
        26: lambda: np.repeat(np.repeat(gray, 2, 0), 2, 1)[::2, ::2],
        27: lambda: gray[::-1, ::-1],
        28: lambda: np.random.default_rng(draw.randrange(99)).integers(0, 256, gray.shape, np.uint8),
        29: lambda: gray[:64, :64],
        30: lambda: np.zeros_like(gray),
    }
    bad = (
        None, "picture", [[0]], 7, b"x" * 999, object(), np.array(3, np.uint8), gray.astype(float), gray[:31], gray[0],
        gray.astype(bool), gray.astype(np.int16), np.zeros((96, 128, 4), np.uint8), np.zeros((0, 0), np.uint8),
        np.zeros((96, 128, 3, 1), np.uint8), np.array([[None] * 40] * 40), np.ma.masked_array(gray, gray > 150),
        np.zeros((1, 40000), np.uint8), np.full((96, 128), np.nan), memoryview(gray), gray.view(np.int8),
    )  # fmt: skip
    return good[kind]() if kind in good else draw.choice(bad)


ODD_TIMES = (
    None, "0.5", b"1", True, math.nan, math.inf, -math.inf, -1.0, 0.0, -0.0, 1e308, -1e308, 5e-324, 10**400, 1j, [], {},
    np.float64("nan"), np.array([1.0, 2.0]), np.array(3.5), np.datetime64("2020-01-01"), object(), 2**63, 1e300,
)  # fmt: skip
STEPS = (
    1 / 30,
    1 / 30,
    1 / 30,
    1 / 30,
    1 / 25,
    1 / 60,
    1 / 15,
    1 / 13.6,
    0.1,
    0.5,
    1.0,
    100 / 3,
    1e-9,
    3.3e7,
    0.0,
    -0.1,
)
STARTS = (0.0, 0.0, 0.0, 100.0, -5.0, 1e9, 1e15, -1e300, 1e-300)


def times(draw: Random) -> Iterator[Any]:
    """Times of frames, mostly ones that rise evenly."""
    now, step = draw.choice(STARTS), draw.choice(STEPS)
    while True:
        yield draw.choice(ODD_TIMES) if draw.random() < 0.04 else now
        if draw.random() < 0.05:
            step = draw.choice(STEPS)
        now += step + (draw.choice((0.2, 5.0, 1e6)) if draw.random() < 0.03 else 0.0)


class Interrupting:
    """An `on_stage` that raises now and then, once it is armed."""

    def __init__(self) -> None:
        self.after: int | None = None
        self.error: type[BaseException] = KeyboardInterrupt

    def __call__(self, stage: str, seconds: float) -> None:
        if self.after is None:
            return
        self.after -= 1
        if self.after <= 0:
            self.after = None
            raise self.error


_stage = Interrupting()
_open: dict[int, metst_edge.Analyzer] = {}  # by their threads


class Life:
    """An Analyzer and what becomes of it."""

    def __init__(self, seed: int) -> None:
        self.draw, self.stage, _stage.after = Random(f"push {seed}"), _stage, None
        threads = self.draw.choice((1, 1, 1, 2))
        if threads not in _open:
            _open[threads] = metst_edge.Analyzer(on_stage=_stage, threads=threads)
        self.analyzer = _open[threads]
        self.analyzer.reset()
        self.told, self.times, self.pushed = Told(), times(self.draw), 0

    def guarded(self, call: Callable[[], list[Event]]) -> bool:
        """Call; False where it was refused or broken off."""
        try:
            self.told.take(call())
        except MetstError:
            return False
        except KeyboardInterrupt:
            return False
        return True

    def push(self) -> None:
        given = picture(self.draw)
        time = next(self.times)
        if self.draw.random() < 0.1 and isinstance(given, np.ndarray):
            given, time = Frame(self.pushed, time, given), None
        self.pushed += 1
        self.guarded(lambda: self.analyzer.push(given, time))

    def flush(self) -> None:
        if self.guarded(self.analyzer.flush):
            self.told.end()
            self._begin()

    def reset(self) -> None:
        if self.guarded(lambda: self.analyzer.reset() or []):
            self._begin()

    def _begin(self) -> None:
        self.told, self.times, self.pushed = Told(), times(self.draw), 0

    def arm(self) -> None:
        self.stage.error = self.draw.choice((KeyboardInterrupt, KeyboardInterrupt, ValueError))
        self.stage.after = self.draw.randrange(1, 12)

    def source(self) -> Fake:
        draw, items, now = self.draw, [], 0.0
        live = draw.random() < 0.5
        for i in range(draw.randrange(25)):
            gray = np.clip(WAVES + draw.choice((150, 150, 150, 40)), 0, 255).astype(np.uint8)
            before, now = now, now + draw.choice((1 / 30, 1 / 30, 1 / 30, 0.1, 2.0))
            if live and draw.random() < 0.1:
                reason = draw.choice(("camera_lost", "camera_stalled", "size_changed"))
                if draw.random() < 0.8:
                    items.append(Interruption(before, None, reason))
                if draw.random() < 0.9:
                    items.append(Interruption(before, now, reason))
                else:
                    break
            items.append(Frame(i, now, gray))
        error = draw.choice((None, None, None, metst_edge.errors.SourceError("broke off"), KeyboardInterrupt()))
        return Fake(items, live, draw.choice((None, 30.0, 25.0, 5.0)), error)

    def stream(self) -> None:
        source = self.source()
        metst_edge.analyzer.open_source = lambda uri: source
        events = self.analyzer.stream("fake")
        self._begin()
        most = self.draw.choice((1, 3, 10**6))

        def some() -> list[Event]:
            for count, event in enumerate(events, 1):
                self.told.take([event])
                self._expect_no_other()
                if count >= most:
                    return []
            self.told.end()
            return []

        self.guarded(some)
        self.draw.choice((events.close, self.push, self.flush, self.reset, lambda: None))()
        if not self.guarded(lambda: list(events)):
            self.guarded(lambda: self.analyzer.reset() or [])
        self._begin()
        self.guarded(lambda: self.analyzer.reset() or [])

    def _expect_no_other(self) -> None:
        """No other video may begin while a stream is under way."""
        for call in (lambda: next(self.analyzer.stream("other")), lambda: self.analyzer.analyze("other")):
            try:
                call()
            except StateError as error:
                assert error.state == "busy", error
            else:
                raise AssertionError("another video began, and ended this one")

    def analyze(self) -> None:
        source = self.source()
        metst_edge.analyzer.open_source = lambda uri: source

        def report() -> list[Event]:
            try:
                found = self.analyzer.analyze("fake")
            except (MetstError, KeyboardInterrupt) as error:
                found = getattr(error, "report", None)
            if found is not None:
                found.to_json(scores=True)
                assert all(event.end is not None for event in found.events if isinstance(event, Gap))
            return []

        self.guarded(report)
        self._begin()
        self.guarded(lambda: self.analyzer.reset() or [])

    def plain(self) -> list[float]:
        """The scores of a plain video, after whatever was before."""
        self.stage.after = None
        self.analyzer.reset()
        scores: list[float] = []
        for i in range(8):
            gray = np.clip(np.roll(WAVES, i, 1) + 150, 0, 255).astype(np.uint8)
            scores += [
                item.spot for item in self.analyzer._scorer.push(Frame(i, i / 30, gray)) if hasattr(item, "spot")
            ]
        return scores + [item.spot for item in self.analyzer._scorer.flush() if hasattr(item, "spot")]

    def live(self) -> None:
        calls = [self.push] * 60 + [self.arm] * 4 + [self.flush] * 2 + [self.reset] + [self.stream, self.analyze]
        for _ in range(self.draw.randrange(5, 35)):
            self.draw.choice(calls)()
        if self.draw.random() < 0.05:
            scores = self.plain()
            global _expected
            _expected = _expected or scores
            assert scores == _expected, "a plain video has other scores than ever"
        if self.draw.random() < 0.02:
            self._close()

    def _close(self) -> None:
        self.stage.after = None
        self.analyzer.close()
        del _open[self.analyzer.threads]
        for call in (self.analyzer.flush, self.analyzer.reset, lambda: self.analyzer.push(WAVES, 0.0)):
            try:
                call()
            except StateError as error:
                assert error.state == "closed"
            else:
                raise AssertionError("it was closed")


_expected: list[float] = []


def run(seed: int) -> None:
    """Live one life."""
    kept = metst_edge.analyzer.open_source, metst_edge.analyzer.open_finder
    metst_edge.analyzer.open_finder = lambda *choice: Finder()
    try:
        Life(seed).live()
    except BaseException:
        _open.clear()
        raise
    finally:
        metst_edge.analyzer.open_source, metst_edge.analyzer.open_finder = kept


def main(runs: int = 1000, first: int = 0) -> int:
    """Run many seeds; return how many failed."""
    logging.disable()
    failed = 0
    for seed in range(first, first + runs):
        try:
            run(seed)
        except BaseException as error:
            print(f"seed {seed}: {error!r}", file=sys.stderr, flush=True)
            traceback.print_exc()
            failed += 1
            if failed >= 20 or type(error) is KeyboardInterrupt:
                break
        if seed % 1000 == 999:
            print(f"{seed + 1 - first} runs, {failed} failed", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])) > 0)
