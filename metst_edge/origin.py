"""Where events come from: the name of their source and, where it is live, the wall clock at a moment of source time.

Knows events and no source: it is told when a frame comes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timezone
from typing import TypeVar

from metst_edge.events import Event, Gap, MicroExpression

AnyEvent = TypeVar("AnyEvent", MicroExpression, Gap, Event)


class Origin:
    """Marks the events of one source.

    Args:
        source: its name; None where frames are pushed, of which nothing is known.
        live: whether its time goes on with the wall clock.
    """

    def __init__(self, source: str | None = None, live: bool = False) -> None:
        self._source, self._live = source, live
        self._began = math.inf  # on the monotonic clock, the source's second 0

    def saw(self, timestamp: float) -> None:
        """Take note that a frame of this source time has just come; the promptest one so far sets the clock."""
        if self._live:
            self._began = min(self._began, time.monotonic() - timestamp)

    def mark(self, events: Iterable[AnyEvent]) -> list[AnyEvent]:
        """Return the events with their source and, of a live one, the wall clock at their onset or start."""
        if self._source is None:
            return list(events)
        return [replace(event, source=self._source, time=self._clock(event)) for event in events]

    def _clock(self, event: Event) -> datetime | None:
        if not self._live:
            return None
        # Before the first frame, the source has just begun.
        began = self._began if math.isfinite(self._began) else time.monotonic()
        seconds = event.start if isinstance(event, Gap) else event.onset
        # The difference of the clocks is read anew: the wall clock may have been set.
        return datetime.fromtimestamp(time.time() - time.monotonic() + began + seconds, timezone.utc)
