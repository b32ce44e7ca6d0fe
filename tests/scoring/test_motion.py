"""What moved in an event is what the regions' flow says between its onset and its apex, measured the plain way."""

import math

import cv2
import numpy as np
import pytest

import metst_edge
from metst_edge.app import terminal
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.engine import load_engine
from metst_edge.engine.lanes import Lanes
from metst_edge.events import MicroExpression, RegionMotion
from metst_edge.face import FaceFinder
from metst_edge.face.rois import ROI_SETS
from metst_edge.flow import window_features
from metst_edge.scoring.motion import moved


def keeping(slot, k):
    """The first slot of the window that is kept of a slot: of the first all are, of later ones the second half."""
    start = 0
    while slot not in (range(k) if start == 0 else range(start + k // 2, start + k)):
        start += k // 2
    return start


class Plain:
    """Motion of the clip's events, window by window from pictures."""

    def __init__(self, bundle):
        self.bundle, self.finder, self.windows = bundle, FaceFinder(), {}
        with metst_edge.capture.open_source(demo_clip()) as source:
            self.pictures = list(source)

    def features(self, start):
        if start not in self.windows:
            pictures = self.pictures[start : start + self.bundle.k]
            face = self.finder.find(pictures[0].image)
            grays = [picture.gray for picture in pictures]
            self.windows[start] = window_features(grays, face.crop_landmarks, face.box, self.bundle.roi_set)
        return self.windows[start]

    def motion(self, onset, apex):
        start = keeping(apex, self.bundle.k)
        features = self.features(start).astype(np.float64)
        ways = features[:, apex - start] - features[:, max(onset, start) - start]
        names = [roi.name for roi in ROI_SETS[self.bundle.roi_set]]
        regions = [(name, *ways[2 * i : 2 * i + 2]) for i, name in enumerate(names)]
        return sorted(regions, key=lambda region: -math.hypot(*region[1:]))[:6]


@pytest.mark.parametrize("model, decoder", [("demo", "fixed"), ("demo", "adaptive"), ("demo_plus", "fixed")])
def test_motion_is_the_flow_from_onset_to_apex(model, decoder):
    """Offline and as a stream; the clip has 30 frames a second, so that slots are frames."""
    with metst_edge.Analyzer(model, decoder=decoder) as analyzer:
        plain = Plain(analyzer.bundle)
        report = analyzer.analyze(demo_clip())
        assert report.scores.frame.tolist() == list(range(len(plain.pictures)))
        events = [*report.micro_expressions, *analyzer.stream(demo_clip())]
    assert len(events) > 10
    for event in events:
        expected = plain.motion(event.onset_frame, event.apex_frame)
        assert [region.region for region in event.motion] == [name for name, *_ in expected]
        np.testing.assert_allclose([(r.dx, r.dy) for r in event.motion], [way for _, *way in expected], atol=1e-6)
    offline = {(e.onset_frame, e.apex_frame): e.motion for e in report.micro_expressions}
    both = [event for event in events[len(offline) :] if (event.onset_frame, event.apex_frame) in offline]
    assert len(both) > 3 and all(offline[event.onset_frame, event.apex_frame] == event.motion for event in both)


@pytest.mark.parametrize("half", [1, 4, 15])
def test_an_onset_before_the_window_counts_as_its_first_slot(half):
    """Of a known path, in whose windows features are the way from their first slot on."""
    rng = np.random.default_rng(half)
    path = rng.normal(size=(8 * half + 1, 4)).cumsum(0)

    def features(slot):
        """Of both lanes: window w, in lane w % 2, begins at slot w half and ends before slot (w + 2) half."""
        rows = np.zeros((2, 4))
        for window in (slot // half - 1, slot // half):
            if window >= 0:
                rows[window % 2] = path[slot] - path[window * half]
        return rows.astype(np.float32)

    for apex in range(7 * half):
        for onset in range(apex + 1):
            (first, second) = moved(onset, apex, features, half, ("a", "b"))
            start = max(onset, keeping(apex, 2 * half))
            expected = dict(zip("ab", (path[apex] - path[start]).reshape(2, 2).tolist(), strict=True))
            assert first.px >= second.px
            for region in first, second:
                assert (region.dx, region.dy) == pytest.approx(expected[region.region], abs=1e-5)


@pytest.mark.parametrize("half", [2, 6, 15])
@pytest.mark.parametrize("lag", [1, 3, 4])
def test_features_that_reach_back_are_summed_to_the_way_from_the_onset(half, lag):
    """From it, or from up to a lag before it, for whole lags are summed; and at most from the window's first slot."""
    rng = np.random.default_rng(half)
    path = rng.normal(size=(8 * half + 1, 4)).cumsum(0)

    def features(slot):
        rows = np.zeros((2, 4))
        for window in (slot // half - 1, slot // half):
            if window >= 0 and slot - lag >= window * half:
                rows[window % 2] = path[slot] - path[slot - lag]
        return rows.astype(np.float32)

    for apex in range(7 * half):
        start = keeping(apex, 2 * half)
        for onset in range(apex + 1):
            since = apex - lag * max(math.ceil((apex - max(onset, start)) / lag), 1)
            if since < start:  # of the window's first slots nothing is known
                since += lag
            got = {way.region: (way.dx, way.dy) for way in moved(onset, apex, features, half, ("a", "b"), lag)}
            expected = dict(zip("ab", (path[apex] - path[since]).reshape(2, 2), strict=True))
            for region in "ab":
                np.testing.assert_allclose(got[region], expected[region], atol=1e-5)
            assert onset - lag < since or onset == apex


def test_what_was_not_measured_has_no_motion():
    assert moved(0, 1, lambda slot: None, 15, ("a",)) is None
    known = {9: np.ones((2, 2), np.float32)}
    assert moved(3, 9, known.get, 15, ("a",), 4) is None, "of one of the slots it is not known"
    assert moved(5, 9, known.get, 15, ("a",), 4) is not None
    event = MicroExpression(3.1, 3.23, 3.43, 93, 97, 103, "surprise", {"surprise": 1.0}, 0.92)
    assert event.motion is None and "motion" not in event.to_dict() and "moved" not in terminal.describe(event)


@pytest.mark.parametrize(
    "dx, dy, words",
    [(0.3, -1.4, "up"), (-0.3, 1.4, "down"), (1.4, 0.3, "right"), (-1.4, -0.3, "left"), (0.0, 0.0, "up")],
)
def test_motion_is_told_in_words_and_numbers(dx, dy, words):
    motion = RegionMotion("left brow", dx, dy)
    length = math.hypot(dx, dy)
    assert str(motion) == f"left brow {length:.1f} px {words}"
    assert motion.to_dict() == {"region": "left brow", "dx": dx, "dy": dy, "px": round(length, 2)}
    event = MicroExpression(3.1, 3.2, 3.4, 93, 97, 103, "surprise", {"surprise": 1.0}, 0.92, motion=(motion,))
    assert f"moved: {motion}" in terminal.describe(event)
    assert str(RegionMotion("mouth", -0.001, -0.001).to_dict()["dx"]) == "0.0"


def test_a_stream_remembers_no_more_features_than_scores_are_under_way():
    bundle = Bundle.find("demo")
    lanes = Lanes(load_engine(bundle, "native").open_stream(lanes=2), bundle.k)
    features = np.zeros((2, bundle.channels), np.float32)
    given = []
    for i in range(3 * bundle.k):
        features[:] = i  # what is fed belongs to the caller
        given += lanes.push(features)
        assert len(lanes._features) == min(i + 1, bundle.look_ahead)
    given += lanes.flush()
    assert [score.features.min() for score in given] == [score.frame for score in given] == list(range(3 * bundle.k))


def test_pushed_pictures_have_motion_too():
    capture = cv2.VideoCapture(str(demo_clip()))
    with metst_edge.Analyzer() as analyzer:
        found = [event for i in range(150) for event in analyzer.push(capture.read()[1], i / 30)] + analyzer.flush()
    assert found and all(len(event.motion) == 6 for event in found)
