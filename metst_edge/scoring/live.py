"""Scores to events while they come in; `metst_edge.scoring.collected` is its offline counterpart."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from metst_edge.bundle import Bundle
from metst_edge.decode import DecodeSettings, Interval, OnlineDecoder
from metst_edge.events import Event, Gap, MicroExpression
from metst_edge.scoring.items import Item, RunEnd, Scored, Told
from metst_edge.scoring.stages import OnStage, timed


class LiveEvents:
    """Decodes runs of scores as they come, and gives events as soon as they are final.

    Args:
        bundle: whose scores they are.
        settings: what they are decoded with.
        on_stage: told how long each call of the decoder took.
    """

    def __init__(self, bundle: Bundle, settings: DecodeSettings, on_stage: OnStage | None = None) -> None:
        self._told, self._on_stage = Told(bundle, settings), on_stage
        self._decoder = OnlineDecoder.of(self._told.decoding, bundle.k_p, bundle.fps, bundle.labels)
        self.reset()

    def reset(self) -> None:
        """Forget all scores."""
        self._decoder.reset()
        self._whole = True  # no call of the decoder was broken off
        self._ready: list[Event] = []  # found by a call that was broken off
        self._items: deque[Item] = deque()  # not looked at by it
        self._forget()

    def take(self, items: Iterable[Item]) -> list[Event]:
        """Return the events that are final with these items.

        Where a call was broken off (Ctrl-C), what was decoded before it is kept, and so are the gaps and runs after it;
        what is left of its run is not.
        """
        self._items.extend(items)
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Gap):
                self._ready.append(item)
            elif isinstance(item, RunEnd):
                self._end()
            elif self._whole:
                self._decode(item)
        events, self._ready = self._ready, []
        return events

    def _decode(self, item: Scored) -> None:
        self._whole = False
        self._scored.append(item)
        if len(self._scored) > self._decoder.reach:
            self._scored.popleft()
            self._first += 1
        with timed("decode", self._on_stage):
            self._ready += self._events(self._decoder.push(item.spot, item.emotion))
        self._whole = True

    def _end(self) -> None:
        whole, self._whole = self._whole, False
        if whole:
            self._ready += self._events(self._decoder.flush())
        else:
            self._decoder.reset()
        self._forget()
        self._whole = True

    def _forget(self) -> None:
        self._scored: deque[Scored] = deque()  # of the latest slots, as far back as an interval may reach
        self._first = 0  # the slot of the run that is the first of them

    def _events(self, intervals: list[Interval]) -> list[MicroExpression]:
        first, scored = self._first, self._scored
        return self._told.events(intervals, lambda slot: scored[slot - first])
