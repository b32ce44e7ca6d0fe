"""Video as people have it, made from the packaged clip: the same frames at the same times, and the same events."""

import itertools
import tarfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

import metst_edge
from metst_edge.app.demo import demo_clip, demo_truth
from metst_edge.capture import open_source
from metst_edge.capture.video import VideoFile
from metst_edge.errors import SourceError
from metst_edge.events import Gap
from metst_edge.matching import match

LENGTH, FPS = 660, 30.0
CLIPS = {
    "rotated90_phone.mp4": (400, 400),
    "timestamp_spike.mp4": (400, 400),
    "start_offset5.mkv": (400, 400),
    "longer_sound.ts": (400, 400),
    "anamorphic_sar2.mp4": (400, 400),
    "av1.mp4": (400, 400),
}
"""Name -> height and width as shown."""


@pytest.fixture(scope="module")
def clip():
    return list(open_source(demo_clip()))


@pytest.fixture(scope="module")
def analyzer():
    with metst_edge.Analyzer() as analyzer:
        yield analyzer


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_there_upright_with_square_pixels_at_its_time(field, clip, name):
    with open_source(field / name) as source:
        assert source.fps == pytest.approx(FPS) and source.frame_count == LENGTH
        frames = list(source)
    assert len(frames) == LENGTH
    np.testing.assert_allclose([frame.timestamp for frame in frames], np.arange(LENGTH) / FPS, atol=2e-3)
    for number in (0, 99, 100, 101, 400, 659):
        gray, image = frames[number].gray, frames[number].image
        assert gray.shape == image.shape[:2] == CLIPS[name]
        difference = gray.astype(int) - clip[number].gray
        assert abs(difference.mean()) < 2 and difference.std() < 8, number
        assert np.abs(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(int) - gray).mean() < 2


def check_found(report):
    """All true events are found, by their right names. Encoded again, the model has now and then one more."""
    truth = demo_truth()
    found = report.micro_expressions
    pairs = match(
        [(event.onset_frame, event.offset_frame) for event in found],
        [(event.onset_frame, event.offset_frame) for event in truth],
    )
    assert len(pairs) == len(truth) == 8
    assert all(found[i].emotion == truth[j].emotion for i, j in pairs)
    assert len(found) <= len(truth) + 1


@pytest.mark.parametrize("name", CLIPS)
def test_the_events_are_those_of_the_clip(field, analyzer, name):
    report = analyzer.analyze(field / name)
    check_found(report)
    assert not any(isinstance(event, Gap) for event in report.events)


def test_slow_motion_is_undone_by_its_rate(field, analyzer):
    """120 frames a second were taken and are shown at 30; of the fifth event a part may be seen before the end."""
    slow = f"{field / 'android_slowmo_120as30.mp4'}?fps=120"
    with open_source(slow) as source:
        assert source.fps == 120
        assert np.diff([frame.timestamp for frame in source]) == pytest.approx(1 / 120, abs=1e-4)
    found, truth = analyzer.analyze(slow).events, demo_truth()[:4]
    assert len(found) - len(truth) in (0, 1)
    found = found[:4]
    assert [event.emotion for event in found] == [event.emotion for event in truth]
    for event, true in zip(found, truth, strict=True):
        assert event.onset == pytest.approx(true.onset_frame / FPS, abs=0.1)
        assert event.offset == pytest.approx(true.offset_frame / FPS, abs=0.1)


def test_a_folder_with_missing_numbers_is_on_time(field, tmp_path, analyzer):
    with tarfile.open(field / "folder_gaps.tar.gz") as archive:
        # Python 3.11.2, which Debian 12 has, knows no filters.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    with open_source(tmp_path, 30) as source:
        frames = list(source)
    numbers = [number for number in range(1, 241) if number % 20 != 7]
    assert [frame.name for frame in frames] == [f"img{number}.jpg" for number in numbers]
    assert [frame.timestamp for frame in frames] == [(number - 1) / 30 for number in numbers]
    report = analyzer.analyze(f"{tmp_path}?fps=30")
    truth = [event for event in demo_truth() if event.offset_frame < 240]
    found = report.micro_expressions
    assert len(found) <= len(truth) + 1 and not any(isinstance(event, Gap) for event in report.events)
    for true in truth:
        # img1 is the clip's frame 0. Small and encoded again, the model has one more.
        (event,) = (e for e in found if abs(e.onset - true.onset_frame / FPS) < 0.1)
        assert event.emotion == true.emotion and event.offset == pytest.approx(true.offset_frame / FPS, abs=0.1)
    for event in found:
        assert event.names == tuple(f"img{round(30 * t) + 1}.jpg" for t in (event.onset, event.apex, event.offset))
        assert event.to_dict()["onset_name"] == event.names[0] == frames[event.onset_frame].name
    live = [event for event in analyzer.stream(f"{tmp_path}?fps=30") if not isinstance(event, Gap)]
    assert live and all(event.names[1] == frames[event.apex_frame].name for event in live)


def test_one_of_two_people_is_followed_and_a_gap_lies_where_the_person_changes(field, analyzer, monkeypatch):
    followed = []
    starting = metst_edge.scoring.HostLanes.start

    def start(lanes, lane, anchor, face):
        followed.append((anchor.time, face.landmarks[:, 0].mean() < 480))
        starting(lanes, lane, anchor, face)

    monkeypatch.setattr(metst_edge.scoring.HostLanes, "start", start)
    report = analyzer.analyze(field / "two_people_near_far.mp4")
    changes = [(t, u) for (t, left), (u, still) in itertools.pairwise(followed) if left != still]
    gaps = [(event.start, event.end) for event in report.events if isinstance(event, Gap)]
    assert len(changes) <= 1 and len(gaps) <= 2
    assert all(any(before <= start < end <= after for start, end in gaps) for before, after in changes)


def test_a_paused_recording_has_one_gap_and_all_events(field, analyzer):
    report = analyzer.analyze(field / "paused30s.mp4")
    check_found(report)
    (gap,) = (event for event in report.events if isinstance(event, Gap))
    assert gap.reason == "no_frames" and gap.end - gap.start == pytest.approx(30 + 1 / FPS, abs=1e-3)


@pytest.mark.parametrize("name", ["2024-01-05T12:30:05.mp4", "http:host:80.mp4", "concat:a|b.mp4", "-.mp4", "%03d.mp4"])
def test_a_name_is_a_name_and_never_a_url(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(demo_clip().read_bytes())
    monkeypatch.chdir(tmp_path)
    with open_source(name) as source:
        assert next(source).gray.shape == (400, 400)


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:22,\nother.mp4\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile other.mp4\n"]
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ffconcat"])
def test_a_playlist_leads_to_no_other_file(tmp_path, text, name):
    (tmp_path / "other.mp4").write_bytes(demo_clip().read_bytes())
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match="expected a video file; this is none"):
        open_source(tmp_path / name)


def cover(container, disposition):
    """Add a picture as music files have it; return its packets."""
    stream = container.add_stream("mjpeg", rate=1)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuvj420p"
    stream.disposition = disposition
    image = av.VideoFrame.from_ndarray(np.zeros((64, 64), np.uint8), format="gray").reformat(format="yuvj420p")
    return [*stream.encode(image), *stream.encode()]


def test_the_cover_of_a_record_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        for packet in cover(container, Disposition.attached_pic):
            container.mux(packet)
    with pytest.raises(SourceError, match="holds no picture, perhaps sound only"):
        open_source(tmp_path / "song.m4a")


def remux(path, packets=lambda packets: packets, with_cover=False):
    """Copy the demo clip's stream into another container."""
    with av.open(str(demo_clip())) as clip, av.open(str(path), "w") as container:
        before = cover(container, Disposition(0)) if with_cover else []
        stream = container.add_stream_from_template(clip.streams.video[0])
        stream.disposition = Disposition.default
        for packet in before:
            container.mux(packet)
        for packet in packets(clip.demux(clip.streams.video[0])):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


def test_of_several_pictures_the_default_one_is_taken(tmp_path):
    remux(tmp_path / "clip.mkv", lambda packets: itertools.islice(packets, 40), with_cover=True)
    with open_source(tmp_path / "clip.mkv") as source:
        assert next(source).gray.shape == (400, 400)


def test_a_video_that_begins_in_the_middle_is_whole(tmp_path):
    """What comes before the first key frame cannot be decoded, and is not what broke off."""
    remux(tmp_path / "clip.mkv", lambda packets: itertools.islice(packets, 1, None))
    with open_source(tmp_path / "clip.mkv") as source:
        frames = list(source)
    assert 0 < len(frames) < LENGTH - 10
    assert frames[0].timestamp > 10 / FPS
    assert frames[-1].timestamp == pytest.approx(LENGTH / FPS, abs=0.2)


def test_an_avi_of_finer_ticks_than_frames_is_whole(tmp_path):
    """Its header counts the ticks, of which most hold no picture."""
    write(tmp_path / "clip.avi", noise(30), ticks=10)
    with open_source(tmp_path / "clip.avi") as source:
        times = [frame.timestamp for frame in source]
    np.testing.assert_allclose(times, np.arange(30) / 30, atol=1e-6)


def test_one_frame_may_be_looked_at_by_several_threads_at_once(tmp_path):
    write(tmp_path / "clip.mkv", noise(20, 360, 640))
    with open_source(tmp_path / "clip.mkv") as source:
        frames = list(source)
    with open_source(tmp_path / "clip.mkv") as source:
        expected = [frame.image for frame in source]
    with ThreadPoolExecutor(4) as pool:
        for seen in pool.map(lambda _: [frame.image for frame in frames], range(4)):
            np.testing.assert_array_equal(seen, expected)


def noise(count, height=64, width=96):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width)).astype(np.uint8) for _ in range(count)]


def write(path, pictures, ticks=1):
    """Encode gray pictures, 30 per second, of so many ticks each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30 * ticks)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = ticks * number, Fraction(1, 30 * ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("wrong", [{7: 3000}, {7: 3000, 8: 4000}, {7: 3000, 15: 5000}])
def test_times_out_of_line_are_mended_and_cost_no_later_frame_its_time(tmp_path, monkeypatch, wrong):
    """The container's own times of some frames lie far ahead."""
    path = tmp_path / "clip.mp4"
    write(path, noise(40))
    told = VideoFile._time_of

    def misread(self, picture):
        time = told(self, picture)
        return wrong.get(round(30 * time), 30 * time) / 30

    monkeypatch.setattr(VideoFile, "_time_of", misread)
    times = [frame.timestamp for frame in open_source(path)]
    np.testing.assert_allclose(times, np.arange(40) / 30, atol=1e-6)
