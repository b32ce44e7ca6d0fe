"""A training run repeats bit for bit, survives Ctrl-C, and leaves a checkpoint the exporter can use."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.cli.terminal import ctrl_c  # noqa: E402
from training.data.errors import DataError  # noqa: E402
from training.evaluation.validate import curves  # noqa: E402
from training.fit import Interrupted, fit, steps_in  # noqa: E402
from training.models import load_checkpoint  # noqa: E402
from training.presets import PRESETS  # noqa: E402
from training.run import Point, Run  # noqa: E402
from training.samples import Annotation, MeasuredClip  # noqa: E402
from training.state import saved_steps  # noqa: E402

K, CHANNELS = 30, 10
RUN = Run(
    preset=PRESETS["metst64"],
    seed=3,
    steps=6,
    batch=4,
    learning_rate=1e-3,
    threads=1,
    device="cpu",
    data="bumps on noise",
)


class Bumps:
    """Noise with one bump in half of the windows; a step's batch follows from the step alone."""

    weights = np.array([1, 1, 1, 1, 0.5], np.float32)
    k_p = 5
    batches_per_epoch = None

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(step)
        x = random.normal(0, 0.1, (4, CHANNELS, K)).astype(np.float32)
        y, classes = np.zeros((4, K), np.float32), np.full((4, K), 4)
        for row in (0, 1):
            start = random.integers(2, K - 10)
            x[row, :, start : start + 8] += 2
            y[row, start : start + 8] = 1
            classes[row, start : start + 8] = row
        return x, y, classes

    def close(self) -> None:
        pass


@pytest.fixture(scope="module", autouse=True)
def torch_as_the_command_line_sets_it() -> Iterator[None]:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(RUN.threads)
    torch.use_deterministic_algorithms(True)
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "model.pt").network.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def a_clip() -> MeasuredClip:
    windows = [Bumps().batch(i)[0][0] for i in range(3)]
    return MeasuredClip(windows, [Annotation(5, 8, 14, 0)])


def test_a_run_repeats_bit_for_bit_and_another_seed_differs(tmp_path: Path) -> None:
    for name, run in (("a", RUN), ("b", RUN), ("c", replace(RUN, seed=4))):
        fit(run, Bumps(), [], tmp_path / name)
    assert same(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))
    assert not same(weights_of(tmp_path / "a"), weights_of(tmp_path / "c"))


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    fit(RUN, Bumps(), [], tmp_path / "whole")

    def interrupt(point: Point) -> None:
        if point.step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as stop, ctrl_c() as asked:
        fit(RUN, Bumps(), [], tmp_path / "broken", stop=asked, report=interrupt)
    assert stop.value.step == 2
    assert not (tmp_path / "broken" / "model.pt").exists()
    fit(RUN, Bumps(), [], tmp_path / "broken", resume=True)
    assert same(weights_of(tmp_path / "whole"), weights_of(tmp_path / "broken"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_fit_leaves_the_process_to_whoever_owns_it(tmp_path: Path) -> None:
    def settings() -> tuple[object, ...]:
        handler = signal.getsignal(signal.SIGINT)
        return handler, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    before, seen = settings(), []
    fit(replace(RUN, steps=2, threads=3), Bumps(), [], tmp_path / "run", report=lambda point: seen.append(settings()))
    assert seen == [before, before] and settings() == before


def test_the_second_ctrl_c_breaks_off_and_the_handler_before_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), ctrl_c() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_validation_on_the_way_does_not_change_the_run(tmp_path: Path) -> None:
    fit(RUN, Bumps(), [], tmp_path / "without")
    scores = fit(RUN, Bumps(), [a_clip()], tmp_path / "with", validations=3)
    assert scores is not None and scores.videos == 1
    assert same(weights_of(tmp_path / "without"), weights_of(tmp_path / "with"))


def test_a_run_leaves_curves_lines_and_a_checkpoint_with_everything_the_exporter_needs(
    tmp_path: Path,
) -> None:
    fit(RUN, Bumps(), [a_clip()], tmp_path / "run")
    meta = load_checkpoint(tmp_path / "run" / "model.pt").meta
    assert (meta["fps"], meta["k"], meta["k_p"], meta["roi_set"], meta["compat"]) == (
        30.0,
        30,
        5,
        "metst",
        False,
    )
    assert meta["labels"] == ["negative", "positive", "surprise", "others", "neutral"]
    assert meta["decode"].keys() == {"ratio", "floor", "synergy", "window_seconds", "decoder", "class_priors"}
    assert meta["training"]["data"] == "bumps on noise" and meta["training"]["seed"] == 3
    assert "licence" not in meta  # of what is trained on anybody's data only they know it
    json.dumps(meta)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 7))
    assert all(line["loss"] == pytest.approx(0.9 * line["spotting"] + 0.1 * line["emotion"]) for line in lines[:1])
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_training_learns_bumps(tmp_path: Path) -> None:
    fit(replace(RUN, steps=40, learning_rate=3e-3), Bumps(), [], tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = (np.mean([line["spotting"] for line in part]) for part in (lines[:5], lines[-5:]))
    assert last < 0.5 * first


def test_a_folder_with_a_run_is_not_overwritten(tmp_path: Path) -> None:
    fit(replace(RUN, steps=1), Bumps(), [], tmp_path / "run")
    with pytest.raises(DataError, match="already holds a run; add --resume"):
        fit(RUN, Bumps(), [], tmp_path / "run")


def test_resuming_needs_a_state_and_the_same_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the state of an interrupted run in .*, found none"):
        fit(RUN, Bumps(), [], tmp_path / "none", resume=True)
    fit(replace(RUN, steps=1), Bumps(), [], tmp_path / "run")
    assert saved_steps(tmp_path / "run") == 1
    with pytest.raises(DataError, match="steps was 1, is 6"):
        fit(RUN, Bumps(), [], tmp_path / "run", resume=True)


def test_a_damaged_state_is_said(tmp_path: Path) -> None:
    fit(replace(RUN, steps=1), Bumps(), [], tmp_path / "run")
    state = tmp_path / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(DataError, match="state.pt cannot be read .* remove .* and start anew"):
        fit(replace(RUN, steps=1), Bumps(), [], tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    class Broken(Bumps):
        def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            x, y, classes = super().batch(step)
            return x * np.nan, y, classes

    with pytest.raises(DataError, match="expected a finite loss, got nan at step 1; lower --learning-rate"):
        fit(RUN, Broken(), [], tmp_path / "run")


def test_more_minutes_are_more_steps() -> None:
    assert 0 < steps_in(0.5, RUN, Bumps(), probes=4) < steps_in(50, RUN, Bumps(), probes=4)


def test_curves_keep_the_first_window_whole_and_the_second_half_of_later_ones() -> None:
    network = load_network()
    clip = a_clip()
    short = MeasuredClip([clip.windows[0], clip.windows[1][:, :20]], [])
    (spot, logits), (spot_short, _) = curves(network, [clip, short], K)
    with torch.no_grad():
        each = [network(torch.from_numpy(w)[None])[0][0].numpy() for w in clip.windows]
        cut = network(torch.from_numpy(short.windows[1].copy())[None])[0][0].numpy()
    assert spot == pytest.approx(np.concatenate([each[0], each[1][15:], each[2][15:]]), abs=1e-6)
    assert spot_short == pytest.approx(np.concatenate([each[0], cut[15:]]), abs=1e-6)
    assert logits.shape == (60, 5)


def load_network() -> torch.nn.Module:
    from training.models import build

    torch.manual_seed(0)
    return build("metst64", channels=CHANNELS).eval()
