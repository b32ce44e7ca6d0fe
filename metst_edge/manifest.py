"""manifest.json of a bundle: its fields, each with what it must be, and how they must agree.

Knows the text of the file and nothing of the files beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from metst_edge.decode.settings import EXPECTED, EXPECTED_LATER, DecodeSettings
from metst_edge.errors import BundleFileError, BundleVersionError, SettingsError
from metst_edge.labels import NEUTRAL

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LIMIT_BYTES = 16 * 2**20
"""A manifest is a few kilobytes; anything near this is not one."""

REQUIRED_FILES = ("window.onnx", "step.onnx", "weights.bin", "MODEL_CARD.md")
HALF_WEIGHTS = "weights.fp16.bin"
HALF_FILES = ("window.fp16.onnx", "step.fp16.onnx", HALF_WEIGHTS)
"""What fp16 adds. Its graphs read all other weights from weights.bin, and have the same float32 inputs and outputs."""

CHANNELS_OF_ROI_SET = {"metst": 10, "metst_plus": 36}


def parse_manifest(content: bytes, path: Path) -> dict[str, Any]:
    """Return the manifest, its fields checked.

    Args:
        content: of the file.
        path: of the bundle, for messages.

    Raises:
        BundleFileError: it cannot be parsed, or a field has a wrong value.
        BundleVersionError: written in a newer format.
    """
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise BundleFileError(f"{path}: {MANIFEST} cannot be parsed ({error}); export the bundle again") from error
    if not isinstance(manifest, dict):
        raise BundleFileError(f"{path}: expected an object in {MANIFEST}, got {type(manifest).__name__}")
    version = manifest.get("format_version")
    if not _is_int(version, 1):
        raise BundleFileError(f"{path}: {MANIFEST}: expected 'format_version' to be {FORMAT_VERSION}, got {version!r}")
    if version > FORMAT_VERSION:
        raise BundleVersionError(
            f"{path}: expected bundle format {FORMAT_VERSION} or older, got {version}; "
            "update metst_edge, or export the bundle with this version"
        )
    for name, (expected, fits) in _FIELDS.items():
        if name not in manifest or not fits(manifest[name]):
            got = repr(manifest[name])[:80] if name in manifest else "nothing"
            raise BundleFileError(f"{path}: {MANIFEST}: expected '{name}' to be {expected}, got {got}")
    _check_agreement(manifest, path)
    return manifest


def _check_agreement(manifest: dict[str, Any], path: Path) -> None:
    """Check fields against each other."""
    for name, expected, got in (
        ("channels", CHANNELS_OF_ROI_SET[manifest["roi_set"]], manifest["channels"]),
        ("sizes.channels", manifest["channels"], manifest["sizes"].get("channels")),
        ("number of labels", manifest["sizes"].get("classes"), len(manifest["labels"])),
    ):
        if expected != got:
            raise BundleFileError(f"{path}: {MANIFEST}: expected {name} to be {expected}, got {got}")
    missing = [name for name in HALF_FILES if name not in manifest["files"]]
    if 0 < len(missing) < len(HALF_FILES):
        raise BundleFileError(
            f"{path}: {MANIFEST}: expected all of {', '.join(HALF_FILES)} or none, got no {', '.join(missing)}; "
            "export the bundle again"
        )
    try:
        DecodeSettings.from_dict(manifest["decode"]).priors(manifest["labels"])
    except SettingsError as error:
        raise BundleFileError(f"{path}: {MANIFEST}: decode: {error}") from error
    window = manifest["decode"]["window_seconds"] * manifest["fps"]
    if window < 2 * manifest["k_p"] + 1:
        raise BundleFileError(
            f"{path}: {MANIFEST}: expected decode.window_seconds to hold 2 k_p + 1 = {2 * manifest['k_p'] + 1} frames, "
            f"got {window:g}"
        )


def _is_int(value: object, least: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < float("inf")


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(_is_int(size, 1) for size in value)


def _is_label_list(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(label, str) and label for label in value):
        return False
    return len(set(value)) == len(value) >= 2 and value[-1] == NEUTRAL


def _is_decode(value: object) -> bool:
    try:
        DecodeSettings.from_dict(value)
    except SettingsError:
        return False
    return True


def _is_file_table(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(REQUIRED_FILES) <= value.keys()
        # Plain names only: nothing outside the bundle is ever read or, from a zip, written.
        and all(re.fullmatch(r"\w[\w.-]*", name) and name != MANIFEST for name in value)
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("sha256"), str)
            and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])
            and _is_int(entry.get("bytes"), 0)
            for entry in value.values()
        )
    )


def _is_state_table(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) and _is_shape(entry.get("shape"))
        for entry in value
    )


def _is_tensor_table(value: object) -> bool:
    return (
        isinstance(value, list)
        and _is_state_table(value)
        and all(entry.get("dtype") == "float32" and _is_int(entry.get("offset"), 0) for entry in value)
    )


def _is_size_table(value: object) -> bool:
    return isinstance(value, dict) and all(_is_int(size, 1) for size in value.values())


_Check = Callable[[Any], bool]
_FIELDS: dict[str, tuple[str, _Check]] = {
    "name": ("a name", lambda v: isinstance(v, str) and bool(v)),
    "model": ("a model name", lambda v: isinstance(v, str) and bool(v)),
    "channels": ("a positive integer", lambda v: _is_int(v, 1)),
    "labels": ("a list of different names, 'neutral' last", _is_label_list),
    "fps": ("a frame rate", lambda v: _is_number(v, 1.0)),
    "k": ("an even number of frames", lambda v: _is_int(v, 2) and v % 2 == 0),
    "k_p": ("a positive number of frames", lambda v: _is_int(v, 1)),
    "roi_set": (f"one of {', '.join(CHANNELS_OF_ROI_SET)}", lambda v: v in tuple(CHANNELS_OF_ROI_SET)),
    "compat": ("true or false", lambda v: isinstance(v, bool)),
    "decode": (f"{EXPECTED}, and where given {EXPECTED_LATER}", _is_decode),
    "look_ahead": ("a number of frames", lambda v: _is_int(v, 0)),
    "sizes": ("an object of positive integers", _is_size_table),
    "state": ("a list of names and shapes", _is_state_table),
    "tensors": ("a list of names, dtype float32, shapes and offsets", _is_tensor_table),
    "files": (f"sha256 and bytes of {', '.join(REQUIRED_FILES)}, plain names", _is_file_table),
}
