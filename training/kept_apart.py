"""Whom a model was trained on and whom without: recorded with it by `fit`, asked wherever it is scored.

People are recorded by digests of their names. A model that is passed on so names nobody; whoever has a name, or guesses
it, can ask for it. Knows names, nothing of files or video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metst_edge.counting import how_many, some
from training.data.errors import DataError

DIGITS = 8
"""Of a digest: of a thousand people two have the same with a probability of 1 in 8,600."""
DIGEST = f"first {DIGITS} hex digits of the sha256 of a name"


def digest(name: str) -> str:
    """Return what stands for a name."""
    return hashlib.sha256(name.encode()).hexdigest()[:DIGITS]


def record(trained_on: Iterable[str], kept_out: Iterable[str]) -> dict[str, Any]:
    """Return what a model says of people, as plain JSON values.

    Args:
        trained_on: names of those whose video it was trained on.
        kept_out: names of those who were kept out, whether or not there was video of them.
    """
    return {
        "digest": DIGEST,
        "trained_on": sorted(map(digest, set(trained_on))),
        "kept_out": sorted(map(digest, set(kept_out))),
    }


@dataclass(frozen=True, slots=True)
class Apart:
    """Who was kept apart when a model was trained, as far as it says; nothing of models from before it was recorded.

    Attributes:
        fold: number of the fold that was kept out; None where none was.
        trained_on: digests of those who were trained on; None where they are not known.
        kept_out: digests of those who were not.
    """

    fold: int | None = None
    trained_on: frozenset[str] | None = None
    kept_out: frozenset[str] | None = None

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Apart:
        """Read a bundle's manifest, or a checkpoint's meta data."""
        training = manifest.get("training")
        training = training if isinstance(training, Mapping) else {}
        fold, people = training.get("fold"), training.get("people")
        known = people if isinstance(people, Mapping) and people.get("digest") == DIGEST else {}
        return cls(fold if isinstance(fold, int) else None, _set(known.get("trained_on")), _set(known.get("kept_out")))

    def knows(self, names: Iterable[str]) -> list[str]:
        """Return those of some people who were trained on."""
        return sorted({name for name in names if digest(name) in (self.trained_on or ())})

    def kept(self, names: Iterable[str]) -> list[str]:
        """Return those of some people who were kept out."""
        return sorted({name for name in names if digest(name) in (self.kept_out or ())})

    def expect_fold(self, model: object, number: int, people: Iterable[str]) -> None:
        """Check that a model that was trained without a fold was trained without this one.

        Args:
            model: what to call it in the error.
            number: of the fold.
            people: all who are in the fold now.

        Raises:
            DataError: it was another fold, or others were in it.
        """
        if self.fold is None:
            return
        if self.fold != number:
            raise DataError(
                f"{model}: expected a model that was trained without fold {number}, got one without fold {self.fold}; "
                "give the models in the order of the folds"
            )
        now = {digest(name): name for name in people}
        if self.kept_out is not None and self.kept_out != now.keys():
            new = sorted(now[each] for each in now.keys() - self.kept_out)
            gone = len(self.kept_out - now.keys())
            changed = [f"{some(new, ', ')} came in"] * bool(new) + [f"{gone} went out"] * bool(gone)
            raise DataError(
                f"{model}: expected in fold {number} those whom it was trained without, got others "
                f"({' and '.join(changed)}); give the folds that it was trained with, or train it anew"
            )

    def expect_unseen(self, model: object, names: Iterable[str]) -> None:
        """Check that nobody whom a model was kept from is looked at, lest the test decide on what is tested.

        Raises:
            DataError: somebody is.
        """
        kept = self.kept(names)
        if kept:
            raise DataError(
                f"{model}: expected only people who are not tested, got {some(kept, ', ')}, without whom it was "
                "trained; keep them out here too, with the same --fold or --test-subjects"
            )

    def warning(self, model: object, names: Iterable[str]) -> str | None:
        """Return one line that says who among those who are scored was trained on; None where nobody was."""
        people = set(names)
        known = self.knows(people)
        if not known:
            return None
        return (
            f"warning: {model} was trained on {len(known)} of the {how_many(len(people), 'person', 'people')} it is "
            f"scored on ({some(known, ', ')}): the scores flatter; score it on people whom it never saw"
        )


def _set(value: Any) -> frozenset[str] | None:
    return frozenset(map(str, value)) if isinstance(value, list) else None
