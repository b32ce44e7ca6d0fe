"""ME-TST+: two rates side by side, with a pathway for each head or one for both."""

import numpy as np
import pytest
import torch

from training.models import build

SIZES = dict(dim=8, slow_dim=16, depth=2, d_state=4)


@pytest.fixture(params=["metst_plus", "metst_plus_shared"])
def network(request):
    """Small, in float64, in evaluation mode."""
    torch.manual_seed(0)
    return build(request.param, **SIZES).eval().double()


def scores(network, x):
    with torch.no_grad():
        return network(x)


def test_a_slow_step_waits_for_one_frame_more_than_the_stem(network):
    """Of an even frame e the slow stack sees e + 1 of the stem's outputs: features up to e + 3."""
    x = torch.randn(1, 36, 20).double()
    changed = x.clone()
    changed[..., 13:] += 1.0
    before, after = scores(network, x), scores(network, changed)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[:, :10], b[:, :10])
        assert not torch.equal(a[:, 10], b[:, 10])


def test_of_an_odd_frame_the_slow_part_is_that_of_the_frame_before(network):
    x = torch.randn(2, 36, 12).double()
    with torch.no_grad():
        mixed = network.pathways[0].mix(network.Stem(x))
    slow = mixed[..., : SIZES["slow_dim"]]
    assert mixed.shape == (2, 12, SIZES["slow_dim"] + SIZES["dim"])
    assert torch.equal(slow[:, 0::2], slow[:, 1::2])
    assert not torch.equal(slow[:, 0], slow[:, 2])


def test_with_an_odd_number_of_frames_the_last_slow_step_sees_zeros_after_it(network):
    """As if one more frame of the window followed of which every convolution sees nothing."""
    x = torch.randn(1, 36, 11).double()
    spot, emotion = scores(network, x)
    assert spot.shape == (1, 11) and emotion.shape == (1, 11, 5)
    stem = network.Stem(x)
    padded = torch.nn.functional.pad(stem, (0, 1))
    pathway = network.pathways[0]
    with torch.no_grad():
        np.testing.assert_allclose(pathway.Stem_slow(stem), pathway.Stem_slow(padded), rtol=0, atol=1e-12)


def test_two_heads_read_two_pathways_or_one():
    torch.manual_seed(0)
    x = torch.randn(1, 36, 6)
    for name, alike in (("metst_plus", False), ("metst_plus_shared", True)):
        network = build(name, **SIZES).eval()
        spot, emotion = scores(network, x)
        with torch.no_grad():
            network.pathways[0].block1[0].attn.mamba.D.add_(1.0)
        changed = scores(network, x)
        assert not torch.equal(changed[0], spot)
        assert torch.equal(changed[1], emotion) != alike


def test_names_of_the_shared_pathway_are_those_of_the_published_network():
    """arXiv 2508.18834 publishes it without a module around its pathway, and heads in sequences of one."""
    names = set(build("metst_plus_shared").state_dict())
    expected = {"Stem_slow.0.weight", "block1.0.attn.mamba.A_log", "block3_fast.3.norm1.bias", "fuse_2.conv.1.weight"}
    assert expected | {"fc_spot.0.weight", "fc_recog.0.bias", "Stem.4.running_var"} <= names


def test_drop_path_rises_within_every_stage_as_published(network):
    for pathway in network.pathways:
        assert len(pathway.slow_stages) == len(pathway.fast_stages) == 3
    full = build("metst_plus_shared", dim=8, slow_dim=16, d_state=4)
    for stage in (*full.slow_stages, *full.fast_stages):
        np.testing.assert_allclose([block.drop_path.rate for block in stage], [0, 0, 0.0667, 0.1333], atol=5e-5)


def test_training_reaches_every_parameter():
    for name in ("metst_plus", "metst_plus_shared"):
        network = build(name, **SIZES).train()
        spot, emotion = network(torch.randn(4, 36, 12))
        (spot.sum() + emotion.square().sum()).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_small_network_has_about_a_million_weights():
    assert 0.7e6 < sum(p.numel() for p in build("metst_plus_small").parameters()) < 1.3e6
