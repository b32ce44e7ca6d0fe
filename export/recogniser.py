"""Writes a recogniser's bundle, proves it against the network, and only then puts it where it was asked for."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from rich.console import Console
from rich.table import Table

from export.bundle import staged, write_manifest, write_weights
from export.description import ExportError
from export.networks import slstt
from export.onnx_builder import WEIGHTS_FILE
from export.recogniser_card import recogniser_card
from metst_edge.bundle import RecognizerBundle
from metst_edge.manifest import DEFAULT_WEIGHT, FORMAT_VERSION, RECOGNISER, RECOGNISER_FILES
from metst_edge.recognise.engine import OnnxRuntimeRecognizer
from training.models.slstt import Slstt

# How the pictures are made that a recogniser was trained on (arXiv 2112.05851): flow, and ImageNet's mean and deviation
# of red, green and blue.
IMAGES = {
    "pyr_scale": 0.5,
    "levels": 3,
    "winsize": 15,
    "iterations": 3,
    "poly_n": 5,
    "poly_sigma": 1.2,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}

TOLERANCE = 1e-4
SEED = 20
# Pictures of a full transformer are seconds of work each: few, in two numbers of intervals and of frames.
CHECKED_SHAPES = ((2, 1), (1, 3))

# The published classes (arXiv 2112.05851 and its code), in the order of the published checkpoints' logits.
PUBLISHED_LABELS = {
    "smic-hs": ("negative", "positive", "surprise"),
    "composite": ("negative", "positive", "surprise"),
    "casme2": ("disgust", "happiness", "repression", "surprise", "others"),
    "samm": ("others", "anger", "contempt", "happiness", "surprise"),
}


@dataclass(frozen=True)
class RecogniserDescription:
    """The manifest's fields that do not follow from a recogniser's weights.

    Attributes:
        name: of the bundle.
        labels: in the order of the logits.
        weight: its share in an opinion that is combined with the frames' vote, 0 to 1.
        training: on what it was trained, any plain JSON value, shown in the model card.
        licence: of the weights, shown in the model card.
        metrics: how it did, any plain JSON value, shown in the model card.
    """

    name: str
    labels: tuple[str, ...]
    weight: float = DEFAULT_WEIGHT
    training: Any = None
    licence: str = "not stated"
    metrics: Any = None

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], name: str) -> RecogniserDescription:
        """Read the meta data that `training recognise fit` stored with a checkpoint.

        Args:
            meta: must hold labels; the rest has defaults.
            name: used where meta has none.

        Raises:
            ExportError: labels are missing, or a value cannot be written as JSON.
        """
        if not isinstance(meta.get("labels"), list):
            raise ExportError(
                f"expected a list 'labels' in the checkpoint's meta data, got {meta.get('labels')!r}; "
                "write the checkpoint with `python -m training recognise fit`"
            )
        try:
            json.dumps(dict(meta), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ExportError(f"expected plain finite values in the checkpoint's meta data ({error})") from error
        known = ("weight", "training", "licence", "metrics")
        fields = {key: meta[key] for key in known if key in meta}
        return cls(name=meta.get("name", name), labels=tuple(meta["labels"]), **fields)


def write_recogniser(
    network: Slstt, description: RecogniserDescription, out: Path, *, force: bool, console: Console
) -> RecognizerBundle:
    """Export a recogniser as a bundle.

    Everything is written beside `out`, run in ONNX Runtime, and renamed at the end; whatever fails, nothing is left
    behind and an existing bundle stays.

    Args:
        network: in evaluation mode.
        description: what the bundle says of itself.
        out: directory to make.
        force: replace a bundle that is there.
        console: where the parity table goes.

    Raises:
        ExportError: `out` exists, the labels are not as many as the logits, or ONNX Runtime's logits differ by more
            than the tolerance.
        EngineError: ONNX Runtime is not installed.
    """
    if len(description.labels) != network.sizes.classes:
        raise ExportError(
            f"expected {network.sizes.classes} labels, one a logit, got {len(description.labels)}: "
            f"{', '.join(description.labels)}"
        )
    with staged(out, force) as staging:
        manifest = _write_network(network, description, staging)
        differences = _differences(_seal(staging, manifest), network)
        console.print(_table(differences))
        worst = max(differences.values())
        if not worst <= TOLERANCE:
            raise ExportError(
                f"expected logits to differ from torch by at most {TOLERANCE:g}, got {worst:.1e}; no bundle was written"
            )
        results = [{"engine": engine, "logits": difference} for engine, difference in differences.items()]
        manifest["parity"] = {"tolerance": {"logits": TOLERANCE}, "results": results}
        _seal(staging, manifest)
    return RecognizerBundle.load(out)


def _write_network(network: Slstt, description: RecogniserDescription, folder: Path) -> dict[str, Any]:
    """Write the graph and the weights; return the manifest but for parity results and file hashes."""
    arrays = slstt.weights(network)
    entries = write_weights(arrays, folder / WEIGHTS_FILE)
    path = folder / "clip.onnx"
    onnx.save(slstt.clip(network.sizes, arrays, {entry["name"]: entry["offset"] for entry in entries}), path)
    onnx.checker.check_model(path, full_check=True)
    return {
        "format_version": FORMAT_VERSION,
        "kind": RECOGNISER,
        "name": description.name,
        "model": network.name,
        "labels": list(description.labels),
        "weight": description.weight,
        "images": {**IMAGES, "input_size": network.sizes.input_size},
        "sizes": slstt.sizes(network),
        "tensors": entries,
        "training": description.training,
        "licence": description.licence,
        "metrics": description.metrics,
        "parity": {"tolerance": {"logits": TOLERANCE}, "results": []},
    }


def _seal(folder: Path, manifest: Mapping[str, Any]) -> RecognizerBundle:
    """Write the model card and the manifest with the hashes of all files, and read the bundle back."""
    (folder / "MODEL_CARD.md").write_text(recogniser_card(manifest), encoding="utf-8")
    write_manifest(folder, manifest, RECOGNISER_FILES)
    return RecognizerBundle.load(folder)


def _differences(bundle: RecognizerBundle, network: Slstt) -> dict[str, float]:
    """Return the largest difference to torch in float64 on random pictures; torch in float32 first, for scale."""
    exact = copy.deepcopy(network).double()
    side, rng = bundle.input_size, np.random.default_rng(SEED)
    clips = [rng.standard_normal((*shape, 3, side, side)).astype(np.float32) for shape in CHECKED_SHAPES]
    found: dict[str, float] = {}
    engine = OnnxRuntimeRecognizer(bundle)
    with torch.no_grad():
        for clip in clips:
            expected = exact(torch.from_numpy(clip.astype(np.float64))).numpy()
            single = network(torch.from_numpy(clip)).numpy()
            for name, logits in (("torch float32", single), (engine.name, engine.infer(clip))):
                difference = float(np.nan_to_num(np.abs(logits - expected), nan=np.inf).max())
                found[name] = max(found.get(name, 0.0), difference)
    return found


def _table(differences: Mapping[str, float]) -> Table:
    view = Table("engine", "logits", "", title="Largest difference to torch float64")
    for engine, difference in differences.items():
        passed = difference <= TOLERANCE
        verdict, style = ("ok", "green") if passed else (f"above {TOLERANCE:g}", "bold red")
        view.add_row(engine, f"{difference:.1e}", verdict, style=style)
    return view
