"""What finds faces is chosen by name."""

import pytest

from metst_edge.choices import FACES
from metst_edge.errors import FaceModelError
from metst_edge.face import FaceFinder, open_finder
from metst_edge.face import mediapipe as with_mediapipe


class Finder:
    """Stands in for the one that needs MediaPipe."""

    def __init__(self, task):
        self.task = task


def test_every_choice_opens_its_finder(monkeypatch):
    monkeypatch.setattr(with_mediapipe, "MediaPipeFinder", Finder)
    opened = {name: type(open_finder(name)) for name in FACES}
    assert opened == {"opencv": FaceFinder, "mediapipe": Finder} and isinstance(open_finder(), FaceFinder)
    assert open_finder("mediapipe", "face_landmarker.task").task == "face_landmarker.task"


def test_a_choice_that_there_is_not_names_those_there_are():
    with pytest.raises(FaceModelError, match="expected face 'opencv' or 'mediapipe', got 'mine'"):
        open_finder("mine")


def test_a_task_file_for_opencv_is_refused():
    with pytest.raises(FaceModelError, match="with face 'mediapipe' only, got 'a.task' for 'opencv'"):
        open_finder("opencv", "a.task")
