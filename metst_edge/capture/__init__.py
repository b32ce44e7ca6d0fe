"""Frames with their times from cameras, video files and folders; `retime` maps them to the model's grid."""

from metst_edge.capture.frames import Frame, Image, Interruption, check_frame, check_timestamp, to_gray
from metst_edge.capture.source import Source, clips_of, open_source, path_of, with_rate

__all__ = [
    "Frame",
    "Image",
    "Interruption",
    "Source",
    "check_frame",
    "check_timestamp",
    "clips_of",
    "open_source",
    "path_of",
    "to_gray",
    "with_rate",
]
