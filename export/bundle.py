"""Writes a bundle, proves it against the network, and only then puts it where it was asked for.

A bundle may hold its graphs in fp16 too, which are proved against those in fp32.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console

from export import half, parity
from export.card import model_card
from export.description import FLOW, Description, ExportError
from export.networks import EXPORTERS
from export.networks.from_torch import Arrays
from export.networks.mamba import HALF
from export.onnx_builder import WEIGHTS_FILE
from export.scan_function import without_functions
from metst_edge.app.demo import demo_clip
from metst_edge.bundle import FORMAT_VERSION, HALF_FILES, HALF_WEIGHTS, MANIFEST, REQUIRED_FILES, Bundle, sha256
from metst_edge.engine import networks
from metst_edge.engine.networks.shape import Network
from metst_edge.errors import MetstError
from training.models import SpottingNetwork

# Enough for every vector unit; the file is read whole, so pages do not matter.
ALIGNMENT = 64


def write(
    network: SpottingNetwork,
    description: Description,
    out: Path,
    *,
    force: bool,
    console: Console,
    precision: str = "fp32",
    inline: bool = False,
    clips: Sequence[Path] = (),
) -> Bundle:
    """Export a network as a bundle.

    Everything is written beside `out`, run in every engine present, and renamed at the end; whatever fails, nothing is
    left behind and an existing bundle stays.

    Args:
        network: in evaluation mode.
        description: what the bundle says of itself.
        out: directory to make.
        force: replace a bundle that is there.
        console: where the parity table goes.
        precision: "fp16" for graphs in fp16 beside those in fp32.
        inline: write the scan's function out wherever it is called, for runtimes that know no local functions.
        clips: video of faces, on which what half precision must hold is measured besides the packaged clip.

    Raises:
        ExportError: `out` exists, no engine is present to check with, or one differs by more than the tolerances;
            `clips` without fp16.
    """
    _check_clips(clips, precision == "fp16")
    with staged(out, force) as staging:
        manifest = _write_network(network, description, staging, inline)
        bundle = _seal(staging, manifest)
        results, absent = parity.measure(bundle, network)
        console.print(parity.table(results, absent))
        failed = [r for r in results if not r.passed]
        if failed:
            worst = ", ".join(f"{r.engine} {r.graph} (spot {r.spot:.1e}, logits {r.emotion:.1e})" for r in failed)
            raise ExportError(
                f"expected differences to torch of at most {parity.SPOT_TOLERANCE:g} (spot) and "
                f"{parity.EMOTION_TOLERANCE:g} (logits), got {worst}; no bundle was written"
            )
        if len(absent) == len(parity.CHECKED):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
            raise ExportError(f"expected an engine to check the bundle with, found none ({reasons})")
        manifest["parity"]["results"] = [r.to_dict() for r in results]
        sealed = _seal(staging, manifest)
        if precision == "fp16":
            _add_half(sealed, console, inline, clips)
    return Bundle.load(out)


def add_half(
    bundle: Bundle, out: Path, *, force: bool, console: Console, inline: bool = False, clips: Sequence[Path] = ()
) -> Bundle:
    """Write a bundle again with its graphs in fp16 beside those in fp32, which stay as they are.

    Args:
        bundle: with or without fp16 graphs.
        out: directory to make.
        force: replace a bundle that is there.
        console: where the parity table goes.
        inline: as for `write`, of the fp16 graphs.
        clips: as for `write`.

    Raises:
        ExportError: `out` exists, the bundle does not fit its network, ONNX Runtime is missing, or fp16 differs by more
            than its tolerances or does not hold what it must.
    """
    with staged(out, force) as staging:
        _add_half(_copied(bundle, staging), console, inline, clips)
    return Bundle.load(out)


def write_again(
    bundle: Bundle, out: Path, *, force: bool, console: Console, inline: bool = False, clips: Sequence[Path] = ()
) -> Bundle:
    """Write a bundle's graphs anew, as this version writes them, from the bundle's own weights.

    Args:
        bundle: in both precisions where it has both.
        out: directory to make.
        force: replace a bundle that is there.
        console: where the parity table goes.
        inline: as for `write`.
        clips: as for `write`.

    Raises:
        ExportError: `out` exists, the bundle does not fit its network, ONNX Runtime is missing, or the new graphs
            differ from the old ones by more than the tolerances; `clips` without fp16.
    """
    _check_clips(clips, "fp16" in bundle.precisions)
    with staged(out, force) as staging:
        again = _copied(bundle, staging)
        offsets = {tensor.name: tensor.offset for tensor in bundle.tensors}
        _write_graphs(bundle.model, networks.of_bundle(bundle), staging, offsets, inline=inline)
        again = _seal(staging, again.manifest)
        results = parity.compare(again, bundle)
        console.print(parity.table(results, {}, "the graphs before"))
        failed = [r for r in results if not r.passed]
        if failed:
            worst = ", ".join(f"{r.graph} (spot {r.spot:.1e}, logits {r.emotion:.1e})" for r in failed)
            raise ExportError(
                f"expected differences to the graphs before of at most {parity.SPOT_TOLERANCE:g} (spot) and "
                f"{parity.EMOTION_TOLERANCE:g} (logits), got {worst}; no bundle was written"
            )
        if "fp16" in bundle.precisions:
            _add_half(again, console, inline, clips)
    return Bundle.load(out)


def _copied(bundle: Bundle, folder: Path) -> Bundle:
    """Copy what every bundle has, without fp16 and what the manifest says of it."""
    for name in (MANIFEST, *REQUIRED_FILES):
        shutil.copyfile(bundle.file(name), folder / name)
    try:
        figures = {name: value for name, value in bundle.manifest["parity"].items() if name != "fp16"}
        return _seal(folder, {**bundle.manifest, "parity": figures})
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # nothing but export reads these fields
        raise ExportError(
            f"{bundle.path}: expected training, licence, metrics and parity in the manifest as export writes them, for "
            f"the model card, got others ({error!r})"
        ) from error


def _add_half(bundle: Bundle, console: Console, inline: bool, clips: Sequence[Path]) -> None:
    """Add fp16 graphs to the bundle's folder, and what they differ by and must hold to its manifest and card."""
    offsets = {tensor.name: tensor.offset for tensor in bundle.tensors}
    weights = _write_half_weights(bundle.weights(), bundle.file(HALF_WEIGHTS))
    _write_graphs(bundle.model, networks.of_bundle(bundle), bundle.folder, offsets, weights, inline)
    manifest = {**bundle.manifest}
    results = half.measure(_seal(bundle.folder, manifest), clips)
    tolerance = EXPORTERS[bundle.model].half
    console.print(half.table(results, tolerance))
    failed = [r for r in results if not (r.close(tolerance) and r.fits)]
    if failed:
        worst = ", ".join(
            f"{r.graph} (spot {r.spot:.1e}, logits {r.emotion:.1e}, value {r.largest:.0f} of {r.value})" for r in failed
        )
        raise ExportError(
            f"expected fp16 to differ from fp32 by at most {tolerance.spot:g} (spot) and "
            f"{tolerance.emotion:g} (logits) and to hold values of at most {half.LIMIT:g} in half precision, "
            f"which ends at 65504, got {worst}; no bundle was written: leave fp16 away"
        )
    manifest["parity"] = {
        **manifest["parity"],
        "fp16": {
            "tolerance": asdict(tolerance),
            "limit": half.LIMIT,
            "clips": [clip.name for clip in (demo_clip(), *clips)],
            "results": [r.to_dict() for r in results],
        },
    }
    _seal(bundle.folder, manifest)


def _write_half_weights(weights: Arrays, path: Path) -> dict[str, int]:
    """Write what fp16 graphs hold in half precision, little-endian; return name -> offset, bytes."""
    offsets = {}
    with path.open("wb") as stream, np.errstate(over="ignore"):  # what becomes infinite fails the parity
        for name, array in weights.items():
            if HALF.fullmatch(name):
                stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
                offsets[name] = stream.tell()
                stream.write(array.astype("<f2").tobytes())
    return offsets


def _write_graphs(
    model: str,
    network: Network,
    folder: Path,
    offsets: Mapping[str, int],
    half: Mapping[str, int] | None = None,
    inline: bool = False,
) -> None:
    """Write both graphs, those in fp16 where `half` is given."""
    suffix = "onnx" if half is None else "fp16.onnx"
    exporter = EXPORTERS[model]
    for name, build in (("window", exporter.window), ("step", exporter.step)):
        path = folder / f"{name}.{suffix}"
        graph = build(network, offsets, half)
        onnx.save(without_functions(graph) if inline else graph, path)
        onnx.checker.check_model(path, full_check=True)


@contextmanager
def staged(out: Path, force: bool) -> Iterator[Path]:
    """Give a folder to write in that becomes `out` at the end, or vanishes when something fails."""
    check_out(out, force)
    made = [folder for folder in out.absolute().parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise ExportError(f"{out}: cannot write there ({error}); choose another --out") from error
    try:
        yield staging
        _move_into_place(staging, out)
    except MetstError as error:
        # The staging directory's name is of no use to anyone.
        raise ExportError(str(error).replace(str(staging), str(out))) from error
    except OSError as error:
        raise ExportError(f"{out}: cannot write there ({error}); choose another --out") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # the first that holds something ends it
            for folder in made:
                folder.rmdir()


def _check_clips(clips: Sequence[Path], half: bool) -> None:
    if clips and not half:
        raise ExportError(
            "--clips is for what fp16 must hold, and no graphs in fp16 are written: add --precision fp16 (to a bundle "
            "with `python -m export fp16`), or leave it out"
        )


def check_out(out: Path, force: bool) -> None:
    """Check that a bundle may be written at `out`.

    Args:
        out: directory to make.
        force: replace a bundle that is there.

    Raises:
        ExportError: something is there that may not be replaced, or this user may not write there.
    """
    there = next(path for path in out.absolute().parents if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ExportError(f"{out}: cannot write there ({there} is no folder to write in); choose another --out")
    if not out.exists():
        return
    if not force:
        raise ExportError(f"{out} exists; choose another --out, or replace it with --force")
    if not out.is_dir() or (any(out.iterdir()) and not (out / MANIFEST).is_file()):
        raise ExportError(f"{out}: expected a bundle to replace, but it is something else; choose another --out")


def _write_network(network: SpottingNetwork, description: Description, folder: Path, inline: bool) -> dict[str, Any]:
    """Write the graphs and weights; return the manifest but for parity results and file hashes."""
    exporter = EXPORTERS[network.name]
    sizes = exporter.sizes(network)
    shape = networks.describe(network.name, sizes, description.name)
    entries = write_weights(exporter.weights(network), folder / WEIGHTS_FILE)
    offsets = {entry["name"]: entry["offset"] for entry in entries}
    _write_graphs(network.name, shape, folder, offsets, inline=inline)
    return {
        "format_version": FORMAT_VERSION,
        "name": description.name,
        "model": network.name,
        "channels": shape.channels,
        "labels": list(description.labels),
        "fps": description.fps,
        "k": description.k,
        "k_p": description.k_p,
        "roi_set": description.roi_set,
        "compat": description.compat,
        "flow": FLOW,
        "decode": dict(description.decode),
        "look_ahead": shape.look_ahead,
        **({"delay": description.delay} if description.delay else {}),
        "sizes": sizes,
        "state": [{"name": name, "shape": list(size)} for name, size in shape.state.items()],
        "tensors": entries,
        "training": description.training,
        "licence": description.licence,
        "metrics": description.metrics,
        **({} if description.calibration is None else {"calibration": description.calibration}),
        "parity": {
            "tolerance": {"spot": parity.SPOT_TOLERANCE, "emotion": parity.EMOTION_TOLERANCE},
            "results": [],
        },
    }


def weights_sha256(network: SpottingNetwork) -> str:
    """Return the hash of the weights.bin that every bundle of a network holds, without writing one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS_FILE
        write_weights(EXPORTERS[network.name].weights(network), path)
        return sha256(path)


def write_weights(weights: Arrays, path: Path) -> list[dict[str, Any]]:
    """Write weights.bin, little-endian; return the manifest's table of it."""
    entries = []
    with path.open("wb") as stream:
        for name, array in weights.items():
            stream.write(b"\0" * (-stream.tell() % ALIGNMENT))
            entries.append({"name": name, "dtype": "float32", "shape": list(array.shape), "offset": stream.tell()})
            stream.write(array.astype("<f4").tobytes())
    return entries


def _seal(folder: Path, manifest: Mapping[str, Any]) -> Bundle:
    """Write the model card and the manifest with the hashes of all files, and read the bundle back."""
    parameters = sum(int(np.prod(entry["shape"])) for entry in manifest["tensors"])
    (folder / "MODEL_CARD.md").write_text(
        model_card(manifest, parameters, EXPORTERS[manifest["model"]].paper), encoding="utf-8"
    )
    write_manifest(folder, manifest, REQUIRED_FILES + (HALF_FILES if (folder / HALF_WEIGHTS).exists() else ()))
    return Bundle.load(folder)


def write_manifest(folder: Path, manifest: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Write the manifest with size and hash of the files of these names, which are there."""
    files = {name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in names}
    text = json.dumps({**manifest, "files": files}, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _move_into_place(staging: Path, out: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    staging.chmod(0o777 & ~umask)  # mkdtemp's is private
    if not out.exists():
        staging.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    out.rename(old / "bundle")
    try:
        staging.rename(out)
    except OSError:
        (old / "bundle").rename(out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
