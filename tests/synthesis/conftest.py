"""The test identity, found once: rendering needs scikit-image's picture and MediaPipe's model."""

import pytest

from metst_edge.face import FaceFinder
from training.synthesis.portrait import astronaut


@pytest.fixture(scope="session")
def finder():
    found = FaceFinder()
    yield found
    found.close()


@pytest.fixture(scope="session")
def portrait(finder):
    pytest.importorskip("skimage", reason="the test identity is a picture in scikit-image")
    return astronaut(finder)
