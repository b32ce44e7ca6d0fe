"""A command as a process: closed descriptors, and a Ctrl-C at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metst_edge.app import process
from metst_edge.app.demo import demo_clip


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_descriptors_put_nothing_strange_into_a_result(tmp_path, closed):
    """Libraries that print of themselves do so, into the descriptor that was closed."""
    broken, out = tmp_path / "cut.mp4", tmp_path / "out.json"
    content = demo_clip().read_bytes()
    broken.write_bytes(content[:100_000] + bytes(50_000) + content[150_000:])
    command = [sys.executable, "-m", "metst_edge", "analyze", str(broken), "--json", str(out)]
    closing = ["bash", "-c", f'exec "$@" {closed}', "bash", *command]
    environment = {**os.environ, "METST_EDGE_VERBOSE": "1"}
    done = subprocess.run(closing, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["source"] == str(broken)


def test_closed_descriptors_do_not_stop_what_needs_none():
    command = ["bash", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "bash", sys.executable, "-m", "metst_edge"]
    for arguments, status in (["info"], 0), (["analyze", "missing.mp4"], 1), ([], 2):
        assert subprocess.run([*command, *arguments], timeout=120).returncode == status


STOP_IN_IMPORT = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from metst_edge.app.process import stopping
with stopping():
    try:
        import slow
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        print("interrupted after", slow.done)
"""


@pytest.mark.parametrize("number", process.STOPPING)
def test_a_signal_in_the_middle_of_an_import_waits_for_its_end(tmp_path, number):
    kill = f"os.kill(os.getpid(), {int(number)})"
    (tmp_path / "slow.py").write_text(f"import os, time\n{kill}\ntime.sleep(0.2)\ndone = True\n")
    done = subprocess.run(
        [sys.executable, "-c", STOP_IN_IMPORT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted after True\n", "", 0)


def test_ctrl_c_is_one_line_whenever_it_comes():
    """While the command line is imported, while libraries are, and in mid-work."""
    root = Path(__file__).resolve().parents[2]
    code = (
        "import sys, os, signal, threading, time\n"
        "delay = float(sys.argv.pop(1))\n"
        "from metst_edge.__main__ import main\n"
        "threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "sys.exit(main())"
    )
    for delay in 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8:
        command = [sys.executable, "-c", code, str(delay), "analyze", *[str(demo_clip())] * 3]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
        *_, line = done.stderr.splitlines()
        assert done.returncode == 1 and line.startswith("metst-edge: interrupted"), done.stderr
        assert "Traceback" not in done.stderr


def test_signals_are_as_before_once_a_command_is_done():
    before = [signal.getsignal(number) for number in process.STOPPING]
    with process.stopping():
        assert [signal.getsignal(number) for number in process.STOPPING] != before
    assert [signal.getsignal(number) for number in process.STOPPING] == before


def test_a_second_signal_does_not_break_off_the_writing():
    with process.stopping():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        for number in signal.SIGHUP, signal.SIGTERM:
            os.kill(os.getpid(), number)
        time.sleep(0.05)
