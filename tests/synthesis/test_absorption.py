"""What is said of a small displacement is what the registration takes for the head's motion."""

import cv2
import numpy as np
import pytest

from metst_edge import _native
from metst_edge.capture import to_gray
from metst_edge.face import Box
from metst_edge.flow.steady import NOSE_TIP, SteadyFlow, half_width, seen, spots
from tests.flow.steady_reference import Head, ReferenceRegistration
from training.synthesis.absorption import (
    NODE_PLACES,
    NODES,
    PARAMETERS,
    absorbed,
    head_basis,
    head_displacement,
    mirrored_absorbed,
)
from training.synthesis.face_actions import MIRROR
from training.synthesis.measuring import find
from training.synthesis.render import Renderer
from training.synthesis.timeline import TRACKS

CROP = 320


@pytest.fixture(scope="module")
def face(portrait, finder):
    image = Renderer(portrait).draw(np.zeros(len(TRACKS), np.float32))
    return to_gray(image), find(image, finder, "portrait")


@pytest.fixture(scope="module")
def crop(face):
    picture, found = face
    return SteadyFlow(picture, found.box, found.crop_landmarks, 0.0).crop


def in_a_mirror(places):
    return np.stack((CROP - 1 - places[..., 0], places[..., 1]), -1)


def of_nodes(field):
    """Displacements of every pixel of the crop: float32 (320, 320, 2)."""
    return cv2.resize(field.reshape(NODES, NODES, 2), (CROP, CROP), interpolation=cv2.INTER_LINEAR)


def test_a_head_moves_as_the_registration_has_it(face):
    landmarks = face[1].crop_landmarks
    rng = np.random.default_rng(0)
    places, parameters = rng.uniform(0, CROP, (50, 2)), rng.normal(size=(3, PARAMETERS))
    head = Head.of(landmarks)
    np.testing.assert_allclose(head_basis(landmarks, places), head.basis(*places.T), atol=1e-9)
    expected = [head.displacement(each, *places.T).T for each in parameters]
    np.testing.assert_allclose(head_displacement(parameters, landmarks, places), expected, atol=1e-5)


def test_of_a_head_that_moves_nothing_is_left(crop, face):
    landmarks = face[1].crop_landmarks
    taken = absorbed(crop, crop, landmarks)
    assert taken.shape == (PARAMETERS, NODES**2, 2) and taken.dtype == np.float32
    for parameters in np.eye(PARAMETERS):
        field = head_displacement(parameters, landmarks, NODE_PLACES)
        found = np.einsum("pmd,md->p", taken, field)
        left = head_displacement(found - parameters, landmarks, NODE_PLACES[taken.any((0, 2))])
        assert np.abs(left).max() < 0.05  # depth is not linear between nodes


def test_it_is_where_the_registration_comes_to_rest(crop, face):
    """Of the crop, that is of box and picture alike, moved a little by some smooth field."""
    landmarks = face[1].crop_landmarks
    box = Box(0, CROP, 0, CROP)
    taken = absorbed(crop, crop, landmarks)
    y, x = np.mgrid[:CROP, :CROP].astype(np.float32)
    rng, said, found = np.random.default_rng(1), [], []
    for _ in range(8):
        field = cv2.GaussianBlur(rng.normal(size=(NODES, NODES, 2)), (0, 0), 1.5).reshape(-1, 2).astype(np.float32)
        field *= 0.3 / np.abs(field).max()
        dx, dy = np.moveaxis(of_nodes(field), -1, 0)
        moved = cv2.remap(crop, x - dx, y - dy, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        slow = ReferenceRegistration(crop, box, Head.of(landmarks), seen(landmarks), spots(landmarks))
        fast = _native.Registration(
            crop,
            box,
            float(landmarks[NOSE_TIP, 0]),
            half_width(landmarks),
            float(landmarks[NOSE_TIP, 1]),
            seen(landmarks),
            spots(landmarks),
        )
        for _ in range(4):  # until it is at rest
            slow.follow(moved)
            _native.follow([fast], moved, 1)
        np.testing.assert_allclose(fast.parameters, slow.parameters, atol=0.02)
        said.append(np.einsum("pmd,md->p", taken, field))
        found.append(slow.parameters)
    said, found = (head_displacement(np.array(each), landmarks, landmarks[17:]).ravel() for each in (said, found))
    assert np.corrcoef(said, found)[0, 1] > 0.92
    assert 0.9 < said @ found / (said @ said) < 1.4  # what differs most counts least, the more so without noise


def test_a_face_in_a_mirror_takes_what_is_mirrored(crop, face):
    landmarks = face[1].crop_landmarks
    taken = absorbed(crop, crop, landmarks)
    turned = np.ascontiguousarray(crop[:, ::-1])
    other = absorbed(turned, turned, in_a_mirror(landmarks)[list(MIRROR)])
    np.testing.assert_allclose(mirrored_absorbed(mirrored_absorbed(taken)), taken)
    # Where the face is looked at is rounded to cells.
    assert np.corrcoef(mirrored_absorbed(taken).ravel(), other.ravel())[0, 1] > 0.94
    none = np.zeros((4, PARAMETERS, 0, 2), np.float16)
    assert mirrored_absorbed(none).shape == none.shape


def test_of_a_face_beside_the_crop_nothing_is_taken(crop, face):
    assert not absorbed(crop, crop, face[1].crop_landmarks + np.float32(1000)).any()
