"""Micro-expressions in real video lie where a face is, move what they should, and touch nothing else."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from metst_edge.capture import open_source, to_gray
from metst_edge.face import Face, FaceFinder
from metst_edge.face.rois import ROI_SETS
from metst_edge.flow import RoiFlow
from training.cli import main
from training.data.folder import read_folder
from training.synthesis.camera import Camera, Sensor
from training.synthesis.h264 import encode, retime
from training.synthesis.insert import (
    INSERTED,
    MARGIN,
    NotUsable,
    draw_insertions,
    follow,
    insert_clip,
    inserted_frames,
    warp,
)
from training.synthesis.portrait import MARGIN as AROUND
from training.synthesis.portrait import Variation, astronaut
from training.synthesis.render import Renderer
from training.synthesis.timeline import NOTHING, TRACK, TRACKS, Rates, draw_timeline

FPS = 25.0
FRAMES = 50
MANY = Rates(**{**{name: getattr(INSERTED, name) for name in Rates.__slots__}, "micro": 60.0})


@pytest.fixture(scope="module")
def finder():
    found = FaceFinder()
    yield found
    found.close()


@pytest.fixture(scope="module")
def portrait(finder):
    pytest.importorskip("skimage", reason="the test identity is a picture in scikit-image")
    return astronaut(finder, (242, 260), Variation(face=170))


@pytest.fixture(scope="module")
def video(portrait, tmp_path_factory):
    """Two seconds of a head that sways before a camera."""
    path = tmp_path_factory.mktemp("video") / "sways.mp4"
    rates = Rates(**{**{name: getattr(NOTHING, name) for name in Rates.__slots__}, "drift": 1.0})
    timeline = draw_timeline(np.random.default_rng(0), FRAMES, FPS, rates)
    renderer, sensor = Renderer(portrait), Sensor(Camera(1.0), portrait.size, np.random.default_rng(0))
    encode((sensor(renderer.draw(column)) for column in timeline.tracks.T), portrait.size, path, FPS, 15)
    return path


@pytest.fixture(scope="module")
def course(video, finder):
    return follow(str(video), finder)


def frames_of(path):
    with open_source(str(path)) as source:
        return [frame.image.copy() for frame in source]


def column(**amounts):
    out = np.zeros(len(TRACKS), np.float32)
    for action, amount in amounts.items():
        out[[TRACK[f"{action} left"], TRACK[f"{action} right"]]] = amount
    return out


class Scripted:
    """A finder of faces that says what it is told, frame by frame: landmarks (68, 2), or None."""

    def __init__(self, landmarks, size):
        self.rest = [None if points is None else Face.of_landmarks(points, *size) for points in landmarks]

    def find(self, image):
        return self.rest.pop(0)


@pytest.fixture
def still(tmp_path, portrait):
    """A gray video of three seconds, and the portrait's landmarks for every frame of it."""
    path = tmp_path / "gray.mp4"
    encode((np.full((*portrait.size, 3), 90, np.uint8) for _ in range(75)), portrait.size, path, FPS, 20)
    return path, [portrait.landmarks - AROUND for _ in range(75)]


def test_the_face_is_followed_in_every_frame(course, portrait):
    assert course.landmarks.shape == (FRAMES, 68, 2) and course.usable.all()
    assert course.fps == FPS and course.even and course.size == (242, 260)
    assert course.cuts.tolist() == [True] + [False] * (FRAMES - 1)
    away = np.linalg.norm(course.landmarks - (portrait.landmarks - AROUND), axis=-1)
    assert np.median(away) < 0.5 * portrait.frame.g  # it sways


def test_smoothing_takes_jitter_out_and_leaves_a_steady_motion(still, portrait):
    path, landmarks = still
    rng = np.random.default_rng(0)
    steady = [points + np.array((0.4 * i - 15, 0.2 * i)) for i, points in enumerate(landmarks)]
    shaken = [(points + rng.normal(0, 0.5, (68, 2))).astype(np.float32) for points in steady]
    got = follow(str(path), Scripted(shaken, portrait.size))
    error = (got.landmarks - np.array(steady))[8:-8]
    assert np.abs(error.mean((0, 1))).max() < 0.05 and error.std() < 0.3


@pytest.mark.parametrize("what", ["no face", "another face", "another size", "outside", "turned away"])
def test_nothing_is_put_where_the_face_is_not_seen(still, portrait, what):
    path, landmarks = still
    unseen = range(32, 37)
    for i in unseen:
        if what == "turned away":
            landmarks[i] = landmarks[i].copy()
            landmarks[i][30] += (1.5 * portrait.frame.g, 0)
            continue
        landmarks[i] = {
            "no face": None,
            "another face": landmarks[i] + np.float32(portrait.frame.g),
            "another size": ((landmarks[i] - 120) * 0.7 + 120).astype(np.float32),
            "outside": landmarks[i] - np.array((0, 75), np.float32),
        }[what]
    course = follow(str(path), Scripted(landmarks, portrait.size))
    seen = [range(unseen.start), range(unseen.stop, len(landmarks))]
    margin = round(MARGIN * FPS)
    events = [e for seed in range(30) for e in draw_insertions(course, np.random.default_rng(seed), MANY).truth]
    assert len(events) > 20
    for event in events:
        assert any(event.onset - margin in part and event.offset + margin in part for part in seen)


def test_frames_outside_a_micro_expression_are_those_of_the_video(video, course):
    timeline = draw_insertions(course, np.random.default_rng(5), MANY)
    assert timeline.truth and not timeline.distractors
    before, after = frames_of(video), list(inserted_frames(course, timeline))
    inside = {i for event in timeline.truth for i in range(event.onset + 1, event.offset)}
    assert len(before) == len(after) == FRAMES
    for i, (was, now) in enumerate(zip(before, after, strict=True)):
        assert np.array_equal(was, now) == (i not in inside)


@pytest.mark.parametrize("drawing", ["fields", "bumps"])
@pytest.mark.parametrize(
    ("action", "region", "direction"),
    [
        ("AU1", "left brow, inner", (0, -1)),
        ("AU2", "right brow, outer", (0, -1)),
        ("AU12", "left mouth corner", (-0.7, -0.7)),
        ("AU15", "right mouth corner", (0, 1)),
        ("AU20", "right mouth corner", (1, 0)),
        ("AU9", "left nose wing", (0, -1)),
        ("AU10", "upper lip", (0, -1)),
    ],
)
def test_measured_flow_goes_the_units_way_by_about_what_was_asked(
    video, course, finder, drawing, action, region, direction
):
    """What the SDK measures between a frame and itself, warped by 2 px of the crop; it averages over regions."""
    image = frames_of(video)[20]
    face = finder.find(image)
    warped = warp(image, course.landmarks[20], column(**{action: 2.0}), drawing)
    measured = RoiFlow(to_gray(image), face.box, face.crop_landmarks, "metst_plus").measure(to_gray(warped))
    place = [roi.name for roi in ROI_SETS["metst_plus"]].index(region)
    along = measured.reshape(-1, 2)[place] @ direction / np.linalg.norm(direction)
    assert 0.35 < along / 2 < 1.1


def test_only_the_skin_of_the_unit_moves(video, course):
    image = frames_of(video)[20]
    warped = warp(image, course.landmarks[20], column(AU12=3.0))
    changed = np.abs(warped.astype(int) - image).max(-1)
    x, y = course.landmarks[20][48:68].mean(0).astype(int)
    assert changed[y - 20 : y + 20, x - 40 : x + 40].max() > 20
    brows = course.landmarks[20][17:27]
    (left, top), (right, bottom) = brows.min(0).astype(int), brows.max(0).astype(int)
    assert changed[top:bottom, left:right].max() <= 3
    assert not changed[:, :8].any() and not changed[:8].any()


def test_a_face_at_the_edge_is_warped_as_one_in_the_middle(video, course):
    image, points = frames_of(video)[20], course.landmarks[20]
    cut = int(points[:, 1].max()) - 6
    whole = warp(image, points, column(AU1=3.0))
    # But for the last rows: a picture goes on as its own mirror image.
    np.testing.assert_array_equal(warp(image[:cut], points, column(AU1=3.0))[: cut - 4], whole[: cut - 4])


def test_a_clip_has_its_truth_beside_it_whatever_the_drawing(course, tmp_path):
    truths = []
    for drawing in ("fields", "bumps"):
        path = insert_clip(course, 3, tmp_path / f"{drawing}.mp4", "ann", MANY, drawing=drawing)
        truth = json.loads(path.read_text())
        assert (truth["source"], truth["subject"], truth["drawing"]) == ("sways.mp4", "ann", drawing)
        assert truth["frames"] == FRAMES and truth["fps"] == FPS and truth["distractors"] == []
        assert all(event["face_px"] == pytest.approx(170, rel=0.1) for event in truth["events"])
        truths.append(truth["events"])
    assert truths[0] == truths[1] and truths[0]
    one, other = (frames_of(tmp_path / f"{drawing}.mp4") for drawing in ("fields", "bumps"))
    apex = truths[0][0]["apex"]
    assert np.abs(one[apex].astype(int) - other[apex]).max() > 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bumps.json", "bumps.mp4", "fields.json", "fields.mp4"]


def test_faults_of_the_camera_change_nothing_of_what_is_put_in(course, tmp_path):
    told = {}
    for faults in (0.0, 120.0):
        path = insert_clip(course, 3, tmp_path / f"{faults:g}.mp4", "ann", MANY, faults=faults)
        told[faults] = json.loads(path.read_text())
        assert len(frames_of(path.with_suffix(".mp4"))) == FRAMES
    assert told[0.0]["events"] == told[120.0]["events"] and told[0.0]["distractors"] == []
    assert {other["kind"] for other in told[120.0]["distractors"]} >= {"key frame"}
    assert told[120.0]["crf"] > told[0.0]["crf"] and told[120.0]["gop"] and told[120.0]["faults"] == 120
    path = insert_clip(course, 3, tmp_path / "coarse.mp4", "ann", MANY, crf=51, faults=120.0)
    assert json.loads(path.read_text())["crf"] == 51  # never finer than asked for
    assert (tmp_path / "120.mp4").stat().st_size < (tmp_path / "0.mp4").stat().st_size  # coarser


def test_nothing_may_be_put_in_for_a_quiet_clip_with_faults(video, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(video, "--out", out, "--rate", 0, "--faults", 60) == 0
    assert "0 micro-expressions in 1 clip of 1 person" in " ".join(capsys.readouterr().out.split())
    assert [found.annotations for found in read_folder(out)] == [()]
    assert run(video, "--out", out, "--rate", 0) == 1
    assert "holds clips of other settings (faults was 60.0, is 0.0)" in capsys.readouterr().err


def test_frames_of_an_uneven_video_keep_their_times(video, finder, tmp_path):
    times = [i / FPS + (0.7 if i > 30 else 0) + 0.004 * (i % 3) for i in range(FRAMES)]
    retime(video, tmp_path / "uneven.mp4", times)
    got = follow(str(tmp_path / "uneven.mp4"), finder)
    np.testing.assert_allclose(got.times - got.times[0], np.array(times) - times[0], atol=1e-4)
    assert not got.even and np.flatnonzero(got.cuts).tolist() == [0, 31]
    insert_clip(got, 0, tmp_path / "out.mp4", "ann", MANY)
    with open_source(tmp_path / "out.mp4") as source:
        written = np.array([frame.timestamp for frame in source])
    np.testing.assert_allclose(written - written[0], got.times - got.times[0], atol=1e-4)
    assert not any(
        event.onset < 31 <= event.offset
        for seed in range(40)
        for event in draw_insertions(got, np.random.default_rng(seed), MANY).truth
    )


def test_an_odd_picture_loses_a_row_and_a_column(portrait, finder, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture = Renderer(portrait).draw(column())[:241, :259]
    for i in range(30):
        cv2.imwrite(str(folder / f"{i:03d}.bmp"), picture)
    got = follow(f"{folder}?fps=25", finder)
    insert_clip(got, 0, tmp_path / "out.mp4", "ann", MANY)
    assert {frame.shape for frame in frames_of(tmp_path / "out.mp4")} == {(240, 258, 3)}


def test_a_short_video_is_not_used(still, portrait, tmp_path):
    path = tmp_path / "short.mp4"
    encode((np.full((64, 64, 3), 90, np.uint8) for _ in range(24)), (64, 64), path, FPS, 20)
    with pytest.raises(NotUsable, match="expected 1 second of video or more, got 24 frames"):
        follow(str(path), Scripted([None] * 24, (64, 64)))
    with pytest.raises(NotUsable, match="found none"):
        follow(str(still[0]), Scripted([None] * 75, portrait.size))


def run(*arguments: object) -> int:
    return main(["insert", *map(str, arguments)])


def test_a_folder_is_labelled_and_goes_on_where_it_was(video, still, tmp_path, capsys, monkeypatch):
    out, people = tmp_path / "out", tmp_path / "people.csv"
    people.write_text("file,subject\nsways.mp4,ann\n")
    arguments = [video, still[0], "--out", out, "--seeds", 2, "--rate", 60, "--people", people]

    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    assert run(*arguments[:1], *arguments[2:4], *arguments[6:]) == 0
    first = (out / "sways-s0.mp4").stat().st_mtime_ns
    with monkeypatch.context() as broken:
        broken.setattr("training.synthesis.insert.write_truth", interrupted)
        assert run(*arguments) == 1
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    capsys.readouterr()
    assert run(*arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out gray.mp4: expected a face that is seen from the front, found none" in said
    assert (out / "sways-s0.mp4").stat().st_mtime_ns == first
    videos = read_folder(out)
    assert [(video.name, video.subject) for video in videos] == [("sways-s0.mp4", "ann"), ("sways-s1.mp4", "ann")]
    for video in videos:
        told = json.loads(video.path.with_suffix(".json").read_text())["events"]
        assert [(a.onset, a.apex, a.offset) for a in video.annotations] == [
            (event["onset"], event["apex"], event["offset"]) for event in told
        ]
    with (out / "labels.csv").open() as file:
        assert next(csv.reader(file)) == ["video", "subject", "onset", "apex", "offset", "emotion"]


def test_a_folder_without_a_clip_is_a_failure(still, tmp_path, capsys):
    assert run(still[0], "--out", tmp_path / "out") == 1
    said = capsys.readouterr()
    assert "left out gray.mp4" in said.out and said.err.count("\n") == 1
    assert not (tmp_path / "out" / "labels.csv").exists()


def test_what_is_asked_for_wrongly_is_said_in_one_line(video, tmp_path, capsys):
    (tmp_path / "people.csv").write_text("name\nann\n")
    for arguments, message in (
        (["--people", tmp_path / "people.csv"], "expected the columns file, subject, got name"),
        (["--people", tmp_path / "none.csv"], "expected a table, found none at"),
        (["--pixels", 3, 1], "expected --pixels WEAKEST STRONGEST, rising, got 3 1"),
        (["--crf", 60], "expected --crf 0 to 51, got 60"),
    ):
        assert run(video, "--out", tmp_path / "out", *arguments) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert run(video, video, "--out", tmp_path / "out") == 1
    assert "expected videos of different names, got sways more than once" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    assert run(video, "--out", tmp_path / "other") == 1
    assert "found other files in it" in capsys.readouterr().err


def test_a_clip_of_another_video_is_not_kept_for_one_of_its_name(video, still, tmp_path, capsys):
    out, people = tmp_path / "out", tmp_path / "people.csv"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "x.mp4").write_bytes(video.read_bytes())
    (tmp_path / "b" / "x.mp4").write_bytes(video.read_bytes()[:-1] + b"?")
    (tmp_path / "b" / "x.avi").write_bytes(video.read_bytes())
    people.write_text("file,subject\nx.mp4,ann\n")
    arguments = [tmp_path / "a" / "x.mp4", "--out", out, "--rate", 60]
    assert run(*arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    events = len(json.loads((out / "x-s0.json").read_text())["events"])
    assert f"{events} micro-expression{'s' * (events != 1)} in 1 clip of 1 person, labelled in" in said
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for given, message in (
        (
            [tmp_path / "b" / "x.mp4", *arguments[1:]],
            f"expected a clip of {tmp_path}/b/x.mp4, got one of another video",
        ),
        ([tmp_path / "b" / "x.avi", *arguments[1:]], "got one of another video, x.mp4"),
        ([*arguments[:3], "--rate", 30], "holds clips of other settings (rate was 60.0, is 30.0)"),
        ([*arguments, "--crf", 20], "(crf was 18, is 20)"),
        ([*arguments, "--people", people], "expected a clip of ann, as --people says, got one of x"),
    ):
        assert run(*given, "--seeds", 2) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    # The same video from elsewhere is the same, and a folder of before sources were told is taken by their names.
    (tmp_path / "b" / "x.mp4").write_bytes(video.read_bytes())
    assert run(tmp_path / "b" / "x.mp4", *arguments[1:]) == 0
    note = json.loads((out / "inserted.json").read_text())
    note.pop("sources")
    (out / "inserted.json").write_text(json.dumps(note))
    assert run(*arguments, "--seeds", 2) == 0
    assert "2 clips of 1 person" in " ".join(capsys.readouterr().out.split())
