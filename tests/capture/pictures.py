"""Pictures whose number can be seen in them."""

import numpy as np
import pytest

from metst_edge.errors import MetstError


def picture(level, height=64, width=96):
    """A picture of mean 5 level + 30, with texture so that its file has a size."""
    texture = np.random.default_rng(level).integers(-20, 21, (height // 2, width, 1))
    texture = np.concatenate((texture, -texture))
    return np.repeat(np.clip(texture + 5 * level + 30, 0, 255), 3, axis=2).astype(np.uint8)


def levels(frames):
    # A codec may shift the mean by a little less than 3.
    return [round((float(frame.image.mean()) - 28.5) / 5) for frame in frames]


def read_until_error(source):
    frames = []
    with pytest.raises(MetstError) as caught:
        for frame in source:
            frames.append(frame)
    return frames, caught.value
