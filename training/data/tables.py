"""Small tables beside video: text with commas and a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.data.errors import DataError

PEOPLE = "people.csv"
"""file,subject: who is seen in video without labels; file is a name without its folder."""


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
                raise DataError(f"{table}: expected the columns {', '.join(columns)}, got {', '.join(names) or 'none'}")
            reader.fieldnames = names
            for row in reader:
                cells = [(row[column] or "").strip() for column in columns]
                if not all(cells):
                    raise DataError(f"{table} line {reader.line_num}: expected a value in {', '.join(columns)}")
                yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected a UTF-8 table with commas, got: {error}") from error
