"""Faults of a camera are where they are said to be, look like themselves, and leave the other frames alone."""

import numpy as np
import pytest

from training.synthesis.faults import KEY_FRAME, KINDS, CameraFaults

N, FPS, PIXEL = 600, 30.0, 0.5


def scene(n: int = N) -> list[np.ndarray]:
    """Frames with edges, each a gray level darker or brighter than the one before."""
    rng = np.random.default_rng(0)
    still = np.repeat(np.repeat(rng.integers(60, 180, (12, 16, 3)), 4, 0), 4, 1)
    return [(still + i % 5).astype(np.uint8) for i in range(n)]


def camera(seed: int = 0, per_minute: float = 150.0) -> CameraFaults:
    return CameraFaults(np.random.default_rng(seed), N, FPS, per_minute, PIXEL)


def test_everything_happens_in_order_and_within_the_clip_and_again_with_the_same_seed():
    one, other = camera(), camera()
    assert one.happened == other.happened and (one.gop, one.coarser) == (other.gop, other.coarser)
    assert {each.kind for each in one.happened} == {*KINDS, KEY_FRAME}
    assert one.happened == sorted(one.happened, key=lambda each: each.onset)
    assert all(0 <= each.onset <= each.offset < N for each in one.happened)
    pops = [each.onset for each in one.happened if each.kind == KEY_FRAME]
    assert pops == list(range(one.gop - 1, N - 2, one.gop))
    for a, b in zip(one(scene()), other(scene()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frames_without_a_fault_stay_as_they_are():
    faulty = camera(1, 10.0)
    touched = np.zeros(N, bool)
    lamp = [each.onset for each in faulty.happened if each.kind == "light"]
    for each in faulty.happened:
        if each.kind != KEY_FRAME:
            touched[each.onset : each.offset + 1] = True
    if lamp:
        touched[lamp[0] :] = True  # exposure takes its time
    assert (~touched).sum() > 10
    for clean, seen in zip(np.array(scene())[~touched], np.array(list(faulty(scene())))[~touched], strict=True):
        np.testing.assert_array_equal(clean, seen)


@pytest.mark.parametrize("kind", KINDS)
def test_each_looks_like_itself(kind, monkeypatch):
    monkeypatch.setattr("training.synthesis.faults.KINDS", (kind,))
    faulty = camera(3, 6.0)
    first = next(each for each in faulty.happened if each.kind == kind)
    clean, seen = scene(), list(faulty(scene()))
    assert len(seen) == N
    at = (first.onset + first.offset) // 2
    before, there = clean[at].astype(float), seen[at].astype(float)
    if kind == "held":
        assert all((seen[i] == seen[first.onset]).all() for i in range(first.onset + 1, first.offset))
    elif kind == "light":
        ratio = seen[first.onset + 3].mean() / clean[first.onset + 3].mean()
        assert 0.03 < abs(np.log(ratio)) < 0.4
    elif kind == "noise":
        assert 3 < (there - before).std() < 13
    else:
        assert np.abs(np.diff(there, axis=1)).sum() < 0.9 * np.abs(np.diff(before, axis=1)).sum()


def test_light_does_not_run_away_in_a_long_clip():
    for seed in range(5):
        gain = CameraFaults(np.random.default_rng(seed), 30 * 60 * 30, FPS, 30.0, PIXEL)._gain
        assert np.exp(np.abs(gain)).max() < 3 and (np.abs(gain) > np.log(2)).mean() < 0.02
