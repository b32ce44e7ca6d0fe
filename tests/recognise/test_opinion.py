"""How the vote of the frames and the recogniser's opinion become one."""

import numpy as np
import pytest

from metst_edge.recognise import combine
from metst_edge.recognise.opinion import softmax

VOTE = {"negative": 0.1, "positive": 0.2, "surprise": 0.3, "others": 0.4}


def plain(vote, recognised, weight):
    """The formula, for recognisers that know every emotion."""
    powers = {label: vote[label] ** (1 - weight) * recognised[label] ** weight for label in vote}
    return {label: power / sum(powers.values()) for label, power in powers.items()}


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_it_is_the_weighted_geometric_mean(weight):
    recognised = {"others": 0.05, "negative": 0.6, "positive": 0.25, "surprise": 0.1}
    combined = combine(VOTE, recognised, weight)
    assert list(combined) == list(VOTE) and combined == pytest.approx(plain(VOTE, recognised, weight))
    assert sum(combined.values()) == pytest.approx(1)


def test_no_weight_leaves_the_vote_and_all_of_it_takes_the_recognisers():
    recognised = {"negative": 0.7, "positive": 0.1, "surprise": 0.1, "others": 0.1}
    assert combine(VOTE, recognised, 0) == pytest.approx(VOTE)
    assert combine(VOTE, recognised, 1) == pytest.approx(recognised)


def test_who_agrees_becomes_surer_than_who_is_asked_alone():
    undecided = dict.fromkeys(VOTE, 0.25)
    assert combine(undecided, VOTE, 0.5)["others"] < VOTE["others"]
    assert combine(VOTE, VOTE, 0.5) == pytest.approx(VOTE)


def test_a_recogniser_that_knows_fewer_emotions_weighs_only_those():
    """Three classes, as the composite data sets have: 'others' keeps what the vote gave it."""
    three = {"negative": 0.1, "positive": 0.8, "surprise": 0.1}
    combined = combine(VOTE, three, 0.5)
    assert combined["others"] == 0.4 and sum(combined.values()) == pytest.approx(1)
    part = {label: VOTE[label] / 0.6 for label in three}
    assert {label: combined[label] / 0.6 for label in three} == pytest.approx(plain(part, three, 0.5))


def test_what_only_the_recogniser_knows_does_not_count():
    five = {"negative": 0.05, "positive": 0.4, "surprise": 0.05, "others": 0.1, "repression": 0.4}
    four = {label: p / 0.6 for label, p in five.items() if label in VOTE}
    assert combine(VOTE, five, 0.5) == pytest.approx(combine(VOTE, four, 0.5))


@pytest.mark.parametrize("other", [{"happiness": 1.0}, {"positive": 0.9, "happiness": 0.1}])
def test_with_less_than_two_emotions_in_common_there_is_nothing_to_weigh(other):
    assert combine(VOTE, other, 1.0) == VOTE


def test_probabilities_of_nothing_are_no_error():
    sure = {"negative": 0.0, "positive": 1.0, "surprise": 0.0, "others": 0.0}
    against = {"negative": 1.0, "positive": 0.0, "surprise": 0.0, "others": 0.0}
    combined = combine(sure, against, 0.5)
    assert combined["negative"] == pytest.approx(0.5, abs=1e-3) and combined["positive"] == pytest.approx(0.5, abs=1e-3)
    nothing = {"negative": 0.0, "positive": 0.0, "repression": 1.0}
    assert all(np.isfinite(p) for p in combine(VOTE, nothing, 0.5).values())


def test_softmax_takes_logits_of_any_size():
    np.testing.assert_allclose(softmax(np.array([1000, 1000, -1000], np.float32)), [0.5, 0.5, 0])
    np.testing.assert_allclose(softmax(np.array([0.5, 1.5], np.float32))[1], 1 / (1 + np.exp(-1)), rtol=1e-7)
