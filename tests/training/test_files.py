"""Whatever is named as a file of the training command line: one line says what is wrong, and nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from training.cli import main  # noqa: E402

HEADER = "video,subject,onset,apex,offset,emotion\n"

GIVEN = """
folds --data BAD --out OUT/folds.json
fit --data BAD --steps 1 --out OUT
fit --backgrounds BAD --steps 1 --out OUT
fit --data DATA --fold BAD:0 --steps 1 --out OUT
fit --data DATA --resume --out BAD
evaluate BAD --data DATA --out OUT
evaluate demo --data BAD --out OUT
evaluate demo --data DATA --fold BAD:0 --out OUT
evaluate demo --data DATA --folds BAD --out OUT
threshold BAD --data DATA --out OUT
threshold demo --data BAD --out OUT
threshold demo --data DATA --fold BAD:0 --out OUT
threshold demo --data DATA --quiet CLIP --people BAD --out OUT
score-table BAD --data DATA --out OUT/table.json
score-table DATA --data BAD --out OUT/table.json
false-alarms BAD CLIP --out OUT
false-alarms demo BAD --out OUT
false-alarms demo CLIP --people BAD --out OUT
false-alarms demo CLIP --causes BAD --out OUT
insert BAD --out OUT
insert CLIP --people BAD --out OUT
causes BAD --out OUT/causes.csv
render --portraits BAD --clips 1 --out OUT
calibrate --portraits BAD --out OUT/calibration.npz
recognise fit --data BAD --out OUT
recognise evaluate BAD --data DATA --out OUT
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> tuple[list[Path], Path, Path]:
    """What is wrong to name, a labelled folder, and a clip."""
    root = tmp_path_factory.mktemp("files")
    (root / "folder").mkdir()
    for name, content in (
        ("empty", b""),
        ("rubbish", bytes(range(256)) * 20),
        ("zeros.csv", b"file,subject\n\0\0,\0\n"),
        ("other.json", b'{"a": {"b": null}}'),
        ("list.json", b"[1, 2]"),
        ("deep.json", b"[" * 100_000),
    ):
        (root / name).write_bytes(content)
    data = root / "data"
    data.mkdir()
    (data / "a.mp4").symlink_to(test_data / "single_face.mp4")
    (data / "labels.csv").write_text(HEADER + "a.mp4,s1,20,25,34,happy\n")
    names = ("none", "folder", "empty", "rubbish", "zeros.csv", "other.json", "list.json", "deep.json", "empty/inside")
    return [root / name for name in names], data, test_data / "single_face.mp4"


@pytest.mark.parametrize("line", GIVEN.strip().splitlines())
def test_one_line_says_what_is_wrong_with_a_file_and_nothing_is_left(
    line: str, places: tuple[list[Path], Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, data, clip = places
    out = tmp_path / "new" / "out"
    for bad in wrong:
        given = line.replace("DATA", str(data)).replace("CLIP", str(clip)).replace("OUT", str(out)).split()
        given = [each.replace("BAD", str(bad)) for each in given]
        assert main(given) == 1, bad
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and len(error) < 700 and error.startswith("training: error: "), error
        assert "expected" in error or "not a readable checkpoint" in error or "cannot be read" in error, error
        for raw in ("No such file", "Is a directory", "Not a directory", "Errno", "PyTorch", "Error("):
            assert raw not in error, error
        assert not out.parent.exists(), (bad.name, error)


@pytest.mark.parametrize("verb", ["fit", "recognise fit", "threshold demo"])
def test_people_who_show_nothing_are_told_from_frames_that_are_wrong(
    verb: str, places: tuple[list[Path], Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fold that is kept out, or all test subjects, show all micro-expressions there are."""
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (data / name).symlink_to(places[2])
    (data / "labels.csv").write_text(HEADER + "a.mp4,s1,20,25,34,happy\nb.mp4,s2,,,,\n")
    out = tmp_path / "out"
    assert main([*verb.split(), "--data", str(data), "--test-subjects", "s1", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "expected micro-expressions in labels.csv of those" in error and "got none in 1 video of 1 person" in error
    assert not out.exists() and not (data / ".windows").exists()
    folds = ["folds", "--data", str(data), "--folds", "2", "--out", str(tmp_path / "folds.json")]
    assert main(folds) == 0
    assert "fold 0 holds all micro-expressions: without it none" in " ".join(capsys.readouterr().out.split())


def test_that_no_face_is_seen_is_said(test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.mp4").symlink_to(test_data / "no_face.mp4")
    (data / "labels.csv").write_text(HEADER + "a.mp4,s1,2,5,9,happy\n")
    out = ["--out", str(tmp_path / "out")]
    for arguments in (
        ["fit", "--data", str(data), "--steps", "1"],
        ["evaluate", "demo", "--data", str(data)],
        ["threshold", "demo", "--data", str(data)],
        ["false-alarms", "demo", str(data / "a.mp4")],
    ):
        assert main([*arguments, *out]) == 1
        assert "expected a face in the videos, got none in 1 video" in capsys.readouterr().err
    assert not [*tmp_path.rglob("metrics.json"), *tmp_path.rglob("false_alarms.json"), *tmp_path.rglob("decode.json")]


def test_folds_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "data", tmp_path / "folds.json"
    data.mkdir()
    rows = [f"a{i}.mp4,s{i},1,2,3,sad\n" for i in range(4)]
    for i in range(4):
        (data / f"a{i}.mp4").touch()
    (data / "labels.csv").write_text(HEADER + "".join(rows[:3]))
    folds = ["folds", "--data", str(data), "--folds", "2", "--out", str(out)]
    assert main(folds) == 0
    before = out.read_bytes()
    assert main(folds) == 0
    assert "holds these folds already" in " ".join(capsys.readouterr().out.split())
    (data / "labels.csv").write_text(HEADER + "".join(rows))
    assert main(folds) == 1
    assert "holds other folds or something else" in capsys.readouterr().err and out.read_bytes() == before
    assert main([*folds[:-1], str(data / "labels.csv")]) == 1
    assert (data / "labels.csv").read_text().startswith(HEADER)


def test_a_table_of_scores_takes_the_place_of_nothing_else(
    places: tuple[list[Path], Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data, _ = places
    before = (data / "labels.csv").read_bytes()
    assert main(["score-table", str(tmp_path), "--data", str(data), "--out", str(data / "labels.csv")]) == 1
    assert "expected nothing, or a table by `score-table` to replace" in capsys.readouterr().err
    (tmp_path / "decode.json").write_text(json.dumps({"ratio": 0.5}))
    assert main(["score-table", str(tmp_path), "--data", str(data), "--out", str(tmp_path / "decode.json")]) == 1
    assert "holds something else than a table by `score-table`" in capsys.readouterr().err
    assert (data / "labels.csv").read_bytes() == before
