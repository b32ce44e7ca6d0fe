"""A whole clip's curve becomes the published decoder's intervals, and scipy's peaks."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import find_peaks as scipy_find_peaks

from metst_edge.decode import Interval, OnlineDecoder, decode
from metst_edge.decode.adaptive import Span, adaptive_spans, is_apart
from metst_edge.decode.interval import vote
from metst_edge.decode.offline import find_peaks, fixed_span, smooth, threshold

CURVES = 16
NEGATIVE, POSITIVE, SURPRISE, OTHERS, NEUTRAL = range(5)


@pytest.fixture(params=range(CURVES))
def curve(request, golden):
    curves = json.loads((golden / "decode.json").read_text())
    assert len(curves) == CURVES
    chosen = curves[request.param]
    return {**chosen, "spot": np.array(chosen["spot"]), "logits": np.array(chosen["logits"])}


def spans(intervals):
    return [[i.onset, i.apex, i.offset] for i in intervals]


def logits_for(labels):
    """Frame logits whose argmax over all five is the label given."""
    return np.eye(5)[list(labels)] * 3.0 + np.linspace(0.0, 0.1, 5)


def bump(n=120, at=60, height=0.9, width=8.0):
    return height * np.exp(-(((np.arange(n) - at) / width) ** 2))


def test_fixed_intervals_are_the_published_ones(curve):
    k_p, spot = curve["k_p"], curve["spot"]
    smoothed = smooth(spot, k_p)
    peaks = find_peaks(smoothed, threshold(smoothed, 0.55, 0.0), k_p)
    assert [list(fixed_span(peak, k_p)) for peak in peaks] == curve["fixed"]
    last = len(spot) - 1
    clipped = [[max(a, 0), b, min(c, last)] for a, b, c in curve["fixed"]]
    assert spans(decode(spot, curve["logits"], k_p)) == clipped


def test_adaptive_intervals_are_the_published_ones(curve):
    assert spans(decode(curve["spot"], curve["logits"], curve["k_p"], method="adaptive")) == curve["adaptive"]


def test_adaptive_intervals_of_real_curves_are_the_published_ones(golden):
    curves = json.loads((golden / "adaptive.json").read_text())
    assert len(curves) == 32
    for curve in curves:
        found = decode(curve["spot"], np.zeros((len(curve["spot"]), 5)), curve["k_p"], method="adaptive")
        assert spans(found) == curve["adaptive"], (curve["clip"], curve["k_p"])


def test_spotting_mainly_votes_as_published(curve):
    found = decode(curve["spot"], curve["logits"], curve["k_p"], synergy="spotting_mainly")
    assert [i.emotion for i in found] == curve["vote_spotting_mainly"]


def test_recognition_mainly_votes_and_deletes_as_published(curve):
    published = curve["vote_recognition_mainly"]
    found = decode(curve["spot"], curve["logits"], curve["k_p"], synergy="recognition_mainly")
    assert [i.emotion for i in found] == [label for label in published if label != NEUTRAL]
    apexes = [apex for (_, apex, _), label in zip(curve["fixed"], published, strict=True) if label != NEUTRAL]
    assert [i.apex for i in found] == apexes


def test_float32_scores_decode_to_the_same_frames(curve):
    found = decode(curve["spot"].astype(np.float32), curve["logits"].astype(np.float32), curve["k_p"])
    assert [i.apex for i in found] == [apex for _, apex, _ in curve["fixed"]]


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 20))
def test_smoothing_is_numpys_same_convolution_with_a_box(values, k_p):
    n, spot = len(values), np.array(values)
    expected = np.convolve(np.concatenate((spot, np.zeros(2 * k_p))), np.ones(2 * k_p) / (2 * k_p), "full")
    # 'same' keeps the middle of 'full'; written out because numpy swaps the two where the box is the longer.
    np.testing.assert_allclose(smooth(spot, k_p), expected[k_p - 1 : k_p - 1 + n], atol=1e-14)
    if n > 2 * k_p:
        same = np.convolve(spot, np.ones(2 * k_p) / (2 * k_p), "same")
        np.testing.assert_allclose(smooth(spot, k_p), same, atol=1e-14)


@given(st.permutations(range(40)), st.integers(0, 40), st.integers(1, 12))
def test_peaks_are_scipys(order, height, distance):
    curve = np.array(order, dtype=np.float64)
    expected, _ = scipy_find_peaks(curve, height=height, distance=distance)
    assert find_peaks(curve, height, distance) == expected.tolist()


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 3), st.integers(1, 8))
def test_peaks_with_plateaus_and_ties_are_scipys(levels, height, distance):
    curve = np.array(levels, dtype=np.float64)
    candidates, _ = scipy_find_peaks(curve, height=height)
    assert find_peaks(curve, height, 1) == candidates.tolist()
    # Which of equal heights scipy takes first depends on its sort; in spikes of the same order ties are settled.
    spikes = np.full(len(curve), -1.0)
    spikes[candidates] = curve[candidates] + 1e-6 * candidates
    expected, _ = scipy_find_peaks(spikes, distance=distance)
    assert find_peaks(curve, height, distance) == expected.tolist()


def test_a_flat_top_peaks_at_its_middle_and_the_ends_never_do():
    assert find_peaks(np.array([0, 2, 2, 2, 2, 1.0]), 0, 1) == [2]
    assert find_peaks(np.array([3, 3, 1, 2, 2.0]), 0, 1) == []
    assert find_peaks(np.array([1.0, 1.0]), 0, 1) == []


def test_a_peak_on_the_threshold_counts():
    assert find_peaks(np.array([0, 1, 0.0]), 1.0, 1) == [1]
    assert find_peaks(np.array([0, 1, 0.0]), np.nextafter(1.0, 2), 1) == []


def test_nothing_below_the_floor_is_reported():
    spot, logits = bump(height=0.3), logits_for([SURPRISE] * 120)
    (found,) = decode(spot, logits, 5)
    assert decode(spot, logits, 5, floor=found.score) == [found]
    assert decode(spot, logits, 5, floor=np.nextafter(found.score, 1)) == []


def test_the_ratio_sets_the_height_between_mean_and_maximum():
    spot, logits = bump(at=30) + bump(at=90, height=0.5), logits_for([SURPRISE] * 120)
    assert len(decode(spot, logits, 5, ratio=0.2)) == 2
    assert len(decode(spot, logits, 5, ratio=0.9)) == 1


def test_intervals_are_clipped_to_the_clip():
    spot = bump(n=40, at=3, width=2) + bump(n=40, at=37, width=2)
    found = decode(spot, logits_for([POSITIVE] * 40), 8)
    assert [(i.onset, i.offset) for i in found] == [(0, found[0].apex + 8), (found[1].apex - 8, 39)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([OTHERS, NEGATIVE, NEGATIVE, OTHERS], OTHERS),
        ([NEGATIVE, OTHERS, OTHERS, NEGATIVE], NEGATIVE),
        ([NEGATIVE, OTHERS, OTHERS], OTHERS),
    ],
)
def test_a_vote_tie_goes_to_the_label_met_first(labels, expected):
    assert vote(logits_for(labels), "spotting_mainly") == expected


def test_the_ends_of_an_interval_do_not_vote():
    """Frames onset + 1 .. offset - 2 vote: frames 56 .. 63 of 55 .. 65, by the reference."""
    spot = bump(at=60)
    (found,) = decode(spot, logits_for([SURPRISE] * 120), 5)
    outside = np.array([not found.onset + 1 <= frame <= found.offset - 2 for frame in range(120)])
    labels = np.where(outside, NEGATIVE, SURPRISE)
    (voted,) = decode(spot, logits_for(labels) * np.where(outside, 100.0, 1.0)[:, None], 5)
    assert voted.emotion == SURPRISE
    assert voted.probabilities.argmax() == SURPRISE
    one = logits_for([SURPRISE])[0, :4].astype(np.float64)
    np.testing.assert_allclose(voted.probabilities, np.exp(one) / np.exp(one).sum())


def test_synergy_modes_differ_only_in_what_neutral_may_do():
    spot = bump()
    # Neutral wins on its own logit, and at logit 0 as well.
    neutral = np.tile([-4.0, -3.0, -1.0, -2.0, 5.0], (120, 1))
    assert [i.emotion for i in decode(spot, neutral, 5, synergy="spotting_mainly")] == [SURPRISE]
    assert [i.emotion for i in decode(spot, neutral, 5, synergy="none")] == [None]
    assert decode(spot, neutral, 5, synergy="recognition_mainly") == []
    weak = np.tile([0.0, 0.0, 1.0, 0.0, 5.0], (120, 1))  # at logit 0 neutral loses to surprise
    assert [i.emotion for i in decode(spot, weak, 5, synergy="recognition_mainly")] == [SURPRISE]
    assert [i.emotion for i in decode(spot, weak, 5, synergy="none")] == [None]


def test_an_interval_that_begins_before_the_clip_votes_from_frame_1_on():
    """As published: its onset is moved to frame 0, which then does not vote."""
    spot = np.where(np.arange(60) < 9, 0.9, 0.0)  # smoothed flat on frames 1 to 8
    labels = [NEGATIVE] + [SURPRISE] * 59
    (found,) = decode(spot, logits_for(labels) * np.where(np.arange(60) == 0, 100.0, 1.0)[:, None], 8)
    assert (found.onset, found.apex) == (0, 4)
    one = logits_for([SURPRISE])[0, :4].astype(np.float64)
    np.testing.assert_allclose(found.probabilities, np.exp(one) / np.exp(one).sum())


@pytest.mark.parametrize(
    ("synergy", "priors", "expected"),
    [
        ("spotting_mainly", (), NEGATIVE),
        ("spotting_mainly", (0, 0.9, 0, 0, 0), NEGATIVE),
        ("spotting_mainly", (0, 1.1, 0, 0, 9.0), POSITIVE),
        ("spotting_mainly", (-1.1, 0, 0, 0, 0), POSITIVE),
        ("recognition_mainly", (0, 0, 0, 0, 1.9), NEGATIVE),  # of its logit's 7 nothing is left
        ("recognition_mainly", (0, 0, 0, 0, 2.1), NEUTRAL),
        ("none", (), NEUTRAL),
        ("none", (5.1, 0, 0, 0, 0), NEGATIVE),
    ],
)
def test_priors_are_added_to_the_logits_before_they_vote(synergy, priors, expected):
    logits = np.tile([2.0, 1.0, 0.0, 0.0, 7.0], (120, 1))
    found = decode(bump(), logits, 5, synergy=synergy, class_priors=priors)
    deleted = synergy == "recognition_mainly" and expected == NEUTRAL
    assert [i.emotion for i in found] == ([] if deleted else [None if expected == NEUTRAL else expected])
    if found:
        row = np.exp(logits[0, :4] + (priors[:4] or 0.0))
        np.testing.assert_allclose(found[0].probabilities, row / row.sum())


@pytest.mark.parametrize("priors", [(1.0,), (0.0,) * 6, (0.0, np.nan, 0.0, 0.0, 0.0)])
def test_priors_that_are_not_one_finite_number_a_label_are_refused(priors):
    with pytest.raises(ValueError, match="expected class_priors to be 5 finite numbers, one a label"):
        decode(bump(), np.zeros((120, 5)), 5, class_priors=priors)
    with pytest.raises(ValueError, match="expected class_priors to be 5 finite numbers, one a label"):
        OnlineDecoder(5, 30.0, class_priors=priors).push(0.5, np.zeros(5))


@pytest.mark.parametrize("synergy", ["spotting_mainly", "none"])
def test_probabilities_are_the_mean_softmax_over_emotions_and_sum_to_one(synergy):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, (120, 5))
    (found,) = decode(bump(), logits, 5, synergy=synergy)
    rows = [np.exp(row[:4]) / np.exp(row[:4]).sum() for row in logits[found.onset + 1 : found.offset - 1]]
    np.testing.assert_allclose(found.probabilities, np.mean(rows, axis=0), rtol=1e-12)
    assert found.probabilities.sum() == pytest.approx(1.0)
    assert found.probabilities.dtype == np.float64


def test_extreme_logits_do_not_overflow():
    logits = np.tile([1e4, -1e4, 0.0, 0.0, 1e4], (120, 1))
    (found,) = decode(bump(), logits, 5)
    np.testing.assert_array_equal(found.probabilities, [1, 0, 0, 0])


def test_where_no_frame_may_vote_the_apex_does():
    labels = [NEGATIVE] * 30
    labels[15] = POSITIVE
    spot = np.zeros(30)
    spot[14:17] = 0.5
    spot[15] = 0.9
    (found,) = decode(spot, logits_for(labels), 5)
    assert found.emotion == NEGATIVE  # frames 11 .. 18 vote
    spot = np.array([0.0, 0.0, 1.0, 0.0, 0.0])
    tiny = decode(spot, logits_for([NEGATIVE, NEGATIVE, POSITIVE, NEGATIVE, NEGATIVE]), 1)
    # k_p 1 leaves frames onset + 1 .. offset - 2 = apex .. apex - 1: none.
    assert [(i.apex, i.emotion) for i in tiny] == [(2, POSITIVE)]


def test_the_score_is_the_smoothed_curve_at_the_peak():
    spot = bump()
    smoothed = smooth(spot, 5)
    for method in ("fixed", "adaptive"):
        (found,) = decode(spot, logits_for([SURPRISE] * 120), 5, method=method)
        assert found.score == smoothed.max()


@pytest.mark.parametrize("method", ["fixed", "adaptive"])
@pytest.mark.parametrize("n", [0, 1, 2, 4, 9])
@pytest.mark.parametrize("k_p", [1, 5, 17])
def test_a_clip_shorter_than_an_interval_is_decoded(n, k_p, method):
    for spot in (np.zeros(n), np.full(n, 0.7), np.linspace(0, 1, n), np.hanning(n)):
        for found in decode(spot, np.zeros((n, 5)), k_p, method=method):
            assert 0 <= found.onset <= found.apex <= found.offset < n


@given(st.lists(st.floats(0, 1), max_size=80), st.integers(1, 9), st.sampled_from(["fixed", "adaptive"]))
def test_intervals_lie_in_the_clip_in_order(values, k_p, method):
    found = decode(np.array(values), np.zeros((len(values), 5)), k_p, method=method)
    for interval in found:
        assert 0 <= interval.onset <= interval.apex <= interval.offset < len(values)
    onsets = [i.onset for i in found]
    assert onsets == sorted(onsets)
    if method == "fixed":
        assert all(b.apex - a.apex >= k_p for a, b in itertools.pairwise(found))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.integers(1, 9))
def test_adaptive_reads_a_mirrored_curve_mirrored(values, k_p):
    spot, last = np.array(values), len(values) - 1
    peak = int(spot.argmax())
    ((onset, _, offset, _),) = adaptive_spans(spot, [peak], k_p)
    ((mirrored_onset, _, mirrored_offset, _),) = adaptive_spans(spot[::-1].copy(), [last - peak], k_p)
    # The mean may differ by a rounding between the two directions; curves that touch it may then differ too.
    levels = (spot.mean(), spot.mean() / 1.5)
    if not any(np.isclose(spot, level, atol=1e-12).any() for level in levels):
        assert (onset, offset) == (last - mirrored_offset, last - mirrored_onset)


def test_adaptive_drops_an_interval_that_overlaps_one_before_though_their_apexes_are_apart():
    spot = np.zeros(100)
    spot[15:34] = 0.8
    spot[20], spot[31] = 0.9, 0.85
    assert adaptive_spans(spot, [31], 3) == [(28, 31, 34, 31)]  # frames 13 and 14 lie beyond its reach
    assert adaptive_spans(spot, [20, 31], 3) == [(15, 20, 33, 20)]


def test_where_the_curve_does_not_fall_below_its_mean_within_reach_an_adaptive_interval_is_k_p_each_way():
    spot = np.zeros(100)
    spot[5:60] = 0.8
    spot[36] = 0.95
    assert adaptive_spans(spot, [36], 3) == [(33, 36, 39, 36)]
    assert adaptive_spans(spot, [36], 7) == [(5, 36, 59, 36)]  # within 35 frames it does


def test_the_overlap_of_adaptive_intervals_is_that_of_lengths_as_published():
    first = Span(0, 4, 12, 4)
    assert is_apart(Span(8, 16, 21, 16), [first], 3)  # 4 of 21; as counted frames, 5 of 22 would be too much
    assert not is_apart(Span(8, 16, 20, 16), [first], 3)  # 4 of 20 is a fifth


@pytest.mark.parametrize(("k_p", "kept"), [(10, 1), (9, 2)])
def test_adaptive_drops_an_apex_within_k_p_of_one_before_though_they_share_no_frame(k_p, kept):
    spot = np.zeros(100)
    spot[17:20] = spot[27:30] = 0.7, 0.8, 0.5
    assert adaptive_spans(spot, [18, 28], k_p) == [(16, 18, 20, 18), (26, 28, 30, 28)][:kept]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_with_their_place(bad):
    spot, logits = np.zeros(20), np.zeros((20, 5))
    spot[7] = bad
    with pytest.raises(ValueError, match=r"expected finite spotting scores; got .* at index \(7,\)"):
        decode(spot, logits, 5)
    logits[3, 2] = bad
    with pytest.raises(ValueError, match=r"expected finite emotion logits; got .* at index \(3, 2\)"):
        decode(np.zeros(20), logits, 5)


@pytest.mark.parametrize(
    ("spot", "logits", "options", "message"),
    [
        (np.zeros((2, 9)), np.zeros((9, 5)), {}, r"expected spot \(n,\) and logits \(n, E\).*\(2, 9\)"),
        (np.zeros(9), np.zeros((8, 5)), {}, r"\(9,\) and \(8, 5\)"),
        (np.zeros(9), np.zeros((9, 5)), {"synergy": "both"}, "expected synergy to be one of .*'both'"),
        (np.zeros(9), np.zeros((9, 5)), {"method": "best"}, "expected method to be one of .*'best'"),
        (np.zeros(9), np.zeros((9, 5)), {"k_p": 0}, "expected k_p to be a whole number.*got 0"),
        (np.zeros(9), np.zeros((9, 5)), {"k_p": 2.5}, "expected k_p to be a whole number.*got 2.5"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(spot, logits, options, message):
    with pytest.raises(ValueError, match=message):
        decode(spot, logits, **{"k_p": 3, **options})


def test_intervals_compare_by_value():
    a = decode(bump(), logits_for([SURPRISE] * 120), 5)
    b = decode(bump(), logits_for([SURPRISE] * 120), 5)
    assert a == b and hash(a[0]) == hash(b[0]) and isinstance(a[0], Interval)
    assert a != decode(bump(), logits_for([POSITIVE] * 120), 5)
