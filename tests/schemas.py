"""The JSON Schemas of docs/schema, to hold what is written against."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schema"
NAMES = sorted(path.name.removesuffix(".schema.json") for path in FOLDER.glob("*.schema.json"))


def check(name: str, value: Any) -> None:
    """Assert that a JSON value is as its schema says, and that the schema names every key of it.

    Readers are told that keys may be added; here one that is not described is a mistake.
    """
    errors = [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(value)]
    assert errors == []


@cache
def _validator(name: str) -> Draft202012Validator:
    schemas = {path.name: closed(json.loads(path.read_text(encoding="utf-8"))) for path in FOLDER.iterdir()}
    registry = Registry().with_resources((key, Resource.from_contents(schema)) for key, schema in schemas.items())
    schema = schemas[f"{name}.schema.json"]
    # A manifest is more than its schema tells of.
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text()) if name == "manifest" else schema
    return Draft202012Validator(schema, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def closed(schema: Any) -> Any:
    """Return the schema with no key allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(part) for key, part in schema.items()}
    return {**out, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else out
