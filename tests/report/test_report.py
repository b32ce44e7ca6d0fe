"""A report's rows and picture; what analysing gives is tested with the analyzer."""

import csv
import io
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metst_edge import Analyzer
from metst_edge.app.demo import demo_clip
from metst_edge.errors import PlotError
from metst_edge.events import Gap, MicroExpression, RegionMotion
from metst_edge.labels import LABELS
from metst_edge.report import Report, Scores, plot

MOVED = (RegionMotion("left brow", 0.5, -1.4), RegionMotion("mouth", 0.1, 0.2))


@pytest.fixture
def report():
    """One micro-expression, and a hole in the time grid that a gap tells of."""
    chances = {"negative": 0.1, "positive": 0.7, "surprise": 0.15, "others": 0.05}
    found = MicroExpression(0.5, 0.6, 0.8, 15, 18, 24, "positive", chances, 0.9, motion=MOVED)
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
    assert (found["height"], found["motion"], gap["height"], gap["motion"]) == ("0.9", "left brow 1.5 px up", "", "")


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


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws a report and returns the figure."""
    figures = []
    figure_class = plot.figure_class

    def watched():
        def make(**options):
            figures.append(figure_class()(**options))
            return figures[-1]

        return make

    monkeypatch.setattr(plot, "figure_class", watched)

    def draw(report, truth=()):
        report.plot(tmp_path / "drawn.png", truth)
        figures[-1].draw_without_rendering()
        return figures[-1]

    return draw


def crowded(report, count):
    """A report of many micro-expressions at random places, some on one another, and of gaps short and long."""
    rng = np.random.default_rng(3)
    apexes = [*rng.uniform(0.3, 2.7, count - 2), 1.5, 1.5]
    found = [replace(report.micro_expressions[0], onset=t - 0.1, apex=t, offset=t + 0.1) for t in apexes]
    return replace(report, events=(*found, Gap(0.5, 0.51, "scene_cut"), Gap(1.0, 2.0, "face_lost")))


@pytest.mark.parametrize("count", [3, 12, 60])
def test_no_name_overprints_another(report, drawn, count):
    report = crowded(report, count)
    figure = drawn(report, report.micro_expressions[:20])
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]
    names = [text.get_text() for text in texts]
    assert "face lost" in names and "scene cut" not in names, "there is no room for it in its gap"
    left_out = count - sum(text.get_text() == "positive" and text.get_position()[1] > 1 for text in texts)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert ("found" if left_out == 0 else f"found ({left_out} without room for a name)") in labels
    assert "gap (1 scene cut, 1 face lost)" in labels


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 20)), max_size=40), st.integers(1, 5))
def test_rows_hold_what_does_not_overlap_and_no_more_is_left_out_than_must_be(spans, most):
    spans = sorted((begin, begin + length) for begin, length in spans)
    rows = plot.rows_of(spans, most)
    for i, (begin, end) in enumerate(spans):
        before = [spans[j] for j in range(i) if rows[j] is not None and rows[j] == rows[i]]
        if rows[i] is None:
            held = {rows[j] for j in range(i) if rows[j] is not None and spans[j][1] > begin}
            assert held == set(range(most)), "every row was taken"
        else:
            assert all(other <= begin for _, other in before), end


def test_the_smoothed_curve_and_the_threshold_are_those_that_decided():
    with Analyzer(ratio=0.3, floor=0.2) as analyzer:
        report = analyzer.analyze(demo_clip())
        settings, k_p = analyzer.decode_settings, analyzer.bundle.k_p
    scores = report.scores
    run, height = scores.runs[0], scores.thresholds[0]
    curve = np.convolve(np.r_[scores.spot.astype(float), np.zeros(k_p)], np.ones(2 * k_p) / (2 * k_p))
    oracle = curve[k_p - 1 :][: len(scores.spot)]
    np.testing.assert_allclose(scores.smoothed, oracle, atol=1e-12)
    assert run == slice(0, len(scores.spot))
    assert height == pytest.approx(max(0.2, oracle.mean() + settings.ratio * (oracle.max() - oracle.mean())))
    for event in report.micro_expressions:
        at = int(np.flatnonzero(scores.frame == event.apex_frame)[0])
        assert event.height == pytest.approx(scores.smoothed[at]) and event.height >= height


def test_the_smoothed_curve_and_the_threshold_are_drawn(report, drawn):
    smoothed = np.linspace(0, 0.8, 60)
    scores = replace(report.scores, runs=(slice(0, 30), slice(30, 60)), smoothed=smoothed, thresholds=(0.4, 0.6))
    figure = drawn(replace(report, scores=scores))
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    heights = lines["smoothed"].get_ydata()
    np.testing.assert_array_equal(heights[~np.isnan(heights)], smoothed)
    dashed = [line for line in figure.axes[0].lines if line.get_color() == plot.LIMIT]
    assert [list(line.get_ydata()) for line in dashed] == [[0.4, 0.4], [0.6, 0.6]]
    assert list(dashed[1].get_xdata()) == [2.0, 89 / 30]


def test_without_matplotlib_drawing_says_what_to_install(report, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match="expected matplotlib.*install it with: pip install matplotlib"):
        report.plot(tmp_path / "curve.png")


@pytest.mark.parametrize("name", ["curve.xyz", "curve.jpg", "curve.png.gz"])
def test_what_a_picture_cannot_be_is_told_by_its_name(report, tmp_path, name):
    with pytest.raises(PlotError, match=f"{name}: expected a name ending in .png, .pdf, .svg, got"):
        report.plot(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_one_is_one_and_not_many(report, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(plot, "draw", lambda path, title, **rest: titles.append(title))
    for count in 0, 1, 2:
        replace(report, events=report.micro_expressions[:1] * count).plot(tmp_path / "a.png")
    assert [title.partition(": ")[2].partition(" found")[0] for title in titles] == [
        "0 micro-expressions",
        "1 micro-expression",
        "2 micro-expressions",
    ]


def test_matplotlib_is_loaded_by_drawing_only():
    code = "import sys, metst_edge.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
