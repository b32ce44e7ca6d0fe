"""`pip install .` into a fresh virtual environment: on every Python, with an older numpy and the newest, and how large.

Minutes each, and from package registries: python -m pytest -m install tests/install
"""

import json
import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.install.targets import ROOT, normal, python

pytestmark = pytest.mark.install

MOST_MIB = {"unpacked": 330, "whole": 380}
"""What the wheels hold, and with it what a new environment has itself and the bytecode that pip adds to both. Measured
on Python 3.11, MiB on the disk: unpacked 326 (OpenCV 5.0 152, PyAV 102, numpy 2.4 57, this 7, Pygments 5), bytecode 23,
a new environment 25; whole 374. With numpy 1.26 and OpenCV 4.11: unpacked 316, whole 363."""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""What Debian calls an architecture, and what qemu and the kernel do."""
NO_BYTECODE = "--exclude=__pycache__"
NUMPY = {"numpy 1.26": ["numpy<2", "opencv-python-headless<4.12"], "newest": []}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Compile the package for a Python, once."""
    made = {}

    def of(version):
        if version not in made:
            folder = tmp_path_factory.mktemp("wheel")
            run(python(version), "-m", "pip", "wheel", "--no-deps", f"--wheel-dir={folder}", ROOT)
            (made[version],) = folder.glob("*.whl")
        return made[version]

    return of


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mib(folder, *options):
    """What a folder takes on the disk."""
    return int(run("du", "-sk", *options, folder).split()[0]) / 1024


def by_package(packages):
    """MiB on the disk of everything in a folder of packages that takes one or more, largest first, without bytecode."""
    sizes = {path.name: round(mib(path, NO_BYTECODE)) for path in packages.iterdir()}
    return dict(sorted(((name, size) for name, size in sizes.items() if size), key=lambda item: -item[1]))


@pytest.mark.parametrize("numpy", NUMPY)
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_a_fresh_environment_runs_the_demo(wheel, tmp_path, version, numpy, capsys):
    if (version, numpy) == ("3.13", "numpy 1.26"):
        pytest.skip("numpy 1.26 has no wheel for Python 3.13")
    run(python(version), "-m", "venv", tmp_path / "venv")
    bin_ = tmp_path / "venv/bin"
    new, new_unpacked = mib(tmp_path / "venv"), mib(tmp_path / "venv", NO_BYTECODE)
    log = run(bin_ / "python", "-m", "pip", "install", wheel(version), *NUMPY[numpy])
    wheels = re.findall(r"(?:Downloading|Using cached|Processing) (\S+\.whl)(?!\S)", log)
    fetched = Counter(normal(Path(name).name.split("-")[0]) for name in wheels)
    assert len(fetched) > 4 and set(fetched.values()) == {1}, fetched
    assert not {"jaxlib", "scipy", "mediapipe", "matplotlib", "opencv-contrib-python"} & set(fetched)

    (packages,) = (tmp_path / "venv/lib").glob("python3*/site-packages")
    whole, unpacked = mib(tmp_path / "venv"), mib(tmp_path / "venv", NO_BYTECODE) - new_unpacked
    listed = {p["name"]: p["version"] for p in json.loads(run(bin_ / "python", "-m", "pip", "list", "--format=json"))}
    kept = {name: listed[name] for name in ("numpy", "opencv-python-headless", "av")}
    with capsys.disabled():
        print(
            f"\nPython {version}, {kept}: {whole:.1f} MiB, of which a new environment {new:.1f}, bytecode of what is "
            f"installed {whole - new - unpacked:.1f}, its wheels unpacked {unpacked:.1f}: {by_package(packages)}"
        )
    assert unpacked <= MOST_MIB["unpacked"] and whole <= MOST_MIB["whole"]
    assert listed["numpy"].startswith("1.26.") == (numpy == "numpy 1.26")

    done = subprocess.run(
        [bin_ / "metst-edge", "demo", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("metst-edge: no picture: expected matplotlib") and done.stderr.count("\n") == 1
    report = json.loads(done.stdout)
    assert len(report["found"]) == len(report["truth"]) == 8 and report["false_alarms"] == []
    told = json.loads(run(bin_ / "metst-edge", "doctor", "--json", cwd=tmp_path))
    states = {finding["name"]: finding["state"] for finding in told["findings"]}
    assert told["runs"] and {states[name] for name in ("numpy", "opencv", "av", "rich", "native", "face")} == {"ok"}
    assert states["mediapipe"] == states["matplotlib"] == "unneeded"


def test_wheel_and_sdist_carry_the_face_models_with_notice_and_licence(wheel, tmp_path):
    version = "3.11"
    names = run(python(version), "-m", "zipfile", "-l", wheel(version))
    run(python(version), "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv/bin/pip", "install", "build")
    run(tmp_path / "venv/bin/python", "-m", "build", "--sdist", "--outdir", tmp_path, ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    for listing in names, run("tar", "-tzf", sdist):
        for name in "face_detection_short_range.tflite", "face_landmark.tflite", "NOTICE", "LICENSE":
            assert f"metst_edge/models/face/{name}" in listing
    assert "licenses/metst_edge/models/face/NOTICE" in names


def test_in_the_checkout_the_source_folder_says_that_it_hides_the_package(wheel, tmp_path):
    version = "3.11"
    run(python(version), "-m", "venv", tmp_path / "venv")
    run(tmp_path / "venv/bin/pip", "install", wheel(version))
    checkout = tmp_path / "checkout"
    files = run("git", "ls-files", "-z", "metst_edge", "pyproject.toml", cwd=ROOT).split("\0")
    for name in filter(None, files):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    code = "import metst_edge; metst_edge.Analyzer"
    done = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", code], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"this is the source folder {checkout / 'metst_edge'}, which hides the installed package" in done.stderr
    assert run(tmp_path / "venv/bin/python", "-c", code, cwd=tmp_path) == ""


@pytest.mark.parametrize(
    ("arch", "command", "said"),
    [
        ("amd64", "demo", "8 of 8 found"),
        ("amd64", "test", " passed"),
        ("arm64", "demo", "vector path neon"),
        ("arm64", "native", " passed"),
    ],
)
def test_a_bare_machine_runs_what_the_readme_says(tmp_path, arch, command, said):
    """Debian with Python and a compiler, nothing else; a quarter of an hour and several gigabytes, emulated an hour."""
    if os.geteuid() or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap")
    if platform.machine() != MACHINES[arch] and not shutil.which(f"qemu-{MACHINES[arch]}-static"):
        pytest.skip(f"needs qemu-user-static for {arch}")
    root = Path(os.environ.get("METST_EDGE_BARE_ROOT", tmp_path)) / f"root_{arch}"
    log = run("bash", ROOT / "tests/install/bare_root.sh", root, "--arch", arch, "--run", command)
    assert said in log and "libGL" not in log
    assert command != "demo" or "8 of 8 found" in log
