"""What a command writes takes no input's place and no other result's, and is whole or not there at all."""

import errno
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from metst_edge.app import cli, outputs
from metst_edge.app.demo import demo_clip
from metst_edge.errors import OutputError
from metst_edge.writing import Output, write_whole

LIMIT = 4096
"""Bytes that a file may have in a test of a disk that is full."""


def run(capsys, *arguments):
    """Return exit status, stdout and stderr."""
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def clip(tmp_path):
    return Path(shutil.copy(demo_clip(), tmp_path / "v.avi"))


@contextmanager
def full_disk():
    """No file may grow beyond `LIMIT` bytes: what a write on a full disk is like. Neither may the log of the tests."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def links(path, folder):
    """Return a path's other names: as it is, by another way, by links of both kinds."""
    symbolic, hard = folder / "symbolic.png", folder / "hard.png"
    if not hard.exists():
        symbolic.symlink_to(path)
        os.link(path, hard)
    return [path, path.parent / "." / ".." / path.parent.name / path.name, symbolic, hard]


@pytest.mark.parametrize("option", ["--json", "--csv", "--plot"])
def test_an_output_never_takes_an_inputs_place(capsys, clip, tmp_path, option):
    content = clip.read_bytes()
    clip = clip.rename(tmp_path / "v.png")  # an ending that --plot takes
    for given in clip, f"file://{clip}":
        for name in links(clip, tmp_path):
            status, out, err = run(capsys, "analyze", given, option, name)
            assert (status, out) == (1, "")
            (line,) = err.splitlines()
            assert line == f"metst-edge: error: {option} {name}: expected a file of its own, got the input {clip}"
    assert clip.read_bytes() == content


def test_pictures_of_several_files_are_looked_at_one_by_one(capsys, clip, tmp_path):
    taken = tmp_path / "out-2-v.png"
    os.link(clip, taken)
    status, _, err = run(capsys, "analyze", clip, clip, "--plot", tmp_path / "out.png")
    assert status == 1 and f"--plot {taken}: expected a file of its own, got the input {clip}" in err
    assert taken.samefile(clip)


def test_a_model_is_an_input_too(capsys, clip, tmp_path):
    model = tmp_path / "model.zip"
    model.write_bytes(b"PK")
    status, _, err = run(capsys, "analyze", clip, "--model", model, "--json", model)
    assert status == 1 and f"got the input {model}" in err and model.read_bytes() == b"PK"
    status, _, err = run(capsys, "bench", "--source", clip, "--json", clip)
    assert status == 1 and f"got the input {clip}" in err and clip.stat().st_size > 2


def test_two_outputs_are_two_files(capsys, clip, tmp_path):
    for one, other in [("a", "a"), ("-", "-"), ("a", "link"), ("a", "../here/a")]:
        folder = tmp_path / "here"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "link").symlink_to("a")
        names = [name if name == "-" else str(folder / name) for name in (one, other)]
        status, out, err = run(capsys, "analyze", clip, "--json", names[0], "--csv", names[1])
        assert (status, out) == (1, "")
        assert err == (
            f"metst-edge: error: --csv {names[1]}: expected a file of its own, got that of --json; give each result "
            "another\n"
        )
    outputs.check([("--json", os.devnull), ("--csv", os.devnull)], [])


def test_a_picture_is_not_put_among_the_pictures_that_are_read(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in folder, f"folder://{folder}?fps=25":
        with pytest.raises(OutputError, match="expected a file outside the folder"):
            outputs.check([("--plot", str(folder / "0.png"))], [name])
        outputs.check([("--json", str(folder / "out.json")), ("--plot", str(tmp_path / "0.png"))], [name])


def test_a_table_and_a_result_do_not_share_a_file(tmp_path, clip):
    out = tmp_path / "out"
    with out.open("w") as stdout:
        command = [sys.executable, "-m", "metst_edge", "analyze", str(clip), "--json", str(out)]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1 and f"--json {out}: expected a file of its own, got that of stdout" in done.stderr


def test_a_run_that_finds_nothing_leaves_the_old_results(capsys, tmp_path):
    paths = [tmp_path / name for name in ("out.json", "out.csv", "out.png")]
    for path in paths:
        path.write_text("yesterday")
    arguments = [f"--{path.suffix[1:].replace('png', 'plot')}={path}" for path in paths]
    status, _, err = run(capsys, "analyze", tmp_path / "missing.avi", *arguments)
    assert status == 1 and "missing.avi" in err
    assert [path.read_text() for path in paths] == ["yesterday"] * 3
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_full_disk_leaves_the_old_file_and_is_told_with_its_name(capsys, clip, tmp_path):
    for option, name in ("--plot", "out.png"), ("--json", "out.json"):
        path = tmp_path / name
        path.write_text("yesterday")
        with full_disk():
            status, _, err = run(capsys, "analyze", clip, "--scores", option, path)
        assert status == 1 and str(path) in err and os.strerror(errno.EFBIG) in err
        assert path.read_text() == "yesterday"
        assert not list(tmp_path.glob(".*"))


def test_what_was_whole_before_the_disk_was_full_is_kept_aside(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("yesterday")
    told = pytest.raises(OSError, match="what was written before is in")
    with full_disk(), told as caught, Output(path) as output:
        output.write("first\n")
        output.write("x" * LIMIT)
    assert caught.value.filename == str(path) and path.read_text() == "yesterday"
    (aside,) = tmp_path.glob(".out.jsonl.*.part")
    assert aside.read_text() == "first\n" and str(aside) in str(caught.value)


def test_full_standard_output_is_one_line(clip):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    for arguments in (["analyze", clip, "--json", "-"], ["info"], ["--source", clip]):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "metst_edge", *map(str, arguments)]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
        *_, line = done.stderr.splitlines()
        assert done.returncode == 1 and line.startswith("metst-edge: error: No space left on device"), done.stderr


def test_a_file_keeps_its_link_and_its_mode(tmp_path):
    path, link = tmp_path / "real", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, b"new")
    assert link.is_symlink() and path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o640
    write_whole(tmp_path / "fresh", b"new")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "fresh").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_pipe_is_written_to_as_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    with Output(pipe) as output:
        output.write("one\n")
        output.write("two\n")
    reader.join(timeout=10)
    assert heard == [b"one\ntwo\n"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_power_cut_in_mid_write_leaves_the_old_file(tmp_path):
    """As far as a process can show it: killed in the midst of writing."""
    path = tmp_path / "out"
    path.write_text("yesterday")
    code = (
        "import sys, time; from metst_edge.writing import Output\n"
        "output = Output(sys.argv[1]); output.write('half'); print('there', flush=True); time.sleep(60)"
    )
    job = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "there\n"
    job.kill()
    job.wait()
    assert path.read_text() == "yesterday"


def started(*arguments, **options):
    """Start a command and return it."""
    command = [sys.executable, "-m", "metst_edge", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_terminal_that_is_closed_costs_nothing_that_was_found(tmp_path):
    """SIGHUP in the midst of the second clip, with nobody left who reads what is printed."""
    clip, out = str(demo_clip()), tmp_path / "out.json"
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "metst_edge", "analyze", *[clip] * 10, "--json", str(out)]
    # The tests may run under nohup, which would be obeyed.
    heard = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    job = subprocess.Popen(command, stdout=writing, stderr=writing, preexec_fn=heard)
    os.close(writing)
    until = time.monotonic() + 120
    while time.monotonic() < until and not any(path.stat().st_size for path in tmp_path.glob(".out.json.*")):
        time.sleep(0.1)
    time.sleep(0.3)  # a clip takes longer
    os.close(reading)
    job.send_signal(signal.SIGHUP)
    job.wait(timeout=60)
    *whole, last = [json.loads(line) for line in out.read_text().splitlines()]
    assert whole and all(report["complete"] for report in whole) and not last["complete"]


def test_nohup_is_obeyed(tmp_path):
    ignore = "trap '' HUP; exec \"$@\""
    out = tmp_path / "out.json"
    command = ["bash", "-c", ignore, "bash", sys.executable, "-m", "metst_edge", "analyze", demo_clip(), "--json", out]
    job = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)
    job.send_signal(signal.SIGHUP)
    job.communicate(timeout=120)
    assert job.returncode == 0 and json.loads(out.read_text())["complete"]
