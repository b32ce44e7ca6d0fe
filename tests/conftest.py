"""Folders that tests read but the repository does not hold; a test that needs one skips where it is not given."""

import os
from pathlib import Path

import pytest


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    path = Path(value)
    assert path.is_dir(), f"{variable} names {value}, which is not a folder"
    return path


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real face video (METST_EDGE_TEST_DATA)."""
    return _folder("METST_EDGE_TEST_DATA")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Vectors computed with the published code (METST_EDGE_GOLDEN)."""
    return _folder("METST_EDGE_GOLDEN")
