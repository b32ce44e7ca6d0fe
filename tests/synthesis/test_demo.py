"""The packaged demo clip is what its script renders, and its truth is in the form the command line reads."""

import json

import numpy as np
import pytest

from metst_edge.app.demo import demo_clip, demo_truth
from training.synthesis.demo import write_demo
from training.synthesis.emotions import emotion_of
from training.synthesis.h264 import decode


@pytest.fixture(scope="module")
def packaged():
    clip = demo_clip()
    return decode(clip), json.loads(clip.with_name("truth.json").read_text())


def test_the_packaged_clip_is_rendered_by_the_committed_function(packaged, finder, tmp_path):
    clip, truth = write_demo(tmp_path, finder=finder)
    assert json.loads(truth.read_text()) == packaged[1]
    frames = decode(clip)
    assert frames.shape == packaged[0].shape
    # Another build of the encoder may choose other bits; the picture stays.
    assert np.abs(frames[::20].astype(int) - packaged[0][::20]).mean() < 1.5


def test_the_packaged_clip_is_short_small_and_shows_every_emotion(packaged):
    frames, truth = packaged
    assert len(frames) == truth["frames"] and 20 <= truth["frames"] / truth["fps"] <= 25
    assert demo_clip().stat().st_size <= 1_000_000
    assert 6 <= len(truth["events"]) <= 10
    assert {event["emotion"] for event in truth["events"]} == {"negative", "positive", "surprise", "others"}
    assert all(event["emotion"] == emotion_of(event["action_units"]) for event in truth["events"])
    assert all(1 <= event["intensity_px"] <= 3 for event in truth["events"])
    assert any(other["kind"] == "blink" for other in truth["distractors"])
    assert "public domain" in truth["source"]["licence"]


def test_the_command_line_reads_the_truth(packaged):
    assert [event.onset_frame for event in demo_truth()] == [event["onset"] for event in packaged[1]["events"]]
