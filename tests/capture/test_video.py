"""A video file under bad conditions: cut off, slowed, of odd depth, with wrong times; in threads, and across a fork."""

import errno
import io
import itertools
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from metst_edge.app.demo import demo_clip
from metst_edge.capture import open_source, video
from metst_edge.capture.container import MOST
from metst_edge.errors import FrameError, SourceError
from tests.capture.pictures import read_until_error

FPS = 30


def noise(count, height=64, width=96):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width)).astype(np.uint8) for _ in range(count)]


def write(path, pictures, pts=None, sound=None, codec="mpeg4", form="yuv420p", rate=FPS, options=None, **metadata):
    """Encode gray pictures.

    Args:
        path: of the file.
        pictures: uint8 or uint16 (H, W) each.
        pts: their times in thousandths of a second; by default even ones.
        sound: seconds of silence to put beside them.
        codec: of the pictures.
        form: of their pixels.
        rate: what the container says, frames per second.
        options: of the container.
        metadata: of the container.
    """
    pts = [round(1000 * i / FPS) for i in range(len(pictures))] if pts is None else pts
    with av.open(str(path), "w", options={**(options or {})}) as container:
        container.metadata.update({name.replace("_", "."): value for name, value in metadata.items()})
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = form
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for number, picture in enumerate(pictures):
            source = "gray" if picture.dtype == np.uint8 else "gray16le"
            frame = av.VideoFrame.from_ndarray(picture, format=source).reformat(format=form)
            frame.pts, frame.time_base = number, Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode()
        if sound is not None:
            silence = container.add_stream("pcm_s16le" if path.suffix != ".webm" else "libopus", rate=48000)
            silence.layout = "mono"
            for start in range(0, round(48000 * sound), 960):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                packets += silence.encode(frame)
            packets += silence.encode()
        for packet in packets:
            if packet.stream is stream:
                packet.pts = packet.dts = pts[packet.pts]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def remux(path, change=lambda number: 0, count=None, metadata=None, options=None):
    """Copy the demo clip's stream; ``change`` says how much later, in thousandths of a second, a frame is shown."""
    with av.open(str(demo_clip())) as clip, av.open(str(path), "w", options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream_from_template(clip.streams.video[0])
        for packet in itertools.islice(clip.demux(clip.streams.video[0]), count):
            if packet.dts is not None:
                number = round(FPS * packet.pts * packet.time_base)
                packet.stream = stream
                packet.pts += round((change(number) / 1000) / packet.time_base)
                container.mux(packet)
    return path


def times_of(path, **options):
    with open_source(path, **options) as source:
        return np.array([frame.timestamp for frame in source])


@pytest.mark.parametrize(("turn", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_a_picture_is_turned_as_its_track_says(tmp_path, turn, matrix):
    """The matrix of an MP4's track header (ISO/IEC 14496-12, 8.3.2), as phones write it."""
    path = remux(tmp_path / "clip.mp4", count=30)
    with open_source(path) as source:
        upright = [(frame.gray, frame.image) for frame in itertools.islice(source, 5)]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with open_source(path) as source:
        for frame, (gray, image) in zip(source, upright, strict=False):
            np.testing.assert_array_equal(frame.gray, np.rot90(gray, -turn // 90))
            np.testing.assert_array_equal(frame.image, np.rot90(image, -turn // 90))


@pytest.mark.parametrize("place", [0, 1, 2, 30, 57, 58, 59])
@pytest.mark.parametrize("by", [100_000, 500])
def test_one_wrong_time_costs_no_other_frame_its_time(tmp_path, by, place):
    right = times_of(remux(tmp_path / "right.mp4", count=60))
    times = times_of(remux(tmp_path / "wrong.mp4", lambda number: (number == place) * by, count=60))
    assert len(times) == len(right) == 60
    moved = (times - right)[np.delete(np.arange(60), place)]
    assert np.ptp(moved) < 2e-3 and abs(times - right).max() < 0.1


@pytest.mark.parametrize("sound", [None, 2.0])
@pytest.mark.parametrize("kind", [".mkv", ".webm"])
def test_a_matroska_file_cut_off_is_told_though_less_than_a_second_is_missing(tmp_path, kind, sound, monkeypatch):
    codec, form = ("libvpx", "yuv420p") if kind == ".webm" else ("mjpeg", "yuvj420p")
    path = write(tmp_path / f"clip{kind}", noise(60), sound=sound, codec=codec, form=form)
    whole = path.read_bytes()
    monkeypatch.setattr("metst_edge.capture.container._seconds", lambda text: None)  # of other programs: no tag
    assert len(times_of(path)) == 60
    for keep in (0.95, 0.75):
        path.write_bytes(whole[: int(keep * len(whole))])
        frames, error = read_until_error(open_source(path))
        assert 35 < len(frames) < 58 and isinstance(error, SourceError) and "broke off" in str(error)


def test_a_live_recording_of_unknown_size_is_whole(tmp_path):
    path = write(tmp_path / "clip.mkv", noise(60), sound=2.0, codec="mjpeg", form="yuvj420p", options={"live": "1"})
    assert len(times_of(path)) == 60


@pytest.mark.parametrize("kind", [".h264", ".mjpeg"])
def test_of_a_video_without_a_container_the_rate_is_asked_for_unless_the_encoder_says_it(tmp_path, kind):
    if kind == ".h264":
        path = remux(tmp_path / f"clip{kind}", count=60)
        np.testing.assert_allclose(times_of(path), np.arange(60) / 30, atol=1e-6)
    else:
        path = write(tmp_path / f"clip{kind}", noise(60), codec="mjpeg", form="yuvj420p")
        with pytest.raises(SourceError, match=r"told at how many frames a second .* as \?fps=30 \(or as --fps 30\)"):
            open_source(path)
    np.testing.assert_allclose(times_of(path, fps=50), np.arange(60) / 50, atol=1e-6)


def test_a_matroska_picture_has_its_own_duration(tmp_path):
    """A second of sound after the picture is none that is missing; a tag tells."""
    path = write(tmp_path / "clip.mkv", noise(60), sound=4.0, codec="mjpeg", form="yuvj420p")
    assert len(times_of(path)) == 60


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        ("120.000000", "slow motion"),
        ("240", "slow motion"),
        ("5.0", "time lapse"),
        *[(text, None) for text in ("30.0", "24", "0", "nan", "1e9", "-120", "fast", "")],
    ],
)
def test_a_line_says_that_a_phone_recorded_at_another_pace(tmp_path, caplog, taken, told):
    path = remux(
        tmp_path / "clip.mp4",
        count=30,
        metadata={"com.android.capture.fps": taken},
        options={"movflags": "use_metadata_tags"},
    )
    open_source(path).close()
    if told is None:
        assert caplog.messages == []
        return
    rate = f"{float(taken):g}"
    assert caplog.messages == [
        f"{path}: {rate} frames a second were taken and are shown at 30, in {told}, which hides micro-expressions; "
        f"--fps {rate} (or ?fps={rate} behind the name) undoes it"
    ]
    caplog.clear()
    open_source(path, fps=float(taken)).close()
    assert caplog.messages == []


def test_a_rate_scales_the_times_of_a_file(tmp_path, monkeypatch):
    path = write(tmp_path / "a?fps=7.avi", noise(40), rate=30)
    monkeypatch.chdir(tmp_path)
    for uri in (f"{path}?fps=120", f"{path.as_uri()}?fps=120", "a?fps=7.avi?fps=120"):
        with open_source(uri) as source:
            assert source.fps == 120
        np.testing.assert_allclose(times_of(uri), np.arange(40) / 120, atol=1e-3)
    np.testing.assert_allclose(times_of("a?fps=7.avi"), np.arange(40) / 30, atol=1e-3)
    np.testing.assert_allclose(times_of(path, fps=15), np.arange(40) / 15, atol=2e-3)
    with pytest.raises(SourceError, match="expected no option but fps; got speed"):
        open_source(f"{path}?speed=2")


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_values_of_16_bit_video_are_scaled_from_the_bits_they_take(tmp_path, caplog, bits):
    white = (1 << bits) - 1
    ramp = np.tile(np.linspace(0, white, 96).astype(np.uint16), (64, 1))
    path = write(tmp_path / "clip.mkv", [ramp] * 8, codec="ffv1", form="gray16le")
    frames = list(open_source(path))
    expected = np.round(ramp * (255 / white))
    assert all(abs(frame.gray - expected).max() <= 1 for frame in frames)
    assert abs(frames[0].image - expected[..., None]).max() <= 1
    line = f"{path}: 16-bit pictures whose values take {bits} bits; {white} is taken for white"
    assert caplog.messages == ([line] if bits < 16 else [])
    brighter = write(tmp_path / "clip2.mkv", [ramp // 4] * 8 + [ramp] * 8, codec="ffv1", form="gray16le")
    _, error = read_until_error(open_source(brighter))
    assert isinstance(error, FrameError) and f"take {max(bits - 2, 8)} bits, as the first ones do" in str(error)


def test_pictures_that_want_to_fill_the_memory_are_refused_by_the_decoder(tmp_path, monkeypatch):
    monkeypatch.setattr("metst_edge.capture.container.MOST", 64 * 95)
    path = write(tmp_path / "clip.avi", noise(20))
    with pytest.raises(SourceError, match="no frame of it can be decoded"):
        open_source(path)
    assert MOST > 7680 * 4320  # 8K video is read


@pytest.fixture
def listener():
    """A server that nobody should call: its port, and who called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield server.getsockname()[1], server


NAMES = (
    "http:127.0.0.1:{}",
    "http://127.0.0.1:{}/clip.mp4",
    "tcp:127.0.0.1:{}",
    "tcp://127.0.0.1:{}",
    "ftp:127.0.0.1:{}",
)


@pytest.mark.parametrize(
    "name", [*NAMES, "concat:a.mp4|b.mp4", "subfile,,start,0,end,0,,:a.mp4", "pipe:0", "fd:", "data:,"]
)
def test_a_name_opens_no_connection_and_no_other_file(tmp_path, monkeypatch, listener, name):
    (tmp_path / "a.mp4").write_bytes(demo_clip().read_bytes())
    monkeypatch.chdir(tmp_path)
    port, server = listener
    with pytest.raises(SourceError):
        open_source(name.format(port))
    with pytest.raises(TimeoutError):
        server.accept()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:22\n#EXTINF:22,\n{}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {1} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1" mimeType="video/mp4"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "rtsp": "RTSPtext\nrtsp://127.0.0.1:{1}/x\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("leading", ["http", "file"])
def test_what_a_playlist_names_is_not_read(tmp_path, listener, kind, leading):
    port, server = listener
    (tmp_path / "a.mp4").write_bytes(demo_clip().read_bytes())
    target = f"http://127.0.0.1:{port}/a.mp4" if leading == "http" else str(tmp_path / "a.mp4")
    (tmp_path / "list.mp4").write_text(PLAYLISTS[kind].format(target, port))
    with pytest.raises(SourceError, match="expected a video file; this is none"):
        open_source(tmp_path / "list.mp4")
    with pytest.raises(TimeoutError):
        server.accept()


def test_a_file_may_be_closed_by_another_thread_while_it_is_read():
    for delay in np.linspace(0, 0.06, 13):
        source, failed, read = open_source(demo_clip()), [], []

        def reading(source=source, failed=failed, read=read):
            try:
                read.extend(frame.index for frame in source)
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=reading)
        thread.start()
        time.sleep(delay)
        source.close()
        thread.join(5)
        assert not thread.is_alive() and failed == []
        assert source._freed and list(source) == []
        assert read == list(range(len(read)))


def test_two_threads_may_read_one_file_by_turns(tmp_path):
    path = write(tmp_path / "clip.avi", noise(200))
    source, read = open_source(path), ([], [])
    threads = [threading.Thread(target=lambda got=got: got.extend(frame.index for frame in source)) for got in read]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read[0] + read[1]) == list(range(200))


def test_closing_in_mid_read_waits_for_the_end_of_it(tmp_path, monkeypatch):
    """As a signal's handler does it: in the very thread that reads."""
    source = open_source(write(tmp_path / "clip.avi", noise(40)))
    fetch = video.VideoFile._fetch

    def fetching(self):
        self.close()
        return fetch(self)

    monkeypatch.setattr(video.VideoFile, "_fetch", fetching)
    assert next(source).index == 0
    assert source._freed and list(source) == []


FORKED = """
import os, sys
from metst_edge.capture import open_source
from metst_edge.errors import SourceError
source = open_source(sys.argv[1])
next(source)
child = os.fork()
if child == 0:
    try:
        next(source)
    except SourceError as error:
        print(error, flush=True)
    source.close()
    with open_source(sys.argv[1]) as own:
        print(next(own).index, flush=True)
    sys.exit(3)  # the long way, on which everything is freed
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
print(len(list(source)), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_file_opened_before_a_fork_is_the_parents():
    """A child that read or freed it would wait for the decoder's threads for ever."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(demo_clip())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told, own, parents = done.stdout.splitlines()
    assert "expected to be read by the process that opened it; this one was forked from it later" in told
    assert own == "0" and parents == "659"


@pytest.mark.parametrize("kind", [".mp4", ".mkv"])
def test_a_disk_that_fails_is_told_after_the_frames_before(tmp_path, monkeypatch, kind):
    class Failing(io.FileIO):
        def read(self, size=-1):
            if self.tell() > 200_000:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    path = remux(tmp_path / f"clip{kind}", options={"movflags": "faststart"} if kind == ".mp4" else None)
    monkeypatch.setattr(video, "open_file", lambda path: Failing(path))
    frames, error = read_until_error(open_source(path))
    assert 50 < len(frames) < 600 and isinstance(error, SourceError)
    assert f"broke off after {len(frames)} frames" in str(error) and "Input/output error" in str(error)
