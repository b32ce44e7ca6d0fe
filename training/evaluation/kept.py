"""What is kept of each video that was analysed, so that a job that is broken off goes on where it stopped.

Every file says by a key what it depends on. Knows files, not what is counted in them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metst_edge import Bundle
from metst_edge.counting import how_many
from metst_edge.decode import DecodeSettings
from training.data.errors import DataError
from training.data.features import content_of
from training.data.folder import Video

Progress = Callable[[str, float], None]
"""Called with a video's name and the share of it that is done."""


def identity(bundle: Bundle) -> dict[str, str]:
    """Return what names a model in a file that is of use with it alone: its name, and its weights, which tell.

    The same weights have the same hash in whatever bundle they are exported to.
    """
    return {"model": bundle.name, "weights_sha256": bundle.manifest["files"]["weights.bin"]["sha256"]}


def key_of(bundle: Bundle, settings: DecodeSettings, engine: str) -> str:
    """Name what results depend on: weights, decoding, engine; not when the bundle was written."""
    manifest = bundle.manifest
    parts = (manifest["files"]["weights.bin"]["sha256"], bundle.k_p, settings.to_dict(), engine)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def content_hash(video: Video) -> str:
    """Name a video by what is in it: many a folder's first clip is called as another's."""
    return hashlib.sha256(content_of(video)).hexdigest()


def result_path(out: Path, name: str) -> Path:
    """Return where a video's result lies."""
    return out / "videos" / f"{name.replace('/', '__')}.json"


def result_before(path: Path, key: str, whole: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Return what the same model left, or None, also where it is damaged.

    Args:
        path: of the result.
        key: of the model.
        whole: tells whether all is there; what it stumbles over is not.

    Raises:
        DataError: another model left it.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        other = found.get("key") != key
        complete = other or whole(found)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if other:
        raise DataError(
            f"{path.parent.parent} holds results of another model or other decode settings; remove it or name another "
            "--out"
        )
    return found if complete else None


def expect_face(minutes: Sequence[float]) -> None:
    """Check that a face was seen in videos: where none is, nothing can be found, and no figure says anything.

    Args:
        minutes: of visible face in each.

    Raises:
        DataError: there was none in any.
    """
    if not sum(minutes):
        raise DataError(
            f"expected a face in the videos, got none in {how_many(len(minutes), 'video')}; look at what they show"
        )


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def progress(report: Progress, video: str, done: int, total: int | None) -> None:
    """Tell how far a video is."""
    # Containers are often off by a few frames.
    report(video, min(done / total, 1.0) if total else 0.0)
