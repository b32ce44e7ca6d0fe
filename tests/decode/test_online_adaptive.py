"""The stream's adaptive intervals are those of the rule read plainly, and come with the frame that settles them."""

import json
import statistics

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metst_edge.decode import OnlineDecoder, decode
from metst_edge.decode.adaptive import adaptive_spans, is_apart
from metst_edge.matching import iou
from tests.decode.causal import FPS, any_curve, bump, causal_run, plateaus_and_ties, stream


def fitted(spot, peak, k_p, mean):
    """The rule on the whole curve, frame by frame: onset, apex, offset, and the frame with which they are settled."""
    last = len(spot) - 1
    onset, offset = max(peak - k_p, 0), min(peak + k_p, last)
    rising = [i for i in range(onset + 1, peak) if spot[i] > spot[i - 1] and spot[i] > mean / 1.5]
    falling = [i for i in range(peak + 1, offset) if spot[i] > spot[i + 1] and spot[i] > mean / 1.5]
    onset = min(rising) - 1 if rising else onset
    offset = max(falling) + 1 if falling else offset
    low = [i for i, value in enumerate(spot) if value < mean]
    before = [i for i in low if i - 1 in low and peak - 5 * k_p <= i < onset]
    after = [i for i in low if i + 1 in low and offset < i <= peak + 5 * k_p]
    if before:
        onset = max(before) + 1
    if after:
        offset, known = min(after) - 1, min(after) + 1
    else:
        known = peak + 5 * k_p + (peak + 5 * k_p > last or spot[peak + 5 * k_p] < mean)
    return onset, onset + int(np.argmax(spot[onset : offset + 1])), offset, known


def causal_fit(spot, k_p, ratio, floor, window_seconds):
    """Return (frame that returns it, onset, apex, offset, score) of every interval kept."""
    window, n = round(window_seconds * FPS), len(spot)
    events, kept, returned = [], [], 0
    for accepted, peak, score in causal_run(spot, k_p, ratio, floor, window_seconds):
        mean = statistics.mean([float(value) for value in spot[: accepted + 1][-window:]])
        onset, apex, offset, known = fitted(spot, peak, k_p, mean)
        returned = min(max(accepted, known, returned), n)
        shared = [max(min(offset, b) - max(onset, a), 0) / max(max(offset, b) - min(onset, a), 1) for a, _, b in kept]
        if all(part < 0.2 for part in shared) and all(abs(apex - other) > k_p for _, other, _ in kept):
            kept.append((onset, apex, offset))
            events.append((returned, onset, apex, offset, score))
    return events


def assert_stream_is_the_causal_fit(spot, k_p=3, ratio=0.55, floor=0.0, window_seconds=2.5):
    parameters = {"k_p": k_p, "ratio": ratio, "floor": floor, "window_seconds": window_seconds}
    events = stream(spot, np.zeros((len(spot), 5)), method="adaptive", **parameters)
    found = [(frame, i.onset, i.apex, i.offset, i.score) for frame, i in events]
    assert found == causal_fit(spot, **parameters)
    reach = OnlineDecoder(k_p, FPS, window_seconds=window_seconds, method="adaptive").reach
    for frame, interval in events:
        assert interval.onset > min(frame, len(spot) - 1) - reach


@any_curve(longest=90)
def test_any_curve(spot, k_p, ratio, floor, window_seconds):
    assert_stream_is_the_causal_fit(spot, k_p, ratio, floor, window_seconds)


@plateaus_and_ties(longest=14)
def test_curves_of_plateaus_and_ties(spot, k_p, ratio, window_seconds):
    assert_stream_is_the_causal_fit(spot, k_p, ratio, 0.0, window_seconds)


@pytest.mark.parametrize("k_p", [1, 2, 7])
@pytest.mark.parametrize("seed", range(2))
def test_curves_with_smooth_peaks(k_p, seed):
    """As a network gives them: wide enough that intervals meet, and are dropped for it."""
    random = np.random.default_rng(seed)
    spot = np.convolve(random.uniform(size=240) ** 4, np.hanning(3 * k_p + 3), "same")
    assert_stream_is_the_causal_fit((spot / spot.max()).tolist(), k_p, 0.0, 0.0, 8.0)


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
        ([0.0] + [0.7] * 3) * 20,
        ([0.0] * 6 + [1 / 3] * 7) * 5 + [1e-9] * 10,
    ],
    ids=["none", "one", "two", "low", "saturated", "zigzag", "rise", "fall", "minute", "train", "comb", "third"],
)
def test_adversarial_curves(spot):
    assert_stream_is_the_causal_fit(spot)
    assert_stream_is_the_causal_fit(spot, k_p=1)
    assert_stream_is_the_causal_fit(spot, ratio=0.0)


@pytest.mark.parametrize("k_p", [2, 5, 17])
def test_an_interval_comes_with_the_second_frame_below_the_mean(k_p):
    spot = bump(300, 150.3, width=2.5 * k_p)
    ((frame, interval),) = stream(spot, np.zeros((300, 5)), k_p=k_p, method="adaptive")
    assert frame == interval.offset + 2
    assert 2 * k_p - 1 <= frame - interval.apex <= 5 * k_p + 1


@pytest.mark.parametrize(("there", "delay"), [(0.5, 15), (0.0, 16)], ids=["above", "below"])
def test_where_the_curve_stays_up_an_interval_comes_when_its_reach_is_past(there, delay):
    """Frames 5 k_p and 5 k_p + 1 after the peak could be such two, unless the first of them is not below the mean."""
    spot = [0.0] * 30 + [0.5] * 40
    spot[31] = 1.0
    peak = 33  # the first frame whose surroundings hold the spike and no zero
    spot[peak + 15] = there
    (frame, interval), *_ = stream(spot, np.zeros((70, 5)), k_p=3, method="adaptive")
    assert (frame, interval.offset) == (peak + delay, peak + 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=20, max_size=60), st.integers(1, 3))
@example([0.0, 0.0, 1, 0.25, 0.25, 1, 0.75, 0.25, 0.0, 0.0, 1, 1, 0.5, 0.0, 1, 0.0, 1, 0.4375, 0.0, 0.0], 3)
def test_one_frame_before_it_comes_an_interval_is_open(spot, k_p):
    """With the frame that brings it left out, there are two ways to go on that end it differently."""

    def fits(curve):
        return stream(curve, np.zeros((len(curve), 5)), k_p=k_p, method="adaptive", ratio=0.3)

    earlier, found = -1, fits(spot)
    peaks = stream(spot, np.zeros((len(spot), 5)), k_p=k_p, ratio=0.3)
    if len(found) < len(peaks):  # one was ruled out, and another may have waited for it: what was open is not its end
        return
    for number, ((frame, _), (accepted, _)) in enumerate(zip(found, peaks, strict=True)):
        if earlier < frame < len(spot) and accepted < frame:
            prefix = spot[:frame]
            ways = [prefix + [1.0] * up + [0.0] * 2 + [1.0] * 40 for up in range(5 * k_p)]
            ends = [events[number][1] for events in map(fits, ways) if len(events) > number]
            assert len({(i.onset, i.offset) for i in ends}) > 1
        earlier = frame


def test_the_published_curves_give_in_a_stream_what_they_give_as_a_whole(golden):
    """Where a sliding minute that sees only the past stands for the clip, most intervals are found."""
    total = found = 0
    for curve in json.loads((golden / "adaptive.json").read_text()):
        logits = np.zeros((len(curve["spot"]), 5))
        decoder = OnlineDecoder(curve["k_p"], 30.0, method="adaptive")
        scores = zip(curve["spot"], logits, strict=True)
        live = [i for pair in scores for i in decoder.push(*pair)] + decoder.flush()
        spans = [(i.onset, i.offset) for i in live]
        total += len(curve["adaptive"])
        found += sum(any(iou((a, b), span) >= 0.5 for span in spans) for a, _, b in curve["adaptive"])
    assert found >= 0.9 * total


def test_with_one_mean_onsets_rise_with_the_peaks():
    """So the order of the peaks, in which a stream decides, is the published order of the onsets."""
    random = np.random.default_rng(8)
    for _ in range(200):
        k_p = int(random.integers(1, 6))
        spot = np.convolve(random.uniform(size=150), np.ones(random.integers(1, 9)), "same")
        peaks = np.cumsum(random.integers(k_p, 4 * k_p + 1, size=20))
        peaks = peaks[peaks < 150].tolist()
        alone = [adaptive_spans(spot, [peak], k_p)[0] for peak in peaks]
        kept = []
        for span in alone:
            if is_apart(span, kept, k_p):
                kept.append(span)
        assert [span.onset for span in alone] == sorted(span.onset for span in alone)
        assert adaptive_spans(spot, peaks, k_p) == kept


@pytest.mark.parametrize("end", ["flush", "reset"])
def test_after_flush_or_reset_the_decoder_is_as_new(end):
    random = np.random.default_rng(5)
    spot, logits = random.uniform(0, 1, 120), random.normal(size=(120, 5))
    decoder = OnlineDecoder(k_p=2, fps=FPS, window_seconds=3, ratio=0.2, method="adaptive")

    def run():
        return [i for score, row in zip(spot, logits, strict=True) for i in decoder.push(score, row)]

    fresh = run()
    getattr(decoder, end)()
    assert fresh and run() == fresh


def test_an_interval_under_way_is_ended_by_the_end_of_the_stream():
    spot = bump(104, 96, width=8)
    ((frame, interval),) = stream(spot, np.zeros((104, 5)), k_p=5, method="adaptive")
    assert frame == 104 and interval.offset <= 103
    assert [interval] == decode(spot, np.zeros((104, 5)), 5, method="adaptive")


def test_memory_stays_bounded():
    decoder = OnlineDecoder(k_p=3, fps=FPS, window_seconds=4, ratio=0.0, method="adaptive")
    random = np.random.default_rng(2)
    zeros, fitter, most = np.zeros(5), decoder._fitter, 0
    for _ in range(5_000):
        decoder.push(float(random.uniform() ** 6), zeros)
        most = max(most, len(fitter._open))
    assert 1 <= most <= 6 and len(fitter._kept) <= 11
    assert len(fitter._latest) <= decoder.reach + 2 and len(decoder._logits) <= decoder.reach
