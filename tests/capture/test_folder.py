"""A folder's pictures are frames at the times that their names tell; what does not belong there is named."""

import logging
import struct
import zlib

import cv2
import numpy as np
import pytest

from metst_edge.capture import clips_of, open_source, with_rate
from metst_edge.errors import FrameError, SourceError
from tests.capture.pictures import levels, picture, read_until_error


@pytest.fixture
def pictures(tmp_path):
    """Numbered without leading zeros, so that order by name is wrong, and kinds mixed."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for level in range(12):
        suffix = (".jpg", ".PNG", ".bmp", ".jpeg")[level % 4]
        cv2.imwrite(str(folder / f"img{level}{suffix}"), picture(level))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".img3.jpg").write_text("hidden")
    (folder / "sub.jpg").mkdir()
    return folder


def test_a_folder_gives_its_pictures_by_number(pictures):
    with open_source(str(pictures), fps=30) as source:
        assert (source.fps, source.frame_count, source.live) == (30.0, 12, False)
        frames = list(source)
        assert list(source) == []
    assert levels(frames) == list(range(12))
    assert [frame.timestamp for frame in frames] == [i / 30.0 for i in range(12)]


def test_names_are_ordered_by_all_their_numbers(tmp_path):
    for level, name in enumerate(["2_9.png", "2_10.png", "10_1.png", "a2.png", "a10.png", "b01.png"]):
        cv2.imwrite(str(tmp_path / name), picture(level))
    assert levels(open_source(tmp_path, 30)) == list(range(6))


def test_a_folder_uri_sets_the_rate(pictures, monkeypatch):
    with open_source(f"folder://{pictures}?fps=12.5") as source:
        assert source.fps == 12.5
        assert [frame.timestamp for frame in source][:3] == [0.0, 0.08, 0.16]
    monkeypatch.chdir(pictures.parent)
    with open_source("frames?fps=30") as source:
        assert (source.fps, source.frame_count) == (30.0, 12)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("fps=0", "expected fps to be a number above 0; got '0'"),
        ("fps=fast", "got 'fast'"),
        ("fps=nan", "got 'nan'"),
        ("fps=", "got ''"),
        ("rate=30", "expected no option but fps; got rate"),
    ],
)
def test_a_folder_uri_with_a_bad_option_is_refused(pictures, query, message):
    with pytest.raises(SourceError, match=message):
        open_source(f"folder://{pictures}?{query}")


def test_gray_pictures_stay_gray(tmp_path):
    for level in range(3):
        cv2.imwrite(str(tmp_path / f"{level}.png"), picture(level)[..., 0])
    frames = list(open_source(tmp_path, 30))
    assert [frame.image.shape for frame in frames] == [(64, 96)] * 3
    assert levels(frames) == [0, 1, 2]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"expected pictures \(\.jpg.*there are none") as caught:
        open_source(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(SourceError, match="expected a folder of pictures; found nothing of that name"):
        open_source(f"folder://{tmp_path}/missing")
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="expected a folder of pictures; found a file"):
        open_source(f"folder://{tmp_path}/file")


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_a_picture_that_cannot_be_read_is_named_after_those_before(pictures, content):
    (pictures / "img5.PNG").write_bytes(content)
    with open_source(pictures, fps=30) as source:
        frames, error = read_until_error(source)
    assert levels(frames) == list(range(5))
    assert isinstance(error, SourceError)
    assert "img5.PNG" in str(error) and "5 of 12" in str(error)


@pytest.mark.parametrize("odd", [picture(5, 60, 96), picture(5)[..., 0]])
def test_a_picture_of_another_shape_is_named_with_both_shapes(pictures, odd):
    cv2.imwrite(str(pictures / "img5.PNG"), odd)
    with open_source(pictures, fps=30) as source:
        frames, error = read_until_error(source)
    assert levels(frames) == list(range(5))
    assert isinstance(error, FrameError)
    assert "img5.PNG" in str(error) and "(64, 96, 3)" in str(error) and str(odd.shape) in str(error)


def save(folder, names, image=None):
    folder.mkdir(exist_ok=True)
    for level, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), picture(level) if image is None else image)
    return folder


def test_the_rate_is_asked_for_where_nobody_says_it(pictures):
    with pytest.raises(SourceError, match=r"how many pictures .*\?fps=30 \(or --fps 30\), or put a file fps.txt"):
        open_source(pictures)


@pytest.mark.parametrize(("text", "rate"), [("200", 200.0), ("29.97\n", 29.97), ("\ufeff30000/1001 ", 30000 / 1001)])
def test_the_folder_may_say_its_rate_and_a_line_says_that_it_did(pictures, caplog, text, rate):
    (pictures / "fps.txt").write_text(text, encoding="utf-8")
    with open_source(pictures) as source:
        assert source.fps == rate and [frame.timestamp for frame in source] == [i / rate for i in range(12)]
    assert caplog.messages == [f"{pictures}: 12 pictures, {rate:g} a second as fps.txt says"]
    with open_source(pictures, fps=25) as source:
        assert source.fps == 25


@pytest.mark.parametrize("text", ["", "fast", "-30", "0", "1e999", "nan", "30 fps", "1/0", "\0"])
def test_a_rate_that_is_none_is_refused(pictures, text):
    (pictures / "fps.txt").write_text(text)
    with pytest.raises(SourceError, match=r"fps.txt: expected fps to be a number above 0; got"):
        open_source(pictures)


@pytest.mark.parametrize("fps", [1e-9, 1e9, 10**80])
def test_a_rate_that_no_camera_has_is_refused(pictures, fps):
    for opened in (lambda: open_source(pictures, fps), lambda: open_source(f"{pictures}?fps={fps}")):
        with pytest.raises(SourceError, match="expected fps from 0.001 to 100000"):
            opened()


def test_the_numbers_are_the_time(tmp_path, caplog):
    numbers = [8, 9, 10, 11, 15, 16, 100]
    save(tmp_path, [f"img{number}.png" for number in numbers])
    with open_source(f"{tmp_path}?fps=25") as source:
        assert source.fps == 25 and source.frame_count == 7
        frames = list(source)
    assert [frame.timestamp for frame in frames] == [(number - 8) / 25 for number in numbers]
    assert [frame.index for frame in frames] == list(range(7))
    assert [frame.name for frame in frames] == [f"img{number}.png" for number in numbers]
    (line,) = caplog.messages
    assert "7 pictures, 25 a second as the option fps says; of the numbers in their names 86 are missing" in line


def test_every_second_number_is_half_the_rate(tmp_path):
    save(tmp_path, [f"{number:06d}_x.png" for number in range(0, 20, 2)])
    with open_source(tmp_path, 30) as source:
        assert source.fps == 15 and [frame.timestamp for frame in source][:2] == [0, 2 / 30]


@pytest.mark.parametrize(
    "names", [["a1_2.png", "a1_10.png", "a2_1.png"], ["left.png", "right.png", "up.png"], ["a1.png", "b1.png"]]
)
def test_names_that_tell_no_time_give_one_picture_after_the_other_and_a_line_says_so(tmp_path, caplog, names):
    save(tmp_path, names)
    frames = list(open_source(tmp_path, 10))
    assert [frame.name for frame in frames] == names
    assert [frame.timestamp for frame in frames] == [i / 10 for i in range(len(names))]
    assert "one after the other: their names differ in more than one number" in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["img1.jpg", "img1.png", "img2.jpg", "img2.png"], "found img1.jpg and img1.png, and 1 more of the kind; keep"),
        (["img1.jpg", "img2.jpg", "img2.PNG"], "expected every picture once; found img2.PNG and img2.jpg; keep"),
        (["img7.png", "img07.png", "img8.png"], "every number once; found img07.png and img7.png; take one"),
        (
            ["img1.jpg", "img2.jpg", "img3.jpg", "poster.jpg"],
            r"expected the pictures of one sequence; found 3 like img1.jpg, and 1 other \(poster.jpg\)",
        ),
        (["1.png", "2.png", "3.png", "1_mask.png"], r"3 like 1.png, and 1 other \(1_mask.png\)"),
    ],
)
def test_what_does_not_belong_to_the_pictures_is_named(tmp_path, names, message):
    save(tmp_path, names)
    with pytest.raises(SourceError, match=message):
        open_source(tmp_path, 30)


def test_a_folder_of_clips_is_its_clips_and_a_mixed_one_an_error(tmp_path):
    for name in ("b10.mp4", "b9.MOV", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert clips_of(str(tmp_path)) == [str(tmp_path / "b9.MOV"), str(tmp_path / "b10.mp4")]
    with pytest.raises(SourceError, match=r"found 2 clips \(b9.MOV, b10.mp4\); give a clip by its own name, or"):
        open_source(tmp_path)
    save(tmp_path, ["poster.jpg"])
    assert clips_of(str(tmp_path)) == [str(tmp_path)]
    with pytest.raises(SourceError, match=r"found both, 1 picture \(poster.jpg\) and 2 clips \(b9.MOV, b10.mp4\)"):
        open_source(tmp_path, 30)


@pytest.mark.parametrize("uri", ["clip.mp4", "0", "folder://x", "http://x/clips", "~nobody-has-it/x", "x" * 5000])
def test_what_is_no_folder_of_clips_is_left_as_it_is(uri):
    assert clips_of(uri) == [uri]


def test_a_rate_is_said_once(tmp_path):
    assert with_rate("a.mp4", None) == "a.mp4" and with_rate("a.mp4", 120.0) == "a.mp4?fps=120.0"
    for uri, message in (("a.mp4?fps=30", "expected fps once"), ("0", "no fps of a camera"), ("camera://0", "no fps")):
        with pytest.raises(SourceError, match=message):
            with_rate(uri, 120.0)
    save(tmp_path, ["1.png"])
    with pytest.raises(SourceError, match="expected fps once; got 30 here, and 25 beside it"):
        open_source(f"folder://{tmp_path}?fps=30", 25)
    with pytest.raises(SourceError, match="expected no fps of a camera"):
        open_source(0, 25)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("colours", [1, 3])
def test_values_of_16_bit_pictures_are_scaled_from_the_bits_they_take(tmp_path, caplog, bits, colours):
    white = (1 << bits) - 1
    ramp = np.tile(np.linspace(0, white, 96).astype(np.uint16), (64, 1))
    image = ramp if colours == 1 else np.repeat(ramp[..., None], 3, axis=2)
    save(tmp_path, ["1.png", "2.png"], image // 8)  # dark ones: the bits are those of all pictures
    save(tmp_path, ["3.png"], image)
    frames = list(open_source(tmp_path, 30))
    np.testing.assert_array_equal(frames[2].image, np.round(image * (255 / white)).astype(np.uint8))
    assert abs(frames[0].image.astype(float) - frames[2].image / 8).max() < 1
    said = [line for line in caplog.messages if "16-bit" in line]
    assert (
        said
        == ([f"{tmp_path}: 16-bit pictures whose values take {bits} bits; {white} is taken for white"][: bits < 16])
    )


def test_a_value_that_does_not_fit_the_others_bits_is_no_white(tmp_path):
    dark = np.full((64, 96), 900, np.uint16)
    save(tmp_path, [f"{number:03d}.png" for number in range(100)], dark)
    save(tmp_path, ["013.png"], dark * 3)
    frames, error = read_until_error(open_source(tmp_path, 30))
    assert len(frames) == 13 and "013.png: expected values of 10 bits, as the other pictures have; got 2700" in str(
        error
    )


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


BOMBS = {
    "wide.png": png(60000, 60000),
    "many.png": png(30000, 30000),
    "huge.jpg": b"\xff\xd8\xff\xe0\x00\x10" + bytes(14) + struct.pack(">BBHBHHB", 0xFF, 0xC0, 8, 8, 30000, 30000, 1),
    "huge.bmp": b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 30000, -30000, 1, 24) + bytes(24),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_picture_that_wants_to_fill_the_memory_is_refused_by_its_header(tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(BOMBS[name])
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(SourceError, match=f"{name}: expected a picture of at most 32766 pixels a side and 134 million"):
        next(open_source(tmp_path, 30))


@pytest.mark.parametrize(
    "content",
    [
        png(64, 64)[:20],
        png(64, 64)[:-30],
        cv2.imencode(".png", picture(1))[1].tobytes()[:-20],
        cv2.imencode(".jpg", picture(1))[1].tobytes()[:-20],
        png(0, 64),
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff" * 100,
        b"\xff\xd8\xff\xe0\x00\x00" * 20,
        b"BM" + bytes(60),
        b"GIF89a" + bytes(60),
        b"P6 9 9 255 " + bytes(243),
    ],
)
def test_damage_and_other_formats_are_pictures_that_cannot_be_read(tmp_path, content):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"1.png: this picture cannot be read; 0 of 1"):
        next(open_source(tmp_path, 30))


def test_a_decoder_that_fails_is_a_picture_that_cannot_be_read(tmp_path, monkeypatch):
    def failing(*_):
        raise cv2.error("no memory")

    save(tmp_path, ["1.png"])
    monkeypatch.setattr(cv2, "imdecode", failing)
    with pytest.raises(SourceError, match="cannot be read"):
        next(open_source(tmp_path, 30))


def test_pictures_are_turned_as_they_say_themselves(tmp_path):
    """A phone's JPEG lies on its side, with EXIF's orientation 6: turn it by 90 degrees, clockwise."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48] = 255  # white on the left
    data = cv2.imencode(".jpg", image)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (tmp_path / "1.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    (frame,) = open_source(tmp_path, 30)
    assert frame.image.shape == (96, 64, 3)
    assert frame.image[:40].min() > 200 and frame.image[56:].max() < 50  # white above


def test_a_picture_that_vanishes_is_told(pictures):
    source = open_source(pictures, fps=30)
    next(source)
    (pictures / "img1.PNG").unlink()
    with pytest.raises(SourceError, match=r"img1.PNG: this picture cannot be read: No such file"):
        next(source)


def test_a_folder_closed_ends(pictures):
    source = open_source(pictures, fps=30)
    next(source)
    source.close()
    assert list(source) == []


def test_what_was_said_is_not_said_again(pictures, caplog):
    (pictures / "fps.txt").write_text("30")
    for _ in range(2):
        list(open_source(pictures))
    assert len(caplog.messages) == 1 and caplog.records[0].levelno == logging.WARNING
