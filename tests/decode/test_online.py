"""What the stream reports is what a plain reading of the rule, one prefix at a time, reports."""

import json
import statistics

import numpy as np
import pytest

from metst_edge.decode import OnlineDecoder, decode
from tests.decode.causal import FPS, any_curve, bump, causal_run, plateaus_and_ties, stream


def assert_stream_is_the_causal_run(spot, k_p=3, ratio=0.55, floor=0.0, window_seconds=2.5):
    logits = np.zeros((len(spot), 5))
    events = stream(spot, logits, k_p=k_p, ratio=ratio, floor=floor, window_seconds=window_seconds)
    expected = causal_run(spot, k_p, ratio, floor, window_seconds)
    assert [(frame, i.apex, i.score) for frame, i in events] == expected
    reach = OnlineDecoder(k_p, FPS, window_seconds=window_seconds).reach
    for frame, interval in events:
        assert interval.onset > min(frame, len(spot) - 1) - reach
        assert interval.onset == max(interval.apex - k_p, 0)
        assert interval.offset == min(interval.apex + k_p, len(spot) - 1)


@any_curve(longest=70)
def test_any_curve(spot, k_p, ratio, floor, window_seconds):
    assert_stream_is_the_causal_run(spot, k_p, ratio, floor, window_seconds)


@plateaus_and_ties(longest=9)
def test_curves_of_plateaus_and_ties(spot, k_p, ratio, window_seconds):
    assert_stream_is_the_causal_run(spot, k_p, ratio, 0.0, window_seconds)


@pytest.mark.parametrize(
    "spot",
    [
        [],
        [0.5],
        [0.5, 0.5],
        [0.1] * 90,
        [1.0] * 90,
        [0.3, 0.6] * 40,
        list(np.linspace(0, 1, 80)),
        list(np.linspace(1, 0, 80)),
        [0.0] * 10 + [1.0] * 60 + [0.0] * 10,
        ([0.0] * 5 + [0.7] * 3) * 8,
        ([0.0] * 6 + [1 / 3] * 7) * 5 + [1e-9] * 10,
    ],
    ids=["none", "one", "two", "low", "saturated", "zigzag", "rise", "fall", "minute", "train", "third"],
)
def test_adversarial_curves(spot):
    assert_stream_is_the_causal_run(spot)
    assert_stream_is_the_causal_run(spot, k_p=1)
    assert_stream_is_the_causal_run(spot, ratio=0.0)


@pytest.mark.parametrize("k_p", [1, 2, 5, 17])
def test_an_event_comes_two_k_p_less_one_frames_after_its_apex(k_p):
    spot = bump(200, 100.3)
    ((frame, interval),) = stream(spot, np.zeros((200, 5)), k_p=k_p, window_seconds=60)
    assert frame == interval.apex + 2 * k_p - 1
    assert abs(interval.apex - 100) <= 1


def test_a_flat_top_longer_than_the_window_is_not_a_peak_and_one_as_long_is():
    def apexes(length):
        # The box turns a pulse of this length into a flat top of length - 2 k_p + 1 frames.
        spot = [0.0] * 20 + [0.8] * (length + 2 * 3 - 1) + [0.0] * 20
        logits = np.zeros((len(spot), 5))
        return [i.apex for _, i in stream(spot, logits, k_p=3, ratio=0.0, window_seconds=2.5)]

    assert len(apexes(25)) == 1
    assert apexes(26) == []


def unsmooth(curve, k_p):
    """Return scores whose smoothed curve is this one, as far as it goes."""
    spot = [0.0] * (2 * k_p - 1)
    for value in curve:
        spot.append(2 * k_p * value - sum(spot[-(2 * k_p - 1) :]))
    return spot[k_p:]  # the surroundings of frame 0 begin k_p frames before it


@pytest.mark.parametrize(
    ("tops", "expected"),
    [
        ((4, 3), [10]),
        ((3, 4), [13]),
        ((3, 3), [10]),
    ],
    ids=["falling", "rising", "equal"],
)
def test_of_two_peaks_nearer_than_k_p_the_higher_stays_and_of_equals_the_first(tops, expected):
    curve = np.zeros(40)
    curve[9:15] = 2 / 8, tops[0] / 8, 1 / 8, 2 / 8, tops[1] / 8, 1 / 8
    decoder = OnlineDecoder(k_p=4, fps=FPS, ratio=0.0)
    # No flush: raw scores that undo the smoothing end in a heap of zeros that is of no interest here.
    assert [i.apex for score in unsmooth(curve, 4) for i in decoder.push(score, np.zeros(5))] == expected


@pytest.mark.parametrize(("distance", "expected"), [(4, [14]), (5, [10, 15])])
def test_a_higher_sample_exactly_k_p_later_still_takes_over(distance, expected):
    curve = np.zeros(40)
    curve[10], curve[10 + distance] = 3 / 8, 4 / 8
    decoder = OnlineDecoder(k_p=4, fps=FPS, ratio=0.0)
    assert [i.apex for score in unsmooth(curve, 4) for i in decoder.push(score, np.zeros(5))] == expected


def test_the_past_beyond_the_window_is_forgotten():
    """A tall peak hides a small one for as long as it is in the window, and no longer."""
    spot = bump(400, 50, 1.0) + bump(400, 100, 0.3) + bump(400, 300, 0.3)
    found = stream(spot, np.zeros((400, 5)), k_p=3, window_seconds=20, floor=0.1)
    assert [i.apex for _, i in found] == [50, 300]
    found = stream(spot, np.zeros((400, 5)), k_p=3, window_seconds=60, floor=0.1)
    assert [i.apex for _, i in found] == [50]


def test_the_floor_holds_back_the_first_seconds_of_noise():
    spot = np.random.default_rng(0).uniform(0.0, 0.1, 300)
    assert stream(spot, np.zeros((300, 5)), k_p=5, floor=0.0)
    assert stream(spot, np.zeros((300, 5)), k_p=5, floor=0.2) == []


def test_flush_decides_what_is_pending_as_the_end_of_the_clip():
    spot = bump(104, 100)
    events = stream(spot, np.zeros((104, 5)), k_p=5)
    ((frame, interval),) = events
    assert frame == 104 and interval.offset == 103
    assert [interval] == decode(spot, np.zeros((104, 5)), 5)


def test_a_peak_at_the_start_is_clipped_to_it():
    ((_, interval),) = stream(bump(60, 2), np.zeros((60, 5)), k_p=5)
    assert interval.onset == 0


@pytest.mark.parametrize("end", ["flush", "reset"])
def test_after_flush_or_reset_the_decoder_is_as_new(end):
    rng = np.random.default_rng(5)
    spot, logits = rng.uniform(0, 1, 120), rng.normal(size=(120, 5))
    decoder = OnlineDecoder(k_p=4, fps=FPS, window_seconds=3)

    def run():
        return [i for score, row in zip(spot, logits, strict=True) for i in decoder.push(score, row)]

    fresh = run()
    getattr(decoder, end)()
    assert fresh and run() == fresh


def test_emotions_are_read_as_offline():
    """Where both decoders find a peak, its interval is the same, whatever synergy and priors."""
    rng = np.random.default_rng(1)
    spot, logits = rng.uniform(0, 1, 300), rng.normal(0, 2, (300, 5))
    for synergy in ("spotting_mainly", "recognition_mainly", "none"):
        options = {"k_p": 4, "ratio": 0.0, "synergy": synergy, "class_priors": (0.3, 0.0, -0.5, 0.0, 0.2)}
        offline = {i.apex: i for i in decode(spot, logits, **options)}
        online = {i.apex: i for _, i in stream(spot, logits, **options)}
        shared = offline.keys() & online.keys()
        assert len(shared) > 10
        assert all(offline[apex] == online[apex] for apex in shared)
        if synergy == "recognition_mainly":
            everything = {i.apex for i in decode(spot, logits, **options | {"synergy": "none"})}
            assert offline.keys() < everything


def test_on_the_published_curves_the_stream_finds_the_offline_peaks(golden):
    """A threshold that sees only the past is seldom higher; of two peaks k_p apart the stream keeps one."""
    found = total = 0
    for curve in json.loads((golden / "decode.json").read_text()):
        decoder = OnlineDecoder(curve["k_p"], 30.0)
        scores = zip(curve["spot"], curve["logits"], strict=True)
        apexes = {i.apex for pair in scores for i in decoder.push(*pair)} | {i.apex for i in decoder.flush()}
        total += len(curve["fixed"])
        found += sum(apex in apexes for _, apex, _ in curve["fixed"])
    assert found >= 0.9 * total


def test_memory_stays_bounded_and_the_mean_does_not_drift():
    decoder = OnlineDecoder(k_p=3, fps=FPS, window_seconds=4)
    rng = np.random.default_rng(2)
    zeros, held = np.zeros(5), decoder._statistics
    for frame in range(20_000):
        decoder.push(float(rng.uniform() ** 20 * 10.0 ** rng.integers(-12, 1)), zeros)
        if frame > 18_000:
            assert held.maximum == max(held._values)
    assert len(held._values) == 40 and len(held._maxima) <= 40
    assert len(decoder._logits) <= 40 and len(decoder._candidates) <= 40
    assert held.mean == statistics.mean(held._values)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused_and_not_taken(bad):
    decoder, clean = OnlineDecoder(3, FPS), OnlineDecoder(3, FPS)
    spot = bump(80, 40)
    events, expected = [], []
    for frame, score in enumerate(spot):
        if frame == 38:
            with pytest.raises(ValueError, match="expected finite spotting score at frame 38"):
                decoder.push(bad, np.zeros(5))
            with pytest.raises(ValueError, match="expected finite emotion logits at frame 38"):
                decoder.push(0.5, np.full(5, bad))
            with pytest.raises(ValueError, match=r"expected logits \(E,\).*\(4,\)"):
                decoder.push(0.5, np.zeros(4))
        events += decoder.push(score, np.zeros(5))
        expected += clean.push(score, np.zeros(5))
    assert events == expected and len(events) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"k_p": 0}, "expected k_p"),
        ({"fps": 0.0}, "expected fps > 0"),
        ({"fps": float("nan")}, "expected fps > 0"),
        ({"window_seconds": 0.5}, r"expected a window of at least 2 k_p \+ 1 = 11 frames"),
        ({"synergy": "both"}, "expected synergy"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        OnlineDecoder(**{"k_p": 5, "fps": FPS, **parameters})
