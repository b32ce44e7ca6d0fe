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
from metst_edge.errors import BundleFileError, BundleKindError, BundleVersionError, SettingsError
from metst_edge.labels import NEUTRAL

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LIMIT_BYTES = 16 * 2**20
"""A manifest is a few kilobytes; anything near this is not one."""

SPOTTER, RECOGNISER = "spotter", "recogniser"
"""Kinds of bundle: one scores every frame of a video, the other names the emotion of a known interval."""

REQUIRED_FILES = ("window.onnx", "step.onnx", "weights.bin", "MODEL_CARD.md")
RECOGNISER_FILES = ("clip.onnx", "weights.bin", "MODEL_CARD.md")
HALF_WEIGHTS = "weights.fp16.bin"
HALF_FILES = ("window.fp16.onnx", "step.fp16.onnx", HALF_WEIGHTS)
"""What fp16 adds. Its graphs read all other weights from weights.bin, and have the same float32 inputs and outputs."""

CHANNELS_OF_ROI_SET = {"metst": 10, "metst_plus": 36}

DEFAULT_WEIGHT = 0.5
"""Share of a recogniser in the combined opinion, where its manifest does not say: as much as the frames' vote has."""

AGGREGATIONS = ("lstm", "mean")
"""How a recogniser makes one opinion of its frames' (SLSTT, arXiv 2112.05851)."""


def parse_manifest(content: bytes, path: Path, kind: str | None = SPOTTER) -> dict[str, Any]:
    """Return the manifest, its fields checked.

    Args:
        content: of the file.
        path: of the bundle, for messages.
        kind: that it must be; None for either.

    Raises:
        BundleFileError: it cannot be parsed, or a field has a wrong value.
        BundleKindError: it is a bundle of the other kind.
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
    stated = {**_OPTIONAL, **manifest}
    found = stated["kind"]
    if found not in (SPOTTER, RECOGNISER):
        raise BundleFileError(
            f"{path}: {MANIFEST}: expected 'kind' to be {SPOTTER} or {RECOGNISER}, got {str(found)[:80]!r}; "
            "update metst_edge, or export the bundle again"
        )
    if kind not in (None, found):
        raise BundleKindError(f"{path}: {_OTHER_KIND[found]}")
    for name, (expected, fits) in {**_FIELDS, **_FIELDS_OF[found]}.items():
        if name not in stated or not fits(stated[name]):
            got = repr(stated[name])[:80] if name in stated else "nothing"
            raise BundleFileError(f"{path}: {MANIFEST}: expected '{name}' to be {expected}, got {got}")
    _AGREEMENT_OF[found](manifest, path)
    return manifest


_OPTIONAL = {"kind": SPOTTER, "weight": DEFAULT_WEIGHT}
"""What a manifest may leave out, and what is meant then."""

_OTHER_KIND = {
    RECOGNISER: "expected a model that spots, got a recogniser, which names the emotion of an interval that is spotted "
    "already; give it as recognizer (--recognizer), beside a model",
    SPOTTER: "expected a recogniser, got a model that spots; give it as model (--model)",
}
"""What is said of a bundle of this kind where one of the other is wanted."""


def _check_spotter(manifest: dict[str, Any], path: Path) -> None:
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


def _check_recogniser(manifest: dict[str, Any], path: Path) -> None:
    """Check fields against each other."""
    sizes = manifest["sizes"]
    for name, expected, got in (
        ("images.input_size", sizes["input_size"], manifest["images"]["input_size"]),
        ("number of labels", sizes["classes"], len(manifest["labels"])),
    ):
        if expected != got:
            raise BundleFileError(f"{path}: {MANIFEST}: expected {name} to be {expected}, got {got}")


def _is_int(value: object, least: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < float("inf")


def _is_above_0(value: object) -> bool:
    return _is_number(value, 0.0) and value != 0


def _is_name_list(value: object) -> bool:
    if not isinstance(value, list) or not all(isinstance(label, str) and label for label in value):
        return False
    return len(set(value)) == len(value) >= 2


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(_is_int(size, 1) for size in value)


def _is_label_list(value: object) -> bool:
    return isinstance(value, list) and _is_name_list(value) and value[-1] == NEUTRAL


def _is_decode(value: object) -> bool:
    try:
        DecodeSettings.from_dict(value)
    except SettingsError:
        return False
    return True


def _has_files(required: tuple[str, ...], value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(required) <= value.keys()
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


def _is_clip_size_table(value: object) -> bool:
    """Positive integers, but for the way frames are joined; none of those missing that are read."""
    if not isinstance(value, dict) or value.get("aggregation") not in AGGREGATIONS:
        return False
    whole = {name: size for name, size in value.items() if name != "aggregation"}
    return _is_size_table(whole) and {"frames", "input_size", "classes"} <= whole.keys()


def _is_image_settings(value: object) -> bool:
    return isinstance(value, dict) and all(name in value and fits(value[name]) for name, fits in _IMAGES.items())


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_number(part, 0.0) for part in value)


_Check = Callable[[Any], bool]
_IMAGES: dict[str, _Check] = {
    "pyr_scale": lambda v: _is_above_0(v) and v < 1,
    "levels": lambda v: _is_int(v, 0),
    "winsize": lambda v: _is_int(v, 1),
    "iterations": lambda v: _is_int(v, 1),
    "poly_n": lambda v: _is_int(v, 1),
    "poly_sigma": _is_above_0,
    "input_size": lambda v: _is_int(v, 1),
    "mean": _is_colour,
    "std": lambda v: _is_colour(v) and 0 not in v,
}
"""What the pictures are made by that a recogniser sees: Farneback's parameters, their side, and how they are scaled."""

_FIELDS: dict[str, tuple[str, _Check]] = {
    "name": ("a name", lambda v: isinstance(v, str) and bool(v)),
    "model": ("a model name", lambda v: isinstance(v, str) and bool(v)),
    "tensors": ("a list of names, dtype float32, shapes and offsets", _is_tensor_table),
}
"""Of every bundle: name -> what is expected there, in words and as a check."""

_FIELDS_OF: dict[str, dict[str, tuple[str, _Check]]] = {
    SPOTTER: {
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
        "files": (
            f"sha256 and bytes of {', '.join(REQUIRED_FILES)}, plain names",
            lambda v: _has_files(REQUIRED_FILES, v),
        ),
    },
    RECOGNISER: {
        "labels": ("a list of at least two different names", _is_name_list),
        "sizes": (
            f"aggregation {' or '.join(AGGREGATIONS)}, and positive integers, with frames, input_size and classes",
            _is_clip_size_table,
        ),
        "images": (f"an object of {', '.join(_IMAGES)} with values that flow and scaling can have", _is_image_settings),
        "weight": ("a number from 0 to 1", lambda v: _is_number(v, 0.0) and v <= 1),
        "files": (
            f"sha256 and bytes of {', '.join(RECOGNISER_FILES)}, plain names",
            lambda v: _has_files(RECOGNISER_FILES, v),
        ),
    },
}
"""Likewise, of a bundle of each kind."""

_AGREEMENT_OF = {SPOTTER: _check_spotter, RECOGNISER: _check_recogniser}
"""Checks of fields against each other."""
