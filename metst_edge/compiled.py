"""Why the compiled part is not here: mostly since Python looks in the current folder before all others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from metst_edge.errors import NotCompiledError


def missing(folder: Path = Path(__file__).parent) -> NotCompiledError:
    """Return what to raise where there is no module metst_edge._native.

    Args:
        folder: that Python took for the package.
    """
    wanted = "expected the compiled part, metst_edge._native"
    if not (folder.parent / "pyproject.toml").is_file():
        again = "pip install --force-reinstall --no-deps ."
        return NotCompiledError(f"{wanted}, in {folder}, found none; install it again, in a checkout: {again}")
    from importlib import metadata  # where nothing is missing, the time to load it is saved

    installed = None
    with suppress(metadata.PackageNotFoundError):
        installed = Path(str(metadata.distribution("metst-edge").locate_file("metst_edge")))
    if installed is None or not installed.is_dir() or installed.resolve() == folder.resolve():
        return NotCompiledError(
            f"{wanted}, but {folder} is the source folder, which has none; install it: pip install -e ."
        )
    return NotCompiledError(
        f"{wanted}, but this is the source folder {folder}, which hides the installed package {installed}; run from "
        "another folder, or install the source folder itself: pip install -e ."
    )
