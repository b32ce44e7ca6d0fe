"""What the package is installed on, and what it requires as pyproject.toml states it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pyproject() -> dict:
    """Return the project's table."""
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal(name: str) -> str:
    """Return a distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def python(version: str) -> str:
    """Return an interpreter of a version, on the PATH or where pyenv has it; skip where there is none."""
    folders = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin"))
    found = shutil.which(f"python{version}") if sys.version_info[:2] != tuple(map(int, version.split("."))) else None
    places = [*(str(folder / "python") for folder in reversed(folders)), found, sys.executable]
    for place in filter(None, places):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([place, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return place
    pytest.skip(f"no Python {version}")
