"""The command line of the exporter: what it writes, and that a failure leaves nothing behind."""

import dataclasses
import hashlib
import json
import stat

import numpy as np
import pytest
import torch

import export.figures
import training.evaluation.breakdown
import training.evaluation.people
from export.__main__ import main
from export.networks import EXPORTERS
from metst_edge.bundle import Bundle
from tests.export.conftest import META
from training.data.synthetic import SyntheticWindows
from training.models import MODELS, build, save_checkpoint


@pytest.fixture
def out(tmp_path):
    """Where to export to: a folder of its own, so that anything left behind shows."""
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / "bundle"


def left_behind(out):
    return sorted(path.name for path in out.parent.iterdir())


def tamper(monkeypatch, change):
    """Make the exporter write other weights than the network's."""
    exporter = EXPORTERS["metst64"]
    wrong = dataclasses.replace(exporter, weights=lambda network: change(exporter.weights(network)))
    monkeypatch.setitem(EXPORTERS, "metst64", wrong)


def slightly_wrong(weights):
    return {**weights, "spot.weight": weights["spot.weight"] + np.float32(0.003)}


def test_a_checkpoint_becomes_a_bundle_with_its_own_meta_data(checkpoint, out, capsys):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    bundle = Bundle.load(out)
    assert (bundle.name, bundle.fps, bundle.k, bundle.k_p) == ("small", 30.0, 30, 5)
    assert bundle.manifest["licence"] == "CC0-1.0"
    assert left_behind(out) == ["bundle"]
    assert sorted(p.name for p in out.iterdir()) == sorted(
        ["manifest.json", "window.onnx", "step.onnx", "weights.bin", "MODEL_CARD.md"]
    )
    for name, entry in bundle.manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == entry["sha256"]
    printed = capsys.readouterr().out
    for word in ("native", "onnxruntime", "window", "step", "ok"):
        assert word in printed


def test_a_calibration_goes_into_the_manifest_and_through_every_rewriting(checkpoint, out, tmp_path, capsys):
    table = {"base_rate": 0.4, "events": 100, "points": [[0.2, 0.05], [0.9, 0.8]]}
    (tmp_path / "table.json").write_text(json.dumps(table))
    assert main(["bundle", str(checkpoint), "--out", str(out), "--calibration", str(tmp_path / "table.json")]) == 0
    assert Bundle.load(out).manifest["calibration"] == table
    assert main(["again", str(out), "--out", str(tmp_path / "again")]) == 0
    assert Bundle.load(tmp_path / "again").calibration.to_dict() == table
    capsys.readouterr()
    for content in ("", json.dumps({**table, "points": []})):
        (tmp_path / "table.json").write_text(content)
        assert main(
            ["bundle", str(checkpoint), "--out", str(tmp_path / "no"), "--calibration", f"{tmp_path}/table.json"]
        )
        assert "--calibration: expected what `python -m training score-table` writes" in capsys.readouterr().err
        assert not (tmp_path / "no").exists()


def test_a_delay_goes_into_the_manifest_and_through_every_rewriting(network, out, tmp_path):
    path = tmp_path / "late.pt"
    save_checkpoint(path, network, {**META, "delay": 8})
    assert main(["bundle", str(path), "--out", str(out)]) == 0
    assert main(["again", str(out), "--out", str(tmp_path / "again")]) == 0
    assert Bundle.load(out).delay == Bundle.load(tmp_path / "again").delay == 8
    assert "for every frame, 8 frames after it." in (out / "MODEL_CARD.md").read_text()


def test_the_manifest_and_the_card_state_the_parity_that_was_measured(checkpoint, out):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    results = json.loads((out / "manifest.json").read_text())["parity"]["results"]
    assert {(r["engine"], r["graph"]) for r in results} == {
        ("torch float32", "window"),
        ("native", "window"),
        ("native", "step"),
        ("onnxruntime", "window"),
        ("onnxruntime", "step"),
    }
    assert all(0 < r["spot"] <= 1e-4 and 0 < r["emotion"] <= 1e-3 for r in results)
    assert "| onnxruntime | step |" in (out / "MODEL_CARD.md").read_text()


def test_the_model_card_tells_the_data_the_licence_the_figures_and_the_limits(checkpoint, out):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    card = (out / "MODEL_CARD.md").read_text()
    for part in (
        "rendered faces",
        "astronaut, another",
        "CC0-1.0",
        "f1: 0.7123",
        "3, 1",
        "Not for deciding about people",
    ):
        assert part in card


def test_the_card_shows_what_the_training_verbs_measured_as_tables(checkpoint, out, tmp_path):
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    found, half = {"count": 2, "found": 2, "recall": 1.0}, {"count": 4, "found": 2, "recall": 0.5}
    scored = {
        "videos": 3,
        "people": 2,
        "spotting": {"tp": 4, "fp": 1, "fn": 3},
        "figures": {"f1": interval, "uf1": {"value": None, "low": None, "high": None}},
        "breakdown": {"emotion": {"negative": found, "positive": half}},
        "causes": {"blink": {"count": 1, "per_minute": 2.0}},
    }
    quiet = {
        "clips": {"a.mp4": {"events": 2, "gaps": 0, "minutes_of_face": 4.0}},
        "per_minute": 0.5,
        "people": 1,
        "interval": None,
        "causes": {"mouth": {"count": 2, "per_minute": 0.5}},
    }
    files = {
        "unseen_people": scored,
        "another_set": {**scored, "breakdown": {}},
        "nothing_true": {**scored, "spotting": {"tp": 0, "fp": 3, "fn": 0}, "breakdown": {"emotion": {}}},
        "at_rest": quiet,
        "note": {"by": "hand"},
    }
    for name, value in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    named = [f"{name}={tmp_path / name}.json" for name in files]
    given = [part for each in named for part in ("--metrics", each)]
    assert main(["bundle", str(checkpoint), "--out", str(out), *given]) == 0
    card = (out / "MODEL_CARD.md").read_text()
    for line in (
        "| unseen people | 3 | 2 | 4 | 1 | 3 | 0.50 (0.25 to 0.75) | - | - | - | - | - |",
        "| emotion | unseen people |",
        "| positive | 2 of 4 |",
        "| at rest | 1 | 1 | 4.0 | 2 | 0.50 |",
        "| nothing true | 3 | 2 | 0 | 3 | 0 | - | - | - | - | - | - |",
        "| blink | 1 | 1 | 1 | 0 |",
        "| mouth | 0 | 0 | 0 | 2 |",
        "  - by: hand",
        "f1: 0.7123",
    ):
        assert line in card.splitlines() or line in card
    assert "action unit" not in card and "a.mp4" not in card


def test_the_card_calls_figures_what_the_training_verbs_call_them():
    assert export.figures.FIGURES == training.evaluation.people.FIGURES
    assert export.figures.TITLES == training.evaluation.breakdown.TITLES


def test_a_card_without_figures_says_that_nothing_was_measured(network, out, tmp_path):
    save_checkpoint(tmp_path / "bare.pt", network, {"fps": 30, "k": 30, "k_p": 5})
    assert main(["bundle", str(tmp_path / "bare.pt"), "--out", str(out), "--licence", "not stated"]) == 0
    card = (out / "MODEL_CARD.md").read_text()
    assert "Not measured." in card and "Not recorded." in card and "not stated" in card
    assert Bundle.load(out).name == "bundle"


def test_figures_measured_later_are_put_beside_those_of_the_checkpoint(checkpoint, out, tmp_path):
    figures = tmp_path / "figures.json"
    figures.write_text('{"per_minute": 2.5}')
    assert main(["bundle", str(checkpoint), "--out", str(out), "--metrics", f"false_alarms={figures}"]) == 0
    metrics = json.loads((out / "manifest.json").read_text())["metrics"]
    assert metrics["false_alarms"] == {"per_minute": 2.5} and len(metrics) > 1
    assert "- false alarms:\n  - per minute: 2.5" in (out / "MODEL_CARD.md").read_text()


def test_what_was_made_with_another_model_is_refused(checkpoint, out, tmp_path, capsys):
    own = hashlib.sha256(weights_of(checkpoint, tmp_path / "plain")).hexdigest()
    table = {"base_rate": 0.4, "events": 100, "points": [[0.2, 0.05], [0.9, 0.8]]}
    decode, calibration = tmp_path / "decode.json", tmp_path / "table.json"
    arguments = ["bundle", str(checkpoint), "--out", str(out), "--decode", str(decode), "--calibration"]
    for of_decode, of_table, wrong in ((own, "0" * 64, calibration), ("f" * 64, own, decode), (7, own, decode)):
        decode.write_text(json.dumps({"ratio": 0.25, "model": "other", "weights_sha256": of_decode}))
        calibration.write_text(json.dumps({**table, "model": "other", "weights_sha256": of_table}))
        assert main([*arguments, str(calibration)]) == 1
        error = capsys.readouterr().err
        assert f"{wrong}: expected what was made with the model of {checkpoint}" in error and "'other'" in error
        assert error.count("\n") == 1 and not out.exists()
    decode.write_text(json.dumps({"ratio": 0.25, "weights_sha256": own}))
    assert main([*arguments, str(calibration)]) == 0
    manifest = Bundle.load(out).manifest
    assert manifest["decode"]["ratio"] == 0.25 and manifest["calibration"] == table


def weights_of(checkpoint, out):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    return (out / "weights.bin").read_bytes()


def test_what_is_given_is_read_or_one_line_says_why_not(checkpoint, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    for name, content in (("empty", b""), ("rubbish", b"\xff\0"), ("deep", b"[" * 100_000), ("list", b"[1]")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "floor").write_text('{"calibration": "metst-edge calibrate", "format": 1}')
    out = tmp_path / "new" / "out"
    for option, before in (("--decode", ""), ("--calibration", ""), ("--metrics", "m=")):
        for name in ("none", "folder", "empty", "rubbish", "deep", "list", "floor"):
            if option == "--metrics" and name in ("list", "floor"):
                continue  # any JSON is one
            given = f"{before}{tmp_path / name}"
            assert main(["bundle", str(checkpoint), "--out", str(out), option, given]) == 1, (option, name)
            error = capsys.readouterr().err
            assert error.startswith(f"error: {option}: expected ") and error.count("\n") == 1 and "Errno" not in error
            assert not out.parent.exists()
    assert main(["bundle", str(checkpoint), "--out", str(out), "--calibration", str(tmp_path / "floor")]) == 1
    assert "give it to metst-edge, with --calibration" in capsys.readouterr().err


def test_a_threshold_chosen_later_takes_the_place_of_the_checkpoints(checkpoint, out, tmp_path, capsys):
    chosen = tmp_path / "decode.json"
    chosen.write_text('{"ratio": 0.25, "floor": 0.4, "people": ["s1"]}')
    assert main(["bundle", str(checkpoint), "--out", str(out), "--decode", str(chosen)]) == 0
    settings = Bundle.load(out).decode_settings
    assert (settings.ratio, settings.floor, settings.window_seconds) == (0.25, 0.4, 60.0)
    for text, words in (("[]", "got none in"), ("{", "cannot be read"), ('{"floor": -1}', "expected ratio, floor")):
        chosen.write_text(text)
        assert main(["bundle", str(checkpoint), "--out", str(tmp_path / "bad"), "--decode", str(chosen)]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize("metrics, words", [("figures.json", "expected NAME=FILE"), ("a=none.json", "none.json")])
def test_figures_that_cannot_be_read_are_refused(checkpoint, out, capsys, metrics, words):
    assert main(["bundle", str(checkpoint), "--out", str(out), "--metrics", metrics]) == 1
    assert words in capsys.readouterr().err
    assert left_behind(out) == []


def test_an_export_is_the_same_every_time(checkpoint, out, tmp_path):
    for path in (out, tmp_path / "again"):
        assert main(["bundle", str(checkpoint), "--out", str(path)]) == 0
    for file in out.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_a_bundle_may_be_read_by_whoever_may_read_other_files(checkpoint, out, tmp_path):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    (tmp_path / "ordinary").mkdir()
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


def test_weights_that_compute_something_else_fail_and_leave_nothing_behind(checkpoint, out, monkeypatch, capsys):
    tamper(monkeypatch, slightly_wrong)
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 1
    assert left_behind(out) == []
    streams = capsys.readouterr()
    assert "above" in streams.out
    assert "at most 0.0001 (spot)" in streams.err and "native step" in streams.err
    assert streams.err.count("\n") == 1


def test_a_failed_replacement_leaves_the_old_bundle(checkpoint, out, monkeypatch):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    before = (out / "manifest.json").read_bytes()
    tamper(monkeypatch, slightly_wrong)
    assert main(["bundle", str(checkpoint), "--out", str(out), "--force"]) == 1
    assert left_behind(out) == ["bundle"]
    assert (out / "manifest.json").read_bytes() == before


def test_scores_that_are_no_numbers_fail(checkpoint, out, monkeypatch):
    def poison(weights):
        return {**weights, "emotion.bias": np.full_like(weights["emotion.bias"], np.nan)}

    tamper(monkeypatch, poison)
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 1
    assert left_behind(out) == []


def test_an_existing_bundle_is_replaced_only_by_force(checkpoint, out, capsys):
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    assert main(["bundle", str(checkpoint), "--out", str(out), "--name", "other"]) == 1
    assert "exists" in capsys.readouterr().err and Bundle.load(out).name == "small"
    assert main(["bundle", str(checkpoint), "--out", str(out), "--name", "other", "--force"]) == 0
    assert Bundle.load(out).name == "other"
    assert left_behind(out) == ["bundle"]


def test_force_never_removes_what_is_no_bundle(checkpoint, out, capsys):
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    assert main(["bundle", str(checkpoint), "--out", str(out), "--force"]) == 1
    assert "something else" in capsys.readouterr().err
    assert (out / "thesis.tex").read_text() == "years of work"


def test_without_any_engine_nothing_is_written(checkpoint, out, monkeypatch, capsys):
    monkeypatch.setattr("export.parity.why_missing", lambda engine: "not here")
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 1
    assert "expected an engine to check the bundle with" in capsys.readouterr().err
    assert left_behind(out) == []


def test_an_engine_that_is_absent_is_named_in_the_table(checkpoint, out, monkeypatch, capsys):
    monkeypatch.setattr("export.parity.why_missing", lambda engine: "not here" if engine == "onnxruntime" else None)
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    assert "not checked" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["metst64", "metst128"])
def test_a_published_state_dict_becomes_a_bundle(model, out, tmp_path):
    torch.manual_seed(0)
    state = build(model).state_dict()
    stack = "blocks_spot." if model == "metst64" else "spot_pathway.block."
    for name in [name for name in state if name.startswith(stack)]:  # what the published file has besides
        state[name.replace("spot", "recog", 1)] = torch.full_like(state[name], 9.0)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "subject_7.pkl")
    arguments = ["--model", model, "--trained-on", "samm-lv", "--licence", "research only", "--out", str(out)]
    assert main(["upstream", str(tmp_path / "subject_7.pkl"), *arguments]) == 0
    bundle = Bundle.load(out)
    assert (bundle.model, bundle.k, bundle.k_p, bundle.compat) == (model, 30, 5, True)
    assert bundle.fps == pytest.approx(28.57, abs=0.005)
    card = (out / "MODEL_CARD.md").read_text()
    assert "SAMM Long Videos" in card and "subject_7.pkl" in card and "research only" in card


def test_a_wrong_model_is_answered_with_the_one_that_fits(out, tmp_path, capsys):
    torch.save(build("metst64").state_dict(), tmp_path / "weights.pkl")
    for model in ("metst128", "metst_plus", "slstt_lstm"):
        arguments = ["--model", model, "--trained-on", "casme3", "--out", str(out)]
        assert main(["upstream", str(tmp_path / "weights.pkl"), *arguments]) == 1
        error = capsys.readouterr().err
        assert f"expected the names and shapes of {model}, got those of metst64; give --model metst64" in error
        assert len(error) < 400
    assert left_behind(out) == []


def test_weights_of_no_network_list_the_first_names_that_do_not_fit(out, tmp_path, capsys):
    state = build("metst64").state_dict()
    del state["Stem.0.weight"]
    state |= {f"extra.{i}": torch.zeros(3) for i in range(100)}
    torch.save(state, tmp_path / "weights.pkl")
    arguments = ["--model", "metst64", "--trained-on", "casme3", "--out", str(out)]
    assert main(["upstream", str(tmp_path / "weights.pkl"), *arguments]) == 1
    error = capsys.readouterr().err
    assert "missing Stem.0.weight (64, 10, 3); unknown extra.0 (3,); " in error and "; and 89 more" in error
    assert left_behind(out) == []


def test_weights_trained_on_data_of_ones_own_need_their_terms(network, out, tmp_path, capsys):
    known = {"fps": 30.0, "k": 30, "k_p": 5}
    for meta in (
        {**known, "training": {"data": "mine: 3 micro-expressions"}},
        {**known, "training": {"data": "mine: 3 micro-expressions"}, "licence": "Apache-2.0"},  # once always written
        known,
    ):
        save_checkpoint(tmp_path / "model.pt", network, meta)
        assert main(["bundle", str(tmp_path / "model.pt"), "--out", str(out)]) == 1
        error = capsys.readouterr().err
        assert "expected --licence TERMS" in error and ("mine: 3" in error or meta is known)
    assert left_behind(out) == []
    assert main(["bundle", str(tmp_path / "model.pt"), "--out", str(out), "--licence", "for research"]) == 0
    assert Bundle.load(out).manifest["licence"] == "for research"
    assert "Licence of the weights: for research." in (out / "MODEL_CARD.md").read_text()


def test_weights_trained_on_what_is_generated_are_under_our_licence(network, out, tmp_path):
    meta = {"fps": 30.0, "k": 30, "k_p": 5, "training": {"data": SyntheticWindows.description}, "licence": "Apache-2.0"}
    save_checkpoint(tmp_path / "model.pt", network, meta)
    assert main(["bundle", str(tmp_path / "model.pt"), "--out", str(out)]) == 0
    assert Bundle.load(out).manifest["licence"] == "Apache-2.0"


def test_where_the_bundle_goes_is_looked_at_before_the_work(tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    places = ((tmp_path / "there", "exists; choose another --out"), (tmp_path / "file" / "x", "cannot write there"))
    for out, words in places:
        for verb in ("bundle", "upstream", "fp16", "again"):
            assert main([verb, str(tmp_path / "none.pt"), "--out", str(out)]) == 1
            assert words in capsys.readouterr().err


@pytest.mark.parametrize("model", ["metst64", "metst_plus_shared"])
def test_which_published_network_it_is_is_found_out(model, out, tmp_path, monkeypatch):
    monkeypatch.setattr("export.parity.CHECKED", ("onnxruntime",))
    narrow = {"dim": 16, "depth": 1} | ({"slow_dim": 32} if model == "metst_plus_shared" else {})
    kind = MODELS[model]  # as published, but for the time that takes
    monkeypatch.setitem(MODELS, model, dataclasses.replace(kind, sizes=dataclasses.replace(kind.sizes, **narrow)))
    torch.manual_seed(0)
    torch.save(build(model).state_dict(), tmp_path / "subject_7.pkl")
    assert main(["upstream", str(tmp_path / "subject_7.pkl"), "--trained-on", "samm-lv", "--out", str(out)]) == 0
    bundle = Bundle.load(out)
    assert (bundle.model, bundle.roi_set, bundle.k) == (model, {10: "metst", 36: "metst_plus"}[bundle.channels], 30)
    # arXiv 2508.18834 takes half the median duration, the others half the mean one.
    assert bundle.k_p == (6 if model == "metst_plus_shared" else 5)
    assert ("arXiv 2508.18834" if model == "metst_plus_shared" else "arXiv 2409.09707") in (
        out / "MODEL_CARD.md"
    ).read_text()


def test_a_file_of_no_published_network_leaves_nothing(out, tmp_path, capsys):
    torch.save({"fc.weight": torch.zeros(2, 3)}, tmp_path / "resnet.pkl")
    assert main(["upstream", str(tmp_path / "resnet.pkl"), "--trained-on", "casme3", "--out", str(out)]) == 1
    assert "expected the names and shapes of a published network (metst64, " in capsys.readouterr().err
    assert left_behind(out) == []


def test_a_checkpoint_with_code_is_refused_and_not_run(out, tmp_path, capsys):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"weights": Trap()}, tmp_path / "trap.pkl")
    arguments = ["--model", "metst64", "--trained-on", "casme3", "--out", str(out)]
    assert main(["upstream", str(tmp_path / "trap.pkl"), *arguments]) == 1
    assert main(["bundle", str(tmp_path / "trap.pkl"), "--out", str(out)]) == 1
    assert "never run" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert left_behind(out) == []


def test_a_published_state_dict_needs_to_be_told_its_rate_and_window(out, tmp_path, capsys):
    torch.save(build("metst64").state_dict(), tmp_path / "weights.pkl")
    assert main(["upstream", str(tmp_path / "weights.pkl"), "--model", "metst64", "--k", "30", "--out", str(out)]) == 1
    assert "--trained-on, or all of --fps, --k and --k-p" in capsys.readouterr().err


@pytest.mark.parametrize("fps", ["nan", "inf"])
def test_a_rate_that_is_no_number_is_refused(fps, out, tmp_path, capsys):
    torch.save(build("metst64").state_dict(), tmp_path / "weights.pkl")
    arguments = ["--trained-on", "samm-lv", "--fps", fps, "--out", str(out)]
    assert main(["upstream", str(tmp_path / "weights.pkl"), *arguments]) == 1
    assert f"expected fps to be a frame rate, got {fps}" in capsys.readouterr().err
    assert left_behind(out) == []


def test_clips_are_refused_where_nothing_is_measured_on_them(checkpoint, out, capsys):
    clips = ["--clips", "missing.mp4"]
    assert main(["bundle", str(checkpoint), "--out", str(out), *clips]) == 1
    assert "no graphs in fp16 are written" in capsys.readouterr().err
    assert main(["bundle", str(checkpoint), "--out", str(out)]) == 0
    assert main(["again", str(out), "--out", str(out.with_name("again")), *clips]) == 1
    assert "no graphs in fp16 are written" in capsys.readouterr().err
    assert left_behind(out) == ["bundle"]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"fps": 30.0, "k": 30}, "expected k_p in the checkpoint's meta data"),
        ({"fps": 30.0, "k": 31, "k_p": 5}, "expected 'k' to be an even number"),
        ({"fps": 30.0, "k": 30, "k_p": 5, "metrics": {"f1": float("nan")}}, "plain finite values"),
        (
            {"fps": 30.0, "k": 30, "k_p": 5, "labels": ["yes", "neutral"]},
            "expected number of labels to be 5, got 2",
        ),
        ({"fps": 30.0, "k": 30, "k_p": 5, "roi_set": "metst_plus"}, "expected channels to be 36, got 10"),
        ({"fps": 30.0, "k": 30, "k_p": 5, "decode": {"synergy": "both"}}, "expected 'decode' to be"),
        ({"fps": 30.0, "k": 30, "k_p": 5, "decode": None}, "expected 'decode' in the checkpoint's meta data"),
        (
            {"fps": 30.0, "k": 30, "k_p": 5, "labels": "yes"},
            "expected 'labels' in the checkpoint's meta data",
        ),
    ],
)
def test_meta_data_that_make_no_bundle_are_refused(meta, message, network, out, tmp_path, capsys):
    save_checkpoint(tmp_path / "model.pt", network, {"licence": "CC0-1.0", **meta})
    assert main(["bundle", str(tmp_path / "model.pt"), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert f".{out.name}-" not in error  # the temporary directory's name helps nobody
    assert left_behind(out) == []


def test_a_place_that_cannot_be_written_is_refused(checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["bundle", str(checkpoint), "--out", str(tmp_path / "file" / "bundle")]) == 1
    assert "cannot write there" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["bundle"], ["upstream", "x.pkl", "--out", "y", "--model", "z"], ["again"]])
def test_bad_usage_has_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err
