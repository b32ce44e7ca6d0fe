"""The model card of a recogniser's bundle, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from export.card import text_of

CARD = """\
# {name}

Names the emotion of a micro-expression whose interval is known: a second opinion beside the vote of the frames, which a
model that spots gives. Network: {model} (SLSTT, arXiv 2112.05851), {parameters:,} weights. Licence of the weights:
{licence}.

## What it was trained on

{training}

## How it did

{metrics}

The published system of this kind, tested on people it has not seen and on intervals that experts annotated, reaches UF1
{published}. Intervals that were spotted by a machine are worse, and so is what is named in them.

## What goes in and comes out

- In: {frames} pictures of {side}x{side} of an interval, each the optical flow from its onset frame drawn in colours.
- Out: {classes} logits ({labels}) for the interval. None is a probability of being right.
- Share in the combined opinion: {weight:g}; the rest is the vote of the frames.

## What it is for

Research, and demonstrations whose subjects know of them. Not for deciding about people: not for hiring,
policing, border control, education, insurance or medicine, and not for judging whether someone lies. A facial
movement is not a feeling, and a feeling is not an intention.

## Exported bundle against the trained network

Largest difference to torch in float64, on random pictures:

| engine | logits |
|---|---|
{parity}
"""

# Composite, CASME II, SAMM and SMIC-HS, from its confusion matrices.
PUBLISHED = "0.82 (3 classes, three data sets), 0.73 (CASME II, 5 classes), 0.59 (SAMM, 5 classes) and 0.74 (SMIC-HS)"


def recogniser_card(manifest: Mapping[str, Any]) -> str:
    """Return the text of MODEL_CARD.md.

    Args:
        manifest: complete but for the file hashes.
    """
    rows = manifest["parity"]["results"]
    return CARD.format(
        name=manifest["name"],
        model=manifest["model"],
        parameters=sum(int(np.prod(entry["shape"])) for entry in manifest["tensors"]),
        licence=manifest["licence"],
        training=text_of(manifest["training"], "Not recorded. Treat the logits as meaningless until you know."),
        metrics=text_of(manifest["metrics"], "Not measured."),
        published=PUBLISHED,
        frames=manifest["sizes"]["frames"],
        side=manifest["sizes"]["input_size"],
        classes=len(manifest["labels"]),
        labels=", ".join(manifest["labels"]),
        weight=manifest["weight"],
        parity="\n".join(f"| {r['engine']} | {r['logits']:.1e} |" for r in rows),
    )
