"""What `python -m training evaluate` and `false-alarms` have measured, as tables of a model card.

Knows their JSON, nothing of bundles. What is of another shape is left to the card's lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Named = Mapping[str, Mapping[str, Any]]
"""What was measured on each set of videos, by the set's name."""

FIGURES = {
    "f1": "spotting F1",
    "precision": "precision",
    "recall": "recall",
    "uf1": "UF1",
    "emotions_right": "emotions right",
    "false_alarms_per_minute": "false alarms a minute",
}
TITLES = {
    "size": "size at the apex, px of the crop",
    "length": "length, frames of the model",
    "action_unit": "action unit",
    "emotion": "emotion",
    "face": "width of the face, px",
    "head": "movement of the head, px of the crop",
}
"""As the training verbs print them: `training.evaluation.people.FIGURES` and `breakdown.TITLES`."""


OF_TRUTH = ("f1", "precision", "recall")
"""Of FIGURES, those that say nothing where nothing is true."""


def measured(metrics: Mapping[str, Any]) -> tuple[Named, Named]:
    """Return what is a score of `evaluate`, and what a count of `false-alarms`; by their names."""
    named = {name: value for name, value in metrics.items() if isinstance(value, Mapping)}
    scored = {name: value for name, value in named.items() if {"figures", "breakdown", "spotting"} <= value.keys()}
    quiet = {name: value for name, value in named.items() if {"clips", "per_minute", "interval"} <= value.keys()}
    return scored, quiet


def tables(scored: Named, quiet: Named) -> str:
    """Write what `measured` returns as tables, an empty string without any."""
    parts = []
    if scored:
        parts.append(_scores(scored))
        parts += [_recall(scored, trait, title) for trait, title in TITLES.items()]
    if quiet:
        parts.append(_quiet(quiet))
    parts.append(_causes({**scored, **quiet}))
    return "\n\n".join(part for part in parts if part)


def _scores(scored: Named) -> str:
    """One row for each set; the interval is that over people."""
    head = ("set", "videos", "people", "found", "false", "missed", *FIGURES.values())
    rows = []
    for name, value in scored.items():
        spotting = value["spotting"]
        counts = (value["videos"], value.get("people"), spotting["tp"], spotting["fp"], spotting["fn"])
        unknown = () if spotting["tp"] + spotting["fn"] else OF_TRUTH
        figures = ("-" if key in unknown else _figure(value["figures"].get(key)) for key in FIGURES)
        rows.append((_spaced(name), *map(str, counts), *figures))
    return "In brackets: 95 % over people.\n\n" + _table(head, rows)


def _recall(scored: Named, trait: str, title: str) -> str:
    """How many were found of each class of a trait, a column for each set that has any."""
    found = {name: classes for name, value in scored.items() if (classes := value["breakdown"].get(trait))}
    classes = list(dict.fromkeys(each for of_set in found.values() for each in of_set))
    if not classes:
        return ""

    def cell(of_set: Mapping[str, Any], each: str) -> str:
        share = of_set.get(each)
        return f"{share['found']} of {share['count']}" if share else "-"

    rows = [(each, *(cell(of_set, each) for of_set in found.values())) for each in classes]
    return _table((title, *map(_spaced, found)), rows)


def _quiet(quiet: Named) -> str:
    rows = []
    for name, value in quiet.items():
        clips = value["clips"].values()
        minutes, events = sum(clip["minutes_of_face"] for clip in clips), sum(clip["events"] for clip in clips)
        low, high = value["interval"] or (None, None)
        figure = _figure({"value": value["per_minute"], "low": low, "high": high})
        rows.append((_spaced(name), str(len(clips)), str(value.get("people")), f"{minutes:.1f}", str(events), figure))
    return _table(("without micro-expressions", "videos", "people", "minutes", "false", "a minute"), rows)


def _causes(named: Named) -> str:
    """False alarms by what else happened there, a column for each set."""
    causes = {name: value.get("causes") or {} for name, value in named.items()}
    kinds = sorted({kind for of_set in causes.values() for kind in of_set})
    if not kinds:
        return ""
    counts = ((kind, *(str(of_set.get(kind, {}).get("count", 0)) for of_set in causes.values())) for kind in kinds)
    return _table(("false alarms at", *map(_spaced, causes)), counts)


def _figure(figure: Mapping[str, float | None] | None) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    if figure["low"] is None or figure["high"] is None:
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spaced(name: str) -> str:
    return name.replace("_", " ")
