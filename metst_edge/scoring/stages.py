"""Telling how long each stage of the way takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnStage = Callable[[str, float], None]
"""Called with a stage's name and the seconds that one call of it took, once it is done. A call that raises is not told.

- capture: reading a frame of the source, and waiting for it where the source is live. `stream` and `analyze` only.
- prepare: making a frame gray, and its thumbnail.
- face: looking for the face: at every window's start, and while there is none.
- flow: measuring one slot of the model's time grid in the windows open at it; preparing a window's anchor is no part.
  On a GPU only asking for it, since nothing waits for it but the network.
- network: scoring that slot; draining the scores under way where a run ends is no part.
- decode: taking one slot's scores and finding what is final with them. Not of `analyze`, which decodes at the end.
"""

_LOG = logging.getLogger(__name__)


class Harmless:
    """Stands before somebody's `OnStage`: an error of it is logged, the first one only, and goes no further.

    Args:
        on_stage: what is called.
    """

    def __init__(self, on_stage: OnStage) -> None:
        self._on_stage, self._failed = on_stage, False

    def __call__(self, stage: str, seconds: float) -> None:
        """Tell it."""
        try:
            self._on_stage(stage, seconds)
        except Exception:
            if not self._failed:
                _LOG.exception("on_stage failed; what it raises has no effect")
            self._failed = True


@contextmanager
def timed(stage: str, on_stage: OnStage | None) -> Iterator[None]:
    """Tell ``on_stage`` how long the body took, unless it raises; a microsecond of overhead."""
    start = time.perf_counter()
    yield
    if on_stage is not None:
        on_stage(stage, time.perf_counter() - start)
