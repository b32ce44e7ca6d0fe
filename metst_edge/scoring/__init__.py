"""From pictures to scores: what a frame is, once, and what each face on it is, windows and all; then to events.

Knows the stages before it by their public types; nothing of sources, files or the command line. Training measures its
windows with the same code.
"""

from metst_edge.scoring.collected import Collected
from metst_edge.scoring.device import DeviceLanes
from metst_edge.scoring.host import HostLanes
from metst_edge.scoring.items import Item, RunEnd, Scored
from metst_edge.scoring.live import LiveEvents
from metst_edge.scoring.recording import WholeWindows
from metst_edge.scoring.run import Run
from metst_edge.scoring.scorer import Scorer
from metst_edge.scoring.slots import Moment, Picture, Timeline
from metst_edge.scoring.stages import OnStage, timed

__all__ = [
    "Collected",
    "DeviceLanes",
    "HostLanes",
    "Item",
    "LiveEvents",
    "Moment",
    "OnStage",
    "Picture",
    "Run",
    "RunEnd",
    "Scored",
    "Scorer",
    "Timeline",
    "WholeWindows",
    "timed",
]
