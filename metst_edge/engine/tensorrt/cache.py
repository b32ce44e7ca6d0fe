"""Engines that were built before, on disk: under what key, and when one is believed. Knows no TensorRT.

An engine file is executable content. The folder is the user's alone, every file is written aside and renamed, and
nothing is handed out whose hash is not the one recorded when it was built. An engine lies in KEY.plan and what it was
built of in KEY.json, readable; both may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from metst_edge.errors import EngineError

SAME_ENGINE = ("bundle", "graph", "precision")
"""Parts by which an engine that another machine state needs is known as the one that is wanted now."""
_NO_RECORD = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""What reading a file fails with that is no record: also where a number in it is 1e999."""
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Stored:
    """An engine from the cache.

    Attributes:
        plan: its bytes.
        path: where they lie.
        seconds: that building took.
        created: when (ISO 8601).
    """

    plan: bytes
    path: Path
    seconds: float
    created: str


@dataclass(frozen=True)
class Record:
    """What a record tells of an engine.

    Attributes:
        path: its file.
        sha256: of that file.
        created: when it was built (ISO 8601).
        parts: of what.
    """

    path: Path
    sha256: str
    created: str
    parts: Mapping[str, Any]

    def whole(self) -> bool:
        """Whether the engine is the one that was built."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest() == self.sha256
        except OSError:
            return False


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the sha256 over everything an engine depends on, hex. Parts are plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def user_folder() -> Path:
    """Return where engines are kept: metst_edge/engines in $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The specification wants relative paths ignored.
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "metst_edge" / "engines"
    except RuntimeError as error:
        raise OSError("this user has no home directory") from error


class EngineCache:
    """A folder of engines.

    Args:
        folder: made with mode 0700, as is the one around it, where they are missing.

    Raises:
        EngineError: somebody else owns one of the two or may write to it.
        OSError: one cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for each in (folder.parent, folder):
            with contextlib.suppress(FileExistsError):
                each.mkdir(mode=0o700)
            check_owned(each)

    def read(self, parts: Mapping[str, Any]) -> tuple[Stored | None, str | None]:
        """Return the engine of these parts, or None and why there is none, where there is more to say than that.

        Args:
            parts: everything the engine depends on, among them SAME_ENGINE.
        """
        record_path, plan_path = self._paths(parts)
        try:
            record = json.loads(record_path.read_bytes())
            size, expected = int(record["bytes"]), str(record["sha256"])
            seconds, created = float(record["build_seconds"]), str(record["created"])
            if not math.isfinite(seconds):
                raise ValueError(f"built in {seconds} seconds")
            found_parts = dict(record["parts"])
        except FileNotFoundError:
            return None, self._superseded(parts)
        except OSError as error:
            return None, f"{record_path}: expected a readable file ({error.strerror})"
        except _NO_RECORD as error:
            return None, f"{record_path}: expected the record of an engine, got something else ({error!r})"
        if found_parts != _plain(parts):
            return None, f"{record_path}: {_difference(parts, found_parts)}"
        try:
            plan = plan_path.read_bytes()
        except OSError as error:
            return None, f"{plan_path}: expected the engine ({error.strerror})"
        found = hashlib.sha256(plan).hexdigest()
        if found != expected:
            return None, f"{plan_path}: expected {size} bytes, sha256 {expected}, got {len(plan)} bytes, sha256 {found}"
        return Stored(plan, plan_path, seconds, created), None

    def write(self, parts: Mapping[str, Any], plan: bytes, seconds: float) -> Stored:
        """Keep an engine; the record comes last, so that a write that is cut off leaves none.

        Raises:
            OSError: it cannot be written. What was there before is gone or whole.
        """
        record_path, plan_path = self._paths(parts)
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        record = {
            "created": created,
            "build_seconds": round(seconds, 3),
            "bytes": len(plan),
            "sha256": hashlib.sha256(plan).hexdigest(),
            "parts": dict(parts),
        }
        self._replace(plan_path, plan)
        self._replace(record_path, json.dumps(record, indent=1).encode() + b"\n")
        return Stored(plan, plan_path, seconds, created)

    def timing(self, parts: Mapping[str, Any]) -> bytes:
        """Return what earlier builds found out about the GPU, empty where nothing or where it is damaged."""
        try:
            content = self._timing_path(parts).read_bytes()
        except OSError:
            return b""
        digest, timing = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return timing if hashlib.sha256(timing).digest() == digest else b""

    def write_timing(self, parts: Mapping[str, Any], timing: bytes) -> None:
        """Keep what a build found out. Raises OSError."""
        self._replace(self._timing_path(parts), hashlib.sha256(timing).digest() + timing)

    @contextlib.contextmanager
    def lock(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the folder's lock: one build at a time, since two would disturb each other's timings.

        Where a lock cannot be had, as on a read-only disk, go on without: nothing is written there either.

        Args:
            say: told when another process has it.
        """
        try:
            file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            yield
            return
        try:
            with contextlib.suppress(OSError):
                _take(file, say)
            yield
        finally:
            os.close(file)  # which gives the lock back

    def _paths(self, parts: Mapping[str, Any]) -> tuple[Path, Path]:
        key = key_of(parts)
        return self.folder / f"{key}.json", self.folder / f"{key}.plan"

    def _timing_path(self, parts: Mapping[str, Any]) -> Path:
        return self.folder / f"{key_of(parts)}.timing"

    def _superseded(self, parts: Mapping[str, Any]) -> str | None:
        """Say what the newest engine of the same graph was built for, if it is that that has changed."""
        newest: Record | None = None
        for record in records(self.folder):
            same = all(record.parts.get(name) == parts[name] for name in SAME_ENGINE)
            if same and (newest is None or record.created > newest.created):
                newest = record
        return None if newest is None else f"{self.folder}: {_difference(parts, newest.parts)}"

    def _replace(self, path: Path, content: bytes) -> None:
        file, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".part")  # mode 0600
        try:
            with open(file, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(file)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def records(folder: Path) -> list[Record]:
    """Return what the records in a folder tell; one that cannot be read has no parts."""
    found = []
    for path in sorted(folder.glob("*.json")):
        record = Record(path.with_suffix(".plan"), "", "", {})
        with contextlib.suppress(OSError, *_NO_RECORD):
            told = json.loads(path.read_bytes())
            record = Record(record.path, str(told["sha256"]), str(told["created"]), dict(told["parts"]))
        found.append(record)
    return found


def check_owned(folder: Path) -> None:
    """Raise EngineError where somebody else owns the folder or may write to it, OSError where there is none."""
    found = folder.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        raise EngineError(f"{folder}: expected a directory for engines, got something else; move it away")
    if found.st_uid != os.geteuid() or mode & 0o022:
        raise EngineError(
            f"{folder}: expected a directory that user {os.geteuid()} owns and nobody else may write to (engines are "
            f"executable content), got owner {found.st_uid} and mode {mode:04o}; chmod 700 it, or move it away"
        )


def _take(file: int, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 32, 0).decode(errors="replace").strip() or "another"
        say(f"process {holder} is building engines; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


def _plain(parts: Mapping[str, Any]) -> Any:
    """The parts as JSON gives them back."""
    return json.loads(json.dumps(parts))


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    wanted = _plain(expected)
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    texts = [f"{name} {_short(wanted.get(name))}, got {_short(found.get(name))}" for name in names]
    return "expected an engine for " + "; ".join(texts)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
