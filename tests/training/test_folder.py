"""labels.csv is read as documented, and every wrong cell is refused by line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.errors import DataError
from training.data.folder import read_folder, split_subjects
from training.samples import Annotation, frame_labels, half_duration

HEADER = "video,subject,onset,apex,offset,emotion\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.mp4").write_bytes(b"")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(b"")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def test_rows_become_videos_with_their_events_in_order(folder: Path) -> None:
    rows = "a.mp4,s1,40,44,50,surprise\na.mp4,s1,3,6,11,Happiness\nb.mp4,s2,,,,\n"
    a, b = read_folder(write(folder, HEADER + rows))
    assert (a.name, a.subject, a.fps) == ("a.mp4", "s1", None)
    assert a.annotations == (Annotation(3, 6, 11, 1), Annotation(40, 44, 50, 2))
    assert (b.subject, b.annotations) == ("s2", ())


def test_spaces_a_byte_order_mark_and_other_columns_do_no_harm(folder: Path) -> None:
    write(
        folder,
        "\ufeffsubject, video ,onset,apex,offset,emotion,notes\ns1, a.mp4, 3, 6, 11, disgust, twitch\n",
    )
    (video,) = read_folder(folder)
    assert video.annotations == (Annotation(3, 6, 11, 0),)


def test_frames_may_be_counted_from_one(folder: Path) -> None:
    (video,) = read_folder(write(folder, HEADER + "a.mp4,s1,1,2,3,other\n"), first_frame=1)
    assert video.annotations == (Annotation(0, 1, 2, 3),)


def test_image_folders_need_their_frame_rate(folder: Path) -> None:
    header = HEADER.replace("\n", ",fps\n")
    (video,) = read_folder(write(folder, header + "pictures,s1,0,0,0,sad,200\n"))
    assert video.fps == 200
    assert str(video.uri).startswith("folder://") and str(video.uri).endswith("/pictures?fps=200.0")
    with pytest.raises(DataError, match=r"line 2, column fps: expected the frames per second of this image folder"):
        read_folder(write(folder, HEADER + "pictures,s1,0,0,0,sad\n"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.mp4,s1,x,6,11,sad\n", "line 2, column onset: expected a frame number, 0 or more, got 'x'"),
        ("a.mp4,s1,-3,6,11,sad\n", "line 2, column onset: expected a frame number, 0 or more, got '-3'"),
        ("a.mp4,s1,3.5,6,11,sad\n", "line 2, column onset: expected a frame number, 0 or more, got '3.5'"),
        ("a.mp4,s1,3,,11,sad\n", "line 2, column apex: expected a value, got ''"),
        ("a.mp4,s1,3,6,11,\n", "line 2, column emotion: expected a value, got ''"),
        ("a.mp4,s1,3,6\n", "line 2, column offset: expected a value, got ''"),
        ("a.mp4,s1,3,2,11,sad\n", "line 2, column apex: expected a frame not before the onset, 3, got '2'"),
        ("a.mp4,s1,3,6,5,sad\n", "line 2, column offset: expected a frame not before the apex, 6, got '5'"),
        ("a.mp4,s1,3,6,11,bored\n", "line 2, column emotion: expected one of negative, anger"),
        (",s1,3,6,11,sad\n", "line 2, column video: expected a value, got ''"),
        ("a.mp4,,3,6,11,sad\n", "line 2, column subject: expected a value, got ''"),
        ("../a.mp4,s1,3,6,11,sad\n", "line 2, column video: expected a path below"),
        ("x/../../a.mp4,s1,3,6,11,sad\n", "line 2, column video: expected a path below"),
        ("/etc/passwd,s1,3,6,11,sad\n", "line 2, column video: expected a path below"),
        ("c.mp4,s1,3,6,11,sad\n", "line 2, column video: expected a video file or image folder below"),
        (
            "a.mp4,s1,3,6,11,sad\na.mp4,s2,20,21,22,sad\n",
            "line 3, column subject: expected 's1', as in an earlier row",
        ),
        ("", "expected at least one row below the header, got none"),
    ],
)
def test_a_wrong_cell_is_named_by_line_and_column(folder: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_folder(write(folder, HEADER + rows))
    assert message in str(error.value)
    assert "labels.csv" in str(error.value)


def test_a_frame_zero_is_refused_where_frames_count_from_one(folder: Path) -> None:
    with pytest.raises(DataError, match="column onset: expected a frame number, 1 or more, got '0'"):
        read_folder(write(folder, HEADER + "a.mp4,s1,0,2,3,sad\n"), first_frame=1)


@pytest.mark.parametrize("fps", ["0", "-1", "nan", "inf", "fast"])
def test_a_frame_rate_is_a_number_above_zero(folder: Path, fps: str) -> None:
    write(folder, HEADER.replace("\n", ",fps\n") + f"pictures,s1,3,6,11,sad,{fps}\n")
    with pytest.raises(DataError, match="line 2, column fps: expected frames per second, above 0"):
        read_folder(folder)


def test_a_video_file_has_its_own_frame_rate(folder: Path) -> None:
    write(folder, HEADER.replace("\n", ",fps\n") + "a.mp4,s1,3,6,11,sad,30\n")
    with pytest.raises(DataError, match="line 2, column fps: expected nothing, because a video file states its own"):
        read_folder(folder)


def test_missing_columns_and_files_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match="missing: apex, emotion"):
        read_folder(write(folder, "video,subject,onset,offset\na.mp4,s1,3,6\n"))
    with pytest.raises(DataError, match="expected a labelled folder with labels.csv in it"):
        read_folder(folder / "pictures")
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="expected a UTF-8 table"):
        read_folder(folder)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="expected a folder with pictures"):
        read_folder(write(folder, HEADER + "empty,s1,0,0,0,sad\n"))


def test_test_subjects_are_kept_apart(folder: Path) -> None:
    videos = read_folder(write(folder, HEADER + "a.mp4,s1,3,6,11,sad\nb.mp4,s2,,,,\n"))
    training, test = split_subjects(videos, ["s2"])
    assert ([v.name for v in training], [v.name for v in test]) == (["a.mp4"], ["b.mp4"])
    with pytest.raises(DataError, match="got s9; it names s1, s2"):
        split_subjects(videos, ["s9"])
    with pytest.raises(DataError, match="expected at least one subject to train on"):
        split_subjects(videos, ["s1", "s2"])


def test_frames_inside_an_event_are_labelled_and_its_ends_are_not() -> None:
    y, classes = frame_labels([Annotation(2, 4, 6, 2), Annotation(8, 8, 9, 1)], 12)
    assert y.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert classes.tolist() == [4, 4, 4, 2, 2, 2, 4, 4, 4, 4, 4, 4]


def test_half_the_mean_duration_is_that_from_onset_to_offset() -> None:
    assert half_duration([Annotation(0, 1, 8, 0), Annotation(0, 1, 14, 0)]) == 6  # 11 frames
    assert half_duration([Annotation(0, 1, 10, 0)]) == 5
    assert half_duration([Annotation(5, 5, 5, 0)]) == 1
    with pytest.raises(ValueError, match="expected at least one"):
        half_duration([])
