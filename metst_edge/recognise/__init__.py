"""The second opinion on a spotted interval: a clip of it, drawn as flow from its onset, named by a recogniser.

Knows gray pictures, landmarks and events as values; nothing of windows, scores or sources. Training makes its clips
with the same code.
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
