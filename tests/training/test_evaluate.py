"""An evaluation goes through the whole SDK, keeps every video's result, and writes all scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

torch = pytest.importorskip("torch")

from metst_edge import Analyzer  # noqa: E402
from metst_edge.labels import EMOTIONS  # noqa: E402
from training.cli.model import as_bundle  # noqa: E402
from training.cli.scores import show_figures  # noqa: E402
from training.data.errors import DataError  # noqa: E402
from training.data.folder import Video  # noqa: E402
from training.data.tables import read_people  # noqa: E402
from training.evaluation.beside import Happening, Known, Traits, happenings, read_causes, read_known  # noqa: E402
from training.evaluation.calibration import events_of  # noqa: E402
from training.evaluation.evaluate import Part, compare_decoders, evaluate, evaluate_parts  # noqa: E402
from training.evaluation.failures import Seen, worst  # noqa: E402
from training.evaluation.metrics import Clip, Labelled  # noqa: E402
from training.evaluation.people import FIGURES, Figure  # noqa: E402
from training.evaluation.plots import failures  # noqa: E402
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
    assert (tmp_path / "failures.png").is_file() == bool(events)  # none of it is true yet

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
    assert len(kept["curve"]["frame"]) == len(kept["curve"]["height"]) == 72
    assert not (tmp_path / "failures.png").exists()


def seen(name: str, found: list[tuple[int, int, float]], truth: list[tuple[int, int]], *known: Happening) -> Seen:
    events = [{"onset_frame": a, "offset_frame": b, "height": height} for a, b, height in found]
    curve = {"frame": list(range(0, 200, 2)), "height": [i / 200 for i in range(0, 200, 2)]}
    traits = tuple(Traits(a, b, float(b - a), (1, 2)) for a, b in truth)
    clip = Clip(tuple(Labelled(a, b, 0) for a, b, _ in found), tuple(Labelled(a, b, 1) for a, b in truth))
    return Seen(name, clip, {"fps": 50.0, "events": events, "curve": curve}, Known(traits), known)


def test_the_highest_false_alarm_of_each_cause_and_the_strongest_that_were_missed_are_shown(tmp_path: Path) -> None:
    blink = Happening("blink", 20, 30)
    videos = [
        seen("a", [(20, 30, 0.5), (100, 110, 0.7)], [(100, 110), (150, 158)], blink),
        seen("b", [(20, 30, 0.6), (60, 70, 0.4)], [(140, 150), (180, 194)], blink),
        seen("c", [], []),
    ]
    shown = worst(videos)
    assert [(each.title, each.video) for each in shown] == [
        ("false, 0.60: blink", "b"),
        ("false, 0.40: nothing known", "b"),
        ("missed: positive, 14.0 px, AU 1+2", "b"),
        ("missed: positive, 8.0 px, AU 1+2", "a"),
    ]
    last = shown[-1]
    assert last.truth == ((2.0, 2.2), (3.0, 3.16)) and last.found == ((2.0, 2.2),)
    assert last.seconds[0] == 1.52 and last.seconds[-1] == 3.96 and last.curve[0] == 0.38  # 1.5 s around it, as far
    failures(shown, tmp_path / "failures.png")
    assert (tmp_path / "failures.png").read_bytes().startswith(b"\x89PNG")
    assert worst(videos[2:]) == ()


def test_another_video_of_the_same_name_is_analysed_anew(model: Path, test_data: Path, tmp_path: Path) -> None:
    bundle, one = as_bundle(model, tmp_path), tmp_path / "one"
    evaluate(bundle, [video(test_data)], one)
    (tmp_path / "site").mkdir()
    shutil.copy(test_data / "face_noface.mov", tmp_path / "site" / "single_face.mp4")
    other = video(tmp_path / "site")
    evaluate(bundle, [other], one)
    evaluate(bundle, [other], tmp_path / "fresh")
    again, fresh = (
        json.loads((out / "videos" / "single_face.mp4.json").read_text()) for out in (one, tmp_path / "fresh")
    )
    assert again == fresh and again["frames"] == 169
    with pytest.raises(DataError, match="got that of another video of this name"):
        events_of([video(test_data)], one)


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


def test_models_of_several_folds_are_scored_together(model: Path, test_data: Path, tmp_path: Path) -> None:
    first, second = as_bundle(model, tmp_path / "a"), as_bundle(checkpoint(tmp_path / "other.pt", 1), tmp_path / "b")
    data = tmp_path / "data"
    data.mkdir()
    videos = []
    for person, annotation in (("s1", Annotation(20, 22, 25, 0)), ("s2", Annotation(30, 34, 45, 1))):
        path = data / f"{person}.mp4"
        path.write_bytes((test_data / "single_face.mp4").read_bytes())
        videos.append(Video(path.name, path, person, None, (annotation,)))
    truth = {
        "events": [{"onset": 20, "offset": 25, "intensity_px": 1.5, "action_units": [4], "face_px": 150}],
        "distractors": [{"kind": "speech", "onset": 0, "offset": 71}],
    }
    (data / "s1.json").write_text(json.dumps(truth))
    (data / "causes.csv").write_text("video,kind,onset,offset\ns2.mp4,head,0,71\n")
    parts = [Part(first, videos[:1]), Part(second, videos[1:])]
    reached = evaluate_parts(parts, tmp_path / "both")

    alone = [evaluate(part.bundle, part.videos, tmp_path / f"alone{i}") for i, part in enumerate(parts)]
    counts = [(each.spotting.tp, each.spotting.fp, each.spotting.fn) for each in alone]
    spotting = reached.scores.spotting
    assert (spotting.tp, spotting.fp, spotting.fn) == tuple(map(sum, zip(*counts, strict=True)))
    assert (reached.scores.confusion == alone[0].confusion + alone[1].confusion).all()
    assert reached.people == 2 and reached.figures["f1"].value == spotting.f1
    assert reached.figures["false_alarms_per_minute"].value == pytest.approx(spotting.fp / (2 * 72 / 1800))
    assert reached.figures["false_alarms_per_minute"].low == pytest.approx(min(c[1] for c in counts) / (72 / 1800))
    assert counts[0][1] != counts[1][1]

    written = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert [each["people"] for each in written["models"]] == [["s1"], ["s2"]]
    assert written["breakdown"]["size"] == {"1 to 2": {"count": 1, "found": counts[0][0], "recall": counts[0][0]}}
    assert {*written["breakdown"]} == {"size", "length", "action_unit", "emotion", "face"}
    assert {*written["causes"]} <= {"speech", "head", "micro-expression"} and written["causes"]
    assert sum(each["count"] for each in written["causes"].values()) == spotting.fp
    assert list(written["figures"]) == list(FIGURES)


def test_one_person_is_said_to_have_no_interval(model: Path, test_data: Path, tmp_path: Path) -> None:
    evaluate(as_bundle(model, tmp_path), [video(test_data, Annotation(20, 22, 25, 0))], tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["people"] == 1 and written["figures"]["recall"]["low"] is None
    console = Console(record=True, width=120)
    show_figures(console, {"f1": Figure(0.5)}, 1)
    assert "one person only: no interval" in console.export_text()


def test_truth_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    assert read_known(clip) == Known() and read_causes(tmp_path / "causes.csv") == {}
    (tmp_path / "a.json").write_text('{"events": [{"onset": 0.3}]}')  # what an analysis of it found
    assert read_known(clip) == Known()
    for text in ("{", '{"events": [{}], "distractors": []}', '{"events": [], "distractors": [3]}'):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match=r"a.json: expected"):
            read_known(clip)
    for name, read, text, message in (
        ("causes.csv", read_causes, "video,kind\n", "expected the columns video, kind, onset, offset"),
        ("causes.csv", read_causes, "video,kind,onset,offset\na.mp4,blink,9,3\n", "line 2: expected onset and offset"),
        ("causes.csv", read_causes, "video,kind,onset,offset\na.mp4,,1,3\n", "line 2: expected a value"),
        ("people.csv", read_people, "file,subject\na.mp4,s1\na.mp4,s2\n", "line 3: expected a.mp4 of 's1'"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)


def test_what_happens_in_a_video_happens_in_what_was_made_of_it(tmp_path: Path) -> None:
    made = {"events": [], "distractors": [{"kind": "head", "onset": 1, "offset": 2}], "source": "real.mp4"}
    (tmp_path / "real-s0.json").write_text(json.dumps(made))
    (tmp_path / "causes.csv").write_text("video,kind,onset,offset\nreal.mp4,blink,5,8\nreal-s0.mp4,speech,9,20\n")
    causes = read_causes(tmp_path / "causes.csv")
    found = happenings(tmp_path / "real-s0.mp4", "real-s0.mp4", causes)
    assert found == (Happening("head", 1, 2), Happening("speech", 9, 20), Happening("blink", 5, 8))
    assert happenings(tmp_path / "real.mp4", "real.mp4", causes) == (Happening("blink", 5, 8),)


def test_people_and_causes_of_false_alarms(
    model: Path, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = as_bundle(model, tmp_path)
    clips = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for clip, source in zip(clips, ("single_face.mp4", "WolfgangLanger_Pexels.mp4"), strict=True):
        clip.write_bytes((test_data / source).read_bytes())
    (tmp_path / "causes.csv").write_text("video,kind,onset,offset\na.mp4,blink,0,71\n")
    found = false_alarms(bundle, clips, tmp_path / "out")
    a, b = (found["clips"][name] for name in ("a.mp4", "b.mp4"))
    rates = sorted(each["events"] / each["minutes_of_face"] for each in (a, b))
    assert found["people"] == 2 and found["interval"] == pytest.approx(rates, rel=1e-3) and rates[0] < rates[1]
    causes = {kind: cause["count"] for kind, cause in found["causes"].items()}
    assert causes == {"blink": a["events"], "nothing known": b["events"]}
    monkeypatch.setattr(Analyzer, "analyze", lambda *a, **k: pytest.fail("analysed again"))
    (tmp_path / "one.csv").write_text("file,subject\na.mp4,s1\nb.mp4,s1\n")
    again = false_alarms(bundle, clips, tmp_path / "out", people=tmp_path / "one.csv")
    assert again == {**found, "people": 1, "interval": None}
    clips[0].write_bytes(clips[0].read_bytes() + b"?")
    with pytest.raises(pytest.fail.Exception):
        false_alarms(bundle, clips, tmp_path / "out")  # another video of this name
    with pytest.raises(DataError, match="expected a table, found none at"):
        false_alarms(bundle, clips, tmp_path / "out", causes=tmp_path / "none.csv")


def test_false_alarms_are_counted_per_minute_of_visible_face(model: Path, test_data: Path, tmp_path: Path) -> None:
    clips = [test_data / "single_face.mp4", test_data / "no_face.mp4"]
    found = false_alarms(as_bundle(model, tmp_path), clips, tmp_path)
    with Analyzer(model=tmp_path / "bundle") as analyzer:
        events = len(analyzer.analyze(clips[0]).micro_expressions)
    assert found["clips"]["single_face.mp4"] == {"events": events, "gaps": 0, "minutes_of_face": 0.04}
    assert found["clips"]["no_face.mp4"] == {"events": 0, "gaps": 1, "minutes_of_face": 0.0}
    assert found["per_minute"] == pytest.approx(events / 0.04)
    assert json.loads((tmp_path / "false_alarms.json").read_text()) == found
