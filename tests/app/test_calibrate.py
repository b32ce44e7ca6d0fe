"""``metst-edge calibrate``: from footage to a file that the analyzer takes, whatever happens on the way."""

import json

import pytest

import metst_edge
from metst_edge.app import cli
from metst_edge.app.demo import demo_clip
from metst_edge.app.verbs import calibrate
from metst_edge.capture import Interruption
from metst_edge.choices import MODEL
from tests.schemas import check

CLIP = str(demo_clip())


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    status = cli.main(["calibrate", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_floor_that_is_written_gives_the_alarms_that_were_counted(capsys, tmp_path):
    """The packaged clip has micro-expressions, which count as false like anything else."""
    status, out, err = run(capsys, CLIP, "--false-alarms-per-hour", 1000, "--json")
    assert status == 0 and "cannot show" not in err
    told = json.loads(out)
    check("calibration", told)
    assert told == json.loads((tmp_path / "calibration.json").read_text())
    with metst_edge.Analyzer(calibration=tmp_path / "calibration.json") as analyzer:
        found = list(analyzer.stream(CLIP))
    assert len(found) == told["alarms"] == int(1000 * told["hours"]) > 2
    assert min(event.height for event in found) >= told["floor"]
    assert told["model"] == MODEL and told["ratio"] == analyzer.bundle.decode_settings.ratio


def test_lines_for_people_say_what_so_little_footage_cannot_show(capsys, tmp_path):
    status, out, _ = run(capsys, CLIP, "--false-alarms-per-hour", 1, "--minutes", 0.05, "--out", "mine.json")
    assert status == 0
    first, second, third = out.splitlines()
    assert first.startswith("floor ") and "0 false alarms in 3 seconds of visible face" in first
    assert "cannot show 1 an hour" in second and third == "wrote mine.json; use it with --calibration mine.json"
    assert json.loads((tmp_path / "mine.json").read_text())["hours"] == pytest.approx(0.05 / 60, abs=0.002)


def test_what_was_seen_before_ctrl_c_is_used(capsys, tmp_path, monkeypatch):
    push, pushed = metst_edge.Analyzer.push, []

    def interrupted(self, frame, timestamp=None):
        pushed.append(frame)
        if len(pushed) == 200:
            raise KeyboardInterrupt
        return push(self, frame, timestamp)

    monkeypatch.setattr(metst_edge.Analyzer, "push", interrupted)
    status, _, err = run(capsys, CLIP, CLIP, "--false-alarms-per-hour", 1000)
    assert status == 0 and "interrupted; what was seen until then is used" in err and len(pushed) == 200
    assert json.loads((tmp_path / "calibration.json").read_text())["hours"] == pytest.approx(199 / 30 / 3600, rel=0.02)


def test_a_source_that_fails_is_told_and_the_others_count(capsys, tmp_path):
    status, out, err = run(capsys, "none.mp4", CLIP, "--false-alarms-per-hour", 1000)
    assert status == 1 and "none.mp4" in err and "wrote calibration.json" in out


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([CLIP, "--floor", "0.5"], "--floor has no place where the floor is looked for"),
        ([CLIP, "--recognizer", "x"], "--recognizer has no place"),
        ([CLIP, "--calibration", "x"], "--calibration has no place"),
        ([CLIP, "--out", CLIP], "got the input"),
    ],
)
def test_what_cannot_be_asked_is_one_line(capsys, arguments, said):
    status, out, err = run(capsys, *arguments, "--false-alarms-per-hour", 1)
    assert (status, out, len(err.splitlines())) == (1, "", 1) and said in err


def test_footage_without_a_face_writes_nothing(capsys, tmp_path, test_data):
    status, _, err = run(capsys, test_data / "no_face.mp4", "--false-alarms-per-hour", 1)
    assert status == 1 and "expected footage of a face, none was seen" in err and not list(tmp_path.iterdir())


def test_a_camera_needs_an_end(capsys, monkeypatch):
    class Live:
        live, fps, frame_count, uri = True, 30.0, None, "0"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr("metst_edge.capture.open_source", lambda uri: Live())
    status, _, err = run(capsys, "0", "--false-alarms-per-hour", 1)
    assert status == 1 and "expected --minutes N with a live source" in err


def test_a_camera_is_watched_for_so_many_minutes(capsys, monkeypatch, tmp_path):
    """One that is away for a while: what is seen before and after counts, and no more than was asked for."""
    with metst_edge.capture.open_source(CLIP) as source:
        frames = list(source)

    class Live:
        live, fps, frame_count, uri = True, 30.0, None, "0"

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def __iter__(self):
            yield from frames[:90]
            yield Interruption(frames[89].timestamp, None, "camera_lost")
            yield Interruption(frames[89].timestamp, frames[120].timestamp, "camera_lost")
            yield from frames[120:]

    monkeypatch.setattr("metst_edge.capture.open_source", lambda uri: Live())
    status, out, _ = run(capsys, "0", "--false-alarms-per-hour", 3600, "--minutes", 0.1, "--json")
    told = json.loads(out)
    assert status == 0 and told["hours"] * 3600 == pytest.approx(5.0, abs=0.1)  # six seconds, one of them away


@pytest.mark.slow
def test_half_of_a_persons_footage_foretells_the_other_half(test_data):
    """Twenty clips of one person each, a minute: the rate is within a factor of two of what was asked."""
    clips = sorted((test_data / "faces").glob("grids1_*"))
    halves = []
    for part in clips[::2], clips[1::2]:
        footage = calibrate.Footage()
        with metst_edge.Analyzer(floor=0.05, min_score=0.0, ratio=0.0, on_stage=footage.on_stage) as analyzer:
            for clip in part:
                footage.watch(analyzer, str(clip), None, lambda done, total: None)
        halves.append((footage.heights, footage.slots / 30 / 3600))
    for (seen, hours), (others, other_hours) in (halves, halves[::-1]):
        for alarms in 10, 15, 20, 25:
            asked = alarms / hours
            found = metst_edge.calibration.calibrated(
                seen, hours, asked, model="demo", model_sha256="0" * 64, ratio=0.0
            )
            rate = sum(height >= found.floor for height in others) / other_hours
            assert asked / 2 <= rate <= 2 * asked
