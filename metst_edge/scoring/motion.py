"""What moved in an interval: regions' displacement at its apex, from the features that its scores were made of.

Features of a slot are measured in each lane from the first frame of the lane's window. Of a run's slot a, the score
that is kept is of one window w, whose slots begin at s. What moved from the onset o to the apex a is

    D = F_w[a] - F_w[max(o, s)]

with F_w the features of window w, in pixels of the crop, and F_w[s] = 0: both in one lane, so measured from one frame,
in the same regions. An onset before that window counts as its first frame: the apex lies half a window behind it or
more, so of `fixed` intervals none does while k_p is at most half of the window.

Features of a face held steady (`metst_edge.flow.steady`) tell what moved since `lag` slots ago instead, and

    D = F_w[a] + F_w[a - lag] + F_w[a - 2 lag] + ...    of slots after the onset

The head's motion is out of the features. Knows regions by name, and nothing of engines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from metst_edge.engine.lanes import LANES, window_of
from metst_edge.engine.types import Array
from metst_edge.events import STRONGEST, RegionMotion


def moved(
    onset: int,
    apex: int,
    features: Callable[[int], Array | None],
    half: int,
    regions: Sequence[str],
    lag: int | None = None,
) -> tuple[RegionMotion, ...] | None:
    """Return what moved most from a slot of a run to another, the strongest region first.

    Args:
        onset: slots are counted from 0 at the run's beginning.
        apex: likewise.
        features: gives those of a slot, float32 (LANES, C), dx and dy of each region; None where they are not known.
        half: slots from one window's start to the next one's.
        regions: names in the order of the features.
        lag: slots that features reach back; None where they are measured from their window's first frame.

    Returns:
        STRONGEST regions at most; None where features are not known.
    """
    window = window_of(apex, half)
    lane = window % LANES
    first = max(onset, window * half)
    slots = [first, apex] if lag is None else list(range(apex, min(first, apex - 1), -lag))
    known = [features(slot) for slot in slots]
    measured = [each[lane].astype(np.float64) for each in known if each is not None]
    if len(measured) < len(known) or not measured:
        return None
    whole = measured[1] - measured[0] if lag is None else np.sum(measured, axis=0)
    ways = whole.reshape(-1, 2).tolist()
    motion = [RegionMotion(name, dx, dy) for name, (dx, dy) in zip(regions, ways, strict=True)]
    return tuple(sorted(motion, key=lambda region: -region.px)[:STRONGEST])
