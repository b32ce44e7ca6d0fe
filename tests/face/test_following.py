"""One person is followed, whoever else is seen."""

import numpy as np
import pytest

from metst_edge.bundle import Bundle
from metst_edge.capture import Frame
from metst_edge.engine import load_engine
from metst_edge.events import Gap
from metst_edge.face import Face, find_again, same_person
from metst_edge.scoring import HostLanes, Scorer


@pytest.fixture(scope="module")
def portrait(finder):
    from metst_edge.app.demo import demo_clip
    from metst_edge.capture import open_source

    with open_source(demo_clip()) as source:
        return next(source).image


def side_by_side(portrait, small_left=True):
    """Two of them, one half as large: the larger one is found."""
    small = np.full_like(portrait, 128)
    small[100:300, 100:300] = portrait[::2, ::2]
    return np.hstack((small, portrait) if small_left else (portrait, small))


def test_the_person_last_found_is_found_again_though_another_is_more_prominent(finder, portrait):
    both = side_by_side(portrait)
    first = finder.find(both)
    left, right = both.copy(), both.copy()
    left[:, 400:] = 128
    right[:, :400] = 128
    small, large = finder.find(left), finder.find(right)
    assert not same_person(small, large)
    for last in (small, large):
        found = find_again(finder, both, last)
        assert same_person(found, last)
        size, left = (0.5, 100) if last is small else (1, 400)
        true = finder.find(portrait).landmarks * size + np.float32([left, 100 if last is small else 0])
        assert np.abs(found.landmarks - true).max() < 0.05 * found.box.width
        assert found.box == Face.of_landmarks(found.landmarks, *both.shape[:2]).box
    assert same_person(find_again(finder, both, None), first)


def test_a_person_who_is_gone_is_not_made_up(finder, portrait):
    both = side_by_side(portrait)
    left, right = both.copy(), both.copy()
    left[:, 400:] = 128
    right[:, :400] = 128
    found = find_again(finder, right, finder.find(left))
    assert not same_person(found, finder.find(left)) and same_person(found, finder.find(right))
    assert find_again(finder, np.full_like(both, 128), found) is None


def test_the_same_head_moved_is_the_same_person(finder, portrait):
    face = finder.find(portrait)
    width = np.ptp(face.landmarks[:, 0])
    for share, same in ((0.0, True), (0.3, True), (0.6, True), (1.0, False), (3.0, False)):
        moved = Face(face.landmarks + np.float32([share * width, 0]), face.box, face.crop_landmarks)
        assert same_person(moved, face) is same


class Told:
    """Finds what it is told to, whatever the picture."""

    def __init__(self, face):
        self.face = face

    def find(self, image):
        return self.face if image.shape == (480, 880) else None

    def close(self):
        pass


def test_a_gap_lies_where_the_person_changes(finder, portrait):
    """Only another's face is seen where the next window is to start."""
    bundle = Bundle.find("demo")
    engine = load_engine(bundle, "native")
    face = finder.find(portrait)
    other = Face(face.landmarks + np.float32([400, 0]), face.box, face.crop_landmarks)
    told = Told(face)
    scorer = Scorer(bundle.fps, told, HostLanes(engine.open_stream(lanes=2), bundle.k, bundle.roi_set))
    image = np.random.default_rng(0).integers(0, 256, (480, 880), dtype=np.uint8)
    items = []
    for number in range(3 * bundle.k):
        told.face = face if number < bundle.k + 3 else other
        items += scorer.push(Frame(number, number / bundle.fps, image))
    gaps = [item for item in items if isinstance(item, Gap)]
    change = -(-(bundle.k + 3) // (bundle.k // 2)) * (bundle.k // 2)  # where the next window starts
    assert gaps[-1].reason == "face_lost" and gaps[-1].end == pytest.approx(change / bundle.fps)
    assert gaps[-1].start == pytest.approx((change - 1) / bundle.fps)
    assert scorer.run.going
    engine.close()
