"""Every JSON that a command prints or writes is as its schema in docs/schema says."""

import json
from dataclasses import replace
from datetime import datetime, timezone

import jsonschema
import pytest

from metst_edge.app import cli
from metst_edge.app.demo import demo_clip
from metst_edge.events import Gap, MicroExpression, Opinion
from tests.recognisers import recogniser_bundle
from tests.schemas import FOLDER, NAMES, check

CLIP = str(demo_clip())


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return str(recogniser_bundle(tmp_path_factory.mktemp("recogniser") / "small").path)


def lines(capsys, *arguments):
    """Run a command that prints JSON lines, and return them."""
    assert cli.main([str(argument) for argument in arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def whole(capsys, *arguments):
    """Run a command that prints one JSON object, and return it."""
    assert cli.main([str(argument) for argument in arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_schemas_are_schemas():
    assert NAMES == ["bench", "build", "calibration", "demo", "doctor", "event", "manifest", "report"]
    for path in FOLDER.iterdir():
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("asked", [False, True])
def test_events_and_reports(capsys, tmp_path, recogniser, asked):
    options = ["--recognizer", recogniser] if asked else []
    events = lines(capsys, "--source", CLIP, "--json", *options)
    assert {event["type"] for event in events} == {"micro_expression"}
    assert all(("revision" in event) == asked for event in events)
    (report,) = lines(capsys, "analyze", CLIP, "--json", "-", "--scores", *options)
    for event in events:
        check("event", event)
    check("report", report)
    assert "spot" in report and ("recognizer" in report) == asked
    assert len({len(values) for values in report["spot"].values()}) == 1


def test_gaps_and_what_a_camera_adds(capsys, test_data):
    events = lines(capsys, "--source", test_data / "face_noface.mov", "--json")
    assert "gap" in {event["type"] for event in events}
    now = datetime.now(timezone.utc)
    events += [Gap(1.0, end, "camera_lost", "0", now).to_dict() for end in (None, 2.0)]
    emotions = {"surprise": 0.25, "others": 0.75}
    for opinion in None, Opinion("small", emotions):
        revision = 0 if opinion is None else 1
        found = MicroExpression(0.1, 0.2, 0.3, 3, 6, 9, "others", emotions, 0.5, 0, opinion, revision, "0", now)
        events += [found.to_dict(), replace(found, names=("1.png", "4.png", "7.png")).to_dict()]
    for event in events:
        check("event", event)


def test_the_demo(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check("demo", whole(capsys, "demo", "--json"))


@pytest.mark.parametrize("kind", ["stream", "recogniser"])
def test_benchmarks(capsys, tmp_path, recogniser, kind):
    path = tmp_path / "base.json"
    if kind == "stream":
        options = ["--frames", 20, "--warm-up", 0]
    else:
        options = ["--model", recogniser, "--frames", 1, "--warm-up", 0]
    assert cli.main(["bench", *map(str, options), "--json", str(path)]) == 0
    capsys.readouterr()
    check("bench", json.loads(path.read_text()))
    check("bench", whole(capsys, "bench", *options, "--json", "-", "--compare", path))


def test_the_doctor_and_manifests(capsys, recogniser):
    check("doctor", whole(capsys, "doctor", "--json"))
    check("manifest", whole(capsys, "info", "--json"))
    check("manifest", whole(capsys, "info", recogniser, "--json"))


@pytest.mark.parametrize(
    "name, change",
    [
        ("event", {"type": "other"}),
        ("event", {"end": "now"}),
        ("event", {"schema": 2}),
        ("event", {"start": None}),
        ("event", {"unheard_of": 1}),
    ],
)
def test_what_is_otherwise_is_noticed(name, change):
    check(name, Gap(1.0, 2.0, "face_lost").to_dict())
    with pytest.raises(AssertionError):
        check(name, {**Gap(1.0, 2.0, "face_lost").to_dict(), **change})
