"""Spoils bundles at random and uses them: only documented errors may come, of one line that can be printed.

    python -m tests.engine.bundle_fuzz DIR --runs 100000 --seed 1

DIR holds the bundles that are spoilt, directories; small ones, since every run writes one. A run is a function of the
seed and its number (and of the bundles): `--only N` repeats it. Runs go in child processes, so that one that crashes or
hangs is a finding like others and the rest go on.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from metst_edge.bundle import Bundle, RecognizerBundle, open_bundle
from metst_edge.engine import load_engine
from metst_edge.errors import MetstError
from metst_edge.recognise.engine import load_recognizer
from metst_edge.recognise.images import ImageSettings, flow_images
from tests.engine.bundle_spoiling import Spoilt, spoil, write

BATCH = 200
"""Runs in one child process."""
SECONDS = 30
"""A run that takes longer hangs."""
MEMORY = 6 << 30


def use(path: Path, it: Spoilt) -> None:
    """Load a bundle and run what it holds, in the engines that need no GPU."""
    bundle = open_bundle(path)
    if it.later is not None and path.is_dir():
        it.later(path)
    draw = np.random.default_rng(0)
    if isinstance(bundle, RecognizerBundle):
        recogniser = load_recognizer(bundle, "onnxruntime")
        side = bundle.input_size
        if side <= 64:
            onset, *crops = draw.integers(0, 256, (3, 48, 48), np.uint8)
            pictures = flow_images(onset, crops, ImageSettings.from_dict(bundle.images))
            recogniser.infer(pictures[None])
        return
    assert isinstance(bundle, Bundle)
    windows = draw.standard_normal((1, bundle.channels, min(bundle.k, 12))).astype(np.float32)
    problem: MetstError | None = None
    for name in ("native", "onnxruntime"):
        try:
            engine = load_engine(bundle, name)
            scores = engine.infer(windows)
            assert scores.spot.shape == (1, windows.shape[2])
            stream = engine.open_stream()
            for step in range(min(bundle.look_ahead, 20) + 2):
                stream.step(windows[[0, 0], :, step % windows.shape[2]], np.array([step == 0] * 2))
        except MetstError as error:  # the other engine may take it
            problem = error
            told(error)
    if problem is not None:
        raise problem


def told(error: MetstError) -> None:
    """Check that an error is one line for a terminal, and not a long one."""
    text = str(error)
    assert text.isprintable(), f"not to be printed: {text!r}"
    assert len(text) < 20_000, f"{len(text)} letters: {text[:200]!r}"


# Running.


def outcome(originals: list[tuple[dict[str, Any], dict[str, bytes]]], seed: int, number: int, folder: Path) -> str:
    """Do one run; return what came of it, "!" in front of what may not."""
    it = spoil(originals, random.Random(f"{seed}/{number}"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        path = write(it, folder)
    except RecursionError:  # nested deeper than the standard library writes
        return "not written"
    try:
        use(path, it)
        return "used"
    except MetstError as error:
        try:
            told(error)
        except AssertionError as wrong:
            return f"!{wrong} after {'; '.join(it.said)}"
        return type(error).__name__
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"!{error!r:.300} at {where.filename}:{where.lineno} after {'; '.join(it.said)}"


def child(originals: Any, seed: int, numbers: range, now: mmap.mmap, pipe: int) -> None:
    """Do a batch of runs and write what came of each into a pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with os.fdopen(pipe, "w") as results, tempfile.TemporaryDirectory(prefix="fuzz-", dir=base) as folder:
        for number in numbers:
            struct.pack_into("<q", now, 0, number)
            signal.alarm(SECONDS)
            came = outcome(originals, seed, number, Path(folder) / "bundle")
            signal.alarm(0)
            results.write(json.dumps([number, came]) + "\n")
            results.flush()


def fuzz(folder: Path, seed: int, numbers: range) -> tuple[Counter[str], list[str]]:
    """Do runs; return how often each outcome came, and the findings.

    Args:
        folder: holds the bundles that are spoilt.
        seed: of all runs.
        numbers: of the runs.
    """
    originals = []
    for bundle in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {path.name: path.read_bytes() for path in bundle.iterdir() if path.name != "manifest.json"}
        originals.append((json.loads((bundle / "manifest.json").read_text()), files))
    counts: Counter[str] = Counter()
    findings: list[str] = []
    now = mmap.mmap(-1, 8)
    first = numbers.start
    while first < numbers.stop:
        batch = range(first, numbers.stop)
        ours, theirs = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(ours)
            child(originals, seed, batch, now, theirs)
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as results:
            for line in results:
                number, came = json.loads(line)
                counts["finding" if came[0] == "!" else came] += 1
                if came[0] == "!":
                    findings.append(f"run {number}: {came[1:]}")
        _, status = os.waitpid(process, 0)
        first = numbers.stop
        if status != 0:
            (number,) = struct.unpack_from("<q", now)
            said = spoil(originals, random.Random(f"{seed}/{number}")).said
            findings.append(f"run {number}: process ended with {status} after {'; '.join(said)}")
            counts["finding"] += 1
            first = number + 1
    return counts, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.runs)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
    counts: Counter[str] = Counter()
    for first in range(numbers.start, numbers.stop, BATCH):
        came, findings = fuzz(options.folder, options.seed, numbers[first - numbers.start :][:BATCH])
        counts += came
        print("".join(f"{finding}\n" for finding in findings), end="", flush=True)
        done = min(first + BATCH, numbers.stop) - numbers.start
        if done == len(numbers) or done % 1000 == 0:
            print(json.dumps({"seed": options.seed, "runs": done, **counts}), flush=True)
    return 1 if counts["finding"] else 0


if __name__ == "__main__":
    sys.exit(main())
