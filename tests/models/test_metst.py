"""All networks: the published numbers, the published names, and what training relies on."""

import numpy as np
import pytest
import torch
from torch import nn

from training.models import CheckpointError, build, load_checkpoint, load_published, save_checkpoint
from training.models.blocks import DropPath
from training.models.checkpoint import fill


@pytest.mark.parametrize("frames", [30, 50])
@pytest.mark.parametrize("name", ["metst64", "metst128", "metst_plus"])
def test_published_weights_give_the_published_scores(name, frames, golden, published):
    network = build(name).eval()
    fill(network, published(name), name)
    vectors = np.load(golden / f"{name}.npz")
    with torch.no_grad():
        spot, emotion = network(torch.from_numpy(vectors[f"x_{frames}"]))
    np.testing.assert_allclose(spot.numpy(), vectors[f"spot_{frames}"], rtol=0, atol=1e-4)
    logits = {"metst_plus": 1e-3}.get(name, 1e-4)  # float32 through four times as many blocks
    np.testing.assert_allclose(emotion.numpy(), vectors[f"recog_{frames}"], rtol=0, atol=logits)


@pytest.mark.parametrize("name", ["metst64", "metst128", "metst_plus"])
def test_a_published_file_loads_with_and_without_the_prefix_of_data_parallel(name, published, tmp_path):
    state = published(name)
    torch.save(state, tmp_path / "plain.pkl")
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "wrapped.pkl")
    plain, wrapped = (load_published(tmp_path / f"{kind}.pkl", name) for kind in ("plain", "wrapped"))
    assert not plain.training
    for key, value in plain.state_dict().items():
        assert torch.equal(value, state[key])
        assert torch.equal(value, wrapped.state_dict()[key])


@pytest.mark.parametrize(
    ("name", "millions"), [("metst64", 0.63), ("metst128", 1.90), ("metst_plus", 16.65), ("metst_plus_shared", 8.36)]
)
def test_the_networks_have_the_published_number_of_used_parameters(name, millions):
    assert sum(p.numel() for p in build(name).parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_a_score_depends_on_the_past_and_two_frames_ahead_only():
    torch.manual_seed(0)
    network = build("metst64", dim=16, depth=2, d_state=8).eval().double()
    x = torch.randn(1, 10, 20).double()
    changed = x.clone()
    changed[..., 12:] += 1.0
    with torch.no_grad():
        (spot, emotion), (spot_changed, emotion_changed) = network(x), network(changed)
    assert torch.equal(spot[:, :10], spot_changed[:, :10])
    assert torch.equal(emotion[:, :10], emotion_changed[:, :10])
    assert not torch.equal(spot[:, 10], spot_changed[:, 10])


def test_the_standard_initialisation_is_mambas():
    torch.manual_seed(0)
    mamba = build("metst64").blocks[3].attn.mamba
    dt = nn.functional.softplus(mamba.dt_proj.bias)
    assert 1e-3 * 0.99 <= dt.min() < 3e-3 and 3e-2 < dt.max() <= 1e-1 * 1.01
    torch.testing.assert_close(mamba.A_log.exp(), torch.arange(1.0, 65.0).expand(128, 64))
    assert torch.equal(mamba.D, torch.ones(128))


def test_the_published_initialisation_is_small_and_wipes_the_time_step_bias():
    torch.manual_seed(0)
    network = build("metst64", init="published")
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            if layer.weight.numel() > 4000:
                assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert layer.bias is None or not layer.bias.any()


def test_drop_path_rises_over_the_blocks_as_published():
    rates = [block.drop_path.rate for block in build("metst64").blocks]
    np.testing.assert_allclose(rates, [0, *np.linspace(0, 0.2, 12)][:12], atol=1e-7)


def test_drop_path_drops_whole_samples_keeps_the_mean_and_rests_in_evaluation():
    torch.manual_seed(0)
    layer, x = DropPath(0.25), torch.ones(4000, 3, 2)
    dropped = layer.train()(x)
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample.min(1).values, per_sample.max(1).values)
    assert sorted(per_sample.unique().tolist()) == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(layer.eval()(x), x)


def test_training_reaches_every_parameter():
    network = build("metst64", dim=16, depth=2, d_state=8).train()
    spot, emotion = network(torch.randn(4, 10, 12))
    (spot.sum() + emotion.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("metst32",), "metst64, metst128, .*, got 'metst32'"),
        (("metst64",), "'mamba' or 'published', got 'zeros'"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(*arguments, **({"init": "zeros"} if arguments == ("metst64",) else {}))


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    network = build("metst128", dim=16, depth=2, d_state=8)
    meta = {"fps": 30.0, "k": 30, "training": {"data": "synthetic", "ids": [1, 2]}}
    save_checkpoint(tmp_path / "model.pt", network, meta)
    loaded = load_checkpoint(tmp_path / "model.pt")
    assert loaded.meta == meta
    assert loaded.network.name == "metst128" and loaded.network.sizes == network.sizes
    assert not loaded.network.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_everything_that_does_not_fit_is_named(tmp_path):
    network = build("metst64", dim=16, depth=2, d_state=8)
    state = network.state_dict()
    del state["Stem.0.bias"]
    state["fc_spot.0.weight"] = torch.zeros(1, 17)
    state["blocks_spot.1.norm3.weight"] = torch.zeros(16)
    state["blocks_spot.0.attn.mamba.D"] = torch.full((32,), torch.nan)
    with pytest.raises(CheckpointError) as caught:
        fill(network, state, "here")
    for part in (
        "missing Stem.0.bias (16,)",
        "fc_spot.0.weight: expected shape (1, 16), got (1, 17)",
        "unknown blocks_spot.1.norm3.weight (16,)",
        "blocks_spot.0.attn.mamba.D: expected finite values",
    ):
        assert part in str(caught.value)


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pkl")
    for load in (load_checkpoint, lambda path: load_published(path, "metst64")):
        with pytest.raises(CheckpointError, match="holds code, which is never run"):
            load(tmp_path / "trap.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused(content, tmp_path):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="found none"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_bare_state_dict_is_no_checkpoint_of_fit(tmp_path):
    torch.save(build("metst64", dim=16, depth=1).state_dict(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="python -m export upstream"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 9}, "expected checkpoint format 1, got 9"),
        ({"model": "metst32"}, "got 'metst32'"),
        ({"sizes": {"width": 3}}, "width"),
        ({"sizes": {"dim": -1}}, r"model\.pt"),
        ({"state_dict": [1, 2]}, "expected a state dict"),
        ({"state_dict": {1: 2}}, "expected a state dict"),
        ({"meta": None}, "expected a checkpoint of"),
    ],
)
def test_a_checkpoint_with_parts_that_make_no_sense_is_refused(change, message, tmp_path):
    save_checkpoint(tmp_path / "model.pt", build("metst64", dim=16, depth=1), {})
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    torch.save(content | change, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "model.pt")
