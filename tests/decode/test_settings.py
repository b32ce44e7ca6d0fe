"""The settings of decoding: what they are called, what they may be, and that both decoders read them alike."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from metst_edge.bundle import Bundle
from metst_edge.choices import DECODERS, SYNERGIES
from metst_edge.decode import DecodeSettings, Method, OnlineDecoder, Synergy, decode, decode_clip
from metst_edge.errors import SettingsError
from metst_edge.labels import LABELS

FIRST = {"ratio": 0.55, "floor": 0.0, "synergy": "spotting_mainly", "window_seconds": 60.0}
"""What manifests of the first version hold."""
PUBLISHED = {**FIRST, "decoder": "fixed", "class_priors": {}}


def test_the_modes_of_the_type_are_those_to_choose_from():
    assert get_args(Synergy) == SYNERGIES
    assert get_args(Method) == DECODERS


def test_the_defaults_are_the_published_rule():
    assert DecodeSettings().to_dict() == PUBLISHED
    assert DecodeSettings.from_dict(PUBLISHED) == DecodeSettings()


def test_they_go_to_json_and_back_and_a_later_versions_names_are_left_alone():
    settings = DecodeSettings(0.4, 0.2, "none", 30.0, "adaptive", {"positive": 0.5, "negative": -1})
    assert DecodeSettings.from_dict({**settings.to_dict(), "of_tomorrow": "this"}) == settings


def test_manifests_without_decoder_and_class_priors_mean_the_fixed_one_and_none():
    assert DecodeSettings.from_dict(FIRST) == DecodeSettings()


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
    assert bundle.decode_settings.to_dict() == {"decoder": "fixed", "class_priors": {}, **bundle.decode}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder": "best"}, "expected decoder to be one of fixed, adaptive; got 'best'"),
        ({"decoder": ["fixed"]}, "expected decoder to be one of"),
        ({"class_priors": [0.5]}, "expected class_priors to be a finite number for each label.*got \\[0.5\\]"),
        ({"class_priors": {"positive": "0.5"}}, "expected class_priors to be a finite number"),
        ({"class_priors": {"positive": True}}, "expected class_priors"),
        ({"class_priors": {"positive": float("nan")}}, "expected class_priors"),
        ({"class_priors": {"positive": 10**400}}, "expected class_priors"),
        ({"class_priors": {3: 0.5}}, "expected class_priors"),
        ({"class_priors": None}, "expected class_priors"),
    ],
)
def test_a_decoder_or_priors_that_make_no_sense_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        DecodeSettings.from_dict({**FIRST, **change})


def test_priors_become_numbers_in_the_order_of_the_labels():
    settings = DecodeSettings(class_priors={"surprise": 1, "negative": -0.5})
    assert settings.priors(LABELS) == (-0.5, 0.0, 1.0, 0.0, 0.0)
    assert DecodeSettings().priors(LABELS) == (0.0,) * 5
    with pytest.raises(SettingsError, match="of the labels negative, neutral; got surprise"):
        settings.priors(("negative", "neutral"))


def test_priors_are_a_copy_of_what_was_given():
    given = {"positive": 0.5}
    settings = DecodeSettings(class_priors=given)
    given["positive"] = 9.0
    assert settings.class_priors == {"positive": 0.5} and hash(settings) == hash(DecodeSettings())


@pytest.mark.parametrize("method", DECODERS)
def test_both_decoders_take_them_whole_as_they_take_them_one_by_one(method):
    random = np.random.default_rng(3)
    spot, logits = random.uniform(0, 1, 300), random.standard_normal((300, 5))
    settings = DecodeSettings(0.3, 0.52, "recognition_mainly", 4.0, method, {"positive": 0.7, "neutral": -0.2})
    loose = (*tuple(settings.to_dict().values())[:5], (0.0, 0.7, 0.0, 0.0, -0.2))
    clip = decode_clip(spot, logits, 4, settings)
    assert clip == decode(spot, logits, 4, *loose[:3], *loose[4:]) and len(clip) > 3
    found = []
    for decoder in (OnlineDecoder.of(settings, 4, 30.0), OnlineDecoder(4, 30.0, *loose)):
        events = [event for score, row in zip(spot, logits, strict=True) for event in decoder.push(score, row)]
        found.append(events + decoder.flush())
    assert found[0] == found[1] and len(found[0]) > 3


@pytest.mark.parametrize("name", ["ratio", "floor", "min_score"])
def test_thresholds_can_be_changed_within_0_and_1(name):
    assert getattr(DecodeSettings().changed(**{name: 0.25}), name) == 0.25
    assert getattr(DecodeSettings(0.5, 0.5, min_score=0.5).changed(**{name: 0}), name) == 0
    for value in -0.1, 1.1, float("nan"), "0.5", True:
        with pytest.raises(SettingsError, match=f"expected {name} to be a number from 0 to 1; got"):
            DecodeSettings().changed(**{name: value})


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_least_score_leaves_out_intervals_and_changes_no_other(decoder):
    rng = np.random.default_rng(5)
    spot, logits = np.abs(np.sin(np.arange(400) / 9)) * rng.random(400), rng.normal(size=(400, 5))
    settings = DecodeSettings(0.1, decoder=decoder)
    for least in 0.0, 0.4, 0.6, 1.0:
        limited = settings.changed(min_score=least)
        whole = decode_clip(spot, logits, 6, settings)
        assert decode_clip(spot, logits, 6, limited) == [one for one in whole if one.score >= least]
        streams = [OnlineDecoder.of(s, 6, 30.0) for s in (settings, limited)]
        every, some = (
            [one for row in zip(spot, logits, strict=True) for one in stream.push(*row)] + stream.flush()
            for stream in streams
        )
        assert every and some == [one for one in every if one.score >= least]


def test_a_least_score_goes_to_json_and_back():
    settings = DecodeSettings(min_score=0.5)
    assert settings.to_dict()["min_score"] == 0.5 and DecodeSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(SettingsError, match="min_score"):
        DecodeSettings.from_dict({**FIRST, "min_score": -1})
