"""A report's rows and picture; what analysing gives is tested with the analyzer."""

import csv
import io
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from metst_edge.errors import PlotError
from metst_edge.events import Gap, MicroExpression
from metst_edge.labels import LABELS
from metst_edge.report import Report, Scores


@pytest.fixture
def report():
    """One micro-expression, and a hole in the time grid that a gap tells of."""
    chances = {"negative": 0.1, "positive": 0.7, "surprise": 0.15, "others": 0.05}
    found = MicroExpression(0.5, 0.6, 0.8, 15, 18, 24, "positive", chances, 0.9)
    time = np.r_[np.arange(30), np.arange(60, 90)] / 30
    spot = np.linspace(0, 1, 60, dtype=np.float32)
    scores = Scores(time, np.arange(60), spot, np.zeros((60, 5), np.float32))
    events = (found, Gap(1.0, 2.0, "face_lost"))
    return Report("a.mp4", "demo", "native", 30.0, 90, 0.0, 3.0, events, scores, labels=LABELS)


def test_a_row_has_every_column_that_its_event_has(report):
    file = io.StringIO(newline="")
    report.write_csv(file)
    report.write_csv(file, header=False)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row["type"] for row in rows] == ["micro_expression", "gap"] * 2
    found, gap = rows[:2]
    assert (found["onset"], found["apex_frame"], found["emotion"], found["score"]) == ("0.5", "18", "positive", "0.9")
    assert [float(found[f"p_{emotion}"]) for emotion in LABELS[:-1]] == [0.1, 0.7, 0.15, 0.05]
    assert (gap["onset"], gap["offset"], gap["reason"], gap["emotion"]) == ("1.0", "2.0", "face_lost", "")
    assert "p_neutral" not in found and "face" not in found


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_is_a_formula_for_a_spreadsheet(report, begin):
    """https://owasp.org/www-community/attacks/CSV_Injection; numbers stay numbers, below zero too."""
    text = f"{begin}1+cmd|' /C calc'!A0"
    found = replace(report.micro_expressions[0], emotion=text, onset=-0.5)
    file = io.StringIO(newline="")
    replace(report, source=text, events=(found, Gap(1.0, 2.0, text))).write_csv(file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    assert [row["source"] for row in rows] == [f"'{text}"] * 2
    assert (rows[0]["emotion"], rows[1]["reason"], rows[0]["onset"]) == (f"'{text}", f"'{text}", "-0.5")


def test_no_line_is_drawn_across_a_hole(report, tmp_path):
    report.plot(tmp_path / "curve.png")
    bare = Report(**{**{name: getattr(report, name) for name in report.__slots__}, "events": ()})
    bare.plot(tmp_path / "bare.png", report.micro_expressions)
    pictures = [cv2.imread(str(tmp_path / name)) for name in ("curve.png", "bare.png")]
    curve = [(picture == (0x5F, 0x3A, 0x1F)).all(2) for picture in pictures]  # BGR of the curve's colour
    for drawn in curve:
        columns = np.flatnonzero(drawn[:400].any(0))
        assert np.diff(columns).max() > 0.25 * np.ptp(columns)


def test_without_matplotlib_drawing_says_what_to_install(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match="expected matplotlib.*install it with: pip install matplotlib"):
        report.plot(tmp_path / "curve.png")


def test_matplotlib_is_loaded_by_drawing_only():
    code = "import sys, metst_edge.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
