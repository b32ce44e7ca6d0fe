"""The package as it is imported and installed: without its compiled part, and what comes along with it."""

import hashlib
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import metst_edge
from metst_edge import compiled

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(metst_edge.__file__).parent
FIRST_USES = ["metst_edge.Analyzer", "metst_edge.flow", "metst_edge.load_engine('demo', 'native')"]


DOCTOR = """
from metst_edge.app.doctor.examination import examine

def ask(name):
    try:
        from metst_edge import _native
    except Exception as error:
        return {"error": str(error)}

print([(f.name, f.fix) for f in examine(ask=ask).findings if f.name in ("metst-edge", "native")])
"""


@pytest.fixture
def sources(tmp_path):
    """A checkout's folder, which holds no compiled part."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "metst_edge", tmp_path / "checkout" / "metst_edge", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "checkout")
    return tmp_path / "checkout"


@pytest.fixture
def packages(tmp_path):
    """A folder of installed packages, with metst-edge in it as pip leaves it."""
    (tmp_path / "packages/metst_edge").mkdir(parents=True)
    about = tmp_path / "packages/metst_edge-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: metst-edge\nVersion: 0.1.0\n")
    return tmp_path / "packages"


def last_line(code, folder, *path):
    """Run Python in a folder, where it looks first, without this environment's metst-edge; return how it ends."""
    # As if there were no other: an editable installation would hand out the compiled part.
    start = "import sys\nsys.meta_path = [f for f in sys.meta_path if 'editable' not in type(f).__module__]\n"
    start += f"sys.path[1:1] = {list(map(str, path))!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize("use", FIRST_USES)
def test_the_source_folder_says_that_it_hides_the_installed_package(sources, packages, use):
    assert last_line("import metst_edge; print('imported')", sources, packages) == (0, "imported")
    status, line = last_line(f"import metst_edge; {use}", sources, packages)
    assert status == 1 and line == (
        "metst_edge.errors.NotCompiledError: expected the compiled part, metst_edge._native, but this is the source "
        f"folder {sources / 'metst_edge'}, which hides the installed package {packages / 'metst_edge'}; run from "
        "another folder, or install the source folder itself: pip install -e ."
    )


def test_the_command_line_in_the_source_folder_is_one_line(sources, packages):
    status, line = last_line("from metst_edge.app.cli import main; sys.exit(main(['demo']))", sources, packages)
    assert status == 1 and line.startswith("metst-edge: error: expected the compiled part")
    assert "hides the installed package" in line


def test_the_doctor_in_the_source_folder_names_the_cure(sources, packages):
    status, line = last_line(DOCTOR, sources, packages)
    assert status == 0 and line.count("run it from another folder, or in this one: ") == 2
    assert line.count("-m pip install -e .") == 2


def test_what_lacks_its_compiled_part_elsewhere_is_to_be_installed(tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    assert re.search(
        r"found none; install it again.*pip install .* \.$", str(compiled.missing(tmp_path / "metst_edge"))
    )
    monkeypatch.setattr(metadata, "distribution", absent)
    (tmp_path / "pyproject.toml").touch()
    assert "is the source folder, which has none; install it: pip install -e ." in str(
        compiled.missing(tmp_path / "metst_edge")
    )


def test_the_face_models_are_those_that_their_notice_tells_of():
    folder = PACKAGE / "models/face"
    told = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", (folder / "NOTICE").read_text(), re.MULTILINE))
    found = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in folder.glob("*.tflite")}
    assert found == told and len(found) == 2
    assert "Apache License" in (folder / "LICENSE").read_text()[:400]
