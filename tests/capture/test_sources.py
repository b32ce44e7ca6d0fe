"""A source is opened by its URI, gives its frames in order, and says what is wrong with bad input."""

import gc
import itertools
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from metst_edge.capture import open_source, video
from metst_edge.errors import SourceError
from tests.capture.pictures import levels, picture, read_until_error

N, FPS = 40, 25.0


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A video of N frames as MP4 and AVI; frame i has mean 5 i + 30."""
    folder = tmp_path_factory.mktemp("clips")
    paths = {}
    for suffix, code in ((".mp4", "mp4v"), (".avi", "MJPG")):
        paths[suffix] = folder / f"clip{suffix}"
        writer = cv2.VideoWriter(str(paths[suffix]), cv2.VideoWriter_fourcc(*code), FPS, (96, 64))
        assert writer.isOpened()
        for level in range(N):
            writer.write(picture(level))
        writer.release()
    return paths


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_gives_its_frames_with_rising_times(clips, suffix):
    with open_source(clips[suffix]) as source:
        assert source.fps == pytest.approx(FPS)
        assert abs(source.frame_count - N) <= 2
        assert not source.live and source.uri == str(clips[suffix])
        frames = list(source)
        assert list(source) == []
    assert levels(frames) == list(range(N))
    assert [frame.index for frame in frames] == list(range(N))
    assert all(frame.image.shape == (64, 96, 3) and frame.image.dtype == np.uint8 for frame in frames)
    times = [frame.timestamp for frame in frames]
    assert all(b > a for a, b in itertools.pairwise(times))
    if suffix == ".mp4":
        np.testing.assert_allclose(times, np.arange(N) / FPS, atol=1e-6)


@pytest.mark.parametrize("form", [str, Path, lambda path: path.as_uri(), lambda path: f"file://{path}"])
def test_a_file_is_found_by_path_and_by_uri(clips, tmp_path, form):
    path = tmp_path / "with space.mp4"
    path.write_bytes(clips[".mp4"].read_bytes())
    with open_source(form(path)) as source:
        assert len(list(source)) == N


class Misreporting:
    """Something of PyAV's that says other things of itself than are true."""

    def __init__(self, real, **wrong):
        self.real = real
        self.__dict__.update(wrong)

    def __getattr__(self, name):
        return getattr(self.real, name)


def report(monkeypatch, timeless=False, duration=None, **wrong):
    """Let PyAV report other properties of a video's stream than it has."""
    opened = video.open_container

    def demux(container, stream):
        for packet in container.demux(stream.real):
            pictures = packet.decode()
            if timeless:
                pictures = [Misreporting(picture, pts=None) for picture in pictures]
            yield Misreporting(packet, decode=lambda pictures=pictures: pictures)

    def misreporting(path, file):
        container, stream = opened(path, file)
        stream = Misreporting(stream, **wrong)
        return Misreporting(container, demux=lambda stream: demux(container, stream)), stream

    monkeypatch.setattr(video, "open_container", misreporting)


def test_times_come_from_the_rate_where_the_container_has_none(clips, monkeypatch):
    report(monkeypatch, timeless=True)
    with open_source(clips[".mp4"]) as source:
        times = [frame.timestamp for frame in source]
    np.testing.assert_allclose(times, np.arange(N) / FPS, atol=1e-9)


def test_a_video_with_neither_times_nor_rate_is_refused_where_it_matters(clips, monkeypatch):
    report(monkeypatch, timeless=True, guessed_rate=None, average_rate=None)
    with open_source(clips[".mp4"]) as source:
        assert source.fps is None
        frames, error = read_until_error(source)
    assert len(frames) == 1 and "expected timestamps or a frame rate" in str(error)


@pytest.mark.parametrize(
    ("suffix", "container", "wrong", "complete"),
    [
        (".avi", ".avi", {"frames": N + 2, "duration": N + 2}, True),  # counts are off by one or two
        (".avi", ".avi", {"frames": N + 5, "duration": N + 5}, False),
        (".mp4", ".mp4", {"frames": N + 20}, True),  # an edit list hides frames that are counted
        (".mp4", ".mp4", {"frames": 0}, True),
    ],
)
def test_whether_a_video_broke_off_is_judged_by_count_and_duration(
    clips, tmp_path, monkeypatch, suffix, container, wrong, complete
):
    path = tmp_path / f"clip{container}"
    path.write_bytes(clips[suffix].read_bytes())
    report(monkeypatch, **wrong)
    with open_source(path) as source:
        if complete:
            assert len(list(source)) == N
        else:
            frames, error = read_until_error(source)
            assert len(frames) == N and f"{N} of {N + 5} frames" in str(error)


@pytest.mark.parametrize("keep", [0.5, 0.75])
def test_a_video_cut_off_gives_its_frames_and_then_says_how_far_it_got(clips, tmp_path, keep):
    whole = clips[".avi"].read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: int(len(whole) * keep)])
    with open_source(path) as source:
        frames, error = read_until_error(source)
        assert list(source) == []
    assert isinstance(error, SourceError)
    assert N * keep - 6 < len(frames) < N * keep + 6
    assert levels(frames[:-1]) == list(range(len(frames) - 1))  # the last may be half a picture
    assert str(path) in str(error) and "broke off" in str(error)
    assert f"{len(frames)} of " in str(error) and "record it again" in str(error)


def test_a_real_video_cut_off_or_damaged_is_reported(test_data, tmp_path):
    whole = (test_data / "WolfgangLanger_Pexels.mp4").read_bytes()
    with open_source(test_data / "WolfgangLanger_Pexels.mp4") as source:
        intact = [frame.timestamp for frame in source]
    middle = len(whole) // 2
    noise = np.random.default_rng(0).integers(0, 256, len(whole) - middle, dtype=np.uint8).tobytes()
    for damaged in (whole[:middle], whole[:middle] + noise):
        path = tmp_path / "damaged.mp4"
        path.write_bytes(damaged)
        with open_source(path) as source:
            frames, error = read_until_error(source)
        assert 100 < len(frames) < 400
        # The last frames before the damage depend on later ones, and some of them get lost.
        assert [frame.timestamp for frame in frames[:-8]] == intact[: len(frames) - 8]
        assert f"{len(frames)} of 472 frames" in str(error)


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("WolfgangLanger_Pexels.mp4", 472),
        ("single_face.mp4", 72),
        ("face_noface.mov", 169),
        ("no_face.mp4", 95),  # its container says 98; its edit list hides the rest
    ],
)
def test_real_videos_are_read_to_their_end(test_data, name, frames):
    with open_source(test_data / name) as source:
        assert abs(source.frame_count - frames) <= 2
        assert sum(1 for _ in source) == frames


@pytest.mark.parametrize("kind", [IndexError, av.error.InvalidDataError])
def test_what_the_decoder_holds_is_not_lost_where_reading_ends_in_an_error(clips, monkeypatch, kind):
    opened = video.open_container

    def failing(path, file):
        container, stream = opened(path, file)

        def demux(stream):
            yield from itertools.islice(container.demux(stream), 20)
            raise kind(1, "damage")

        return Misreporting(container, demux=demux), stream

    monkeypatch.setattr(video, "open_container", failing)
    frames, error = read_until_error(open_source(clips[".mp4"]))
    assert levels(frames) == list(range(20)) and "20 of 40 frames" in str(error)


def test_an_mp4_whose_headers_were_cut_off_is_refused(clips, tmp_path):
    whole = clips[".mp4"].read_bytes()
    assert whole.index(b"moov") > len(whole) // 2
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"cut\.mp4: expected a video file; this is none, or it was cut off"):
        open_source(path)


def test_what_is_not_a_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 100)
    (tmp_path / "empty.mp4").touch()
    cv2.imwrite(str(tmp_path / "picture.jpg"), picture(3))
    for name, message in (
        ("text.mp4", "expected a video file; this is none, or it was cut off; .*convert it to MP4"),
        ("empty.mp4", "this file is empty"),
        ("missing.mp4", "there is nothing of that name; check the path"),
        ("picture.jpg", "got one picture; give the folder"),
    ):
        with pytest.raises(SourceError, match=message) as caught:
            open_source(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(SourceError, match="expected a video file, got a folder"):
        open_source(f"file://{tmp_path}")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        with pytest.raises(SourceError, match="this is not a file"):
            open_source(tmp_path / "pipe.mp4")


def test_a_video_without_frames_is_refused(clips, tmp_path):
    """The headers are whole, but where the pictures should be there are zeros."""
    data = bytearray(clips[".mp4"].read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    path = tmp_path / "hollow.mp4"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"hollow\.mp4: expected a video; no frame of it can be decoded"):
        open_source(path)


def test_a_closed_video_ends(clips):
    source = open_source(clips[".mp4"])
    next(source)
    source.close()
    source.close()
    assert list(source) == []


def test_a_file_that_was_read_leaves_its_pictures_to_nobody(clips):
    """The garbage collector comes when it comes; until then a decoder's memory would add up, file by file."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with open_source(clips[".mp4"]) as source:
            assert sum(frame.gray.size > 0 for frame in source) == N
        del source
        gc.collect()
        left = [thing for thing in gc.garbage if isinstance(thing, av.VideoFrame)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert all(picture.width * picture.height <= 256 for picture in left)


SCRIPT = """
import sys
from metst_edge.capture import open_source
from metst_edge.errors import SourceError
try:
    list(open_source(sys.argv[1]))
except SourceError:
    pass
"""


def output_of_reading(path, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_opencv_and_ffmpeg_are_silent_unless_the_user_wants_to_hear_them(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("this is not a video\n" * 100)
    assert output_of_reading(path) == ""
    assert output_of_reading("987") == ""
    assert "VIDEOIO" in output_of_reading("987", OPENCV_LOG_LEVEL="INFO")


@pytest.mark.parametrize("scheme", ["rtsp", "csi", "https"])
def test_kinds_that_come_later_are_named_as_such(scheme):
    with pytest.raises(SourceError, match=f"{scheme}:// is not in this version yet; this version reads a camera"):
        open_source(f"{scheme}://somewhere/0")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://clip.mp4", "expected camera://, file:// or folder://; got ftp://"),
        ("camera://front", "expected a camera index, 0 or above; got 'front'"),
        ("camera://-1", "got '-1'"),
        (-1, "got '-1'"),
        ("", "expected a source, got an empty text; this version reads"),
    ],
)
def test_a_uri_that_makes_no_sense_is_refused(uri, message):
    with pytest.raises(SourceError, match=message):
        open_source(uri)
