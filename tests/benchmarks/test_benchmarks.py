"""The benchmarks measure what they say: peers do the same work as ours, and every table has its columns."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks import end_to_end, network_step, plot, results, roi_flow, scan
from benchmarks.clips import memory, whole
from benchmarks.flow import agreement, features, patches
from benchmarks.inputs import Clip, K, random_bundle
from benchmarks.peers.opencv_flow import PlainFlow
from benchmarks.peers.published import analyse
from benchmarks.peers.torch_network import TorchEngine
from benchmarks.timing import alternate, cores
from metst_edge import Analyzer
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import Bundle
from metst_edge.engine import StepScores, load_engine
from metst_edge.face import FaceFinder
from metst_edge.flow import measure, window_features

FRAMES = 20
"""Of a clip short enough to be analysed many times; a second window begins within it."""


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    """Threads that wait for each other on a busy machine cost more than they save."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clip():
    return Clip(demo_clip(), count=K)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The first frames of the packaged clip as a clip of their own."""
    cv2 = pytest.importorskip("cv2")
    path = tmp_path_factory.mktemp("clip") / "short.mp4"
    capture = cv2.VideoCapture(str(demo_clip()))
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, size)
    for _ in range(FRAMES):
        writer.write(capture.read()[1])
    writer.release()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return random_bundle("metst64", tmp_path_factory.mktemp("bundle"), dim=16, depth=2, d_state=8)


@pytest.mark.parametrize("roi_set", ["metst", "metst_plus"])
def test_the_plain_flow_measures_the_same_features(clip, roi_set):
    face, frames = clip.face(0), clip.gray[:6]
    expected = window_features(frames, face.crop_landmarks, face.box, roi_set)
    plain = PlainFlow(frames[0], face.box, face.crop_landmarks, roi_set)
    got = np.stack([plain.measure(frame) for frame in frames[1:]], 1)
    np.testing.assert_allclose(got, expected[:, 1:], atol=1e-3)
    assert np.abs(got).max() > 0.01


def test_the_torch_network_is_the_bundles():
    bundle = Bundle.find("demo")
    windows = np.random.default_rng(0).standard_normal((2, bundle.channels, K)).astype(np.float32)
    got, expected = TorchEngine(bundle).infer(windows), load_engine(bundle, "native").infer(windows)
    np.testing.assert_allclose(got.spot, expected.spot, atol=1e-4)
    np.testing.assert_allclose(got.emotion, expected.emotion, atol=1e-3)


def test_the_plain_order_gives_the_pushed_scores(short):
    bundle = Bundle.find("demo")
    finder = FaceFinder()
    plain = analyse(short, TorchEngine(bundle), finder)
    finder.close()
    with Analyzer("demo", engine="native") as analyzer:
        spot, gaps = whole.scores(analyzer, short)
    assert plain.frames == len(spot) == FRAMES and gaps == 0
    np.testing.assert_allclose(spot, plain.spot, atol=1e-3)


def test_whole_clips_have_a_row_for_every_contender_and_stage(short):
    checks = whole.slots, whole.windows
    before = [dict(vars(module)) for module in checks]
    rows, stages, notes = whole.compare(short, Bundle.find("demo"), 5, 1, 1)
    assert {row["contender"] for row in rows} >= {whole.STREAM, whole.PUSHED, whole.PLAIN}
    assert all(row["frames/s"] > 0 and row["cores used"] > 0 for row in rows)
    for name in (whole.STREAM, whole.PUSHED, whole.PLAIN):
        some = {row["stage"]: row["ms per frame"] for row in stages if row["contender"] == name}
        assert set(some) == {*whole.STAGES, "rest"}
        assert all(some[stage] > 0 for stage in whole.STAGES)
        # The stages and what is left are the whole, so nothing is counted twice.
        all_of_it = next(row["ms per frame"] for row in rows if row["contender"] == name)
        assert sum(some.values()) == pytest.approx(all_of_it, rel=0.01)
        assert some["rest"] >= 0
    assert not any("SCORES DIFFER" in note for note in notes)
    assert before == [dict(vars(module)) for module in checks], "the checks that were taken away are back"


def test_memory_is_sampled_and_judged(short):
    rows, notes = memory.measure(short, frames=20, every=10)
    assert [row["frames"] for row in rows] == [10, 20]
    assert rows[0]["growth MB"] == pytest.approx(0, abs=0.1) and rows[0]["resident MB"] > 10
    assert "growth of resident memory" in notes[0]


@pytest.fixture(scope="module")
def patch_rows(clip):
    return patches.patches(clip, 1)


def test_patches_and_features_have_their_columns(clip, patch_rows, monkeypatch):
    rows = patch_rows
    assert [(row["ROIs"], row["patches"]) for row in rows] == [(5, 5), (18, 7)]
    assert all(row["ratio"] == pytest.approx(row["OpenCV ms"] / row["ours ms"]) for row in rows)
    threads = set()

    def noted(*args, **options):
        threads.add(options["threads"])
        return measure(*args, **options)

    monkeypatch.setattr(features, "measure", noted)
    row = features.features(clip, "metst", lanes=2, threads=2, windows=1)
    assert threads == {2} and row["cores used"] > 0
    assert {"frame", "ROIs", "lanes", "threads", "ours ms", "OpenCV path ms", "largest diff px"} <= set(row)
    assert row["nose bridge flows"] >= 1
    assert len(patches.judge(rows)) >= 1


def test_missed_features_are_split_into_parts_and_a_rest(clip):
    text = features.split(clip, "metst_plus")
    whole, *parts = (
        float(word) for word in text.replace(";", " ").split() if word.replace(".", "").lstrip("-").isdigit()
    )
    assert len(parts) == 4 and parts[0] > parts[1] > 0
    assert sum(parts) == pytest.approx(whole, abs=0.03)


def test_a_picture_that_stays_must_be_without_motion():
    none, some = np.zeros((2, 2), np.float32), np.full((2, 2), 1e-7, np.float32)
    assert agreement.is_still(True, none)
    assert not agreement.is_still(False, none) and not agreement.is_still(False, some)
    with pytest.raises(RuntimeError, match="expected exactly 0"):
        agreement.is_still(True, some)


def test_steps_have_a_row_for_every_engine(tiny):
    rows, _ = network_step.run(tiny, lanes=2, rounds=3)
    names = [row["engine"] for row in rows]
    assert {"native", "onnxruntime", network_step.TORCH} <= set(names)
    assert all(0 < row["5 % ms"] <= row["median ms"] <= row["95 % ms"] for row in rows)
    assert all((row["cold ms"] == "-") is (row["engine"] == network_step.TORCH) for row in rows)
    assert all(row["cold ms"] > 0 for row in rows if row["cold ms"] != "-")


def test_steps_of_two_rates_have_an_average_and_a_worst_frame_and_what_their_bytes_take(tmp_path):
    sizes = {"dim": 16, "slow_dim": 32, "depth": 1, "d_state": 16}
    bundle = random_bundle("metst_plus", tmp_path, "metst_plus", **sizes)
    rows, notes = network_step.run(bundle, lanes=2, rounds=60)
    native = [row for row in rows if row["engine"].startswith("native")]
    assert [row["engine"] for row in native] == ["native", network_step.HALF]
    assert all(0 < row["frame ms"] <= row["worst ms"] and row["floor ms"] > 0 for row in native)
    assert sum(" MB a frame, read at " in note for note in notes) == 2


def test_a_slow_stack_is_read_where_a_lane_has_an_even_frame(tmp_path):
    bundle = random_bundle("metst_plus_small", tmp_path, "metst_plus", dim=16, slow_dim=32, depth=1, d_state=16)
    alone, both = (network_step.bytes_of(bundle, lanes, half=False) for lanes in (1, 2))
    weights = sum(array.nbytes for array in bundle.weights().values())
    assert alone < weights < both
    assert network_step.bytes_of(bundle, 2, half=True) < both


def test_times_are_told_apart_by_the_frame_they_are_of():
    block = (5, 50)
    numbers = [turn * 55 + j for turn in range(6) for j in range(5, 55)]
    times = [2.0 if number % 30 == 7 else 1.0 for number in numbers]
    mean, worst = network_step.by_frame(times, block)
    assert (mean, worst) == (pytest.approx(31 / 30), 2.0)


def test_a_missed_step_says_where_its_time_goes_and_what_it_takes_with_cold_caches(tiny):
    native = load_engine(tiny, "native").open_stream(lanes=2)
    cold = {"native": 2.0, "onnxruntime": 6.0}
    lines = network_step.judge(tiny, {"native": 1.0, "onnxruntime": 3.5}, cold, native)
    assert lines[0].startswith("MISSED by 300 %") and lines[1].startswith("MISSED by 12 %")
    assert "of weights" in lines[2] and lines[3].endswith("2 ms a step; onnxruntime 3.0 times that")
    lines = network_step.judge(tiny, {"native": 0.1, "onnxruntime": 0.5}, cold, native)
    assert len(lines) == 3 and all(line.startswith("met") for line in lines[:2])


def test_a_stream_that_scores_otherwise_is_not_timed(tiny):
    class Wrong:
        lanes, channels, look_ahead = 2, 10, 0

        def step(self, features, reset=None):
            return StepScores(np.zeros(2, np.float32), np.zeros((2, 5), np.float32))

        def reset(self):
            pass

    with pytest.raises(RuntimeError, match="wrong: scores differ"):
        network_step.check_agreement({"wrong": Wrong()}, TorchEngine(tiny))


def test_scan_shares_lie_between_none_and_all(tmp_path):
    rates = scan.Rates(tmp_path)
    rows = scan.run(0.0, rates, channels=(64,), lengths=(30,))
    assert any(row["implementation"].startswith("native ") for row in rows)
    for row in rows:
        for share in (row["of multiply-adds"], row["of exp"]):
            assert (share == "-") is (not rates.best)
            assert share == "-" or 0 <= float(share.split()[0]) < 100


def test_contenders_take_turns_in_changing_order():
    called = []
    times = alternate({name: lambda i, name=name: called.append(name) for name in "ab"}, rounds=3)
    assert "".join(called) == "ab" + "ab" + "ba" + "ab"
    assert [len(values) for values in times.values()] == [3, 3]


def test_blocks_are_numbered_throughout_and_their_first_calls_are_not_timed():
    called = []
    calls = {name: lambda i, name=name: called.append(f"{name}{i}") for name in "ab"}
    times = alternate(calls, rounds=2, warm_up=0, blocks={"a": (1, 2)})
    assert called == ["a0", "a1", "a2", "b0", "b1", "a3", "a4", "a5"]
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 2}


def test_more_cores_than_there_are_is_an_error():
    with pytest.raises(RuntimeError, match="expected 100000 cores"), cores(100000):
        pass


def test_a_missed_bound_says_by_how_much():
    assert results.verdict("step", 0.5, "ms", most=0.25).startswith("MISSED by 100 %: step: 0.5 ms")
    assert results.verdict("flow", 6.0, "times", least=8.0).startswith("MISSED by 25 %")
    assert not results.missed(results.verdict("flow", 9.0, "times", least=8.0))


def test_results_keep_the_notes_and_are_drawn(clip, patch_rows, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(patches, "EVERY", 29)
    made = []
    for rois in (5, 18):
        # The plot's columns, without the time that measuring every one of them takes.
        for frame, lanes, threads in (("640x360", 1, 1), ("640x360", 2, 1), ("640x360", 2, 2), ("1280x720", 2, 1)):
            made.append({"frame": frame, "ROIs": rois, "lanes": lanes, "threads": threads})
            made[-1] |= {"ours ms": 1.0 + lanes, "OpenCV path ms": 9.0 * lanes}
    tables = {
        "roi-flow": patch_rows,
        "roi-flow-features": made,
        "roi-flow-area": patches.area(clip, 1, sides=(32, 48)),
        "network-step": network_step.run(tiny, 1, 2)[0] + network_step.run(tiny, 2, 2)[0],
    }
    for name, rows in tables.items():
        results.show("Title", rows, name, True, ["a note"], "  41 % flow\n   9 % rest\n")
        kept = json.loads(next(tmp_path.glob(f"????-??-??-{name}.json")).read_text())
        assert kept["rows"] == json.loads(json.dumps(rows)) and kept["notes"] == ["a note"]
        text = next(tmp_path.glob(f"????-??-??-{name}.md")).read_text()
        assert "- a note" in text and text.endswith("\n## Profile\n\n      41 % flow\n       9 % rest\n")
    plot.draw(tmp_path, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_results_that_are_missing_are_asked_for(tmp_path):
    with pytest.raises(SystemExit, match="expected a result of roi-flow"):
        plot.draw(tmp_path, tmp_path / "cost.png")


@pytest.mark.parametrize("script", [roi_flow, network_step, scan, end_to_end, plot])
def test_every_script_says_what_it_does(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit) as stop:
        script.main()
    assert stop.value.code == 0
    assert "Usage: python benchmarks/" in capsys.readouterr().out
