"""Frames with their times from cameras, video files and folders; `retime` maps them to the model's grid."""

from metst_edge.capture.frames import Frame, Image, Interruption, check_frame, check_timestamp, to_gray
from metst_edge.capture.source import Source, open_source

__all__ = [
    "Frame",
    "Image",
    "Interruption",
    "Source",
    "check_frame",
    "check_timestamp",
    "open_source",
    "to_gray",
]
