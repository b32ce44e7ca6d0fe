"""Action units move the skin as the Facial Action Coding System says, and combinations tell one emotion."""

import itertools

import numpy as np
import pytest

from metst_edge.labels import EMOTIONS
from training.synthesis.emotions import ACTION_UNITS, combinations, emotion_of
from training.synthesis.face_actions import MIRROR, NAMES, FaceFrame, action_fields

UP, DOWN, OUT, IN = (0, 1), (0, -1), (1, 0), (-1, 0)

# What FACS (2002) describes of each action unit, by a landmark of the left side or the midline.
FACS = [
    (1, 21, UP),  # inner corner of the brow
    (2, 18, UP),  # outer part of the brow
    (4, 21, DOWN),
    (4, 21, IN),  # brows drawn together
    (5, 37, UP),  # upper lid
    (6, 41, UP),  # infraorbital triangle, and with it the lower lid
    (7, 41, UP),
    (9, 31, UP),  # wing of the nose
    (9, 50, UP),  # upper lip
    (9, 21, DOWN),
    (10, 51, UP),
    (12, 48, UP),  # lip corner, obliquely
    (12, 48, OUT),
    (14, 48, IN),
    (15, 48, DOWN),
    (17, 57, UP),  # lower lip
    (20, 48, OUT),
    (23, 51, DOWN),  # lips narrower
    (23, 57, UP),
    (24, 51, DOWN),  # lips pressed together
    (24, 57, UP),
    (25, 57, DOWN),
]


@pytest.fixture(scope="module")
def at_landmarks(portrait):
    """Every action's displacement at the landmarks, in the face's own directions: name -> (2 sides, 68, 2)."""
    fields = action_fields(portrait.landmarks, portrait.landmarks)
    return {name: halves @ portrait.frame.axes.T for name, halves in fields.items()}


@pytest.fixture(scope="module")
def dense(portrait):
    """Every whole action on a grid of 2 pixels: name -> (h, w, 2)."""
    height, width = portrait.image.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(0, width, 2), np.arange(0, height, 2)), -1).astype(np.float32)
    return {name: halves.sum(0) for name, halves in action_fields(portrait.landmarks, grid).items()}


def moves(field, landmark, direction):
    """How far a landmark and its mirror image go into an (outward, up) direction: the smaller of both."""
    amounts = []
    for side, point in ((-1, landmark), (1, MIRROR[landmark])):
        if direction in (OUT, IN) and point == MIRROR[point]:
            raise AssertionError("a midline point has no outward")
        dx, dy = field[point]
        amounts.append(side * dx * direction[0] - dy * direction[1])
    return min(amounts)


@pytest.mark.parametrize(("unit", "landmark", "direction"), FACS)
def test_an_action_unit_moves_where_facs_says(at_landmarks, unit, landmark, direction):
    assert moves(at_landmarks[f"AU{unit}"].sum(0), landmark, direction) > 0.15


def test_every_action_unit_is_checked_against_facs():
    assert {unit for unit, _, _ in FACS} == set(ACTION_UNITS)


@pytest.mark.parametrize("name", NAMES)
def test_the_most_moved_point_moves_by_one(dense, name):
    assert np.hypot(*np.moveaxis(dense[name], -1, 0)).max() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_skin_never_folds(portrait, dense, name):
    """The warp x - a d(x) stays one to one up to the largest macro-expression, 20 px of the 320 px crop."""
    amount = 20 * 9 * portrait.frame.g / 320
    across, down = (amount * np.gradient(dense[name], 2, axis=axis) for axis in (1, 0))
    jacobian = (1 - across[..., 0]) * (1 - down[..., 1]) - across[..., 1] * down[..., 0]
    assert jacobian.min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_bridge_of_the_nose_keeps_still(at_landmarks, name):
    """Head motion is measured there: only wrinkling the nose may touch it."""
    assert np.abs(at_landmarks[name].sum(0)[[28, 29]]).max() < (0.6 if name == "AU9" else 0.1)


def test_what_is_far_from_an_action_keeps_still(at_landmarks):
    brows, lips = slice(17, 27), slice(48, 68)
    for name in ("AU1", "AU2", "AU4", "AU5", "AU7"):
        assert np.abs(at_landmarks[name].sum(0)[lips]).max() < 0.01
    for name in ("AU12", "AU15", "AU17", "AU20", "AU24", "AU25", "open"):
        assert np.abs(at_landmarks[name].sum(0)[brows]).max() < 0.01


def test_lips_move_apart_from_each_other(at_landmarks):
    """Raising the upper lip leaves the lower one where it is, and pushing the lower one up the upper one."""
    raised, pushed = at_landmarks["AU10"].sum(0), at_landmarks["AU17"].sum(0)
    assert -raised[51, 1] > 3 * abs(raised[57, 1])
    assert -pushed[57, 1] > 3 * abs(pushed[51, 1])


def test_one_side_alone_leaves_the_other_still(at_landmarks):
    left, right = at_landmarks["AU14"]
    assert np.hypot(*left[48]) > 0.5 and np.hypot(*left[54]) < 0.02
    assert np.hypot(*right[54]) > 0.5 and np.hypot(*right[48]) < 0.02


def test_fields_turn_with_the_face(portrait):
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    points = portrait.landmarks[17:]
    upright = action_fields(portrait.landmarks, points)["AU12"]
    turned = action_fields(portrait.landmarks @ turn, points @ turn)["AU12"]
    np.testing.assert_allclose(turned, upright @ turn, atol=1e-4)


def test_the_face_frame_converts_there_and_back(portrait):
    frame = FaceFrame.of(portrait.landmarks)
    own = frame.to_face(portrait.landmarks)
    np.testing.assert_allclose(own[[39, 42]], [(-1, 0), (1, 0)], atol=1e-5)
    np.testing.assert_allclose(frame.to_picture(own), portrait.landmarks, atol=1e-3)


@pytest.mark.parametrize(
    ("units", "emotion"),
    [
        # Objective classes I-VI of Davison et al. 2018, where EMFACS agrees.
        ((12,), "positive"),
        ((6, 12), "positive"),
        ((7, 12), "positive"),
        ((1, 2), "surprise"),
        ((1, 2, 25), "surprise"),
        ((4, 7), "negative"),
        ((4, 5, 7), "negative"),
        ((9,), "negative"),
        ((10,), "negative"),
        ((4, 9), "negative"),
        ((15,), "negative"),
        ((1, 4), "negative"),
        ((6, 15), "negative"),
        ((15, 17), "negative"),
        ((20,), "negative"),
        ((1, 2, 4), "negative"),
        # Prototypes of the FACS Investigator's Guide.
        ((1, 2, 5), "surprise"),
        ((1, 2, 4, 5, 20, 25), "negative"),
        ((4, 5, 7, 23), "negative"),
        ((1, 4, 15, 17), "negative"),
        ((14,), "negative"),
        ((17,), "others"),
        ((24,), "others"),
    ],
)
def test_a_combination_tells_its_emotion(units, emotion):
    assert all(emotion_of(order) == emotion for order in itertools.permutations(units[:4]) if len(units) <= 4)
    assert emotion_of(units) == emotion


@pytest.mark.parametrize("units", [(25,), (17, 24), (1,)])
def test_a_combination_on_which_the_sources_disagree_is_refused(units):
    with pytest.raises(ValueError, match="expected a combination with one emotion, got"):
        emotion_of(units)


@pytest.mark.parametrize("units", [(), (3,), (4, 12), (12, 15)])
def test_a_combination_without_an_emotion_is_refused(units):
    with pytest.raises(ValueError, match="known emotion"):
        emotion_of(units)


def test_no_combination_tells_two_emotions():
    known = [units for emotion in EMOTIONS for units in combinations(emotion)]
    assert len(known) == len(set(known))
    assert set().union(*known) == set(ACTION_UNITS)
