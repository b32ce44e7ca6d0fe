"""What happens in a face is told from its landmarks: each thing as itself, whole, and nothing of a face at rest."""

import csv
from pathlib import Path

import numpy as np
import pytest

from metst_edge.errors import SourceError
from training.cli import main
from training.evaluation.beside import Happening, read_causes
from training.evaluation.happenings import BLINK_DEPTH, BLINK_SECONDS, KINDS, blinks, happened, moves
from training.synthesis.insert import NotUsable, Sight

FPS = 25.0
G = 12.0
"""Pixels: a face 108 px wide, the smallest that was looked at."""
SHAKING = 0.008
"""g that each landmark of the mesh shakes by (SD)."""
PIXEL = 9 / 320
"""g that a pixel of the 320 px crop is."""
LEFT, RIGHT = slice(36, 42), slice(42, 48)


def neutral():
    """Sixty-eight points of a face in g, x right, y down, z towards the camera: float64 (68, 3)."""
    face = np.zeros((68, 3))
    jaw = np.linspace(-np.pi / 2, np.pi / 2, 17)
    face[:17, :2] = np.stack((4.2 * np.sin(jaw), 6.4 * np.cos(jaw)), -1)
    brow = np.linspace(0, 1, 5)
    face[17:22, :2] = np.stack((-3.4 + 2.6 * brow, -1.1 - 0.3 * np.sin(np.pi * brow)), -1)
    face[22:27, :2] = face[17:22, :2][::-1] * (-1, 1)
    face[27:31] = [(0, 0.1 + 0.4 * i, 0.5 + i / 3) for i in range(4)]  # the tip is 1.5 g before the eyes
    face[31:36] = [(0.45 * (i - 2), 1.9, 0.8) for i in range(5)]
    face[LEFT, :2] = [(-2.54, 0), (-2.03, -0.2), (-1.51, -0.2), (-1, 0), (-1.51, 0.2), (-2.03, 0.2)]
    face[RIGHT, :2] = face[[39, 38, 37, 36, 41, 40], :2] * (-1, 1)
    outer, inner = np.linspace(0, 2 * np.pi, 13)[:-1], np.linspace(0, 2 * np.pi, 9)[:-1]
    face[48:60, :2] = np.stack((-1.35 * np.cos(outer), 3.3 - 0.5 * np.sin(outer)), -1)
    face[60:68, :2] = np.stack((-1.1 * np.cos(inner), 3.3 - 0.04 * np.sin(inner)), -1)
    return face


def turned(yaw=0.0, pitch=0.0, roll=0.0):
    """Matrix of a head's rotation, degrees."""
    (a, b, c), sin, cos = np.radians((yaw, pitch, roll)), np.sin, np.cos
    about_y = np.array(((cos(a), 0, sin(a)), (0, 1, 0), (-sin(a), 0, cos(a))))
    about_x = np.array(((1, 0, 0), (0, cos(b), sin(b)), (0, -sin(b), cos(b))))
    return np.array(((cos(c), -sin(c), 0), (sin(c), cos(c), 0), (0, 0, 1))) @ about_x @ about_y


def drawn(n, *, seed=0, g=G, **tracks):
    """Landmarks of n frames, float32 (n, 68, 2).

    Args:
        tracks: (n,) each: ``closed``, share of the eye's opening; ``parted``, ``spread``, ``brow``, ``x``, ``y`` in g;
            ``yaw``, ``pitch``, ``roll`` in degrees; ``size`` as a factor.
    """
    rng, out = np.random.default_rng(seed), np.zeros((n, 68, 2), np.float32)
    for i in range(n):
        at = {name: float(track[i]) for name, track in tracks.items()}
        face = neutral()
        for upper in ([37, 38], [43, 44]):
            face[upper, 1] += 0.4 * at.get("closed", 0.0)
        face[55:60, 1] += at.get("parted", 0.0)
        face[65:68, 1] += at.get("parted", 0.0)
        face[48, 0] -= at.get("spread", 0.0) / 2
        face[54, 0] += at.get("spread", 0.0) / 2
        face[17:27, 1] -= at.get("brow", 0.0)
        face = face @ turned(at.get("yaw", 0.0), at.get("pitch", 0.0), at.get("roll", 0.0)).T
        flat = at.get("size", 1.0) * face[:, :2] + (at.get("x", 0.0), at.get("y", 0.0))
        out[i] = g * (flat + SHAKING * rng.normal(size=(68, 2))) + (200, 150)
    return out


def pulse(n, first, last, height=1.0):
    """0 but between two frames, where it rises and falls: (n,)."""
    t = (np.arange(n) - first) / (last - first)
    return np.where((t > 0) & (t < 1), height * np.sin(np.pi * np.clip(t, 0, 1)) ** 2, 0.0)


def step(n, first, last, height=1.0):
    """0 before the one frame, ``height`` from the other on: (n,)."""
    return height * (0.5 - 0.5 * np.cos(np.pi * np.clip((np.arange(n) - first) / (last - first), 0, 1)))


def told(landmarks, fps=FPS):
    return happened(landmarks, np.arange(len(landmarks)) / fps)


def kinds(landmarks, fps=FPS):
    return {each.kind for each in told(landmarks, fps)}


def spans(landmarks, kind, fps=FPS):
    return [(each.onset, each.offset) for each in told(landmarks, fps) if each.kind == kind]


def plain_moves(course, by, longest):
    """As `moves`: every pair of frames near enough that is far enough apart and holds no other such pair."""
    pairs = [
        (i, j)
        for i in range(len(course))
        for j in range(i + 1, min(i + longest, len(course) - 1) + 1)
        if abs(course[j] - course[i]) >= by
    ]
    out = np.zeros(len(course), bool)
    for i, j in pairs:
        if not any((a, b) != (i, j) and i <= a and b <= j for a, b in pairs):
            out[i : j + 1] = True
    return out


def plain_depth(eyes, fps):
    """What share of the usual opening an eye lacks to the lower of its widest shortly before and after: (n,)."""
    n, reach = len(eyes), round(BLINK_SECONDS / 2 * fps)
    calm = [float(np.median(eyes[i - 1 : i + 2])) if 0 < i < n - 1 else float(eyes[i]) for i in range(n)]
    widest = [(max(calm[max(i - reach, 0) : i + 1]), max(calm[i : i + reach + 1])) for i in range(n)]
    return np.array([min(widest[i]) - eyes[i] for i in range(n)]) / float(np.median(eyes))


@pytest.mark.parametrize("seed", range(5))
def test_the_shortest_stretches_that_go_far_are_those_found_one_by_one(seed):
    rng = np.random.default_rng(seed)
    course = np.cumsum(rng.normal(size=60)) * rng.uniform(0.2, 1.0)
    for longest in (1, 5, 12, 100):
        np.testing.assert_array_equal(moves(course, 1.0, longest), plain_moves(course, 1.0, longest))


def test_what_is_as_far_is_a_move_and_what_is_slower_is_none():
    course = np.concatenate((np.zeros(5), np.linspace(0, 1, 11), np.ones(5)))
    assert np.flatnonzero(moves(course, 1.0, 10)).tolist() == list(range(5, 16))
    assert not moves(course, 1.0, 9).any()
    assert not moves(np.zeros(1), 1.0, 9).any()


def test_a_blink_is_as_deep_as_counted_one_by_one():
    rng = np.random.default_rng(0)
    for seed in range(20):
        depth = rng.uniform(0.02, 0.4)
        eyes = 0.26 * (1 - pulse(100, 45, 45 + int(rng.integers(4, 12)), depth)) + 0.0005 * rng.normal(size=100)
        found = blinks(eyes, np.zeros(100), FPS)
        assert found.any() == (plain_depth(eyes, FPS).max() >= BLINK_DEPTH), seed


def test_a_face_at_rest_does_nothing():
    n = 500
    slow = np.sin(np.arange(n) / FPS * 2 * np.pi * 0.1)
    sways = drawn(n, x=0.3 * slow, y=0.2 * slow, pitch=0.5 * slow, roll=0.3 * slow, closed=0.05 * slow + 0.05)
    assert told(sways) == []


def test_micro_expressions_are_not_told():
    n, course = 100, pulse(100, 45, 55)
    for name in ("brow", "parted", "spread"):
        assert told(drawn(n, **{name: 3 * PIXEL * course})) == [], name


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
@pytest.mark.parametrize("closed", [0.25, 0.4])
def test_a_blink_is_told_whole(fps, closed):
    n, first = round(4 * fps), round(2 * fps)
    last = first + round(0.24 * fps)
    landmarks = drawn(n, closed=pulse(n, first, last, closed))
    assert kinds(landmarks, fps) == {"blink"}
    ((onset, offset),) = spans(landmarks, "blink", fps)
    assert abs(onset - first) <= 0.06 * fps and abs(offset - last) <= 0.06 * fps


def test_a_double_blink_is_two():
    landmarks = drawn(100, closed=pulse(100, 40, 46, 0.3) + pulse(100, 50, 56, 0.3))
    assert len(spans(landmarks, "blink")) == 2


def test_lids_that_stay_down_are_no_blink():
    landmarks = drawn(200, closed=step(200, 50, 55, 0.35) - step(200, 120, 125, 0.35))
    assert kinds(landmarks) == {"lids"}
    (down, up) = spans(landmarks, "lids")
    assert down[0] <= 51 and 54 <= down[1] < 70 and 110 < up[0] <= 121 and up[1] >= 124


def test_lids_that_are_down_flutter_and_do_not_blink():
    down = step(300, 50, 55, 0.35) - step(300, 150, 155, 0.35)
    assert not spans(drawn(300, closed=down + pulse(300, 98, 105, 0.25)), "blink")


def test_where_the_mesh_shakes_a_blink_must_be_deeper():
    blink, shaking = pulse(100, 47, 53), 0.03 * (-1.0) ** np.arange(100)
    for shakes, depth, found in ((0, 0.18, True), (1, 0.18, False), (1, 0.35, True)):
        eyes = 0.26 * (1 - depth * blink + shakes * shaking)
        assert blinks(eyes, np.zeros(100), FPS).any() == found


def test_eyes_that_narrow_in_a_nod_do_not_blink():
    course = pulse(100, 40, 52)
    assert kinds(drawn(100, y=0.6 * course, closed=0.15 * course)) == {"head"}
    assert kinds(drawn(100, closed=0.2 * course)) == {"blink"}


def test_brows_and_lids_are_not_told_of_a_head_that_goes_far():
    course = step(100, 40, 50)
    assert kinds(drawn(100, y=1.5 * course, brow=0.25 * course, closed=0.3 * course)) == {"head"}
    assert kinds(drawn(100, y=0.3 * course, brow=0.25 * course, closed=0.3 * course)) == {"head", "brow", "lids"}


def test_speech_is_one_mouth_and_a_syllable_another():
    syllables = sum(pulse(250, first, first + 7, 0.4) for first in range(50, 120, 6))
    landmarks = drawn(250, parted=syllables + pulse(250, 200, 208, 0.3))
    assert kinds(landmarks) == {"mouth"}
    speech, syllable = spans(landmarks, "mouth")
    assert speech[0] <= 52 and speech[1] >= 120 and 190 <= syllable[0] <= 202 and 206 <= syllable[1] <= 218


def test_a_short_rest_parts_nothing():
    assert len(spans(drawn(120, parted=pulse(120, 50, 58, 0.4) + pulse(120, 66, 74, 0.4)), "mouth")) == 1
    assert len(spans(drawn(120, parted=pulse(120, 50, 58, 0.4) + pulse(120, 78, 86, 0.4)), "mouth")) == 2


def test_a_held_brow_moves_twice():
    landmarks = drawn(200, brow=step(200, 50, 58, 0.25) - step(200, 120, 130, 0.25))
    assert kinds(landmarks) == {"brow"}
    assert len(spans(landmarks, "brow")) == 2


def test_a_smile_is_the_mouth():
    assert kinds(drawn(100, spread=step(100, 40, 50, 0.5))) == {"mouth"}


@pytest.mark.parametrize(
    "name, far",
    [("x", 0.5), ("y", -0.5), ("yaw", 10.0), ("yaw", -10.0), ("pitch", 10.0), ("roll", 5.0), ("size", 0.12)],
)
def test_a_head_that_moves_is_the_head(name, far):
    course = step(100, 40, 49, far) + (1.0 if name == "size" else 0.0)
    landmarks = drawn(100, **{name: course})
    assert kinds(landmarks) == {"head"}
    ((onset, offset),) = spans(landmarks, "head")
    assert 32 <= onset <= 42 and 47 <= offset <= 57


def test_no_face_and_another_face_are_told_and_nothing_else_there():
    landmarks = drawn(200, parted=pulse(200, 55, 65, 0.4))
    landmarks[50:80] = np.nan
    landmarks[150:] += 8 * G
    found = told(landmarks)
    assert {each.kind for each in found} == {"face"}
    (lost, other) = spans(landmarks, "face")
    assert lost == (48, 81) and other[0] <= 149 and other[1] >= 150 and other[1] - other[0] < 8


def test_a_larger_face_in_the_same_place_is_another():
    landmarks = drawn(100)
    landmarks[50:] = 1.4 * (landmarks[50:] - (200, 170)) + (200, 170)
    assert spans(landmarks, "face") == [(47, 52)] and kinds(landmarks) == {"face"}


def test_a_mesh_that_slips_is_the_face():
    landmarks = drawn(100)
    landmarks[50, :, 1] = 150 + 0.7 * (landmarks[50, :, 1] - 150)
    assert spans(landmarks, "face") == [(48, 52)]


def test_a_hole_in_time_is_the_face():
    times = np.arange(100) / FPS
    times[50:] += 1.0
    (hole,) = [each for each in happened(drawn(100, x=step(100, 49, 50, 0.6)), times)]
    assert (hole.kind, hole.onset, hole.offset) == ("face", 47, 52)


def test_size_and_place_of_a_face_do_not_matter():
    n = 150
    tracks = {"closed": pulse(n, 30, 37, 0.3), "parted": pulse(n, 80, 90, 0.4), "x": step(n, 110, 120, 0.6)}
    small = drawn(n, **tracks)
    assert told(3 * small + 100) == told(small)


def test_little_video_is_told_of_too():
    assert happened(np.zeros((0, 68, 2)), []) == []
    assert told(drawn(1)) == []
    assert told(np.full((30, 68, 2), np.nan, np.float32)) == [Happening("face", 0, 29)]
    assert told(drawn(3)) == []


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """Files a.mp4 (a blink), b.mp4 (lips part), cut.mp4 (broken off), bad.mp4 (cannot be read); who was watched."""
    folder, watched = tmp_path / "videos", []
    folder.mkdir()
    faces = {"a.mp4": {"closed": pulse(100, 40, 46, 0.3)}, "b.mp4": {"parted": pulse(100, 60, 70, 0.4)}}
    for name in (*faces, "cut.mp4", "bad.mp4"):
        (folder / name).write_text("")

    def watch(uri, finder, report):
        name = Path(uri).name
        watched.append(name)
        report(1)
        if name == "cut.mp4":
            raise KeyboardInterrupt
        if name == "short.mp4":
            raise NotUsable("expected 1 second of video or more, got 1 frames")
        if name not in faces:
            raise SourceError(f"{uri}: cannot be read")
        return Sight(FPS, np.arange(100) / FPS, drawn(100, **faces[name]), (300, 400))

    monkeypatch.setattr("training.evaluation.watching.watch", watch)
    return folder, watched


def run(*arguments: object) -> int:
    return main(["causes", *map(str, arguments)])


def test_a_table_is_made_beside_the_videos_and_goes_on_where_it_was(videos, capsys):
    folder, watched = videos
    assert run(folder / "a.mp4", folder / "cut.mp4", folder / "b.mp4") == 1
    assert capsys.readouterr().err == "training: interrupted\n"
    table = folder / "causes.csv"
    assert {name: [each.kind for each in rows] for name, rows in read_causes(table).items()} == {"a.mp4": ["blink"]}
    assert run(folder / "a.mp4", folder / "b.mp4") == 0
    assert watched == ["a.mp4", "cut.mp4", "b.mp4"]
    assert {name: [each.kind for each in rows] for name, rows in read_causes(table).items()} == {
        "a.mp4": ["blink"],
        "b.mp4": ["mouth"],
    }
    assert sorted(path.name for path in folder.iterdir()) == ["a.mp4", "b.mp4", "bad.mp4", "causes.csv", "cut.mp4"]
    said = " ".join(capsys.readouterr().out.split())
    assert "2 videos in" in said and "; 1 of them named there before and left as they were" in said


def test_what_another_wrote_into_the_table_stays(videos, tmp_path):
    folder, watched = videos
    table = tmp_path / "table.csv"
    table.write_text("onset,offset,kind,video,by\n3,9,sneeze,videos/b.mp4,ann")
    assert run(folder / "a.mp4", folder / "b.mp4", "--out", table) == 0
    assert watched == ["a.mp4"]
    with table.open() as file:
        first, second = csv.DictReader(file)
    assert first == {"onset": "3", "offset": "9", "kind": "sneeze", "video": "videos/b.mp4", "by": "ann"}
    assert (second["video"], second["kind"], second["by"]) == ("videos/a.mp4", "blink", "")


def test_a_video_elsewhere_goes_by_its_name(videos, tmp_path):
    folder, _ = videos
    assert run(folder / "a.mp4", "--out", tmp_path / "new" / "causes.csv") == 0
    assert list(read_causes(tmp_path / "new" / "causes.csv")) == ["a.mp4"]


def test_what_cannot_be_watched_is_named_and_the_rest_goes_on(videos, capsys):
    folder, _ = videos
    assert run(folder / "bad.mp4", folder / "a.mp4") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left out bad.mp4" in said and "1 video in" in said
    assert run(folder / "bad.mp4", folder / "short.mp4") == 1
    said = capsys.readouterr()
    assert "left out short.mp4: expected 1 second" in said.out and said.err.count("\n") == 1


def test_what_is_asked_for_wrongly_is_said_in_one_line(videos, tmp_path, capsys):
    folder, watched = videos
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("video,kind\na.mp4,blink\n")
    for arguments, message in (
        ((folder / "a.mp4", "--out", folder), "expected a file to write, got the folder"),
        ((folder / "a.mp4", "--out", wrong), "expected the columns video, kind, onset, offset"),
        ((folder / "a.mp4", folder / "a.mp4"), "expected videos of different names, got a.mp4 more than once"),
        ((folder / "a.mp4", "--out", wrong / "x.csv"), "expected a folder that can be written to"),
    ):
        assert run(*arguments) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not watched


@pytest.mark.slow
def test_a_man_at_a_webcam_blinks_as_was_seen_by_eye(test_data, tmp_path):
    """Of clm_cap13.mp4 every frame was looked at: lids go down and up at 57-62, shut at 98-101 and at 425-428."""
    assert run(test_data / "faces" / "clm_cap13.mp4", "--out", tmp_path / "causes.csv") == 0
    (rows,) = read_causes(tmp_path / "causes.csv").values()
    assert {each.kind for each in rows} <= {*KINDS}
    found = [(each.onset, each.offset) for each in rows if each.kind == "blink"]
    assert len(found) == 3
    for (onset, offset), (first, last) in zip(found, ((57, 62), (98, 101), (425, 428)), strict=True):
        assert onset <= first and last <= offset
