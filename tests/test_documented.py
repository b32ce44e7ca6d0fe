"""What README and docs show is what works: every block of code is run, every command parsed.

Blocks of a page are run in order in a folder with what they name: a clip, a labelled folder, a published checkpoint;
`metst-edge --camera 0` is given the clip in place of a camera, and training does two steps or one epoch. A mark before
a block says what is not run, and why:

    <!-- not run: REASON -->                 the block
    <!-- not run: REASON: WORDS, WORDS -->   its lines that hold one of these

`<!-- demo -->` and `<!-- test -->` mark what .ci/run runs. What is not run is parsed all the same.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

import metst_edge
from metst_edge.app import cli
from metst_edge.app.demo import demo_clip
from metst_edge.capture import open_source
from tests.schemas import check

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples" / "README.md",
        ROOT / "csrc" / "tensorrt" / "README.md",
    )
)
NOT_CODE = {"text", "toml", "cpp"}
"""Languages of blocks that nothing can be done with."""
FIRST = "README.md"
"""A command that other pages show too is run with this page only."""
SECONDS = 300
"""At most for a block."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: it stands on.
        line: of the page.
        language: as it says.
        text: its lines.
        mark: what the mark before it says, if there is one.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str | None

    @property
    def left_out(self) -> tuple[str, ...] | None:
        """Words of the lines that are not run; None where the whole block is not."""
        if self.mark is None:
            return ()
        _, _, words = self.mark.removeprefix("not run: ").partition(": ")
        return tuple(word.strip() for word in words.split(",")) if words else None

    def runs(self, line: str) -> bool:
        return self.left_out is not None and not any(word in line for word in self.left_out)


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if match[1].startswith("{"):
            continue
        mark = re.search(r"<!-- ([^\n]*) -->\n+\Z", text[: match.start()])
        line = text[: match.start()].count("\n") + 1
        found.append(Block(page, line, match[1] or "csv", match[2], None if mark is None else mark[1]))
    return found


def with_code(language: str) -> list[str]:
    return [page for page in PAGES if any(block.language == language for block in blocks(page))]


def command_lines(text: str) -> Iterator[str]:
    """Yield the commands of a block, each on a line of its own."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line


def arguments_of(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line as arguments, those that a pipe or && joins one by one."""
    words = shlex.split(line, comments=True)
    part: list[str] = []
    for word in [*words, ";"]:
        if word in ("&&", "|", ";"):
            if part:
                yield part
            part = []
        else:
            part.append(word)


def lines_run(block: Block) -> list[str]:
    """Return the commands of a block that are run; [WORD] in them may be left out, and is."""
    return [re.sub(r" \[[A-Z]+\]", "", line) for line in command_lines(block.text) if block.runs(line)]


def run_on(page: str) -> list[str]:
    return [line for block in blocks(page) if block.language == "bash" for line in lines_run(block)]


class Parsed(Exception):
    """Arguments were understood; nothing more is wanted of them."""


def parse(arguments: list[str]) -> None:
    """Parse a command, if it is one of ours; SystemExit where it is wrong."""
    if arguments[0] == "metst-edge":
        cli.build_parser().parse_args(arguments[1:])
    elif arguments[:2] == ["python", "-m"] and arguments[2] in ("training", "export"):
        pytest.importorskip("torch")
        main = import_module(f"{arguments[2]}.__main__" if arguments[2] == "export" else "training.cli").main
        parse_args = argparse.ArgumentParser.parse_args

        def stop(*given, **options):
            raise Parsed(parse_args(*given, **options))

        with pytest.MonkeyPatch.context() as patch, suppress(Parsed):
            patch.setattr(argparse.ArgumentParser, "parse_args", stop)
            main(arguments[3:])


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_one_that_there_is(page, capsys):
    """In blocks, run or not, and between the lines; what is cut short (... or VERB) is no command."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line for block in blocks(page) if block.language == "bash" for line in command_lines(block.text)]
    inline = [" ".join(code.split()) for code in re.findall(r"`((?:metst-edge|python -m \w+)\s[^`]+)`", text)]
    inline += [line.strip() for line in re.findall(r"^    (?:metst-edge|python -m) [^\n]+$", text, re.MULTILINE)]
    inline = [code for code in inline if not re.search(r"\.\.\.|\bVERB\b|\bURI\b \(|--help\b", code)]
    for line in [*lines, *inline]:
        for arguments in arguments_of(line):
            try:
                parse(arguments)
            except SystemExit as stop:
                err = capsys.readouterr().err
                # Between the lines, `metst-edge build` names a verb and `metst-edge --source` an option.
                named = line in inline and re.search(r"arguments are required|expected one argument", err)
                assert stop.code == 0 or named, f"{page}: {line}: {err}"


def test_marks_say_why_and_name_what_is_there():
    for page in PAGES:
        for block in blocks(page):
            assert block.language in {"bash", "python", "json", "csv", *NOT_CODE}, (page, block.line)
            if block.mark is None or block.mark in ("demo", "test"):
                continue
            assert re.match(r"not run: \S", block.mark), (page, block.line)
            for word in block.left_out or ():
                assert word in block.text, f"{page}:{block.line}: nothing has {word!r}"


METST_EDGE = """
import sys
import metst_edge.analyzer as analyzer
from metst_edge.__main__ import main
opened = analyzer.open_source
analyzer.open_source = lambda uri: opened("clip.mp4" if str(uri).isdecimal() else uri)
sys.argv[0] = "metst-edge"
sys.exit(main())
"""
PYTHON = """#!/bin/sh
case "$*" in
  "-m training fit"*) set -- "$@" --steps 2 ;;
  "-m training recognise fit"*) set -- "$@" --epochs 1 ;;
esac
exec {python} "$@"
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the pages name, and commands that find it there."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "command.py").write_text(METST_EDGE)
    for name, text in (
        ("python", PYTHON.format(python=sys.executable)),
        ("metst-edge", f'#!/bin/sh\nexec {sys.executable} {tmp_path / "bin" / "command.py"} "$@"\n'),
    ):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    shutil.copy(demo_clip(), tmp_path / "clip.mp4")
    for name in "examples", "benchmarks", "metst_edge":
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def labelled(folder: Path) -> None:
    """Make the labelled folder that the README shows, with rows enough to train on."""
    (folder / "s01").mkdir(parents=True)
    (text,) = [block.text for block in blocks("README.md") if block.language == "csv"]
    for subject, row in (
        ("s02", "510,516,520,surprise"),
        ("s03", "131,134,141,happiness"),
        ("s11", "205,211,218,disgust"),
    ):
        text += f"{subject}/day1.mp4,{subject},{row}\n"
    for name in re.findall(r"^(\S+?\.mp4),", text, re.MULTILINE):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(demo_clip(), folder / name)
    (folder / "labels.csv").write_text(text)


def frames(folder: Path) -> None:
    import cv2

    folder.mkdir()
    with open_source(demo_clip()) as source:
        for frame in source:
            if frame.index == 60:
                return
            cv2.imwrite(str(folder / f"{frame.index}.png"), frame.gray)


def checkpoint(path: Path) -> None:
    """Write a published checkpoint of ME-TST, its weights drawn at random."""
    torch = pytest.importorskip("torch")
    from training.models import build

    torch.manual_seed(0)
    torch.save(build("metst64").state_dict(), path)


@pytest.mark.parametrize("page", with_code("bash"))
def test_every_shell_block_runs(page, place):
    wanted = [block for block in blocks(page) if block.language == "bash" and block.mark not in ("demo", "test")]
    elsewhere = set() if page == FIRST else {line.split(" #")[0].strip() for line in run_on(FIRST)}
    scripts = [
        (block, "\n".join(line for line in lines_run(block) if line.split(" #")[0].strip() not in elsewhere))
        for block in wanted
    ]
    text = "\n".join(script for _, script in scripts)
    if "-m training" in text or "-m export" in text:
        pytest.importorskip("torch")
    if "frames/" in text:
        frames(place / "frames")
    if "CHECKPOINT.pkl" in text:
        checkpoint(place / "CHECKPOINT.pkl")
    if "--data DIR" in text:
        labelled(place / "DIR")
    for block, script in scripts:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{page}:{block.line}\n{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


class Pictures:
    """A camera of somebody's own."""

    def __init__(self):
        self._source = open_source(demo_clip())

    def read(self):
        frame = next(self._source)
        return frame.image, frame.timestamp


def stand_ins(page: str, place: Path) -> dict[str, object]:
    """Return what a page's Python speaks of and does not make."""
    camera = Pictures()
    frame, timestamp = camera.read()
    names = {"camera": camera, "frame": frame, "timestamp": timestamp, "handle": lambda event: None}
    if "recogniser" in (ROOT / page).read_text(encoding="utf-8"):
        pytest.importorskip("torch")
        from tests.recognisers import recogniser_bundle

        recogniser_bundle(place / "path" / "to" / "recogniser")
    with open_source(demo_clip()) as source:
        names["pictures"] = [frame.gray for frame, _ in zip(source, range(12), strict=False)]
    left = iter(range(40))
    # `while running:` asks a name, whose truth must change in time.
    names["running"] = type("Running", (), {"__bool__": lambda self: next(left, None) is not None})()
    return {**names, "apex": 5, "metst_edge": metst_edge}


@pytest.mark.parametrize("page", with_code("python"))
def test_every_python_block_runs(page, place, monkeypatch):
    import metst_edge.analyzer as module

    opened = module.open_source
    monkeypatch.setattr(module, "open_source", lambda uri: opened("clip.mp4" if str(uri).isdecimal() else uri))
    shutil.copy(demo_clip(), place / "broken.mp4")
    names = stand_ins(page, place)
    for block in (block for block in blocks(page) if block.language == "python"):
        code = compile(block.text, f"{page}:{block.line}", "exec")
        if block.left_out is None:
            continue
        if re.search(r"\banalyzer\b", block.text) and "as analyzer" not in block.text:
            names["analyzer"] = metst_edge.Analyzer()
        exec(code, names)
        if isinstance(names.get("analyzer"), metst_edge.Analyzer):
            names["analyzer"].close()


@pytest.mark.parametrize("page", with_code("json"))
def test_every_json_block_is_of_the_schema(page):
    decoder = json.JSONDecoder()
    for block in (block for block in blocks(page) if block.language == "json"):
        rest, seen = block.text.strip(), 0
        while rest:
            value, end = decoder.raw_decode(rest)
            rest, seen = rest[end:].strip(), seen + 1
            if "..." not in value:  # else it shows a part of an event
                check("event", value)
        assert seen
