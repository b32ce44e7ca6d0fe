"""The gray pictures that the published features were measured on: cv2.VideoCapture's and cv2.cvtColor's, on x86.

What FFmpeg decodes is the same on every processor, but not the colours that it makes of it for OpenCV: on x86 each
product is cut off to a whole number, on aarch64 it is more exact, and most pixels are a gray level brighter. Single
features move by 0.6 px with that, so the colours are made here.
"""

from itertools import islice

import av
import numpy as np

LUMA, BLUE_OF_U, GREEN_OF_U, GREEN_OF_V, RED_OF_V = 9539, 16525, -3209, -6660, 13075
"""For 8192 (BT.601, limited range): an eighth of libswscale's, in its yuv2rgb.c."""
GRAY = np.array([1868, 9617, 4899])
"""Blue, green and red for 16384, as in OpenCV's color.hpp."""


def gray_frames(path, start, count):
    """Frames of a yuv420p file of even sides: a list of uint8 (H, W)."""
    with av.open(str(path)) as file:
        return [gray(frame.to_ndarray()) for frame in islice(file.decode(video=0), start, start + count)]


def gray(planes):
    """One frame: uint8 (3/2 H, W), its three planes below each other, to uint8 (H, W)."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    y = planes[:height].astype(np.int32) * 8 - 128
    u, v = planes[height:].reshape(2, height // 2, width // 2).astype(np.int32) * 8 - 1024

    def each(chroma):
        return chroma.repeat(2, axis=0).repeat(2, axis=1)

    light = y * LUMA >> 16
    blue = light + each(u * BLUE_OF_U >> 16)
    green = light + each((u * GREEN_OF_U >> 16) + (v * GREEN_OF_V >> 16))
    red = light + each(v * RED_OF_V >> 16)
    weighted = sum(weight * colour.clip(0, 255) for weight, colour in zip(GRAY, (blue, green, red), strict=True))
    return (weighted + 8192 >> 14).astype(np.uint8)
