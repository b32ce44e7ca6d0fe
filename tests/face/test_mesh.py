"""OpenCV's DNN finds the faces that MediaPipe finds, where MediaPipe finds them."""

import sys
import types

import cv2
import numpy as np
import pytest

from metst_edge.errors import FaceModelError
from metst_edge.face import FaceFinder, mesh
from metst_edge.face.mediapipe import MediaPipeFinder


@pytest.fixture(scope="module")
def finders():
    pytest.importorskip("mediapipe")
    return FaceFinder(), MediaPipeFinder()


def looked_at(path, every=15, most=10):
    """Every 15th frame of a clip, as the SDK looks at it."""
    video = cv2.VideoCapture(str(path))
    number = 0
    while number < every * most:
        ok, image = video.read()
        if not ok:
            return
        if number % every == 0:
            yield image
        number += 1


def width_of(face):
    x = face.landmarks[:17, 0]  # the jaw
    return float(x.max() - x.min())


def test_landmarks_are_mediapipes_on_every_real_clip(finders, test_data):
    ours, oracle = finders
    clips = sorted(path for path in test_data.rglob("*") if path.suffix in (".mp4", ".mov", ".mpg"))
    assert len(clips) > 4
    frames = differing = 0
    for clip in clips:
        apart = []
        for image in looked_at(clip):
            found, expected = ours.find(image), oracle.find(image)
            frames += 1
            if found is None or expected is None:
                differing += (found is None) != (expected is None)
                continue
            distance = np.linalg.norm(found.landmarks - expected.landmarks, axis=1).mean()
            apart.append(distance / width_of(expected))
        assert not apart or np.mean(apart) <= 0.002, clip.name
    assert differing <= 0.01 * frames


def test_portraits_turned_and_small_give_mediapipes_landmarks(finders, test_data):
    ours, oracle = finders
    for path in sorted((test_data / "portraits").glob("*.jpg"))[:12]:
        image = cv2.imread(str(path))
        height, width = image.shape[:2]
        for degrees, scale in ((0, 0.3), (25, 0.6), (-40, 0.5)):
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
            shown = cv2.warpAffine(image, turn, (width, height))
            found, expected = ours.find(shown), oracle.find(shown)
            assert (found is None) == (expected is None), (path.name, degrees)
            if found is not None:
                distance = np.linalg.norm(found.landmarks - expected.landmarks, axis=1).mean()
                assert distance <= 0.005 * width_of(expected), (path.name, degrees)


def test_a_damaged_installation_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh, "MODELS", tmp_path)
    with pytest.raises(FaceModelError, match=r"face_detection_short_range\.tflite.*found none; install it again"):
        FaceFinder()
    (tmp_path / mesh.DETECTOR).write_bytes(b"this is no model")
    with pytest.raises(FaceModelError, match=r"expected an OpenCV that reads the face model"):
        FaceFinder()


def test_mediapipe_without_models_asks_for_a_task_file(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mediapipe.python.solutions.face_mesh", None)
    with pytest.raises(FaceModelError, match=r"name a face_landmarker\.task for a newer one"):
        MediaPipeFinder()
    with pytest.raises(FaceModelError, match="found no file"):
        MediaPipeFinder(tmp_path / "face_landmarker.task")


def test_the_tasks_api_is_asked_for_one_face_in_a_picture(monkeypatch, tmp_path):
    """On a stand-in for MediaPipe 1.x, whose model is the user's to bring."""
    asked = {}

    class Landmarker:
        @classmethod
        def create_from_options(cls, options):
            asked.update(options)
            return cls()

        def detect(self, image):
            asked["image"] = image
            points = [
                types.SimpleNamespace(x=0.3 + 0.4 * (i % 22) / 21, y=0.3 + 0.4 * (i // 22) / 21) for i in range(478)
            ]
            return types.SimpleNamespace(face_landmarks=[points])

        def close(self):
            asked["closed"] = True

    vision = types.SimpleNamespace(
        FaceLandmarker=Landmarker,
        FaceLandmarkerOptions=lambda **options: options,
        RunningMode=types.SimpleNamespace(IMAGE="image"),
    )
    tasks = types.ModuleType("mediapipe.tasks.python")
    tasks.BaseOptions, tasks.vision = (lambda **options: options), vision
    package = types.ModuleType("mediapipe")
    package.Image = lambda **image: image
    package.ImageFormat = types.SimpleNamespace(SRGB="srgb")
    for name, module in (("mediapipe", package), ("mediapipe.tasks", types.ModuleType("mediapipe.tasks"))):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "mediapipe.tasks.python", tasks)
    task = tmp_path / "face_landmarker.task"
    task.write_bytes(b"any")
    finder = MediaPipeFinder(task, confidence=0.6)
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[..., 0] = 255  # blue
    finder.find(picture)
    finder.close()
    finder.close()
    assert asked["base_options"] == {"model_asset_path": str(task)} and asked["running_mode"] == "image"
    assert asked["num_faces"] == 1 and asked["min_face_detection_confidence"] == 0.6 and asked["closed"]
    assert asked["image"]["data"][0, 0].tolist() == [0, 0, 255]  # RGB
