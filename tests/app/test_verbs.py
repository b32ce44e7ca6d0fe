"""The verbs as files: each can be added and run, all offer the same choices, and none makes help wait."""

import argparse
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from metst_edge.app import cli, verbs
from metst_edge.choices import DECODERS, ENGINES, FACES, FLOWS, PRECISIONS, SYNERGIES

NAMES = sorted(path.stem for path in Path(verbs.__file__).parent.glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="module")
def parsers():
    """Parsers by the verb's name; that of the top level, where `live` is, by this name."""
    parser = cli.build_parser()
    (action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {"live": parser, **action.choices}


def test_the_command_line_has_every_file_as_a_verb_and_no_other(parsers):
    assert sorted(parsers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_verb_adds_its_parser_and_runs_with_what_was_parsed(parsers, name):
    verb = import_module(f"{verbs.__name__}.{name}")
    assert [len(inspect.signature(function).parameters) for function in (verb.add, verb.run)] == [1, 1]
    assert parsers[name].get_default("run") == (None if name == "live" else verb.run)


@pytest.mark.parametrize(
    ("option", "choices"),
    [
        ("--engine", ("auto", *ENGINES)),
        ("--flow", FLOWS),
        ("--face", FACES),
        ("--precision", PRECISIONS),
        ("--decoder", DECODERS),
        ("--synergy", SYNERGIES),
    ],
)
def test_what_can_be_chosen_is_what_the_api_knows(parsers, option, choices):
    offered = [
        action.choices for parser in parsers.values() for action in parser._actions if option in action.option_strings
    ]
    assert len(offered) >= 4 and set(map(tuple, offered)) == {choices}


def test_help_loads_no_library_that_takes_its_time():
    code = "import sys; from metst_edge.app.cli import build_parser; build_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    heavy = {"numpy", "cv2", "av", "mediapipe", "rich", "matplotlib", "onnxruntime", "metst_edge._native"}
    assert not heavy & set(loaded.split())
