"""SLSTT with published weights gives the published logits; other weights are taken only where they fit."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from training.models.checkpoint import CheckpointError, save_checkpoint
from training.models.imagenet import load_imagenet
from training.models.published import load_published
from training.models.recognisers import load_recogniser, published_recogniser
from training.models.slstt import RECOGNISERS, Slstt, SlsttSizes, build_recogniser, sizes_of

TINY = {"input_size": 32, "dim": 16, "depth": 2, "heads": 2, "mlp": 24, "lstm_hidden": 12, "head": 8}


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(1)


def tiny(name: str = "slstt_lstm", **sizes: int) -> Slstt:
    torch.manual_seed(4)
    return build_recogniser(name, **{**TINY, **sizes}).eval()


@pytest.fixture(scope="module")
def golden_state(published: Callable) -> dict[str, torch.Tensor]:
    """The weights of both golden vectors, which are the same: 86 million, drawn once."""
    return {f"module.{key}": tensor for key, tensor in published("slstt_lstm").items()}


@pytest.mark.parametrize("name", ["slstt_lstm", "slstt_mean"])
def test_published_weights_give_the_published_logits(name, golden_state, golden):
    network = published_recogniser(golden_state, name, "golden")
    vectors = np.load(golden / f"{name}.npz")
    shape = (2, 11, 3, 64, 64)
    images = np.random.default_rng(int(vectors["x_seed"])).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(logits, vectors["logits"], atol=1e-5)


def test_the_published_sizes_are_those_of_vit_b_16_at_384():
    with torch.device("meta"):
        network = build_recogniser("slstt_lstm")
    assert network.sizes.tokens == 577
    vit = {name: p for name, p in network.vit.named_parameters()}
    assert sum(p.numel() for p in vit.values()) == 86_090_496  # of ViT-B/16 at 384 without its classifier
    assert sizes_of(network.state_dict()) == RECOGNISERS["slstt_lstm"]


def test_sizes_are_read_from_names_and_shapes():
    state = {f"module.{name}": tensor for name, tensor in tiny(dim=128, classes=5).state_dict().items()}
    expected = SlsttSizes(**{**TINY, "dim": 128, "classes": 5})
    assert sizes_of(state) == expected
    assert sizes_of(state, "mean") is None  # it has no logits of single pictures
    assert sizes_of({"Stem.0.weight": torch.zeros(3)}) is None


@pytest.mark.parametrize("name", sorted(RECOGNISERS))
def test_an_interval_is_named_by_its_own_pictures_alone_and_by_any_number_of_them(name):
    network = tiny(name)
    images = torch.randn(3, 5, 3, 32, 32)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(clip[None]) for clip in images])
        fewer = network(images[:, :1])
    torch.testing.assert_close(together, alone)
    assert fewer.shape == together.shape == (3, network.sizes.classes)


def test_the_order_of_pictures_counts_in_a_recurrence_and_not_in_a_mean():
    images = torch.randn(1, 5, 3, 32, 32)
    with torch.no_grad():
        for name, same in (("slstt_lstm", False), ("slstt_mean", True)):
            network = tiny(name)
            assert torch.allclose(network(images), network(images.flip(1)), atol=1e-7) is same


def test_a_checkpoint_comes_back_with_its_meta_data(tmp_path):
    network = tiny("slstt_small", classes=4)
    save_checkpoint(tmp_path / "model.pt", network, {"labels": ["a", "b", "c", "d"]})
    found = load_recogniser(tmp_path / "model.pt")
    assert found.meta == {"labels": ["a", "b", "c", "d"]}
    assert (found.network.name, found.network.sizes) == (network.name, network.sizes)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], tensor, rtol=0, atol=0)


def test_what_does_not_fit_is_listed(tmp_path):
    state = dict(tiny().state_dict())
    del state["vit.norm.weight"]
    state["vit.norm.scale"] = torch.zeros(16)
    state["fc2.bias"] = torch.zeros(9)
    state["lstm.bias_ih_l0"] = torch.full((48,), torch.nan)
    torch.save(state, tmp_path / "weights.pkl")
    with pytest.raises(CheckpointError) as caught:
        load_published(tmp_path / "weights.pkl", "slstt_lstm")
    for problem in (
        "does not fit slstt_lstm",
        "missing vit.norm.weight (16,)",
        "unknown vit.norm.scale (16,)",
        "fc2.bias: expected shape (3,), got (9,)",
        "lstm.bias_ih_l0: expected finite values",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [
        ({"aggregation": "sum"}, "expected aggregation 'lstm' or 'mean', got 'sum'"),
        ({"input_size": 40}, "expected input_size to be a multiple of patch, 16, got 40"),
        ({"heads": 3}, "expected dim to be a multiple of heads, 3, got 16"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_refused(sizes, problem):
    with pytest.raises(ValueError, match=problem):
        tiny(**sizes)


def published_vit(network: Slstt) -> dict[str, torch.Tensor]:
    """ImageNet weights as the published code's library saves them."""
    return {name: torch.randn_like(tensor) for name, tensor in network.vit.state_dict().items()} | {
        "fc.weight": torch.zeros(1000, 16),
        "fc.bias": torch.zeros(1000),
        "pre_logits.weight": torch.zeros(16, 16),
    }


@pytest.mark.parametrize("prefix", ["", "module.", "module.vit."])
def test_imagenet_weights_come_by_the_published_names(prefix, tmp_path):
    network = tiny("slstt_mean")
    weights = published_vit(network)
    torch.save({prefix + name: tensor for name, tensor in weights.items()}, tmp_path / "vit.pth")
    own = network.vit.fc.weight.clone()
    load_imagenet(network, tmp_path / "vit.pth")
    state = network.vit.state_dict()
    for name in state.keys() - {"fc.weight", "fc.bias"}:
        torch.testing.assert_close(state[name], weights[name], rtol=0, atol=0)
    torch.testing.assert_close(network.vit.fc.weight, own, rtol=0, atol=0)


@pytest.mark.parametrize("inner", [("0", "3"), ("linear_1", "linear_2")])
def test_torchvision_s_weights_compute_what_its_own_attention_does(inner, tmp_path):
    network = tiny()
    theirs = nn.MultiheadAttention(16, 2, batch_first=True).eval()  # what torchvision's encoder is made of
    weights = {"class_token": torch.randn(1, 1, 16), "encoder.pos_embedding": torch.randn(1, 5, 16)}
    for name, like in (("conv_proj", network.vit.patch_embedding), ("encoder.ln", network.vit.norm)):
        weights |= {f"{name}.{part}": torch.randn_like(tensor) for part, tensor in like.state_dict().items()}
    for i, block in enumerate(network.vit.transformer["blocks"]):
        layer = f"encoder.layers.encoder_layer_{i}"
        weights |= {f"{layer}.self_attention.{name}": tensor for name, tensor in theirs.state_dict().items()}
        likes = {"ln_1": block.norm1, "ln_2": block.norm2}
        likes |= {f"mlp.{inner[0]}": block.pwff.fc1, f"mlp.{inner[1]}": block.pwff.fc2}
        for name, like in likes.items():
            weights |= {f"{layer}.{name}.{part}": torch.randn_like(t) for part, t in like.state_dict().items()}
    weights |= {"heads.head.weight": torch.zeros(1000, 16), "heads.head.bias": torch.zeros(1000)}
    torch.save(weights, tmp_path / "vit_b_16.pth")
    load_imagenet(network, tmp_path / "vit_b_16.pth")
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        for block in network.vit.transformer["blocks"]:
            torch.testing.assert_close(block.proj(block.attn(x)), theirs(x, x, x)[0], rtol=1e-5, atol=1e-6)
    vit, last = network.vit, network.vit.transformer["blocks"][1]
    for found, name in (
        (vit.patch_embedding.weight, "conv_proj.weight"),
        (vit.positional_embedding.pos_embedding, "encoder.pos_embedding"),
        (vit.norm.bias, "encoder.ln.bias"),
        (last.norm2.weight, "encoder.layers.encoder_layer_1.ln_2.weight"),
        (last.pwff.fc1.weight, f"encoder.layers.encoder_layer_1.mlp.{inner[0]}.weight"),
        (last.pwff.fc2.bias, f"encoder.layers.encoder_layer_1.mlp.{inner[1]}.bias"),
    ):
        torch.testing.assert_close(found, weights[name], rtol=0, atol=0)


def test_positions_of_another_picture_size_are_interpolated_and_the_class_token_s_is_kept(tmp_path):
    network = tiny(input_size=128)  # 8 x 8 patches
    weights = published_vit(network)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    ramp = torch.stack((rows, columns), -1).reshape(1, 576, 2).repeat(1, 1, 8)
    weights["positional_embedding.pos_embedding"] = torch.cat((torch.full((1, 1, 16), -5.0), ramp), 1)
    torch.save(weights, tmp_path / "vit.pth")
    load_imagenet(network, tmp_path / "vit.pth")
    found = network.vit.positional_embedding.pos_embedding.detach()
    assert found.shape == (1, 65, 16)
    assert (found[0, 0] == -5).all()
    centres = 3 * torch.arange(8.0) + 1  # of every third of 24
    grid = found[0, 1:].reshape(8, 8, 16)
    torch.testing.assert_close(grid[1:-1, 0, 0], centres[1:-1], atol=1e-4, rtol=0)  # inside, a ramp stays one
    torch.testing.assert_close(grid[0, 1:-1, 1], centres[1:-1], atol=1e-4, rtol=0)


def test_imagenet_weights_of_another_transformer_are_refused(tmp_path):
    weights = published_vit(tiny())
    torch.save(weights, tmp_path / "vit.pth")
    with pytest.raises(CheckpointError, match=r"of 3 blocks, 16 channels.*missing transformer\.blocks\.2\."):
        load_imagenet(tiny(depth=3), tmp_path / "vit.pth")
    torch.save({"some": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"unknown some \(1,\)"):
        load_imagenet(tiny(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="found none"):
        load_imagenet(tiny(), tmp_path / "absent.pth")
