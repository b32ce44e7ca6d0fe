"""What scores mean is fitted to an evaluation's events, goes into the bundle, and is what events then tell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import metst_edge  # noqa: E402
from metst_edge.app import cli  # noqa: E402
from metst_edge.app.demo import demo_clip  # noqa: E402
from metst_edge.bundle import Bundle  # noqa: E402
from metst_edge.decode.table import MOST_POINTS, ScoreTable  # noqa: E402
from metst_edge.errors import BundleFileError, SettingsError  # noqa: E402
from tests.schemas import check  # noqa: E402
from training.cli import main  # noqa: E402
from training.data.errors import DataError  # noqa: E402
from training.data.folder import Video  # noqa: E402
from training.evaluation.calibration import FEWEST, events_of, fit_table  # noqa: E402
from training.samples import Annotation  # noqa: E402

POINTS = [[0.2, 0.05], [0.5, 0.4], [0.9, 0.8]]
TABLE = {"base_rate": 0.4, "events": 100, "points": POINTS}


def drawn(seed: int, count: int) -> list[tuple[float, bool]]:
    """Events that are the likelier to be true the higher they are; some of one height."""
    rng = np.random.default_rng(seed)
    heights = np.round(rng.uniform(0.1, 1.0, count), 2)
    return [(float(height), bool(rng.random() < height**2)) for height in heights]


@pytest.mark.parametrize("seed", range(5))
def test_the_table_is_the_best_rising_fit(seed: int) -> None:
    """Of isotonic regression the min-max formula: the largest over what begins before of the smallest mean after."""
    events = drawn(seed, 60)
    fitted = fit_table(events)
    heights = sorted({height for height, _ in events})
    seen = [(heights[0], True), *events, (heights[-1], False)]
    groups = [[true for height, true in seen if height == each] for each in heights]

    def mean(i: int, j: int) -> float:
        return float(np.mean([true for group in groups[i : j + 1] for true in group]))

    ends = range(len(groups))
    expected = [max(min(mean(j, k) for k in ends if k >= i) for j in ends if j <= i) for i in ends]
    shares = [share for _, share in fitted.points]
    assert shares == sorted(set(np.round(expected, 6).tolist())) and shares[0] > 0 and shares[-1] < 1
    for height, share in fitted.points:
        of_block = [h for h, value in zip(heights, expected, strict=True) if round(value, 6) == share]
        assert of_block[0] <= height <= of_block[-1] and fitted.share(height) == share
    assert fitted.base_rate == pytest.approx(np.mean([true for _, true in events]), abs=1e-6)
    assert ScoreTable.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_many_events_make_no_more_points_than_a_manifest_may_hold() -> None:
    rng = np.random.default_rng(0)
    heights = rng.random(20_000)
    fitted = fit_table((float(height), bool(rng.random() < height)) for height in heights)
    assert len(fitted.points) <= MOST_POINTS and ScoreTable.from_dict(fitted.to_dict()) == fitted
    grid = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose([fitted.share(height) for height in grid], grid, atol=0.05)


def test_a_share_is_on_the_line_between_two_points_and_level_beyond() -> None:
    table = ScoreTable.from_dict(TABLE)
    for height in np.linspace(0, 1, 101):
        assert table.share(height) == pytest.approx(np.interp(height, *np.transpose(POINTS)), abs=1e-12)
    assert ScoreTable.from_dict({**TABLE, "points": [[0.5, 0.25]]}).share(0.9) == 0.25


def test_few_events_and_missing_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"expected at least {FEWEST} events to fit on, got 19"):
        fit_table(drawn(0, 19))
    video = Video("a/b.mp4", tmp_path / "b.mp4", "s1", None, ())
    with pytest.raises(DataError, match=r"a__b\.mp4\.json: expected the result of an evaluation"):
        events_of([video], tmp_path)


def results(folder: Path) -> tuple[Path, Path]:
    """A labelled folder and what an evaluation of it would leave: in each video one true event and two false ones."""
    data, out = folder / "data", folder / "out"
    (out / "videos").mkdir(parents=True)
    data.mkdir()
    rows = ["video,subject,onset,apex,offset,emotion"]
    for i in range(10):
        (data / f"{i}.mp4").touch()
        rows.append(f"{i}.mp4,s{i % 2},20,25,34,happy")
        spans = ((21, 33, 0.6 + i / 100), (50, 62, 0.3), (80, 92, 0.2))
        events = [
            {"type": "micro_expression", "onset_frame": first, "offset_frame": last, "score": 0.99, "height": height}
            for first, last, height in spans
        ]
        events.append({"type": "gap"})
        (out / "videos" / f"{i}.mp4.json").write_text(json.dumps({"events": events}))
    (data / "labels.csv").write_text("\n".join(rows) + "\n")
    return data, out


def test_events_are_true_where_they_overlap_the_truth(tmp_path: Path) -> None:
    _, out = results(tmp_path)
    video = Video("3.mp4", tmp_path / "3.mp4", "s1", None, (Annotation(20, 25, 34, 1),))
    assert events_of([video], out) == [(0.63, True), (0.3, False), (0.2, False)]


def test_the_command_line_fits_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = results(tmp_path)
    assert main(["score-table", str(out), "--data", str(data)]) == 0
    table = ScoreTable.from_dict(json.loads((out / "calibration.json").read_text()))
    assert (table.events, table.base_rate) == (30, round(1 / 3, 6))
    assert table.share(0.2) == pytest.approx(1 / 21, abs=1e-6) and table.share(0.9) == pytest.approx(10 / 11, abs=1e-6)
    assert "30 events, 33% of them true" in capsys.readouterr().out
    assert main(["score-table", str(out), "--data", str(data), "--subjects", "s1"]) == 1
    assert "expected at least 20 events to fit on, got 15" in capsys.readouterr().err


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model with a table."""
    folder = tmp_path_factory.mktemp("calibrated") / "demo"
    shutil.copytree(Bundle.find("demo").folder, folder)
    put(folder, TABLE)
    return folder


def test_info_tells_of_it(calibrated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(calibrated)]) == 0
    assert "share of events that are true, of 100 events at a base rate of 40%" in capsys.readouterr().out
    assert cli.main(["info", str(calibrated), "--json"]) == 0
    check("manifest", json.loads(capsys.readouterr().out))


def put(folder: Path, table: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "calibration": table}))


def test_events_tell_the_share_and_keep_the_height(calibrated: Path) -> None:
    table = ScoreTable.from_dict(TABLE)
    with metst_edge.Analyzer("demo") as analyzer:
        plain = analyzer.analyze(demo_clip()).micro_expressions
        assert all(event.score == event.height for event in plain)
    least = sorted(table.share(event.height) for event in plain)[len(plain) // 2]
    with metst_edge.Analyzer(calibrated, min_score=least) as analyzer:
        assert analyzer.bundle.calibration == table
        offline = analyzer.analyze(demo_clip()).micro_expressions
        streamed = list(analyzer.stream(demo_clip()))
    assert [event.height for event in offline] == [e.height for e in plain if table.share(e.height) >= least]
    for event in (*offline, *streamed):
        assert event.score == table.share(event.height) >= least and event.score != event.height
        assert event.to_dict()["height"] == round(event.height, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"points": []},
        {"points": [[0.5, 0.5]] * 2},
        {"points": [[0.5, 0.5], [0.6, 0.4]]},
        {"points": [[0.5, 1.1]]},
        {"points": [[0.5, float("nan")]]},
        {"points": [[0.5]]},
        {"points": [[True, 0.5]]},
        {"points": [[i / 1000, 0.5] for i in range(MOST_POINTS + 1)]},
        {"points": {"0.5": 0.5}},
        {"base_rate": 2},
        {"base_rate": None},
        {"events": 0},
        {"events": 1.5},
        {"events": 10**30},
    ],
    ids=str,
)
def test_a_table_of_another_kind_is_refused(calibrated: Path, tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="expected base_rate"):
        ScoreTable.from_dict({**TABLE, **change})
    folder = tmp_path / "spoilt"
    shutil.copytree(calibrated, folder)
    for table in ({**TABLE, **change}, [], 1):
        put(folder, table)
        with pytest.raises(BundleFileError, match="'calibration' to be null, or an object: base_rate"):
            Bundle.load(folder)
    put(folder, None)
    assert Bundle.load(folder).calibration is None


def test_a_table_says_whose_it_is(tmp_path: Path) -> None:
    data, out = results(tmp_path)
    of = {"model": "demo", "weights_sha256": "ab" * 32}
    for scored, said in (
        ({**of, "key": "x", "f1": 0.5}, of),
        ({"model": "a, b", "models": [of, of]}, {"model": "a, b"}),  # one for each fold: a table for no single one
        ({}, {}),
    ):
        (out / "metrics.json").write_text(json.dumps(scored))
        assert main(["score-table", str(out), "--data", str(data)]) == 0
        written = json.loads((out / "calibration.json").read_text())
        assert written == {**said, **ScoreTable.from_dict(written).to_dict()}
    (out / "metrics.json").write_text("{")
    assert main(["score-table", str(out), "--data", str(data)]) == 1
