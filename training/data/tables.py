"""Small files beside video: tables with commas and a header, and JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.data.errors import DataError
from training.unreadable import UNREADABLE, why

PEOPLE = "people.csv"
"""file,subject: who is seen in video without labels; file is a name without its folder."""
MOST_LETTERS = 120
"""Of a header that an error shows."""


def read_people(table: Path) -> dict[str, str]:
    """Read who is seen in files: file -> subject; nothing where there is no such table.

    Raises:
        DataError: a column or a cell is missing or wrong, or a file has two people.
    """
    people: dict[str, str] = {}
    for line, (file, subject) in rows(table, ("file", "subject")):
        if people.setdefault(file, subject) != subject:
            raise DataError(f"{table} line {line}: expected {file} of {people[file]!r}, as before, got {subject!r}")
    return people


def rows(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells in the order of ``columns``) of a table with commas, none of them empty."""
    if not table.is_file():
        return
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            if not {*columns} <= {*names}:
                raise DataError(f"{table}: expected the columns {', '.join(columns)}, got {in_short(names)}")
            reader.fieldnames = names
            for row in reader:
                cells = [(row[column] or "").strip() for column in columns]
                if not all(cells):
                    raise DataError(f"{table} line {reader.line_num}: expected a value in {', '.join(columns)}")
                if not all(map(str.isprintable, cells)):
                    raise DataError(f"{table} line {reader.line_num}: expected text, got {in_short(cells)!a}")
                yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected a UTF-8 table with commas, got: {error}") from error
    except OSError as error:
        raise DataError(f"{table}: expected a UTF-8 table with commas ({why(table, error)})") from error


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file.

    Args:
        path: of it.
        expected: what it should hold, and what writes that, for the error.

    Raises:
        DataError: there is none, or something else.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise DataError(f"{path}: expected {expected} ({why(path, error)})") from error


def in_short(cells: Sequence[str]) -> str:
    """Return what a table has in place of its columns, for an error; of something else that may be a whole file."""
    whole = ", ".join(cells) or "none"
    return whole if len(whole) <= MOST_LETTERS else whole[:MOST_LETTERS] + "..."


def expect_table(table: Path) -> None:
    """Check that there is a table where somebody said that one is.

    Raises:
        DataError: there is none.
    """
    if not table.is_file():
        there = ", but a folder" if table.is_dir() else ""
        raise DataError(f"expected a table, found none at {table}{there}; name a file with commas and a header")
