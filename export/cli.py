"""Command line: `python -m export bundle CHECKPOINT --out DIR`, `... upstream CHECKPOINT.pkl --out DIR`.

`... fp16 BUNDLE --out DIR` adds graphs in half precision to a bundle whose checkpoint is not at hand, and `... again
BUNDLE --out DIR` writes its graphs anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from export import bundle as writer
from export.description import Description, ExportError
from export.recogniser import PUBLISHED_LABELS, RecogniserDescription, write_recogniser
from metst_edge import calibration
from metst_edge.bundle import PRECISIONS, Bundle, RecognizerBundle
from metst_edge.decode import DecodeSettings
from metst_edge.decode.table import ScoreTable
from metst_edge.errors import BundleKindError, MetstError, SettingsError
from metst_edge.manifest import CHANNELS_OF_ROI_SET
from training.models import PUBLISHED, SpottingNetwork, load_checkpoint, load_published
from training.models.checkpoint import GENERATED, LICENCE, contents
from training.models.recognisers import recogniser_of
from training.models.slstt import RECOGNISERS, Slstt
from training.unreadable import UNREADABLE, why


@dataclass(frozen=True)
class _TrainedOn:
    """What published checkpoints were trained on (the published code of arXiv 2409.09707 and 2508.18834).

    Attributes:
        data: its name.
        fps: frame rate.
        k: frames in a window.
        mean: half the mean duration of an ME, frames.
        median: half the median one, which metst_plus_shared is decoded with.
    """

    data: str
    fps: float
    k: int
    mean: int
    median: int


TRAINED_ON = {
    "samm-lv": _TrainedOn("SAMM Long Videos", 200 / 7, 30, 5, 6),
    "casme3": _TrainedOn("CAS(ME)3", 30.0, 50, 17, 11),
}
ROI_SETS = {CHANNELS_OF_ROI_SET[name]: name for name in ("metst", "metst_plus")}
"""Of published networks, by their channels."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 1 failed, 2 bad usage (by argparse)."""
    options = _parser().parse_args(arguments)
    try:
        writer.check_out(options.out, options.force)
        console = Console()
        how: dict[str, Any] = {name: getattr(options, name) for name in ("force", "inline", "clips")}
        how["console"] = console
        if options.verb in ("fp16", "again"):
            source = _spotter(options)
            write = writer.add_half if options.verb == "fp16" else writer.write_again
            return _told(write(source, options.out, **how), options.out, console)
        if options.verb == "bundle":
            content = contents(options.checkpoint)
            if content["model"] in RECOGNISERS:
                known = recogniser_of(content, options.checkpoint)
                about = RecogniserDescription.from_meta(_meta(known.meta, options), name=options.out.name)
                return _write_recogniser(known.network, about, options, console)
            checkpoint = load_checkpoint(options.checkpoint)
            network = checkpoint.network
            description = Description.from_meta(_meta(checkpoint.meta, options), name=options.out.name)
            _expect_own(network, options)
        else:
            found = load_published(options.checkpoint, options.model)
            if isinstance(found, Slstt):
                return _write_recogniser(found, _published_recogniser(options, found), options, console)
            network, description = found, _published(options, found)
        written = writer.write(network, description, options.out, precision=options.precision, **how)
    except MetstError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {f'{error.strerror}: {error.filename}' if error.strerror else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    return _told(written, options.out, console)


def _spotter(options: argparse.Namespace) -> Bundle:
    try:
        return Bundle.find(options.bundle)
    except BundleKindError as error:
        raise ExportError(
            f"{options.bundle}: expected a model that spots for {options.verb}, got a recogniser, whose one graph "
            "is in fp32; to write it anew, export its checkpoint: python -m export bundle CHECKPOINT --out DIR"
        ) from error


def _meta(meta: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return a checkpoint's meta data with what was given on the command line."""
    named = {**meta, "name": options.name} if options.name else meta
    metrics = {**(meta.get("metrics") or {}), **_metrics(options.metrics)}
    made = {**named, "licence": _licence(meta, options.licence), "metrics": metrics}
    if options.decode is not None:
        made["decode"] = _decode(options.decode, meta.get("decode"))
    if options.calibration is not None:
        made["calibration"] = _calibration(options.calibration)
    return made


def _calibration(path: Path) -> dict[str, Any]:
    """Read the table that `training score-table` has written."""
    expected = f"--calibration: expected what `python -m training score-table` writes, {path} is none"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise ExportError(f"{expected} ({why(path, error)})") from error
    if isinstance(found, dict) and found.get("calibration") == calibration.KIND:
        raise ExportError(f"{expected}, but a floor by {calibration.KIND}: give it to metst-edge, with --calibration")
    try:
        return ScoreTable.from_dict(found).to_dict()
    except SettingsError as error:
        raise ExportError(f"{expected} ({error})") from error


def _expect_own(network: SpottingNetwork, options: argparse.Namespace) -> None:
    """Check that files that say whose they are, are the network's: heights of another mean something else.

    Raises:
        ExportError: one is another's.
    """
    given = {"--decode": options.decode, "--calibration": options.calibration}
    read = {option: json.loads(path.read_text(encoding="utf-8")) for option, path in given.items() if path is not None}
    said = {option: found for option, found in read.items() if isinstance(found, dict) and "weights_sha256" in found}
    own = writer.weights_sha256(network) if said else ""
    for option, found in said.items():
        of = str(found["weights_sha256"])
        if of != own:
            raise ExportError(
                f"{option} {given[option]}: expected what was made with the model of {options.checkpoint} (weights "
                f"{own[:12]}...), got that of {str(found.get('model'))[:80]!r} ({of[:12]}...), whose scores "
                "mean something else; make it anew with this model"
            )


def _licence(meta: dict[str, Any], given: str | None) -> str:
    """Return the terms of the weights: what is given, or what the checkpoint states.

    Raises:
        ExportError: nobody has said them. They follow from the terms of the data, which only its owner knows.
    """
    training = meta.get("training")
    data = training.get("data") if isinstance(training, dict) else training
    stated = meta.get("licence")
    if given is None and stated == LICENCE and data != GENERATED:
        stated = None  # once written into every checkpoint, whatever it was trained on
    if given is None and not stated:
        raise ExportError(
            f"expected --licence TERMS, under which the weights may be used, for manifest and model card: they were "
            f"trained on {data or 'data without a name'}, whose terms the checkpoint does not know"
        )
    return str(given or stated)


def _write_recogniser(
    network: Slstt, description: RecogniserDescription, options: argparse.Namespace, console: Console
) -> int:
    for option, given in (
        (f"--precision {options.precision}", options.precision != PRECISIONS[0]),
        ("--inline", options.inline),
        ("--clips", bool(options.clips)),
        *(
            (f"--{name.replace('_', '-')}", getattr(options, name, None) is not None)
            for name in ("fps", "k", "k_p", "decode")
        ),
        ("--no-compat", not getattr(options, "compat", True)),
        ("--calibration", getattr(options, "calibration", None) is not None),
    ):
        if given:
            raise ExportError(f"{option} is for networks that spot, and {network.name} is a recogniser: leave it out")
    written = write_recogniser(network, description, options.out, force=options.force, console=console)
    return _told(written, options.out, console)


def _told(written: Bundle | RecognizerBundle, out: Path, console: Console) -> int:
    size = sum(entry["bytes"] for entry in written.manifest["files"].values())
    if isinstance(written, RecognizerBundle):
        what = f"{written.model}, {written.frames} pictures of {written.input_size}x{written.input_size}"
    else:
        what = f"{written.model}, k {written.k} at {written.fps:g} fps, {' and '.join(written.precisions)}"
    console.print(f"{out}: {what}, {size / 1e6:.1f} MB")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description="Turn a checkpoint into a bundle.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    own = verbs.add_parser("bundle", help="a checkpoint of `python -m training fit`; all else is read from it")
    upstream = verbs.add_parser("upstream", help="a state dict of the published code")
    half = verbs.add_parser("fp16", help="a bundle once more, with fp16 graphs beside those it has")
    again = verbs.add_parser("again", help="a bundle once more, its graphs as this version writes them")
    for verb in (half, again):
        verb.add_argument("bundle", metavar="BUNDLE", help="shipped model or path of a bundle")
    for verb in (own, upstream, half, again):
        verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to make")
        verb.add_argument("--force", action="store_true", help="replace the bundle at DIR")
        verb.add_argument(
            "--inline",
            action="store_true",
            help="write the scan out in standard operators where it is called, for runtimes that know no local "
            "functions, such as OpenVINO; TensorRT's plugin cannot take its place then",
        )
        verb.add_argument(
            "--clips",
            type=Path,
            nargs="+",
            default=[],
            metavar="CLIP",
            help="video of faces, on which the range of what fp16 must hold is measured besides the packaged clip",
        )
    for verb in (own, upstream):
        verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
        verb.add_argument("--name", help="name of the bundle (default: the checkpoint's own, or that of DIR)")
        verb.add_argument(
            "--precision",
            choices=PRECISIONS,
            default=PRECISIONS[0],
            help="fp16: put graphs in half precision beside those in fp32, for TensorRT (default: %(default)s)",
        )
    own.add_argument(
        "--licence",
        metavar="TERMS",
        help="terms of the weights, for manifest and model card; needed where they were trained on data of your own",
    )
    own.add_argument(
        "--metrics",
        metavar="NAME=FILE",
        action="append",
        default=[],
        help="put a JSON file, such as `training evaluate` writes, into manifest and model card; may be repeated",
    )
    own.add_argument(
        "--decode",
        metavar="FILE",
        type=Path,
        help="JSON with decode settings, such as `training threshold` writes, in place of the checkpoint's",
    )
    own.add_argument(
        "--calibration",
        metavar="FILE",
        type=Path,
        help="what `python -m training score-table` has fitted: scores of events are then the share of such events "
        "that are true",
    )
    upstream.add_argument(
        "--model", choices=sorted(PUBLISHED), help="which published network it is, to be sure (default: what it fits)"
    )
    upstream.add_argument(
        "--trained-on",
        choices=sorted([*TRAINED_ON, *PUBLISHED_LABELS]),
        help="sets fps, k and k_p as published; of a recogniser its labels",
    )
    upstream.add_argument("--fps", type=float, help="frame rate of the training data")
    upstream.add_argument("--k", type=int, help="frames in a window, even")
    upstream.add_argument("--k-p", type=int, help="half a typical ME, frames")
    upstream.add_argument("--licence", default="not stated", help="terms of the weights, for the model card")
    upstream.add_argument(
        "--compat",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure features exactly as the published code does (default), which its weights expect",
    )
    return parser


def _metrics(named: Sequence[str]) -> dict[str, Any]:
    """Read NAME=FILE pairs: name -> what the file holds."""
    read = {}
    for each in named:
        name, separator, file = each.partition("=")
        if not (name and separator and file):
            raise ExportError(f"--metrics: expected NAME=FILE, got {each!r}")
        try:
            read[name] = json.loads(Path(file).read_text(encoding="utf-8"))
        except UNREADABLE as error:
            reason = why(Path(file), error)
            raise ExportError(f"--metrics: expected a JSON file, {file} cannot be read ({reason})") from error
    return read


def _decode(path: Path, before: Any) -> dict[str, Any]:
    """Return decode settings with those of a JSON file in place of their own; what else it holds is left alone."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise ExportError(f"--decode: expected a JSON file, {path} cannot be read ({why(path, error)})") from error
    known = {field.name for field in fields(DecodeSettings)}
    given = {name: found[name] for name in found if name in known} if isinstance(found, dict) else {}
    if not given:
        raise ExportError(f"--decode: expected an object with one of {', '.join(sorted(known))}, got none in {path}")
    merged = {**DecodeSettings().to_dict(), **(before if isinstance(before, dict) else {}), **given}
    try:
        return DecodeSettings.from_dict(merged).to_dict()
    except SettingsError as error:
        raise ExportError(f"--decode {path}: {error}") from error


def _published(options: argparse.Namespace, network: SpottingNetwork) -> Description:
    if options.trained_on not in (None, *TRAINED_ON):
        raise ExportError(
            f"expected --trained-on {' or '.join(TRAINED_ON)} for {network.name}, got {options.trained_on}"
        )
    known = TRAINED_ON.get(options.trained_on)
    fps, k, k_p = options.fps, options.k, options.k_p
    if known is not None:
        typical = known.median if network.name == "metst_plus_shared" else known.mean
        fps = known.fps if fps is None else fps
        k = known.k if k is None else k
        k_p = typical if k_p is None else k_p
    if fps is None or k is None or k_p is None:
        raise ExportError(
            "expected --trained-on, or all of --fps, --k and --k-p: a published state dict does not hold them"
        )
    return Description(
        name=options.name or options.out.name,
        fps=fps,
        k=k,
        k_p=k_p,
        roi_set=ROI_SETS[network.sizes.channels],
        compat=options.compat,
        training={
            "data": known.data if known else "not stated",
            "weights": f"published checkpoint {options.checkpoint.name}",
        },
        licence=options.licence,
    )


def _published_recogniser(options: argparse.Namespace, network: Slstt) -> RecogniserDescription:
    labels = PUBLISHED_LABELS.get(options.trained_on)
    if labels is None:
        raise ExportError(
            f"expected --trained-on {', '.join(PUBLISHED_LABELS)} for {network.name}, which names its "
            f"{network.sizes.classes} classes, got {options.trained_on or 'none'}"
        )
    data = {"smic-hs": "SMIC-HS", "casme2": "CASME II", "samm": "SAMM", "composite": "SMIC-HS, CASME II and SAMM"}
    return RecogniserDescription(
        name=options.name or options.out.name,
        labels=labels,
        training={
            "data": data[options.trained_on],
            "weights": f"published checkpoint {options.checkpoint.name}",
        },
        licence=options.licence,
    )
