"""What is remembered of a stream: the face in the latest slots, bounded, and good for the clip of an interval."""

import numpy as np
import pytest

from metst_edge.recognise import cut, view_of
from metst_edge.recognise.memory import FaceMemory, slots_needed
from metst_edge.recognise.recorded import FaceTrack


def landmarks(x, y, side):
    points = np.zeros((68, 2), np.float32)
    points[30] = x, y
    points[19], points[8], points[57] = (x, y - side / 2), (x, y + side / 2), (x, y + side / 2)
    return points


def pictures(count, shape=(240, 320), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("shape, side", [((240, 320), 120), ((1000, 1400), 700)])
def test_a_clip_is_the_onsets_square_of_every_frame(shape, side):
    """Of small faces as they are, of large ones reduced; the head moves a little at a window's start within it."""
    frames = pictures(20, shape)
    x, y = shape[1] // 2, shape[0] // 2
    memory, faces = FaceMemory(30), {0: landmarks(x, y, side), 8: landmarks(x + side // 12, y - 3, side + 4)}
    for i, frame in enumerate(frames):
        memory.saw(i, frame, faces.get(i))
    clip = memory.clip(3, 9, 15, 11)
    view = view_of(faces[0], *shape)
    assert view.factor == (1 if side == 120 else 3)
    np.testing.assert_array_equal(clip.onset, cut(frames[3], view))
    assert list(clip.positions) == list(range(11)) and len(clip.crops) == 11
    for crop, frame in zip(clip.crops, frames[4:15], strict=True):
        np.testing.assert_array_equal(crop, cut(frame, view))


def test_short_intervals_are_remembered_too():
    memory = FaceMemory(30)
    for i, frame in enumerate(pictures(6)):
        memory.saw(i, frame, landmarks(160, 120, 100) if i == 0 else None)
    clip = memory.clip(2, 3, 4, 11)
    assert len(clip.crops) == 2 and clip.positions == pytest.approx([i / 10 for i in range(11)])
    assert memory.clip(2, 2, 2, 11) is None, "one frame shows no motion"


def test_memory_is_bounded_however_long_the_stream_and_however_large_the_picture():
    frame = pictures(1, (2000, 2600))[0]
    slots = slots_needed(k_p=6, look_ahead=2)
    assert slots == 78
    memory, most = FaceMemory(slots), 0
    for i in range(3 * slots):
        memory.saw(i, frame, landmarks(1300, 1000, 1500 + 7 * (i % 20)) if i % 15 == 0 else None)
        most = max(most, memory.nbytes)
    assert len(memory) == slots
    assert most <= slots * (1.25 * 1.65 * 256) ** 2, "22 MB"


def test_what_an_event_comes_late_for_is_forgotten():
    memory = FaceMemory(10)
    for i, frame in enumerate(pictures(20)):
        memory.saw(i, frame, landmarks(160, 120, 100) if i == 0 else None)
    assert memory.clip(9, 12, 15, 11) is None and memory.clip(10, 12, 15, 11) is not None
    assert memory.clip(12, 15, 20, 11) is None, "not come yet"
    memory.forget()
    assert len(memory) == 0 and memory.clip(10, 12, 15, 11) is None


def test_a_head_that_moves_out_of_what_was_kept_has_no_clip():
    memory = FaceMemory(30)
    for i, frame in enumerate(pictures(20)):
        memory.saw(i, frame, {0: landmarks(120, 120, 80), 10: landmarks(200, 120, 80)}.get(i))
    assert memory.clip(2, 4, 9, 11) is not None and memory.clip(12, 14, 18, 11) is not None
    assert memory.clip(6, 9, 14, 11) is None


def test_a_face_that_comes_much_nearer_has_no_clip_of_both_sizes():
    memory = FaceMemory(30)
    for i, frame in enumerate(pictures(20, (900, 900))):
        memory.saw(i, frame, {0: landmarks(450, 450, 250), 10: landmarks(450, 450, 600)}.get(i))
    assert memory.clip(6, 9, 14, 11) is None


def test_two_slots_of_one_frame_are_kept_once():
    """A camera of half the model's rate: an interval of three frames is one of five slots."""
    memory = FaceMemory(30)
    frames = pictures(8)
    for slot in range(15):
        memory.saw(slot // 2, frames[slot // 2], landmarks(160, 120, 100) if slot == 0 else None)
    assert len(memory) == 15 and memory.nbytes == 8 * 124 * 124
    clip = memory.clip(2, 3, 4, 11)
    assert clip.positions == pytest.approx([i * 0.4 for i in range(11)]) and len(clip.crops) == 5
    np.testing.assert_array_equal(clip.crops[0], clip.onset)


def test_an_onset_on_which_a_window_begins_late_is_seen_as_by_who_reads_it_again():
    """A camera slower than the model: frame 3 has two slots, and a window begins with the second."""
    frames, slots = pictures(8), [0, 1, 2, 3, 3, 4, 5, 6]
    faces = {0: landmarks(160, 120, 100), 4: landmarks(163, 121, 104)}
    memory, track = FaceMemory(30), FaceTrack()
    for number, slot in enumerate(slots):
        for each in (memory, track):
            each.saw(slot, frames[slot], faces.get(number))
    clip = memory.clip(3, 4, 6, 11)
    np.testing.assert_array_equal(clip.onset, cut(frames[3], view_of(faces[4], 240, 320)))
    np.testing.assert_array_equal(clip.onset, cut(frames[3], track.view(3)))


def test_pictures_are_not_kept_alive():
    frame = pictures(1)[0]
    memory = FaceMemory(3)
    memory.saw(0, frame, landmarks(160, 120, 100))
    assert not any(np.shares_memory(kept.crop, frame) for kept in memory._kept)
