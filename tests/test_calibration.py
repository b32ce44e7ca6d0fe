"""An operator's calibration: the floor that keeps false alarms rare, what the footage can say, and its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import metst_edge
from metst_edge import calibration
from metst_edge.calibration import LOWEST, Calibration, calibrated, poisson_interval
from metst_edge.errors import CalibrationError, SettingsError

SHA = "0" * 64


def of(heights, hours, asked):
    return calibrated(heights, hours, asked, model="demo", model_sha256=SHA, ratio=0.55)


@pytest.fixture(scope="module")
def bundle():
    return metst_edge.Bundle.find("demo")


def written(path, found):
    path.write_text(found.to_text())
    return path


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_interval_of_a_rate_is_that_of_chi_square(confidence):
    """Garwood: quantiles of chi-square with 2 n and 2 n + 2 degrees of freedom, halved."""
    tail = (1 - confidence) / 2
    for count in (0, 1, 2, 3, 10, 57, 1000, 30_000):
        least, most = poisson_interval(count, confidence)
        assert least == pytest.approx(stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0, rel=1e-9)
        assert most == pytest.approx(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2, rel=1e-9)


def test_the_floor_is_the_lowest_that_keeps_the_rate():
    """Against trying every floor there is."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        heights = np.round(rng.uniform(LOWEST, 0.99, rng.integers(0, 40)), rng.integers(2, 6)).tolist()
        hours, asked = rng.uniform(0.1, 3), rng.uniform(0.5, 20)
        found = of(heights, hours, asked)
        floors = np.round(np.arange(LOWEST, 1.00005, 1e-4), 4)
        alarms = (np.asarray(heights)[None] >= floors[:, None]).sum(1)
        first = int(np.flatnonzero(alarms <= asked * hours)[0])
        assert (found.floor, found.alarms) == (floors[first], alarms[first])
        assert found.rate <= asked and found.floor <= 1.0


def test_what_is_found_does_not_depend_on_the_order_and_a_height_of_one_stays():
    assert of([0.2, 0.9, 0.5], 1.0, 1.0) == of([0.9, 0.5, 0.2], 1.0, 1.0)
    all_of_them = of([1.0, 1.0], 1.0, 0.5)
    assert (all_of_them.floor, all_of_them.alarms) == (1.0, 2)  # no floor is higher; the rate says so


def test_footage_that_is_too_short_is_said_to_be():
    ten_minutes = of([0.3, 0.2], 1 / 6, 1.0)
    assert (ten_minutes.alarms, ten_minutes.shown) == (0, False)
    first, second = ten_minutes.in_words()
    assert first.startswith(
        "floor 0.3001: 0 false alarms in 10.0 minutes of visible face, 0 an hour (0 to 22.1 with 95%"
    )
    assert second == (
        "10.0 minutes cannot show 1 an hour: without one alarm in it the rate might still be 22.1 an hour; take "
        "3.7 hours or more"
    )
    four_hours = of([0.9, 0.8, 0.7, 0.6, 0.5], 4.0, 1.0)
    assert (four_hours.alarms, four_hours.shown, len(four_hours.in_words())) == (4, True, 1)
    assert ": 1 false alarm in 1.0 hours" in of([0.9, 0.8], 1.0, 1.0).in_words()[0]


def test_footage_that_is_too_short_may_raise_the_models_own_floor_but_not_lower_it():
    for heights, floor, alarms in (([], 0.5, 0), ([0.3, 0.45], 0.5, 0), ([0.7, 0.3], 0.7001, 0)):
        found = calibrated(heights, 0.01, 2.0, model="demo", model_sha256=SHA, ratio=0.5, own_floor=0.5)
        assert (found.floor, found.alarms, found.shown) == (floor, alarms, False)
    found = calibrated([0.3], 10, 2.0, model="demo", model_sha256=SHA, ratio=0.5, own_floor=0.5)
    assert (found.floor, found.alarms, found.shown) == (LOWEST, 1, True)


def test_the_rate_holds_on_other_footage_of_the_kind():
    """Drawn footage in which 20 alarms are wanted: on as much again there are half as many to twice as many."""
    rng = np.random.default_rng(1)
    within = 0
    for _ in range(400):
        seen, others = (rng.beta(2, 6, rng.poisson(200)).clip(LOWEST, 1) for _ in range(2))
        floor = of(seen.tolist(), 1.0, 20.0).floor
        within += 10 <= (others >= floor).sum() <= 40
    assert within > 380


def test_a_file_says_what_was_found(tmp_path):
    found = of([0.3, 0.2], 1 / 6, 10.0)
    assert calibration.load(written(tmp_path / "c.json", found)) == found


@pytest.mark.parametrize(
    "change, said",
    [
        ({"calibration": "bench"}, "got other JSON"),
        ({"format": 2}, "format 1, got '2'"),
        ({"floor": 1.5}, "a sensible floor, got 1.5"),
        ({"floor": True}, "a sensible floor, got True"),
        ({"ratio": float("nan")}, "a sensible ratio, got nan"),
        ({"hours": 0}, "a sensible hours, got 0"),
        ({"alarms": -1}, "a sensible alarms, got -1"),
        ({"alarms": 1.0}, "a sensible alarms, got 1.0"),
        ({"model": "a\x1b[2J"}, "a sensible model, got 'a.x1b"),
        ({"model_sha256": "12"}, "a sensible model_sha256"),
        ({"false_alarms_per_hour": None}, "a sensible false_alarms_per_hour, got None"),
    ],
)
def test_a_spoilt_file_is_refused_by_name(tmp_path, change, said):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({**of([0.3], 1.0, 1.0).to_dict(), **change}))
    with pytest.raises(CalibrationError, match=f"c.json: expected what 'metst-edge calibrate' writes.*{said}"):
        calibration.load(path)


@pytest.mark.parametrize(
    "content, said", [(b"", "no JSON"), (b"[1]", "other JSON"), (b"[" * 10**6, "JSON"), (b" " * 2**21, "huge")]
)
def test_what_is_no_calibration_is_refused(tmp_path, content, said):
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=said):
        calibration.load(path)
    with pytest.raises(CalibrationError, match="cannot be read"):
        calibration.load(tmp_path / "none.json")


def test_an_analyzer_takes_floor_and_ratio_of_it(tmp_path, bundle):
    own = Calibration(bundle.name, bundle.manifest_sha256, 0.4321, 0.25, 1.0, 2, 3.0)
    path = written(tmp_path / "own.json", own)
    with metst_edge.Analyzer("demo", calibration=path, min_score=0.1) as analyzer:
        settings = analyzer.decode_settings
    assert settings == replace(bundle.decode_settings, floor=0.4321, ratio=0.25, min_score=0.1)
    for name in "floor", "ratio":
        with pytest.raises(SettingsError, match=f"expected {name} or a calibration"):
            metst_edge.Analyzer("demo", calibration=path, **{name: 0.5})


def test_a_calibration_of_another_model_is_refused_with_both_names(tmp_path):
    path = written(tmp_path / "other.json", of([0.3], 1.0, 1.0))
    with pytest.raises(CalibrationError, match=r"of the model 'demo_plus' .* got one of 'demo' \(000000000000"):
        metst_edge.Analyzer("demo_plus", calibration=path)


def test_a_least_score_that_no_event_can_have_is_refused():
    highest = metst_edge.Bundle.find("demo_plus").calibration.highest
    with metst_edge.Analyzer("demo_plus", min_score=highest):
        pass
    with pytest.raises(SettingsError, match=rf"\(--min-score\) to be {highest:.2f} at most.* got 0.999; lower"):
        metst_edge.Analyzer("demo_plus", min_score=0.999)
    with metst_edge.Analyzer("demo", min_score=0.999):  # its scores are heights
        pass
