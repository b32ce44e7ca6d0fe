"""Whatever a source is, it is read or refused with a documented error: `tests/capture/fuzz.py` says what is drawn."""

import pytest

from tests.capture import fuzz

SHORT, LONG = 100, 25_000
KEPT = [("videos", 288), ("videos", 316), ("names", 886), ("names", 1016), ("times", 967), ("times", 977)]
"""Seeds that failed once."""


@pytest.fixture(autouse=True)
def no_cameras(monkeypatch):
    monkeypatch.setattr(fuzz.source, "Camera", None)
    fuzz.without_cameras()


def check(kind, seeds):
    failed = []
    for seed in seeds:
        try:
            fuzz.run(kind, seed)
        except Exception as error:
            failed.append((seed, repr(error)))
    assert failed == []


@pytest.mark.parametrize(("kind", "seed"), KEPT)
def test_what_failed_once_does_not_again(kind, seed):
    check(kind, [seed])


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_few_of_every_kind(kind):
    check(kind, range(SHORT))


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_many_of_every_kind(kind):
    check(kind, range(SHORT, LONG))
