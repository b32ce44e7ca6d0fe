"""The exported model on disk: find it, verify it, describe it, hand out its weights.

A bundle is a directory, or a zip of it. One that spots holds manifest.json, window.onnx, step.onnx, weights.bin,
MODEL_CARD.md, and, where it was exported in fp16 as well, both graphs again and the weights they hold in half
precision; a recogniser's holds clip.onnx in place of the graphs. Nothing here knows an engine, and nothing here needs
onnx.

A bundle may come from anybody. What it fails with is a BundleError, and what is handed out is what was hashed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from metst_edge import checking
from metst_edge.choices import PRECISIONS
from metst_edge.counting import some
from metst_edge.decode.settings import DecodeSettings
from metst_edge.decode.table import ScoreTable
from metst_edge.errors import BundleFileError, BundleGraphError, EngineError, ModelNotFoundError
from metst_edge.manifest import (
    DEFAULT_WEIGHT,
    FORMAT_VERSION,
    HALF_FILES,
    HALF_WEIGHTS,
    MANIFEST,
    RECOGNISER,
    RECOGNISER_FILES,
    REQUIRED_FILES,
    SPOTTER,
    WEIGHTS,
    parse_manifest,
)
from metst_edge.onnx_file import OnnxError, Shape, interface, misfits, with_weights
from metst_edge.stored import StoredFiles, refusing

__all__ = [
    "FORMAT_VERSION",
    "HALF_FILES",
    "HALF_WEIGHTS",
    "MANIFEST",
    "PRECISIONS",
    "RECOGNISER_FILES",
    "REQUIRED_FILES",
    "Bundle",
    "RecognizerBundle",
    "StateEntry",
    "StoredModel",
    "TensorEntry",
    "open_bundle",
    "sha256",
    "shipped_models",
]

SHIPPED_MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True)
class TensorEntry:
    """Where one weight lies in weights.bin: little-endian float32 in C order.

    Attributes:
        name: of the weight.
        shape: of the array.
        offset: of its first byte.
    """

    name: str
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class StateEntry:
    """One state tensor of step.onnx, float32 (lanes, *shape): input `name`, output `name` + "_next"."""

    name: str
    shape: tuple[int, ...]


Stored = TypeVar("Stored", bound="StoredModel")


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """What a verified bundle of either kind is.

    Attributes:
        kind: "spotter" or "recogniser".
        graphs: names of its graphs, as `graph` takes them.
        path: what was loaded, a directory or a zip.
        manifest: all of manifest.json.
        manifest_sha256: of that file, hex.
        name: of this bundle.
        model: of its network ("metst64").
        labels: emotions in the order of the logits.
        sizes: shapes of the network.
        tensors: of weights.bin.
    """

    kind: ClassVar[str]
    graphs: ClassVar[tuple[str, ...]]

    path: Path
    manifest: Mapping[str, Any]
    manifest_sha256: str
    name: str
    model: str
    labels: tuple[str, ...]
    sizes: Mapping[str, Any]
    tensors: tuple[TensorEntry, ...]
    _files: StoredFiles = field(repr=False, compare=False)

    @classmethod
    def find(cls: type[Stored], name_or_path: str | os.PathLike[str]) -> Stored:
        """Load a shipped model by name, or any bundle by path.

        Raises:
            ModelNotFoundError: neither a shipped name nor an existing path.
            BundleError: as `load`.
            OptionError: neither text nor path, or an empty text.
        """
        return cls.load(_found(name_or_path))

    @classmethod
    def load(cls: type[Stored], path: str | os.PathLike[str]) -> Stored:
        """Read the manifest and check it and every file it names.

        Args:
            path: a bundle directory, or a zip of one (its files at the top or inside one folder). A zip is not
                unpacked: see `folder`.

        Raises:
            BundleFileError: a file is missing, the manifest cannot be parsed, or a field has a wrong value.
            BundleKindError: it is a bundle of the other kind.
            BundleVersionError: written in a newer format.
            BundleHashError: a file differs from the hash in the manifest.
        """
        return cls._of(_opened(Path(checking.path("path", path, "the path of a bundle")), cls.kind))

    @classmethod
    def _of(cls: type[Stored], opened: _Opened) -> Stored:
        manifest = opened.manifest
        return cls(
            path=opened.files.path,
            manifest=manifest,
            manifest_sha256=opened.sha256,
            name=manifest["name"],
            model=manifest["model"],
            labels=tuple(manifest["labels"]),
            sizes=manifest["sizes"],
            tensors=tuple(TensorEntry(t["name"], tuple(t["shape"]), t["offset"]) for t in manifest["tensors"]),
            _files=opened.files,
            **cls._own_fields(manifest),
        )

    @classmethod
    def _own_fields(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """What this kind has beyond the others."""
        raise NotImplementedError

    @cached_property
    def _unpacked(self) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(prefix="metst_edge-")
        for name in self.manifest["files"]:
            (Path(folder.name) / name).write_bytes(self._content(name))
        (Path(folder.name) / MANIFEST).write_bytes(self._files.manifest())
        return folder

    @property
    def folder(self) -> Path:
        """The directory with the files. For a zip one that is unpacked when it is asked for, and gone with the bundle.

        Engines do not ask: what lies on disk may change.
        """
        return self.path if self._files.top is None else Path(self._unpacked.name)

    def file(self, name: str) -> Path:
        """Return where a file of the bundle lies; it must not be used longer than the bundle."""
        return self.folder / name

    def _content(self, name: str) -> bytes:
        return self._files.read(name, self.manifest["files"][name])

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions it has graphs of: fp32 always, fp16 where it was exported so."""
        return PRECISIONS if HALF_FILES[0] in self.manifest["files"] else PRECISIONS[:1]

    def graph_file(self, name: str, precision: str = "fp32") -> str:
        """Return the name of the file that holds the graph of that name in a precision.

        Raises:
            EngineError: the bundle has no graphs of that precision.
        """
        if precision not in self.precisions:
            advice = "; add it with `python -m export fp16`" if self.kind == SPOTTER and precision in PRECISIONS else ""
            raise EngineError(
                f"{self.path}: expected precision {' or '.join(self.precisions)}, which the bundle holds, "
                f"got {precision!r}{advice}"
            )
        return f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx"

    def graph(self, name: str, precision: str = "fp32") -> Path:
        """Return where the graph of that name lies in a precision; not to be used longer than the bundle.

        Raises:
            EngineError: the bundle has no graphs of that precision.
        """
        return self.file(self.graph_file(name, precision))

    def graph_bytes(self, name: str, precision: str = "fp32") -> bytes:
        """Return the graph of that name in a precision with its weights in it, as a runtime is given it.

        Raises:
            EngineError: the bundle has no graphs of that precision.
            BundleGraphError: it is no ONNX graph, has other inputs or outputs than the manifest says, or reads other
                files than the bundle's weights.
            BundleError: a file has changed since the bundle was loaded.
        """
        file = self.graph_file(name, precision)
        entries = self.manifest["files"]
        sizes = {each: entries[each]["bytes"] for each in (WEIGHTS, HALF_WEIGHTS) if each in entries}
        inputs, outputs = self._interface(name)
        try:
            model = self._content(file)
            found = interface(model)
            if found.inputs.keys() != inputs.keys():
                got = some(sorted(found.inputs), ", ") or "none"
                raise BundleGraphError(
                    f"{self.path}: expected {file} with inputs {some(sorted(inputs), ', ')}, got "
                    f"{got if got.isprintable() else ascii(got)}; export the bundle again"
                )
            wrong = misfits(found.inputs, inputs) + misfits(found.outputs, outputs)
            if wrong:
                raise OnnxError(f"expected {some(wrong)}, as the manifest has it")
            return with_weights(model, sizes, self._content)
        except OnnxError as error:
            raise BundleGraphError(f"{self.path}: {file}: {error}; export the bundle again") from error

    def _interface(self, graph: str) -> tuple[dict[str, Shape], dict[str, Shape]]:
        """Shapes of a graph's inputs and outputs, by name; None for an axis that varies."""
        raise NotImplementedError

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Read weights.bin: name -> float32 array, read-only.

        Raises:
            BundleError: it has changed since the bundle was loaded, or a weight is no finite number.
        """
        with refusing(self.path):
            blob = self._content(WEIGHTS)
            weights = {
                t.name: np.frombuffer(blob, "<f4", prod(t.shape), t.offset).reshape(t.shape) for t in self.tensors
            }
        for name, array in weights.items():
            if not np.isfinite(array).all():
                raise BundleFileError(f"{self.path}: expected finite weights, got nan or infinity in {name}")
        return weights


@dataclass(frozen=True, kw_only=True)
class Bundle(StoredModel):
    """A verified bundle of a model that spots. Make one with `Bundle.find` or `Bundle.load`.

    Attributes:
        path: what was loaded, a directory or a zip.
        folder: see `StoredModel`.
        manifest: all of manifest.json.
        name: of this bundle.
        model: of its network ("metst64").
        labels: emotions in the order of the logits, neutral last.
        sizes: shapes of the network.
        tensors: of weights.bin.
        channels: feature channels C.
        fps: the frame rate the model was trained at.
        k: frames in a window, even.
        k_p: half a typical ME, frames.
        roi_set: one of `metst_edge.face.ROI_SETS`.
        compat: whether features are measured as upstream does.
        decode: ratio, floor, synergy, window_seconds, as the manifest has them; see `decode_settings`.
        look_ahead: steps after which a frame's score comes.
        delay: frames that the score of a frame is late besides: it is of the frame so many before.
        state: of step.onnx.
    """

    kind: ClassVar[str] = SPOTTER
    graphs: ClassVar[tuple[str, ...]] = ("step", "window")

    channels: int
    fps: float
    k: int
    k_p: int
    roi_set: str
    compat: bool
    decode: Mapping[str, Any]
    look_ahead: int
    delay: int
    state: tuple[StateEntry, ...]

    @classmethod
    def _own_fields(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        as_they_are = ("channels", "k", "k_p", "roi_set", "compat", "decode", "look_ahead")
        return {
            **{name: manifest[name] for name in as_they_are},
            "fps": float(manifest["fps"]),
            "delay": manifest.get("delay", 0),
            "state": tuple(StateEntry(s["name"], tuple(s["shape"])) for s in manifest["state"]),
        }

    def _interface(self, graph: str) -> tuple[dict[str, Shape], dict[str, Shape]]:
        classes = len(self.labels)
        if graph == "window":
            return {"features": (None, self.channels, None)}, {"spot": (None, None), "emotion": (None, None, classes)}
        state: dict[str, Shape] = {entry.name: (None, *entry.shape) for entry in self.state}
        written = {f"{name}_next": shape for name, shape in state.items()}
        inputs: dict[str, Shape] = {"features": (None, self.channels), "reset": (None,)}
        return inputs | state, {"spot": (None,), "emotion": (None, classes)} | written

    @property
    def decode_settings(self) -> DecodeSettings:
        """What its scores are decoded with."""
        return DecodeSettings.from_dict(self.decode)

    @property
    def calibration(self) -> ScoreTable | None:
        """What makes a score of the height of a peak; None where the height itself is the score."""
        table = self.manifest.get("calibration")
        return None if table is None else ScoreTable.from_dict(table)


@dataclass(frozen=True, kw_only=True)
class RecognizerBundle(StoredModel):
    """A verified bundle of a recogniser, which names the emotion of a known interval (SLSTT, arXiv 2112.05851).

    Attributes:
        path: what was loaded, a directory or a zip.
        folder: see `StoredModel`.
        manifest: all of manifest.json.
        name: of this bundle.
        model: of its network ("slstt_small").
        labels: emotions in the order of the logits.
        sizes: shapes of the network, and how its frames are joined.
        tensors: of weights.bin.
        frames: pictures of an interval that it was trained on.
        input_size: side of a picture, pixels.
        images: how pictures are made: Farneback's pyr_scale, levels, winsize, iterations, poly_n and poly_sigma, the
            side input_size, and of the colours, 0 to 1, mean and std (3 numbers each, red first).
        weight: its share in an opinion that is combined with the frames' vote, 0 to 1.
    """

    kind: ClassVar[str] = RECOGNISER
    graphs: ClassVar[tuple[str, ...]] = ("clip",)

    frames: int
    input_size: int
    images: Mapping[str, Any]
    weight: float

    @classmethod
    def _own_fields(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "frames": manifest["sizes"]["frames"],
            "input_size": manifest["sizes"]["input_size"],
            "images": manifest["images"],
            "weight": float(manifest.get("weight", DEFAULT_WEIGHT)),
        }

    def _interface(self, graph: str) -> tuple[dict[str, Shape], dict[str, Shape]]:
        side = self.input_size
        return {"images": (None, None, 3, side, side)}, {"logits": (None, len(self.labels))}


def open_bundle(name_or_path: str | os.PathLike[str]) -> Bundle | RecognizerBundle:
    """Load a shipped model by name, or any bundle by path, of whichever kind it is.

    Raises:
        ModelNotFoundError: neither a shipped name nor an existing path.
        BundleError: as `StoredModel.load`.
        OptionError: neither text nor path, or an empty text.
    """
    opened = _opened(_found(name_or_path), None)
    if opened.manifest.get("kind", SPOTTER) == RECOGNISER:
        return RecognizerBundle._of(opened)
    return Bundle._of(opened)


def shipped_models() -> dict[str, Path]:
    """Return the models that came with the installation: name -> path."""
    if not SHIPPED_MODELS.is_dir():
        return {}
    found = sorted(p for p in SHIPPED_MODELS.iterdir() if p.suffix == ".zip" or (p / MANIFEST).is_file())
    return {p.stem if p.suffix == ".zip" else p.name: p for p in found}


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Opened:
    """What lies at a path, checked.

    Attributes:
        files: where they are.
        manifest: all of it.
        sha256: of the manifest.
    """

    files: StoredFiles
    manifest: dict[str, Any]
    sha256: str


def _found(name_or_path: str | os.PathLike[str]) -> Path:
    checking.path("the model", name_or_path, "the name of a shipped model or the path of a bundle")
    shipped = shipped_models()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    try:
        there = Path(name_or_path).exists()
    except OSError:  # such as a name of a thousand letters
        there = False
    if not there:
        raise ModelNotFoundError(
            f"expected a shipped model ({', '.join(shipped) or 'none in this installation'}) "
            f"or the path of a bundle, got {str(name_or_path)!r}"
        )
    return Path(name_or_path)


def _opened(path: Path, kind: str | None) -> _Opened:
    """Read and check what lies at a path; see `StoredModel.load`."""
    with refusing(path):
        files = StoredFiles.at(path)
        content = files.manifest()
        manifest = parse_manifest(content, path, kind)
        files.check(manifest["files"])
        return _Opened(files, manifest, hashlib.sha256(content).hexdigest())
