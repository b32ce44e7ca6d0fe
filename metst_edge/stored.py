"""The files of a bundle, in a directory or in a zip of one: each read whole, and only as the manifest states it.

A file is handed out as bytes that are hashed after they have been read. Whoever swaps or cuts it afterwards changes
nothing, and nothing is unpacked to disk. Knows of the manifest only how long it may be.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from metst_edge.errors import BundleError, BundleFileError, BundleHashError
from metst_edge.manifest import LIMIT_BYTES, MANIFEST

_BLOCK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_Open = Callable[[str], tuple[IO[bytes], int]]
"""Returns a file's stream and its size; raises BundleFileError where there is none of that name."""


@dataclass(frozen=True)
class StoredFiles:
    """Where the files of a bundle are.

    Attributes:
        path: a directory or a zip.
        top: what the names of a zip's members begin with ("" or "name/"); None for a directory.
    """

    path: Path
    top: str | None

    @classmethod
    def at(cls, path: Path) -> StoredFiles:
        """Find the manifest, and with it the other files.

        Raises:
            BundleFileError: nothing is there, it is neither a directory nor a zip, or it has not one manifest.
        """
        with refusing(path):
            if path.is_dir():
                if not (path / MANIFEST).is_file():
                    raise BundleFileError(f"{path}: expected {MANIFEST}, which every bundle has; is this a bundle?")
                return cls(path, None)
            if not path.is_file():
                raise BundleFileError(f"{path}: expected a bundle directory or a zip of one, found nothing")
            if _is_checkpoint(path):
                raise BundleFileError(
                    f"{path}: expected a bundle, got a checkpoint of torch; make a bundle of it, in a checkout: python "
                    "-m export bundle CHECKPOINT --out DIR, or of one of the published code: python -m export upstream"
                )
            with zipfile.ZipFile(path) as archive:
                names = set(archive.namelist())
            manifests = [name for name in names if re.fullmatch(rf"([^/\\]+/)?{re.escape(MANIFEST)}", name)]
            if len(manifests) != 1:
                raise BundleFileError(f"{path}: expected one {MANIFEST} in the zip, found {len(manifests)}")
            return cls(path, manifests[0].removesuffix(MANIFEST))

    def manifest(self) -> bytes:
        """Return the manifest.

        Raises:
            BundleFileError: it is larger than one can be, or cannot be read.
        """
        with refusing(self.path):
            if self.top is None:
                self._expect_short((self.path / MANIFEST).stat().st_size)
                return (self.path / MANIFEST).read_bytes()
            with self._opener() as opened:
                stream, size = opened(MANIFEST)
                with stream:
                    self._expect_short(size)
                    return stream.read(size)

    def check(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Read files and compare them with what is stated of them.

        Args:
            files: name -> "bytes" and "sha256".

        Raises:
            BundleFileError: one is missing or cannot be read.
            BundleHashError: one has another size or hash.
        """
        with refusing(self.path), self._opener() as opened:
            for name, entry in files.items():
                digest = hashlib.sha256()
                for block in self._blocks(opened, name, entry["bytes"]):
                    digest.update(block)
                self._expect_same(name, entry["sha256"], digest.hexdigest())

    def read(self, name: str, entry: Mapping[str, Any]) -> bytes:
        """Return a file's content, which is what is stated of it. Errors are those of `check`."""
        with refusing(self.path), self._opener() as opened:
            content = b"".join(self._blocks(opened, name, entry["bytes"]))
            self._expect_same(name, entry["sha256"], hashlib.sha256(content).hexdigest())
            return content

    @contextmanager
    def _opener(self) -> Iterator[_Open]:
        """Give what opens the files, one after another."""
        if self.top is None:
            yield partial(_open_in, self.path)
            return
        with zipfile.ZipFile(self.path) as archive:
            members = {info.filename: info for info in archive.infolist()}

            def member(name: str) -> tuple[IO[bytes], int]:
                info = members.get(f"{self.top}{name}")
                if info is None:
                    raise _missing(self.path, name)
                if info.compress_type not in _METHODS:
                    raise BundleFileError(
                        f"{self.path}: expected {name} stored or deflated, got compression method "
                        f"{info.compress_type}; zip the bundle again in the usual way"
                    )
                return archive.open(info), info.file_size

            yield member

    def _blocks(self, opened: _Open, name: str, size: int) -> Iterator[bytes]:
        """Yield a file's content; not a byte of one that has another size, or more of one that lies about it."""
        stream, found = opened(name)
        with stream:
            left = self._expect_size(name, size, found)
            while left:
                block = stream.read(min(left, _BLOCK))
                if not block:
                    self._expect_size(name, size, size - left)
                left -= len(block)
                yield block

    def _expect_size(self, name: str, expected: int, found: int) -> int:
        if found != expected:
            raise BundleHashError(
                f"{self.path}: expected {expected} bytes of {name}, got {found}; copy or export the bundle again"
            )
        return found

    def _expect_short(self, size: int) -> None:
        if size > LIMIT_BYTES:
            raise BundleFileError(f"{self.path}: expected {MANIFEST} of a few kilobytes, got a huge one")

    def _expect_same(self, name: str, expected: str, found: str) -> None:
        if found != expected:
            raise BundleHashError(
                f"{self.path}: expected sha256 {expected} of {name}, got {found}; copy or export the bundle again"
            )


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn whatever reading a bundle fails with into a BundleError that names its path."""
    try:
        yield
    except BundleError:
        raise
    except OSError as error:
        raise BundleFileError(f"{path}: expected a readable bundle, but it cannot be read ({error})") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise BundleFileError(f"{path}: expected a bundle directory or a zip of one ({_in_short(error)})") from error
    except Exception as error:  # whatever is left, such as a MemoryError
        reason = _in_short(error)
        raise BundleFileError(
            f"{path}: expected a bundle, got something else ({type(error).__name__}: {reason})"
        ) from error


def _in_short(error: Exception) -> str:
    """Return the beginning of what an error says: it may quote a file."""
    return (str(error).splitlines() or [""])[0][:200]


def _is_checkpoint(path: Path) -> bool:
    """Tell whether a file is what torch.save writes: a zip that holds a pickle, or in older versions a pickle."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            return file.read(2) == b"\x80\x02"  # the head of pickle's protocol 2
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())


def _open_in(folder: Path, name: str) -> tuple[IO[bytes], int]:
    try:
        # A pipe of that name must not make us wait for whoever writes into it.
        file = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _missing(folder, name) from None
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        os.close(file)
        raise _missing(folder, name)
    return os.fdopen(file, "rb"), found.st_size


def _missing(path: Path, name: str) -> BundleFileError:
    return BundleFileError(f"{path}: {name} is missing; copy the bundle again, whole")
