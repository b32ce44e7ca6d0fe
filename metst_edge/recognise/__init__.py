"""Names the emotion of an interval that is spotted already: a second opinion beside the frames' vote.

A clip of the interval is drawn as flow from its onset and shown to a recogniser (SLSTT, arXiv 2112.05851). Knows gray
pictures, landmarks and events as values, and nothing of how they are spotted. Training makes its clips with this code.
"""

from metst_edge.recognise.clip import frame_indices
from metst_edge.recognise.crops import View, cut, face_square, view_of
from metst_edge.recognise.images import ImageSettings, flow_images, interval_images
from metst_edge.recognise.opinion import combine

__all__ = [
    "ImageSettings",
    "View",
    "combine",
    "cut",
    "face_square",
    "flow_images",
    "frame_indices",
    "interval_images",
    "view_of",
]
