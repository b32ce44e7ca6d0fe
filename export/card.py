"""The model card of a bundle, from its manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from export.figures import measured, tables

CARD = """\
# {name}

Spots micro-expressions in face video and names their emotion, frame by frame. Network: {model} ({paper}),
{parameters:,} weights. Licence of the weights: {licence}.

## What it was trained on

{training}

## How it did

{metrics}

Published systems of this kind, tested on people they have not seen, find true intervals with an F1 of about
0.1 to 0.3 on real long video: most of what they report there is false. Expect no better here unless the
figures above say so for video like yours.

## What goes in and comes out

- In: {channels} channels of facial motion (`{roi_set}` regions{compat}) at {fps:g} frames a second, in windows of
  {k} frames.
- Out: a spotting score from 0 to 1 and {classes} emotion logits ({labels}) for every frame{late}. Neither is a
  probability of being right.
- Typical half duration assumed by the decoder: {k_p} frames.

## What it is for

Research, and demonstrations whose subjects know of them. Not for deciding about people: not for hiring,
policing, border control, education, insurance or medicine, and not for judging whether someone lies. A facial
movement is not a feeling, and a feeling is not an intention.

## Exported bundle against the trained network

Largest difference to torch in float64, on random windows:

| engine | graph | spot | logits |
|---|---|---|---|
{parity}
{half}"""

HALF = """
The graphs in fp16 against those in fp32, where halves are halves (`onnx.reference`), on the same windows, a tenth of
them and some of a clip; and the largest value that they hold in half precision, which ends at 65504, on {clips}:

| graph | spot, largest | mean | logits, largest | mean | largest value |
|---|---|---|---|---|---|
{rows}
"""

MANY_CLIPS = 6


def model_card(manifest: Mapping[str, Any], parameters: int, paper: str) -> str:
    """Return the text of MODEL_CARD.md.

    Args:
        manifest: complete but for the file hashes.
        parameters: number of weights the network reads.
        paper: what to call the network, and where it is described.
    """
    rows = manifest["parity"].get("results", [])
    half = manifest["parity"].get("fp16")
    return CARD.format(
        name=manifest["name"],
        model=manifest["model"],
        parameters=parameters,
        paper=paper,
        licence=manifest["licence"],
        training=text_of(manifest["training"], "Not recorded. Treat the scores as meaningless until you know."),
        metrics=_metrics(manifest["metrics"]),
        channels=manifest["channels"],
        roi_set=manifest["roi_set"],
        compat=", measured as the published code does" if manifest["compat"] else "",
        late=f", {manifest['delay']} frames after it" if manifest.get("delay") else "",
        fps=manifest["fps"],
        k=manifest["k"],
        k_p=manifest["k_p"],
        classes=len(manifest["labels"]),
        labels=", ".join(manifest["labels"]),
        parity="\n".join(f"| {r['engine']} | {r['graph']} | {r['spot']:.1e} | {r['emotion']:.1e} |" for r in rows),
        half=_half(half) if half else "",
    )


def _metrics(metrics: Any) -> str:
    """Return tables of what the training verbs measured, and a list of what else there is."""
    if not isinstance(metrics, Mapping):
        return text_of(metrics, "Not measured.")
    scored, quiet = measured(metrics)
    rest = {name: value for name, value in metrics.items() if name not in {*scored, *quiet}}
    parts = [tables(scored, quiet), text_of(rest, "" if scored or quiet else "Not measured.")]
    return "\n\n".join(part for part in parts if part)


def _half(half: Mapping[str, Any]) -> str:
    clips = half["clips"]
    shown = ", ".join(clips) if len(clips) < MANY_CLIPS else f"{clips[0]} and {len(clips) - 1} others"
    return HALF.format(clips=shown, rows="\n".join(map(_half_row, half["results"])))


def _half_row(r: Mapping[str, Any]) -> str:
    figures = (r["spot"], r["spot_mean"], r["emotion"], r["emotion_mean"])
    return f"| {r['graph']} | " + " | ".join(f"{figure:.1e}" for figure in figures) + f" | {r['largest']:.0f} |"


def text_of(value: Any, absent: str) -> str:
    """Return a JSON value as a paragraph or a nested list; `absent` where it is empty."""
    if not value:
        return absent
    return "\n".join(_bullets(value, "")) if isinstance(value, (Mapping, list)) else str(value)


def _bullets(value: Mapping[str, Any] | list[Any], indent: str) -> Iterator[str]:
    items = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in items:
        # A file's name stays as it is.
        name = str(key) if "." in str(key) else str(key).replace("_", " ")
        label = f"{name}: " if key is not None else ""
        nested = isinstance(item, Mapping) or (
            isinstance(item, list) and any(isinstance(i, (Mapping, list)) for i in item)
        )
        if nested:
            yield f"{indent}- {label}".rstrip()
            yield from _bullets(item, indent + "  ")
        else:
            shown = ", ".join(map(_plain, item)) if isinstance(item, list) else _plain(item)
            yield f"{indent}- {label}{shown}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
