"""manifest.json of a bundle: its fields, each with what it must be, and how they must agree.

Knows the text of the file and nothing of the files beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from metst_edge.decode import table
from metst_edge.decode.settings import EXPECTED, EXPECTED_LATER, DecodeSettings
from metst_edge.errors import BundleFileError, BundleKindError, BundleVersionError, SettingsError
from metst_edge.labels import NEUTRAL

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LIMIT_BYTES = 4 * 2**20
"""A manifest is a few kilobytes; anything near this is not one."""

WEIGHTS = "weights.bin"

# What a bundle may ask for at most, well above every network there is: whoever wrote it may want our memory or time.
MOST_FILE_BYTES = 2**30
MOST_FILES = 64
MOST_TENSORS = 2**14
MOST_AXES = 8
MOST_SIZE = 2**16
"""Of one axis of a state, and of each of a network's `sizes`."""
MOST_STATE = 2**24
"""Numbers in all states of one lane."""
MOST_BLOCKS = 1024
MOST_FRAMES = 10_000
"""In a window, half a micro-expression, or a look-ahead."""
MOST_FPS = 1000
MOST_WINDOW_FRAMES = 10**6
"""In the sliding window that stands for the clip: nine hours at 30 frames a second."""
MOST_SCORE = 1000
"""Of a threshold or a prior of a label; scores are 1 at most, and priors are added to logits."""
MOST_LABELS = 64
MOST_PIXELS = 2**27
"""In the pictures of an interval."""
MOST_LETTERS = 100
"""In a name or a label."""
MOST_DEPTH = 32
"""Of values in values."""

SPOTTER, RECOGNISER = "spotter", "recogniser"
"""Kinds of bundle: one scores every frame of a video, the other names the emotion of a known interval."""

REQUIRED_FILES = ("window.onnx", "step.onnx", "weights.bin", "MODEL_CARD.md")
RECOGNISER_FILES = ("clip.onnx", "weights.bin", "MODEL_CARD.md")
HALF_WEIGHTS = "weights.fp16.bin"
HALF_FILES = ("window.fp16.onnx", "step.fp16.onnx", HALF_WEIGHTS)
"""What fp16 adds. Its graphs read all other weights from weights.bin, and have the same float32 inputs and outputs."""

CHANNELS_OF_ROI_SET = {"metst": 10, "metst_plus": 36, "edge": 36}

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
    except RecursionError as error:
        raise BundleFileError(f"{path}: {MANIFEST} cannot be parsed (it is nested too deep)") from error
    except ValueError as error:
        raise BundleFileError(f"{path}: {MANIFEST} cannot be parsed ({error}); export the bundle again") from error
    if not isinstance(manifest, dict):
        raise BundleFileError(f"{path}: expected an object in {MANIFEST}, got {type(manifest).__name__}")
    _check_texts(manifest, path)
    version = manifest.get("format_version")
    if not _is_int(version, 1, LIMIT_BYTES):
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


def _check_texts(manifest: dict[str, Any], path: Path) -> None:
    """Check that everything may be shown on a terminal, also what only people read; only line breaks are no letters."""
    left: list[tuple[Any, int]] = [(manifest, 0)]
    while left:
        value, depth = left.pop()
        if depth > MOST_DEPTH:
            raise BundleFileError(f"{path}: {MANIFEST} cannot be parsed (it is nested deeper than {MOST_DEPTH})")
        if isinstance(value, dict):
            left += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list):
            left += [(part, depth + 1) for part in value]
        elif isinstance(value, str) and not value.replace("\n", "").isprintable():
            raise BundleFileError(f"{path}: {MANIFEST}: expected text that can be printed, got {ascii(value)[:80]}")


_OPTIONAL = {"kind": SPOTTER, "weight": DEFAULT_WEIGHT, "licence": "not stated", "calibration": None, "delay": 0}
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
    if manifest.get("delay", 0) > manifest["k"] // 2:
        raise BundleFileError(
            f"{path}: {MANIFEST}: expected delay to be half of the window's {manifest['k']} frames at most, got "
            f"{manifest['delay']}"
        )
    _check_tensors(manifest, path)
    sizes = manifest["sizes"]
    blocks = sizes.get("depth", 1) * sizes.get("stages", 1) * sizes.get("pathways", 1)
    state = sum(prod(entry["shape"]) for entry in manifest["state"])
    for name, most, got in (("number of blocks", MOST_BLOCKS, blocks), ("numbers in state", MOST_STATE, state)):
        if got > most:
            raise BundleFileError(f"{path}: {MANIFEST}: expected {name} to be {most} at most, got {got}")
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
    if window > MOST_WINDOW_FRAMES:
        raise BundleFileError(
            f"{path}: {MANIFEST}: expected decode.window_seconds to hold {MOST_WINDOW_FRAMES} frames at most, "
            f"got {window:g}"
        )


def _check_recogniser(manifest: dict[str, Any], path: Path) -> None:
    """Check fields against each other."""
    _check_tensors(manifest, path)
    sizes = manifest["sizes"]
    pixels = sizes["frames"] * sizes["input_size"] ** 2
    if pixels > MOST_PIXELS:
        raise BundleFileError(f"{path}: {MANIFEST}: expected pictures of {MOST_PIXELS} pixels at most, got {pixels}")
    for name, expected, got in (
        ("images.input_size", sizes["input_size"], manifest["images"]["input_size"]),
        ("number of labels", sizes["classes"], len(manifest["labels"])),
    ):
        if expected != got:
            raise BundleFileError(f"{path}: {MANIFEST}: expected {name} to be {expected}, got {got}")


def _check_tensors(manifest: dict[str, Any], path: Path) -> None:
    """Check that weights lie in their file one after another."""
    places = sorted((t["offset"], t["offset"] + 4 * prod(t["shape"]), t["name"]) for t in manifest["tensors"])
    for (_, end, before), (start, _, name) in pairwise(places):
        if start < end:
            raise BundleFileError(
                f"{path}: {MANIFEST}: expected tensors that do not overlap, got {name} at {start} and {before} up to "
                f"{end}; export the bundle again"
            )
    end = places[-1][1] if places else 0
    if manifest["files"][WEIGHTS]["bytes"] < end:
        raise BundleFileError(f"{path}: expected at least {end} bytes in {WEIGHTS}; export the bundle again")


def _is_int(value: object, least: int, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def _is_name(value: object) -> bool:
    """What may be shown on a terminal: no line breaks, no escapes, nothing that turns the direction of writing."""
    return isinstance(value, str) and 0 < len(value) <= MOST_LETTERS and value.isprintable() and bool(value.strip())


def _is_name_list(value: object) -> bool:
    if not isinstance(value, list) or not all(_is_name(label) for label in value):
        return False
    return 2 <= len(set(value)) == len(value) <= MOST_LABELS


def _is_shape(value: object, most: int) -> bool:
    return isinstance(value, list) and len(value) <= MOST_AXES and all(_is_int(size, 1, most) for size in value)


def _is_label_list(value: object) -> bool:
    return isinstance(value, list) and _is_name_list(value) and value[-1] == NEUTRAL


def _is_decode(value: object) -> bool:
    try:
        settings = DecodeSettings.from_dict(value)
    except SettingsError:
        return False
    priors = settings.class_priors
    return (
        max(settings.ratio, settings.floor) <= MOST_SCORE
        and settings.window_seconds <= MOST_WINDOW_FRAMES
        and all(_is_name(label) and abs(prior) <= MOST_SCORE for label, prior in priors.items())
    )


def _is_calibration(value: object) -> bool:
    try:
        table.ScoreTable.from_dict(value)
    except SettingsError:
        return value is None
    return True


def _has_files(required: tuple[str, ...], value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(required) <= value.keys()
        and len(value) <= MOST_FILES
        # Plain names only: nothing outside the bundle is ever read or, from a zip, written.
        and all(re.fullmatch(rf"\w[\w.-]{{0,{MOST_LETTERS}}}", name) and name != MANIFEST for name in value)
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("sha256"), str)
            and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"])
            and _is_int(entry.get("bytes"), 0, MOST_FILE_BYTES)
            for entry in value.values()
        )
    )


def _is_table(value: object, most: int) -> bool:
    """A list of different names with shapes."""
    return (
        isinstance(value, list)
        and len(value) <= MOST_TENSORS
        and all(isinstance(e, dict) and _is_name(e.get("name")) and _is_shape(e.get("shape"), most) for e in value)
        and len({entry["name"] for entry in value}) == len(value)
    )


def _is_state_table(value: object) -> bool:
    return _is_table(value, MOST_SIZE)


def _is_tensor_table(value: object) -> bool:
    return (
        isinstance(value, list)
        and _is_table(value, MOST_FILE_BYTES)
        and all(
            entry.get("dtype") == "float32"
            and _is_int(entry.get("offset"), 0, MOST_FILE_BYTES)
            and entry["offset"] % 4 == 0
            for entry in value
        )
    )


def _is_size_table(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_name(name) and _is_int(size, 1, MOST_SIZE) for name, size in value.items()
    )


def _is_clip_size_table(value: object) -> bool:
    """Positive integers, but for the way frames are joined; none of those missing that are read."""
    if not isinstance(value, dict) or value.get("aggregation") not in AGGREGATIONS:
        return False
    whole = {name: size for name, size in value.items() if name != "aggregation"}
    return _is_size_table(whole) and {"frames", "input_size", "classes"} <= whole.keys()


def _is_image_settings(value: object) -> bool:
    return isinstance(value, dict) and all(name in value and fits(value[name]) for name, fits in _IMAGES.items())


def _is_colour(value: object, least: float, most: float) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_number(part, least, most) for part in value)


_Check = Callable[[Any], bool]
_IMAGES: dict[str, _Check] = {
    "pyr_scale": lambda v: _is_number(v, 0.1, 0.99),
    "levels": lambda v: _is_int(v, 0, 16),
    "winsize": lambda v: _is_int(v, 1, 255),
    "iterations": lambda v: _is_int(v, 1, 100),
    "poly_n": lambda v: _is_int(v, 1, 31),
    "poly_sigma": lambda v: _is_number(v, 0.2, 100.0),
    "input_size": lambda v: _is_int(v, 1, MOST_SIZE),
    "mean": lambda v: _is_colour(v, 0.0, MOST_SCORE),
    "std": lambda v: _is_colour(v, 1e-6, MOST_SCORE),
}
"""What the pictures are made by that a recogniser sees: Farneback's parameters, their side, and how they are scaled."""

_FIELDS: dict[str, tuple[str, _Check]] = {
    "name": (f"a name of {MOST_LETTERS} printable letters at most", _is_name),
    "model": ("a model name", _is_name),
    "licence": ("a text that can be printed", lambda v: isinstance(v, str) and v.isprintable()),
    "tensors": ("a list of different names, dtype float32, shapes and offsets that 4 divides", _is_tensor_table),
}
"""Of every bundle: name -> what is expected there, in words and as a check."""

_FIELDS_OF: dict[str, dict[str, tuple[str, _Check]]] = {
    SPOTTER: {
        "channels": ("a positive integer", lambda v: _is_int(v, 1, MOST_SIZE)),
        "labels": ("a list of different names that can be printed, 'neutral' last", _is_label_list),
        "fps": (f"a frame rate, 1 to {MOST_FPS}", lambda v: _is_number(v, 1.0, MOST_FPS)),
        "k": (f"an even number of frames, {MOST_FRAMES} at most", lambda v: _is_int(v, 2, MOST_FRAMES) and v % 2 == 0),
        "k_p": (f"a positive number of frames, {MOST_FRAMES} at most", lambda v: _is_int(v, 1, MOST_FRAMES)),
        "roi_set": (f"one of {', '.join(CHANNELS_OF_ROI_SET)}", lambda v: v in tuple(CHANNELS_OF_ROI_SET)),
        "compat": ("true or false", lambda v: isinstance(v, bool)),
        "decode": (f"{EXPECTED}, and where given {EXPECTED_LATER}", _is_decode),
        "calibration": (f"null, or an object: {table.EXPECTED}", _is_calibration),
        "look_ahead": (f"a number of frames, {MOST_FRAMES} at most", lambda v: _is_int(v, 0, MOST_FRAMES)),
        "delay": (f"a number of frames, {MOST_FRAMES} at most", lambda v: _is_int(v, 0, MOST_FRAMES)),
        "sizes": (f"an object of positive integers, {MOST_SIZE} at most", _is_size_table),
        "state": ("a list of different names, and shapes", _is_state_table),
        "files": (
            f"sha256 and bytes of {', '.join(REQUIRED_FILES)}, plain names",
            lambda v: _has_files(REQUIRED_FILES, v),
        ),
    },
    RECOGNISER: {
        "labels": ("a list of at least two different names that can be printed", _is_name_list),
        "sizes": (
            f"aggregation {' or '.join(AGGREGATIONS)}, and positive integers, with frames, input_size and classes",
            _is_clip_size_table,
        ),
        "images": (f"an object of {', '.join(_IMAGES)} with values that flow and scaling can have", _is_image_settings),
        "weight": ("a number from 0 to 1", lambda v: _is_number(v, 0.0, 1.0)),
        "files": (
            f"sha256 and bytes of {', '.join(RECOGNISER_FILES)}, plain names",
            lambda v: _has_files(RECOGNISER_FILES, v),
        ),
    },
}
"""Likewise, of a bundle of each kind."""

_AGREEMENT_OF = {SPOTTER: _check_spotter, RECOGNISER: _check_recogniser}
"""Checks of fields against each other."""
