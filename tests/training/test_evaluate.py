"""An evaluation goes through the whole SDK, keeps every video's result, and writes all scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from metst_edge import Analyzer  # noqa: E402
from metst_edge.labels import EMOTIONS  # noqa: E402
from training.cli.model import as_bundle  # noqa: E402
from training.data.errors import DataError  # noqa: E402
from training.data.folder import Video  # noqa: E402
from training.evaluation.evaluate import compare_decoders, evaluate  # noqa: E402
from training.evaluation.quiet import false_alarms  # noqa: E402
from training.models import build, save_checkpoint  # noqa: E402
from training.presets import PRESETS  # noqa: E402
from training.run import Run  # noqa: E402
from training.samples import Annotation  # noqa: E402


def checkpoint(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    network = build("metst64", channels=10, depth=1).eval()
    run = Run(
        preset=PRESETS["metst64"],
        seed=seed,
        steps=1,
        batch=1,
        learning_rate=1e-3,
        threads=1,
        device="cpu",
        data="none",
    )
    save_checkpoint(path, network, run.checkpoint_meta(5, None))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("model") / "model.pt", 0)


def video(test_data: Path, *annotations: Annotation) -> Video:
    return Video("single_face.mp4", test_data / "single_face.mp4", "s1", None, annotations)


def test_what_is_found_is_scored_and_kept(
    model: Path, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    bundle = as_bundle(model, tmp_path)
    evaluate(bundle, [video(test_data)], tmp_path, report=lambda name, share: shares.append((name, share)))
    kept = json.loads((tmp_path / "videos" / "single_face.mp4.json").read_text())
    events = [event for event in kept["events"] if event["type"] == "micro_expression"]
    assert kept["frames"] == 72
    assert shares[-1] == ("single_face.mp4", 1.0) and sorted(shares) == shares

    # The truth is what was found, so everything is right; the video is not read again.
    monkeypatch.setattr(Analyzer, "analyze", lambda *a, **k: pytest.fail("analysed again"))
    truth = [
        Annotation(e["onset_frame"], e["apex_frame"], e["offset_frame"], EMOTIONS.index(e["emotion"])) for e in events
    ]
    scores = evaluate(bundle, [video(test_data, *truth)], tmp_path)
    assert (scores.spotting.tp, scores.spotting.fp, scores.spotting.fn) == (len(events), 0, 0)
    assert np.trace(scores.confusion) == len(events)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["spotting"] == scores.spotting.to_dict() and written["videos"] == 1
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_every_decoder_is_scored_on_the_same_curves_by_the_length_of_what_is_true(
    model: Path, test_data: Path, tmp_path: Path
) -> None:
    bundle = as_bundle(model, tmp_path)
    videos = [video(test_data, Annotation(20, 22, 25, 0), Annotation(30, 34, 45, 1))]
    scores = evaluate(bundle, videos, tmp_path / "fixed", decoding={"decoder": "fixed"})
    other = evaluate(bundle, videos, tmp_path / "adaptive", decoding={"decoder": "adaptive"})
    compared = compare_decoders(bundle, videos, tmp_path / "fixed")
    assert list(compared) == ["fixed", "adaptive"]
    again = compare_decoders(bundle, videos, tmp_path / "adaptive")
    assert {name: each.to_dict() for name, each in again.items()} == {
        name: each.to_dict() for name, each in compared.items()
    }
    assert compared["fixed"].scores.to_dict() == scores.to_dict()
    assert compared["adaptive"].scores.to_dict() == other.to_dict()
    written = json.loads((tmp_path / "fixed" / "metrics.json").read_text())["decoders"]
    assert written == {name: each.to_dict() for name, each in compared.items()}
    for each in compared.values():
        assert [(row.name, row.count) for row in each.lengths if row.count] == [("1 to 6", 1), ("15 and more", 1)]
        assert sum(row.found for row in each.lengths) == each.scores.spotting.tp


def test_priors_and_synergy_reach_the_decoder(model: Path, test_data: Path, tmp_path: Path) -> None:
    bundle = as_bundle(model, tmp_path)
    evaluate(bundle, [video(test_data)], tmp_path, decoding={"class_priors": {"others": 1e4}})
    kept = json.loads((tmp_path / "videos" / "single_face.mp4.json").read_text())
    for events in (kept["events"], *kept["decoders"].values()):
        assert events and {event["emotion"] for event in events} == {"others"}
    with pytest.raises(DataError, match="holds results of another model or other decode settings"):
        evaluate(bundle, [video(test_data)], tmp_path)


def test_results_of_another_model_are_not_mixed_in(model: Path, test_data: Path, tmp_path: Path) -> None:
    evaluate(as_bundle(model, tmp_path), [video(test_data)], tmp_path)
    other = checkpoint(tmp_path / "other.pt", 1)
    with pytest.raises(DataError, match="holds results of another model"):
        evaluate(as_bundle(other, tmp_path), [video(test_data)], tmp_path)


def test_a_truth_behind_the_end_is_refused(model: Path, test_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected offsets below the video's 72 frames"):
        evaluate(as_bundle(model, tmp_path), [video(test_data, Annotation(70, 71, 72, 0))], tmp_path)


def test_false_alarms_are_counted_per_minute_of_visible_face(model: Path, test_data: Path, tmp_path: Path) -> None:
    clips = [test_data / "single_face.mp4", test_data / "no_face.mp4"]
    found = false_alarms(as_bundle(model, tmp_path), clips, tmp_path)
    with Analyzer(model=tmp_path / "bundle") as analyzer:
        events = len(analyzer.analyze(clips[0]).micro_expressions)
    assert found["clips"]["single_face.mp4"] == {"events": events, "gaps": 0, "minutes_of_face": 0.04}
    assert found["clips"]["no_face.mp4"] == {"events": 0, "gaps": 1, "minutes_of_face": 0.0}
    assert found["per_minute"] == pytest.approx(events / 0.04)
    assert json.loads((tmp_path / "false_alarms.json").read_text()) == found
