"""The exported model on disk: find it, verify it, describe it, hand out its weights.

A bundle is a directory, or a zip of it. One that spots holds manifest.json, window.onnx, step.onnx, weights.bin,
MODEL_CARD.md, and, where it was exported in fp16 as well, both graphs again and the weights they hold in half
precision; a recogniser's holds clip.onnx in place of the graphs. Nothing here knows an engine, and nothing here needs
onnx.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from metst_edge.choices import PRECISIONS
from metst_edge.decode.settings import DecodeSettings
from metst_edge.errors import BundleFileError, BundleHashError, EngineError, ModelNotFoundError
from metst_edge.manifest import (
    DEFAULT_WEIGHT,
    FORMAT_VERSION,
    HALF_FILES,
    HALF_WEIGHTS,
    LIMIT_BYTES,
    MANIFEST,
    RECOGNISER,
    RECOGNISER_FILES,
    REQUIRED_FILES,
    SPOTTER,
    parse_manifest,
)

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
        folder: the directory with the files; for a zip, a temporary one that lives as long as this object.
        manifest: all of manifest.json.
        name: of this bundle.
        model: of its network ("metst64").
        labels: emotions in the order of the logits.
        sizes: shapes of the network.
        tensors: of weights.bin.
    """

    kind: ClassVar[str]
    graphs: ClassVar[tuple[str, ...]]

    path: Path
    folder: Path
    manifest: Mapping[str, Any]
    name: str
    model: str
    labels: tuple[str, ...]
    sizes: Mapping[str, Any]
    tensors: tuple[TensorEntry, ...]
    _unpacked: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def find(cls: type[Stored], name_or_path: str | os.PathLike[str]) -> Stored:
        """Load a shipped model by name, or any bundle by path.

        Raises:
            ModelNotFoundError: neither a shipped name nor an existing path.
            BundleError: as `load`.
        """
        return cls.load(_found(name_or_path))

    @classmethod
    def load(cls: type[Stored], path: str | os.PathLike[str]) -> Stored:
        """Read the manifest and check it and every file it names.

        Args:
            path: a bundle directory, or a zip of one (its files at the top or inside one folder). A zip's files are
                unpacked into a temporary directory that is removed with the returned object.

        Raises:
            BundleFileError: a file is missing, the manifest cannot be parsed, or a field has a wrong value.
            BundleKindError: it is a bundle of the other kind.
            BundleVersionError: written in a newer format.
            BundleHashError: a file differs from the hash in the manifest.
        """
        return cls._of(_opened(Path(path), cls.kind))

    @classmethod
    def _of(cls: type[Stored], opened: _Opened) -> Stored:
        manifest = opened.manifest
        return cls(
            path=opened.path,
            folder=opened.folder,
            manifest=manifest,
            name=manifest["name"],
            model=manifest["model"],
            labels=tuple(manifest["labels"]),
            sizes=manifest["sizes"],
            tensors=opened.tensors,
            _unpacked=opened.unpacked,
            **cls._own_fields(manifest),
        )

    @classmethod
    def _own_fields(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """What this kind has beyond the others."""
        raise NotImplementedError

    def file(self, name: str) -> Path:
        """Return where a file of the bundle lies; it must not be used longer than the bundle."""
        return self.folder / name

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions it has graphs of: fp32 always, fp16 where it was exported so."""
        return PRECISIONS if HALF_FILES[0] in self.manifest["files"] else PRECISIONS[:1]

    def graph(self, name: str, precision: str = "fp32") -> Path:
        """Return where the graph of that name lies in a precision; not to be used longer than the bundle.

        Raises:
            EngineError: the bundle has no graphs of that precision.
        """
        if precision not in self.precisions:
            advice = "; add it with `python -m export fp16`" if self.kind == SPOTTER and precision in PRECISIONS else ""
            raise EngineError(
                f"{self.path}: expected precision {' or '.join(self.precisions)}, which the bundle holds, "
                f"got {precision!r}{advice}"
            )
        return self.file(f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx")

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Map weights.bin: name -> float32 array, read-only."""
        blob = np.memmap(self.folder / "weights.bin", dtype=np.uint8, mode="r")
        return {
            t.name: blob[t.offset : t.offset + 4 * int(np.prod(t.shape))].view("<f4").reshape(t.shape)
            for t in self.tensors
        }


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
        roi_set: "metst" or "metst_plus".
        compat: whether features are measured as upstream does.
        decode: ratio, floor, synergy, window_seconds, as the manifest has them; see `decode_settings`.
        look_ahead: steps after which a frame's score comes.
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
    state: tuple[StateEntry, ...]

    @classmethod
    def _own_fields(cls, manifest: Mapping[str, Any]) -> dict[str, Any]:
        as_they_are = ("channels", "k", "k_p", "roi_set", "compat", "decode", "look_ahead")
        return {
            **{name: manifest[name] for name in as_they_are},
            "fps": float(manifest["fps"]),
            "state": tuple(StateEntry(s["name"], tuple(s["shape"])) for s in manifest["state"]),
        }

    @property
    def decode_settings(self) -> DecodeSettings:
        """What its scores are decoded with."""
        return DecodeSettings.from_dict(self.decode)


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


def open_bundle(name_or_path: str | os.PathLike[str]) -> Bundle | RecognizerBundle:
    """Load a shipped model by name, or any bundle by path, of whichever kind it is.

    Raises:
        ModelNotFoundError: neither a shipped name nor an existing path.
        BundleError: as `StoredModel.load`.
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
        path: what was loaded.
        folder: with the files.
        manifest: all of it.
        tensors: of weights.bin.
        unpacked: keeps the folder, where it is a temporary one.
    """

    path: Path
    folder: Path
    manifest: dict[str, Any]
    tensors: tuple[TensorEntry, ...]
    unpacked: tempfile.TemporaryDirectory[str] | None


def _found(name_or_path: str | os.PathLike[str]) -> Path:
    shipped = shipped_models()
    if str(name_or_path) in shipped:
        return shipped[str(name_or_path)]
    if not Path(name_or_path).exists():
        raise ModelNotFoundError(
            f"expected a shipped model ({', '.join(shipped) or 'none in this installation'}) "
            f"or the path of a bundle, got {str(name_or_path)!r}"
        )
    return Path(name_or_path)


def _opened(path: Path, kind: str | None) -> _Opened:
    """Read and check what lies at a path; see `StoredModel.load`."""
    try:
        if path.is_dir():
            return _checked(path, path, None, kind)
        if not path.is_file():
            raise BundleFileError(f"{path}: expected a bundle directory or a zip of one, found nothing")
        # Removed with the last reference to it, also when what follows fails.
        unpacked = tempfile.TemporaryDirectory(prefix="metst_edge-")
        _unpack(path, Path(unpacked.name), kind)
        return _checked(path, Path(unpacked.name), unpacked, kind)
    except OSError as error:
        raise BundleFileError(f"{path}: expected a readable bundle, but it cannot be read ({error})") from error


def _checked(path: Path, folder: Path, unpacked: tempfile.TemporaryDirectory[str] | None, kind: str | None) -> _Opened:
    if not (folder / MANIFEST).is_file():
        raise BundleFileError(f"{path}: expected {MANIFEST}, which every bundle has; is this a bundle?")
    manifest = parse_manifest((folder / MANIFEST).read_bytes(), path, kind)
    for name, entry in manifest["files"].items():
        if not (folder / name).is_file():
            raise BundleFileError(f"{path}: {name} is missing; copy the bundle again, whole")
        found = sha256(folder / name)
        if found != entry["sha256"]:
            raise BundleHashError(
                f"{path}: expected sha256 {entry['sha256']} of {name}, got {found}; copy or export the bundle again"
            )
    tensors = tuple(TensorEntry(t["name"], tuple(t["shape"]), t["offset"]) for t in manifest["tensors"])
    end = max((t.offset + 4 * int(np.prod(t.shape)) for t in tensors), default=0)
    if (folder / "weights.bin").stat().st_size < end:
        raise BundleFileError(f"{path}: expected at least {end} bytes in weights.bin; export the bundle again")
    return _Opened(path, folder, manifest, tensors, unpacked)


def _unpack(path: Path, folder: Path, kind: str | None) -> None:
    """Copy out of a zip the files its manifest names, and only those."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            manifests = [name for name in members if re.fullmatch(rf"([^/\\]+/)?{re.escape(MANIFEST)}", name)]
            if len(manifests) != 1:
                raise BundleFileError(f"{path}: expected one {MANIFEST} in the zip, found {len(manifests)}")
            top = manifests[0].removesuffix(MANIFEST)
            if members[manifests[0]].file_size > LIMIT_BYTES:
                raise BundleFileError(f"{path}: expected {MANIFEST} of a few kilobytes, got a huge one")
            content = archive.read(manifests[0])
            manifest = parse_manifest(content, path, kind)
            (folder / MANIFEST).write_bytes(content)
            for name, entry in manifest["files"].items():
                member = members.get(top + name)
                if member is None:
                    raise BundleFileError(f"{path}: {name} is missing; copy the bundle again, whole")
                if member.file_size != entry["bytes"]:  # also what keeps a bomb from going off
                    raise BundleHashError(
                        f"{path}: expected {entry['bytes']} bytes of {name}, got {member.file_size}; "
                        "copy or export the bundle again"
                    )
                (folder / name).write_bytes(archive.read(member))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise BundleFileError(f"{path}: expected a bundle directory or a zip of one ({error})") from error
