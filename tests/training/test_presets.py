"""Presets agree with the networks they train, and with what is measured for them."""

import pytest
import torch

from metst_edge.flow import channels
from training.models import MODELS, build
from training.presets import PRESETS
from training.synthesis.calibration import Calibration
from training.synthesis.generator import FeatureGenerator


def test_every_network_that_scores_windows_can_be_trained():
    """By its own name; what is trained otherwise has a name of its own."""
    named = {name: preset for name, preset in PRESETS.items() if name == preset.model}
    assert named.keys() == MODELS.keys()
    others = {name: preset for name, preset in PRESETS.items() if name not in named}
    assert {name: (preset.roi_set, preset.delay) for name, preset in others.items()} == {
        "late": ("metst_plus", 8),
        "edge": ("edge", 8),
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_channels_of_its_regions_and_of_its_network(name):
    preset = PRESETS[name]
    assert preset.channels == channels(preset.roi_set)
    with torch.device("meta"):
        assert build(preset.model).sizes.channels == preset.channels


def test_generated_windows_of_all_regions_train_two_rates():
    """Both rates and every channel: each has an effect on the loss of a small network."""
    preset = PRESETS["metst_plus_small"]
    made = FeatureGenerator(0, preset.roi_set, preset.fps, preset.k, Calibration.load())
    features, y, _ = made.windows(8)
    assert features.shape == (8, 36, 30) and features.std((0, 2)).min() > 0.01
    torch.manual_seed(0)
    network = build(preset.model, channels=preset.channels, dim=8, slow_dim=16, depth=1, d_state=4).train()
    spot, _ = network(torch.from_numpy(features))
    ((spot - torch.from_numpy(y)) ** 2).mean().backward()
    assert network.Stem[0].weight.grad.abs().sum((0, 2)).min() > 0
    assert all(part.weight.grad.abs().sum() > 0 for part in (network.Stem_slow[0], network.fuse_2.conv[0]))


def test_the_published_schedules_are_kept():
    """arXiv 2409.09707: 1e-4, 30 epochs; arXiv 2508.08082: 3e-4, 50 epochs."""
    for preset in PRESETS.values():
        expected = (3e-4, 50) if "plus" in preset.model else (1e-4, 30)
        assert (preset.folder.learning_rate, preset.folder.epochs) == expected
