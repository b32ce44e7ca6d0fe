"""What moved: optical flow of facial regions, measured from an anchor frame.

Knows gray pictures, a crop box and landmarks; nothing of models, time or events.
"""

from metst_edge.flow.farneback import Farneback
from metst_edge.flow.regions import RoiFlow, channels, correlation, default_threads, measure, thumbnail, window_features

__all__ = [
    "Farneback",
    "RoiFlow",
    "channels",
    "correlation",
    "default_threads",
    "measure",
    "thumbnail",
    "window_features",
]
