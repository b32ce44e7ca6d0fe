"""Engines on disk: kept whole or not at all, believed only when they are what was built, and nobody else's."""

import fcntl
import hashlib
import json
import os
import stat

import pytest

from metst_edge.engine.tensorrt.cache import EngineCache, key_of, user_folder
from metst_edge.errors import EngineError

PARTS = {
    "bundle": "demo",
    "graph": "step",
    "precision": "fp32",
    "weights.bin": "ab" * 32,
    "tensorrt": "10.3.0 (tensorrt)",
    "gpu": "Orin",
    "multiprocessors": 16,
    "plugin": None,
    "profile": {"features": "2x10"},
    "flags": ["no TF32"],
}


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "metst_edge" / "engines")


def files(cache):
    return sorted(path.suffix for path in cache.folder.iterdir() if path.name != "lock")


def test_an_engine_comes_back_as_it_was_kept(cache):
    kept = cache.write(PARTS, b"plan", 12.5)
    assert EngineCache(cache.folder).read(PARTS) == (kept, None)
    assert (kept.plan, kept.seconds) == (b"plan", 12.5)


def test_nothing_is_said_of_an_engine_that_never_was(cache):
    assert cache.read(PARTS) == (None, None)
    cache.write({**PARTS, "graph": "window"}, b"another", 1.0)
    assert cache.read(PARTS) == (None, None)


def test_the_record_tells_everything_the_engine_is_of(cache):
    kept = cache.write(PARTS, b"plan", 12.5)
    record = json.loads(kept.path.with_suffix(".json").read_text())
    assert record["parts"] == PARTS and record["build_seconds"] == 12.5 and record["bytes"] == 4
    assert record["sha256"] == hashlib.sha256(b"plan").hexdigest()
    assert record["created"] == kept.created
    assert kept.path.stem == key_of(PARTS)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_changes_the_key(name):
    assert key_of({**PARTS, name: "something else"}) != key_of(PARTS)


def test_the_order_of_the_parts_does_not(cache):
    assert key_of(dict(reversed(PARTS.items()))) == key_of(PARTS)


@pytest.mark.parametrize("damage", [lambda plan: plan[:100], lambda plan: plan[:-1] + b"x", lambda plan: b""])
def test_a_damaged_engine_is_not_handed_out(cache, damage):
    plan = bytes(range(200))
    path = cache.write(PARTS, plan, 1.0).path
    path.write_bytes(damage(plan))
    stored, reason = cache.read(PARTS)
    assert stored is None
    found = path.read_bytes()
    hashes = [hashlib.sha256(content).hexdigest() for content in (plan, found)]
    assert reason == f"{path}: expected 200 bytes, sha256 {hashes[0]}, got {len(found)} bytes, sha256 {hashes[1]}"


def test_an_engine_without_its_file_is_named(cache):
    path = cache.write(PARTS, b"plan", 1.0).path
    path.unlink()
    assert cache.read(PARTS) == (None, f"{path}: expected the engine (No such file or directory)")


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", "null", '{"parts": 3}', "\x00"])
def test_a_foreign_record_is_named(cache, record):
    path = cache.write(PARTS, b"plan", 1.0).path.with_suffix(".json")
    path.write_text(record)
    stored, reason = cache.read(PARTS)
    assert stored is None
    assert reason.startswith(f"{path}: expected the record of an engine, got") and "\n" not in reason


@pytest.mark.parametrize("name", ["bytes", "build_seconds"])
def test_a_record_with_a_number_beyond_all_is_named(cache, name):
    path = cache.write(PARTS, b"plan", 1.0).path.with_suffix(".json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, name: "beyond"}).replace('"beyond"', "1e999"))
    stored, reason = cache.read(PARTS)
    assert stored is None and reason.startswith(f"{path}: expected the record of an engine, got")


def test_an_engine_put_under_a_key_that_is_not_its_own_is_told_apart(cache):
    mine, theirs = cache.folder / key_of(PARTS), cache.write({**PARTS, "gpu": "Thor"}, b"plan", 1.0).path
    for suffix in (".plan", ".json"):
        theirs.with_suffix(suffix).rename(mine.with_suffix(suffix))
    stored, reason = cache.read(PARTS)
    assert stored is None
    assert reason == f"{mine}.json: expected an engine for gpu Orin, got Thor"


def test_what_has_changed_since_the_last_build_is_told(cache):
    cache.write({**PARTS, "gpu": "Xavier"}, b"old", 1.0)
    for path in cache.folder.glob("*.json"):
        path.write_text(path.read_text().replace('"created": "2', '"created": "1'))
    cache.write({**PARTS, "tensorrt": "10.2.0 (tensorrt)", "multiprocessors": 8}, b"new", 1.0)
    (cache.folder / "rubbish.json").write_text("]")
    stored, reason = cache.read(PARTS)
    assert stored is None
    assert reason == (
        f"{cache.folder}: expected an engine for tensorrt 10.3.0 (tensorrt), got 10.2.0 (tensorrt); "
        "multiprocessors 16, got 8"
    )


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_is_cut_off_leaves_no_engine(cache, monkeypatch, failing, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(type(error)):
            cache.write(PARTS, b"plan", 1.0)
    assert files(cache) == []
    assert cache.read(PARTS) == (None, None)


def test_a_replacement_that_is_cut_off_between_its_files_is_noticed(cache, monkeypatch):
    cache.write(PARTS, b"old plan", 1.0)
    replace = os.replace

    def only_plans(source, target):
        if target.suffix == ".json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", only_plans)
        with pytest.raises(OSError, match="No space"):
            cache.write(PARTS, b"new plan", 1.0)
    stored, reason = cache.read(PARTS)
    assert stored is None and "sha256" in reason
    assert files(cache) == [".json", ".plan"]


def test_files_and_folders_are_the_users_alone(cache):
    path = cache.write(PARTS, b"plan", 1.0).path
    cache.write_timing({"gpu": "Orin"}, b"measured")
    with cache.lock(pytest.fail):
        pass
    for folder in (cache.folder, cache.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("which", ["folder", "parent"])
@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_folder_others_may_write_to_is_refused(cache, which, mode):
    folder = cache.folder if which == "folder" else cache.folder.parent
    folder.chmod(mode)
    with pytest.raises(EngineError, match=rf"{folder}: expected a directory.*mode {mode:04o}; chmod 700 it"):
        EngineCache(cache.folder)


def test_a_folder_of_somebody_else_is_refused(cache, monkeypatch):
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(EngineError, match=f"that user {owner + 1} owns.*got owner {owner}"):
        EngineCache(cache.folder)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "metst_edge").mkdir(mode=0o700)
    (tmp_path / "metst_edge" / "engines").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="expected a directory for engines"):
        EngineCache(tmp_path / "metst_edge" / "engines")


def test_others_may_look(cache):
    cache.folder.chmod(0o755)
    EngineCache(cache.folder)


def test_who_waits_for_the_lock_is_told_for_whom(cache):
    holder = os.open(cache.folder / "lock", os.O_RDWR | os.O_CREAT)
    os.write(holder, b"4711\n")
    fcntl.flock(holder, fcntl.LOCK_EX)
    said = []

    def say(line):
        said.append(line)
        os.close(holder)  # the other process is done

    with cache.lock(say):
        assert said == ["process 4711 is building engines; waiting for it"]
        assert (cache.folder / "lock").read_text() == f"{os.getpid()}\n"
        second = os.open(cache.folder / "lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back
    os.close(second)


def test_the_lock_is_given_back_when_a_build_fails(cache):
    with pytest.raises(RuntimeError), cache.lock(pytest.fail):
        raise RuntimeError
    with cache.lock(pytest.fail):
        pass


def test_timings_come_back_unless_they_are_damaged(cache):
    machine = {"gpu": "Orin"}
    assert cache.timing(machine) == b""
    cache.write_timing(machine, b"measured")
    assert cache.timing(machine) == b"measured"
    assert cache.timing({"gpu": "Thor"}) == b""
    (path,) = cache.folder.glob("*.timing")
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.timing(machine) == b""


def test_engines_lie_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "metst_edge" / "engines"
    monkeypatch.setenv("HOME", "/home/someone")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert str(user_folder()) == "/home/someone/.cache/metst_edge/engines"
