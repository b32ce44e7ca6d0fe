"""The settings of decoding: what they are called, what they may be, and that both decoders read them alike."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from metst_edge.bundle import Bundle
from metst_edge.choices import SYNERGIES
from metst_edge.decode import DecodeSettings, OnlineDecoder, Synergy, decode, decode_clip

PUBLISHED = {"ratio": 0.55, "floor": 0.0, "synergy": "spotting_mainly", "window_seconds": 60.0}


def test_the_modes_of_the_type_are_those_to_choose_from():
    assert get_args(Synergy) == SYNERGIES


def test_the_defaults_are_the_published_rule():
    assert DecodeSettings().to_dict() == PUBLISHED
    assert DecodeSettings.from_dict(PUBLISHED) == DecodeSettings()


def test_they_go_to_json_and_back_and_a_later_versions_names_are_left_alone():
    settings = DecodeSettings(0.4, 0.2, "none", 30.0)
    assert DecodeSettings.from_dict({**settings.to_dict(), "decoder": "adaptive"}) == settings


@pytest.mark.parametrize(
    "change",
    [
        {"ratio": -0.1},
        {"ratio": True},
        {"ratio": float("nan")},
        {"floor": "0"},
        {"floor": float("inf")},
        {"synergy": "both"},
        {"synergy": ["none"]},
        {"window_seconds": 0.5},
        {"window_seconds": None},
    ],
)
def test_values_out_of_their_range_are_refused(change):
    expected = r"expected ratio, floor, synergy \(spotting_mainly, recognition_mainly, none\) and window_seconds, got "
    with pytest.raises(ValueError, match=expected):
        DecodeSettings.from_dict({**PUBLISHED, **change})


@pytest.mark.parametrize("values", [{}, {"ratio": 0.5}, [], None, "none"])
def test_what_is_no_settings_is_refused(values):
    with pytest.raises(ValueError, match="expected ratio, floor"):
        DecodeSettings.from_dict(values)


def test_they_cannot_be_changed_and_know_their_modes():
    with pytest.raises(AttributeError):
        DecodeSettings().ratio = 1.0
    with pytest.raises(ValueError, match="expected synergy to be one of .*; got 'both'"):
        replace(DecodeSettings(), synergy="both")


def test_a_bundle_hands_them_out():
    bundle = Bundle.find("demo")
    assert bundle.decode_settings.to_dict() == bundle.decode


def test_both_decoders_take_them_whole_as_they_take_them_one_by_one():
    random = np.random.default_rng(3)
    spot, logits = random.uniform(0, 1, 300), random.standard_normal((300, 5))
    settings = DecodeSettings(0.3, 0.52, "recognition_mainly", 4.0)
    loose = tuple(settings.to_dict().values())
    clip = decode_clip(spot, logits, 4, settings)
    assert clip == decode(spot, logits, 4, *loose[:3]) and len(clip) > 3
    found = []
    for decoder in (OnlineDecoder.of(settings, 4, 30.0), OnlineDecoder(4, 30.0, *loose)):
        events = [event for score, row in zip(spot, logits, strict=True) for event in decoder.push(score, row)]
        found.append(events + decoder.flush())
    assert found[0] == found[1] and len(found[0]) > 3
