"""What moved: optical flow of facial regions, measured from an anchor frame, or from a little ago.

Knows gray pictures, their times, a crop box and landmarks; nothing of models or events.
"""

from metst_edge.flow.farneback import Farneback
from metst_edge.flow.regions import RoiFlow, channels, correlation, default_threads, measure, thumbnail, window_features
from metst_edge.flow.steady import SteadyFlow, measure_steady

__all__ = [
    "Farneback",
    "RoiFlow",
    "SteadyFlow",
    "channels",
    "correlation",
    "default_threads",
    "measure",
    "measure_steady",
    "thumbnail",
    "window_features",
]
