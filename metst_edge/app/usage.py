"""The command line's parser, which says what is wrong in one line, and what was probably meant.

Knows of a verb only its name and the options that its parser takes.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

MEANT = "; did you mean: "
RESULTS = (".json", ".jsonl", ".csv", ".png", ".pdf", ".svg")
"""Endings of what is written; a name that has one is no video."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are a line each: the list of all options helps nobody to see which one is wrong."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        more = "" if MEANT in message else f"; see {self.prog} --help"
        self.exit(2, f"{self.prog}: error: {message}{more}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            raise argparse.ArgumentError(None, f"{_no_verb(self.prog, value, list(action.choices))}")
        super()._check_value(action, value)


class Version(argparse.Action):
    """Prints the version; it is looked up only then, which takes a tenth of the time that a start takes."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        """End with status 0."""
        from metst_edge import __version__

        print(f"{parser.prog} {__version__}")
        parser.exit()


def _no_verb(prog: str, value: str, verbs: list[str]) -> str:
    """Return what is said of a word that is no verb."""
    import difflib

    line = f"expected a verb ({', '.join(verbs)}), got {value!r}"
    close = difflib.get_close_matches(value, verbs, n=1)
    ending = os.path.splitext(value)[1].lower()
    if close:
        return f"{line}{MEANT}{prog} {close[0]}"
    if ending in RESULTS:
        return f"{line}; watching live, --json takes no file and prints: {prog} --source FILE --json > {value}"
    if ending or os.path.exists(value):
        return f"{line}{MEANT}{prog} analyze {shlex.quote(value)}"
    return line


def misplaced(parser: argparse.ArgumentParser, verb: argparse.ArgumentParser, given: argparse.Namespace) -> str | None:
    """Return the first option that was given before a verb which has none of that name; None where there is none.

    Args:
        parser: of the top level, whose options are left out of what was parsed where they are not given.
        verb: the parser of the verb.
        given: what was parsed.
    """
    takes = {action.dest for action in verb._actions}
    options = (action for action in parser._actions if action.option_strings and action.default is argparse.SUPPRESS)
    return next((each.option_strings[0] for each in options if each.dest in given and each.dest not in takes), None)
