"""What a frame is, once; what a face is, for each: several runs over one timeline know nothing of each other."""

from collections import Counter

import cv2
import numpy as np
import pytest

from metst_edge.bundle import Bundle
from metst_edge.capture import Frame
from metst_edge.capture.retime import Hole
from metst_edge.engine import load_engine
from metst_edge.face import Box, Face, FaceFinder
from metst_edge.scoring import HostLanes, Run, RunEnd, Scorer, Timeline

FRAMES = 40


@pytest.fixture(scope="module")
def engine():
    return load_engine(Bundle.find("demo"), "native")


@pytest.fixture(scope="module")
def pictures(test_data):
    """A face on the left and its mirror image, some frames late, on the right: uint8 (H, 2 W, 3)."""
    capture = cv2.VideoCapture(str(test_data / "single_face.mp4"))
    frames = [capture.read()[1] for _ in range(FRAMES + 12)]
    return [np.hstack([a, b[:, ::-1]]) for a, b in zip(frames, frames[12:], strict=False)]


class Half:
    """Finds the face on one half of a picture."""

    def __init__(self, finder, right):
        self._finder, self._right = finder, right

    def find(self, image):
        width = image.shape[1] // 2
        left = width if self._right else 0
        face = self._finder.find(np.ascontiguousarray(image[:, left : left + width]))
        if face is None:
            return None
        box = Box(face.box.top, face.box.bottom, face.box.left + left, face.box.right + left)
        return Face(face.landmarks + np.float32([left, 0]), box, face.crop_landmarks)


@pytest.fixture(scope="module")
def halves():
    finder = FaceFinder()
    yield Half(finder, False), Half(finder, True)
    finder.close()


def lanes(engine):
    bundle = engine.bundle
    return HostLanes(engine.open_stream(lanes=2), bundle.k, bundle.roi_set)


def alone(engine, half, pictures, first):
    """The scores of one face by itself, from a frame on."""
    scorer, items = Scorer(engine.bundle.fps, half, lanes(engine)), []
    for index, picture in enumerate(pictures[first:], first):
        items += scorer.push(Frame(index, index / engine.bundle.fps, picture))
    return items + scorer.flush()


def together(engine, halves, pictures, starts):
    """The scores of each face in a run of its own, all over one timeline; and what was told of stages."""
    told = Counter()
    timeline = Timeline(engine.bundle.fps, lambda stage, seconds: told.update([stage]))
    runs = [Run(lanes(engine), lambda picture, half=half: half.find(picture.image)) for half in halves]
    found = [[] for _ in runs]
    for index, picture in enumerate(pictures):
        timeline.take(Frame(index, index / engine.bundle.fps, picture))
        assert index == 0 or not timeline.cut()
        for moment in timeline.advance():
            assert not isinstance(moment, Hole)
            for run, start, items in zip(runs, starts, found, strict=True):
                if index < start or (items and not run.going):
                    continue
                scores = run.push(moment)
                items += run.end() if scores is None else scores
    return [items + (run.end() if run.going else []) for run, items in zip(runs, found, strict=True)], told


def plain(items):
    return [None if isinstance(item, RunEnd) else (item.frame, item.time, item.spot, *item.emotion) for item in items]


def test_frames_are_prepared_once_and_every_face_has_the_scores_it_has_alone(engine, halves, pictures):
    """The second face comes later: its windows start where it is found, on the same grid."""
    starts = (0, 10)
    found, told = together(engine, halves, pictures, starts)
    assert told == {"prepare": FRAMES}
    for half, start, items in zip(halves, starts, found, strict=True):
        assert plain(items) == plain(alone(engine, half, pictures, start))
        assert [item.frame for item in items[:-1]] == list(range(start, FRAMES))
        assert np.std([item.spot for item in items[:-1]]) > 0


def test_a_face_that_is_lost_ends_its_own_run_only(engine, halves, pictures):
    """A board is held before the left face."""
    box = halves[0].find(pictures[0]).box
    squares = np.arange(box.height)[:, None, None] // 30 + np.arange(box.width)[None, :, None] // 30
    covered = [picture.copy() for picture in pictures]
    for picture in covered[20:]:
        picture[box.top : box.bottom, box.left : box.right] = 60 + 140 * (squares % 2)
    (left, right), _ = together(engine, halves, covered, (0, 0))
    assert [item.frame for item in left[:-1]] == list(range(20)) and isinstance(left[-1], RunEnd)
    undisturbed, _ = together(engine, halves, pictures, (0, 0))
    assert plain(right) == plain(undisturbed[1]) and len(right) == FRAMES + 1


def test_a_face_that_was_found_as_a_push_was_broken_off_is_not_lost(engine, halves, pictures, monkeypatch):
    scorer, advance = Scorer(engine.bundle.fps, halves[0], lanes(engine)), Timeline.advance

    def interrupted(timeline):
        monkeypatch.setattr(Timeline, "advance", advance)
        raise KeyboardInterrupt

    monkeypatch.setattr(Timeline, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scorer.push(Frame(0, 0.0, pictures[0]))
    items = []
    for index, picture in enumerate(pictures[1:6], 1):
        items += scorer.push(Frame(index, index / engine.bundle.fps, picture))
    items += scorer.flush()
    assert [item.frame for item in items[:-1]] == [1, 2, 3, 4, 5] and isinstance(items[-1], RunEnd)
