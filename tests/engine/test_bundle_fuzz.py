"""Bundles spoilt at random raise documented errors only; see bundle_fuzz.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.recognisers import recogniser_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bundles(tiny_folder, tmp_path_factory):
    """A folder of small bundles of every kind."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "tiny").symlink_to(tiny_folder)
    recogniser_bundle(folder / "small")
    return folder


def fuzz(bundles, *options):
    command = [sys.executable, "-m", "tests.engine.bundle_fuzz", str(bundles), *map(str, options)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_spoilt_bundles_raise_documented_errors_only(bundles):
    assert '"runs": 250' in fuzz(bundles, "--runs", 250, "--seed", 20)


@pytest.mark.slow
def test_a_hundred_thousand_spoilt_bundles_raise_documented_errors_only(bundles):
    fuzz(bundles, "--runs", 100_000, "--seed", 21)
