"""From pictures to scores: what a frame is, once, and what each face on it is, windows and all; then to events.

Knows the stages before it by their public types; nothing of sources, files or the command line. Training measures its
windows with the same code.
"""

from metst_edge.scoring.collected import Collected, found_in
from metst_edge.scoring.device import DeviceLanes
from metst_edge.scoring.host import HostLanes
from metst_edge.scoring.items import Item, RunEnd, Scored
from metst_edge.scoring.live import LiveEvents
from metst_edge.scoring.opening import calibrated, expect_reachable, open_lanes
from metst_edge.scoring.pace import SecondsCheck
from metst_edge.scoring.recording import WholeWindows
from metst_edge.scoring.run import OnSlot, Run
from metst_edge.scoring.scorer import Scorer
from metst_edge.scoring.slots import Moment, Picture, Timeline
from metst_edge.scoring.stages import Harmless, OnStage, timed

__all__ = [
    "Collected",
    "DeviceLanes",
    "Harmless",
    "HostLanes",
    "Item",
    "LiveEvents",
    "Moment",
    "OnSlot",
    "OnStage",
    "Picture",
    "Run",
    "RunEnd",
    "Scored",
    "Scorer",
    "SecondsCheck",
    "Timeline",
    "WholeWindows",
    "calibrated",
    "expect_reachable",
    "found_in",
    "open_lanes",
    "timed",
]
