"""The second drawing of the action units says what FACS says, as the first does, and is not the first in disguise."""

import numpy as np
import pytest

from training.cli.arguments import DRAWINGS as NAMED
from training.synthesis import bumps, face_actions
from training.synthesis.emotions import ACTION_UNITS
from training.synthesis.face_actions import MIRROR
from training.synthesis.portrait import astronaut
from training.synthesis.render import DRAWINGS

# The landmarks that define an action unit, of the left side or the midline, and where it takes them by the descriptions
# of FACS (2002): outward and up.
DEFINING = [
    (1, 21, (0, 1)),
    (2, 18, (0, 1)),
    (4, 21, (-1, -1)),
    (5, 37, (0, 1)),
    (5, 38, (0, 1)),
    (6, 41, (0, 1)),
    (7, 41, (0, 1)),
    (9, 31, (0, 1)),
    (9, 50, (0, 1)),
    (9, 21, (0, -1)),
    (10, 50, (0, 1)),
    (10, 51, (0, 1)),
    (12, 48, (1, 1)),
    (14, 48, (-1, 0)),
    (15, 48, (0, -1)),
    (17, 57, (0, 1)),
    (20, 48, (1, 0)),
    (23, 51, (0, -1)),
    (23, 57, (0, 1)),
    (24, 51, (0, -1)),
    (24, 57, (0, 1)),
    (25, 57, (0, -1)),
]
FULL = 20.0
"""Pixels of the crop: the largest macro-expression, and 0.4 of it where lips press or lids move (`timeline.py`)."""
SMALL = ("AU5", "AU7", "AU23", "AU24")


@pytest.fixture(scope="module")
def portrait():
    pytest.importorskip("skimage", reason="the test identity is a picture in scikit-image")
    return astronaut()


@pytest.fixture(scope="module")
def grid(portrait):
    height, width = portrait.image.shape[:2]
    return np.stack(np.meshgrid(np.arange(0, width, 2), np.arange(0, height, 2)), -1).astype(np.float32)


@pytest.fixture(scope="module")
def drawn(portrait, grid):
    """Both drawings on a grid of 2 pixels, and at the landmarks: name -> action -> (2, h, w, 2), (2, 68, 2)."""
    out = {}
    for name, draw in DRAWINGS.items():
        both = np.concatenate((grid.reshape(-1, 2), portrait.landmarks))
        fields = draw(portrait.landmarks, both)
        cells = grid.shape[0] * grid.shape[1]
        out[name] = {action: (f[:, :cells].reshape(2, *grid.shape), f[:, cells:]) for action, f in fields.items()}
    return out


def along(portrait, field, landmark, direction):
    """How far a landmark and its mirror image go where they should: the smaller of both."""
    amounts = []
    for side, point in ((-1, landmark), (1, MIRROR[landmark])):
        dx, dy = portrait.frame.axes @ field[point]
        wanted = np.array((side * direction[0], -direction[1]))
        amounts.append((dx, dy) @ wanted / np.linalg.norm(wanted))
    return min(amounts)


def test_both_drawings_have_names_and_the_same_actions(drawn):
    assert tuple(DRAWINGS) == NAMED
    assert bumps.NAMES == face_actions.NAMES == tuple(drawn["bumps"]) == tuple(drawn["fields"])


@pytest.mark.parametrize(("unit", "landmark", "direction"), DEFINING)
def test_both_drawings_agree_at_the_landmarks_that_define_a_unit(portrait, drawn, unit, landmark, direction):
    for fields in drawn.values():
        assert along(portrait, fields[f"AU{unit}"][1].sum(0), landmark, direction) > 0.15


def test_every_action_unit_is_defined():
    assert {unit for unit, _, _ in DEFINING} == set(ACTION_UNITS)


@pytest.mark.parametrize("name", bumps.NAMES)
def test_the_drawings_are_like_each_other_and_not_the_same(drawn, name):
    one, other = (fields[name][0].sum(0) for fields in drawn.values())
    alike = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
    assert 0.6 < alike < 0.95
    # Some skin moves differently by 0.4 of what the most moved point does.
    assert np.linalg.norm(one - other, axis=-1).max() > 0.4


@pytest.mark.parametrize("name", bumps.NAMES)
def test_the_most_moved_point_moves_by_one(drawn, name):
    assert np.linalg.norm(drawn["bumps"][name][0].sum(0), axis=-1).max() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", bumps.NAMES)
def test_skin_never_folds(portrait, drawn, name):
    amount = FULL * (0.4 if name in SMALL else 1) * 9 * portrait.frame.g / 320
    field = drawn["bumps"][name][0].sum(0)
    across, down = (amount * np.gradient(field, 2, axis=axis) for axis in (1, 0))
    jacobian = (1 - across[..., 0]) * (1 - down[..., 1]) - across[..., 1] * down[..., 0]
    assert jacobian.min() > 0


def test_one_side_alone_leaves_the_other_still(drawn):
    left, right = drawn["bumps"]["AU14"][1]
    assert np.hypot(*left[48]) > 0.5 and np.hypot(*left[54]) < 0.02
    assert np.hypot(*right[54]) > 0.5 and np.hypot(*right[48]) < 0.02


def test_one_lip_moves_without_the_other(drawn):
    raised, lowered = (drawn["bumps"][name][1].sum(0) for name in ("AU10", "AU17"))
    assert np.hypot(*raised[51]) > 3 * np.hypot(*raised[57])
    assert np.hypot(*lowered[57]) > 3 * np.hypot(*lowered[51])


def test_bumps_turn_and_grow_with_the_face(portrait):
    angle = np.radians(20)
    turn = 0.5 * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    points = portrait.landmarks[17:]
    upright = bumps.action_fields(portrait.landmarks, points)["AU12"]
    turned = bumps.action_fields(portrait.landmarks @ turn, points @ turn)["AU12"]
    np.testing.assert_allclose(turned, upright @ turn / 0.5, atol=1e-4)
