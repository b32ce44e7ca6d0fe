"""Everybody is in one fold, folds are alike, and who is tested is not trained on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.errors import DataError
from training.data.folder import Video
from training.evaluation.folds import events_of, read_folds, split, split_fold, write_folds
from training.samples import Annotation

people = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 30), min_size=5, max_size=40)


def video(subject: str, events: int = 0, name: str = "x.mp4") -> Video:
    return Video(name, Path(name), subject, None, tuple(Annotation(i, i, i, 0) for i in range(events)))


@given(people, st.integers(1, 5))
def test_everybody_is_in_one_fold_and_folds_differ_by_one_person_at_most(events: dict[str, int], count: int) -> None:
    folds = split(events, count)
    assert Counter(name for fold in folds for name in fold) == Counter(dict.fromkeys(events, 1))
    totals = [sum(events[name] for name in fold) for fold in folds]
    assert len(folds) == count and max(totals) - min(totals) <= max(events.values())
    silent = [sum(events[name] == 0 for name in fold) for fold in folds]
    if not any(events.values()):
        assert max(silent) - min(silent) <= 1
    # Neither the order in which people come nor anything drawn has a say.
    assert split(dict(reversed(events.items())), count) == folds


def test_whoever_shows_most_goes_first() -> None:
    assert split({"a": 1, "b": 1, "c": 2}, 2) == (("c",), ("a", "b"))


def test_a_person_of_two_folders_is_one_person() -> None:
    folders = [video("s1", 3), video("s2", 1)], [video("s1", 2), video("s3")]
    assert events_of([each for folder in folders for each in folder]) == {"s1": 5, "s2": 1, "s3": 0}


def test_people_without_micro_expressions_are_dealt_out() -> None:
    events = {"a": 9, "b": 9, **{f"quiet{i}": 0 for i in range(6)}}
    assert [len(fold) for fold in split(events, 2)] == [4, 4]


def test_fewer_people_than_folds_are_refused() -> None:
    with pytest.raises(DataError, match="expected at least 3 people for 3 folds, got 2"):
        split({"a": 1, "b": 1}, 3)


def test_who_is_tested_is_not_trained_on(tmp_path: Path) -> None:
    write_folds((("s1", "s3"), ("s2", "elsewhere")), tmp_path / "folds.json")
    assert read_folds(tmp_path / "folds.json") == (("s1", "s3"), ("s2", "elsewhere"))
    videos = [video(name) for name in ("s1", "s2", "s3", "s1")]
    training, test = split_fold(videos, tmp_path / "folds.json", 0)
    assert [each.subject for each in training] == ["s2"]
    assert [each.subject for each in test] == ["s1", "s3", "s1"]
    for subjects, number, message in (
        (("s1", "s2"), 2, "expected a fold from 0 to 1, got 2"),
        (("s1", "s2", "s9"), 0, "expected everybody of labels.csv in a fold, got s9 in none"),
        (("s1",), 0, "expected somebody to train on outside fold 0"),
    ):
        with pytest.raises(DataError, match=message):
            split_fold([video(name) for name in subjects], tmp_path / "folds.json", number)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "expected JSON"),
        ("[]", "expected folds, numbered from 0"),
        ("{}", "expected folds, numbered from 0"),
        ('{"1": ["a"]}', "expected folds, numbered from 0"),
        ('{"0": "a"}', "expected folds, numbered from 0"),
        ('{"0": ["a"], "1": ["b", "a"]}', "expected everybody in one fold, got a in two"),
    ],
)
def test_a_file_that_holds_no_folds_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folds.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_folds(tmp_path / "folds.json")


def test_folds_are_made_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    from training.cli import main

    for name, rows in (("one", "a.mp4,s1,1,2,3,sad\na.mp4,s1,7,8,9,sad\nb.mp4,s2,,,,\n"), ("two", "a.mp4,s3,,,,\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.csv").write_text("video,subject,onset,apex,offset,emotion\n" + rows)
        for file in ("a.mp4", "b.mp4"):
            (tmp_path / name / file).write_bytes(b"")
    data = ["--data", str(tmp_path / "one"), str(tmp_path / "two")]
    out = tmp_path / "new" / "folds.json"
    assert main(["folds", *data, "--folds", "2", "--out", str(out)]) == 0
    assert json.loads(out.read_text()) == {"0": ["s1"], "1": ["s2", "s3"]}
    assert main(["folds", *data, "--folds", "9", "--out", str(out)]) == 1
    assert main(["fit", "--data", data[1], "--fold", f"{out}:5", "--out", str(tmp_path / "run")]) == 1
    assert main(["fit", "--data", "synthetic", "--fold", f"{out}:0", "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "ask for fewer folds" in error and "expected a fold from 0 to 1, got 5" in error
    assert "expected --fold with people, got it with generated windows" in error
