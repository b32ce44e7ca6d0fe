"""Whatever is required is there as a wheel, asked of pip: nothing is compiled on a board but this package itself."""

import json
import re
import subprocess
import sys

import pytest

from tests.install.targets import normal, pyproject

GLIBC = (17, 27, 28, 31, 34, 35)
"""Second numbers of the versions that wheels are made for, up to that of JetPack 6."""


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module", autouse=True)
def index():
    if pip("install", "--dry-run", "--ignore-installed", "--no-deps", "rich").returncode:
        pytest.skip("pip reaches no package index")


@pytest.mark.parametrize(
    ("python", "machine"), [("3.14", "x86_64"), ("3.10", "aarch64"), ("3.12", "aarch64"), ("3.13", "aarch64")]
)
def test_every_dependency_is_a_wheel(python, machine, tmp_path):
    required = pyproject()["dependencies"]
    platforms = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in GLIBC]
    platforms.append(f"--platform=manylinux2014_{machine}")
    report = tmp_path / "report.json"
    done = pip(
        *("install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--implementation=cp", "--quiet"),
        *(f"--python-version={python}", *platforms, f"--target={tmp_path / 'nowhere'}", f"--report={report}"),
        *required,
    )
    assert done.returncode == 0, done.stderr
    found = {
        normal(item["metadata"]["name"]): item["download_info"]["url"].rsplit("/", 1)[1]
        for item in json.loads(report.read_text())["install"]
    }
    assert {normal(re.match(r"[\w.-]+", line)[0]) for line in required} <= set(found)
    assert all(file.endswith(".whl") for file in found.values()), found
    assert not {"jaxlib", "scipy", "mediapipe", "matplotlib", "opencv-contrib-python"} & set(found)
