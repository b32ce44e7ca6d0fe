"""Which published network a checkpoint is of, by its names and shapes."""

import pytest
import torch

from training.models import MODELS, PUBLISHED, CheckpointError, build, identify, load_published


def state_of(name):
    with torch.device("meta"):
        return build(name).state_dict()


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() & MODELS.keys()))
def test_every_published_network_is_told_from_the_others(name):
    state = state_of(name)
    assert identify(state, "file") == name
    assert identify({f"module.{key}": value for key, value in state.items()}, "file") == name


@pytest.mark.parametrize("name", ["metst64", "metst128", "metst_plus"])
def test_what_published_files_hold_besides_does_not_matter(name, published):
    assert identify(published(name), "file") == name


def test_a_file_of_no_published_network_is_told_what_the_nearest_wants():
    state = state_of("metst_plus_shared")
    del state["fc_spot.0.bias"]
    state["extra"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as caught:
        identify(state, "file.pkl")
    text = str(caught.value)
    assert text.startswith("file.pkl: expected the names and shapes of a published network (metst64, ")
    assert text.endswith("nearest is metst_plus_shared, but for: missing fc_spot.0.bias (1,); unknown extra (3,)")


def test_a_file_that_fits_two_networks_alike_is_not_guessed(monkeypatch):
    monkeypatch.setitem(PUBLISHED, "another", PUBLISHED["metst64"])
    with pytest.raises(CheckpointError, match="file.pkl fits metst64 and another alike; say which it is with --model"):
        identify(state_of("metst64"), "file.pkl")


def test_a_network_with_one_pathway_is_not_made_of_two():
    """Nothing that one of them reads is dropped as unused by the other."""
    problems = PUBLISHED["metst_plus_shared"].misfits(state_of("metst_plus"))
    assert any(problem.startswith("unknown recog_pathway.block1.0.attn") for problem in problems)


def test_a_checkpoint_is_loaded_as_what_it_is(tmp_path):
    network = build("metst64")
    torch.save({"state_dict": network.state_dict()}, tmp_path / "weights.pkl")
    loaded = load_published(tmp_path / "weights.pkl")
    assert (loaded.name, loaded.training) == ("metst64", False)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())
