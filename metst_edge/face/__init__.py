"""Where to look: facial landmarks, the crop around them, and the regions of interest on the crop.

Knows pictures and pixels only; nothing of optical flow, models or time.
"""

from metst_edge.face.crop import CROP_SIZE, Box, crop, crop_box, to_crop
from metst_edge.face.finder import Finder, find_again, open_finder, same_person
from metst_edge.face.landmarks import Face
from metst_edge.face.mesh import FaceFinder
from metst_edge.face.rois import ROI_SETS, Roi, rectangles

__all__ = [
    "CROP_SIZE",
    "ROI_SETS",
    "Box",
    "Face",
    "FaceFinder",
    "Finder",
    "Roi",
    "crop",
    "crop_box",
    "find_again",
    "open_finder",
    "rectangles",
    "same_person",
    "to_crop",
]
