"""``metst-edge bench`` of a recogniser: one interval, again and again."""

import json

import numpy as np
import pytest

from metst_edge.app import cli
from metst_edge.app.bench import interval
from metst_edge.app.bench.interval import STAGES, IntervalBench
from metst_edge.recognise.engine import load_recognizer
from tests.recognisers import recogniser_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return recogniser_bundle(tmp_path_factory.mktemp("recognisers") / "small").path


def test_a_recogniser_is_timed_on_an_interval_of_the_packaged_clip(folder, tmp_path, capsys):
    arguments = ["bench", "--model", str(folder), "--engine", "onnxruntime", "--frames", "3", "--warm-up", "1"]
    assert cli.main([*arguments, "--json", str(tmp_path / "base.json")]) == 0
    shown = capsys.readouterr().out
    for words in ("a recogniser on engine onnxruntime", "11 pictures of 32x32; 3 times after 1", *STAGES):
        assert words in shown
    result = json.loads((tmp_path / "base.json").read_text())
    assert (result["kind"], result["intervals"], result["complete"]) == ("recogniser", 3, True)
    assert [result["stages"][stage]["n"] for stage in STAGES] == [3, 3, 3]
    assert cli.main([*arguments, "--compare", str(tmp_path / "base.json"), "--json", "-"]) == 0
    comparison = json.loads(capsys.readouterr().out)["comparison"]
    assert all(comparison["ratios"][stage]["p50"] > 0 for stage in STAGES) and not comparison["differences"]


def test_every_time_after_the_warm_up_counts(folder, monkeypatch):
    times = iter(np.cumsum([1, 2, 3, 1, 20, 30, 1, 200, 300]).tolist())
    monkeypatch.setattr(interval.time, "perf_counter", lambda: next(times))
    bench, seen = IntervalBench(2, 1), []
    bench.play(load_recognizer(folder, "onnxruntime"), lambda done, total: seen.append((done, total)))
    assert bench.times == {"pictures": [20, 200], "network": [30, 300], "end to end": [50, 500]}
    assert seen == [(1, 3), (2, 3), (3, 3)] and bench.complete


def test_what_was_measured_before_ctrl_c_is_shown(folder, monkeypatch, capsys):
    class Weary:
        def __init__(self, bundle):
            self._inner, self._left = load_recognizer(bundle, "onnxruntime"), 3
            self.bundle, self.name, self.labels = self._inner.bundle, "weary", self._inner.labels

        def infer(self, images):
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt
            return self._inner.infer(images)

        def close(self):
            pass

    monkeypatch.setattr("metst_edge.recognise.engine.load_recognizer", lambda bundle, engine: Weary(bundle))
    assert cli.main(["bench", "--model", str(folder), "--warm-up", "1"]) == 1
    printed = capsys.readouterr()
    assert "interrupted; what was measured so far follows" in printed.err
    assert "it ended after 2 of 20 intervals" in printed.out


def test_what_makes_no_sense_for_a_recogniser_is_refused(folder, capsys):
    for others in (["--source", "clip.mp4"], ["--camera", "0"], ["--rate", "25"], ["--face-model", "x"]):
        assert cli.main(["bench", "--model", str(folder), *others]) == 1
        error = capsys.readouterr().err
        assert "than --engine, --frames and --warm-up" in error and f"got {others[0]}\n" in error
    assert cli.main(["bench", "--model", str(folder), "--engine", "native"]) == 1
    assert "'onnxruntime', 'tensorrt' for a recogniser, got 'native'" in capsys.readouterr().err
