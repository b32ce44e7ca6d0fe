"""ImageNet weights for a recogniser's vision transformer, from a file that is at hand; nothing is ever downloaded.

Two layouts are read, as they are saved by `torch.save(model.state_dict())`:

    published code        class_token, patch_embedding, positional_embedding.pos_embedding, transformer.blocks.<i>...,
                          norm; also behind `vit.` or `module.`
    torchvision vit_b_16  class_token, conv_proj, encoder.pos_embedding, encoder.layers.encoder_layer_<i>..., encoder.ln

What classified ImageNet (fc, pre_logits, heads) is left out. Positions learned at another picture size are interpolated
(arXiv 2010.11929, section 3.2).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional

from training.models.checkpoint import CheckpointError, check_state, misfits, read
from training.models.slstt import Slstt

POSITIONS = "positional_embedding.pos_embedding"

_CLASSIFIERS = ("fc.", "pre_logits.", "heads.")
_TORCHVISION = {
    r"conv_proj\.": "patch_embedding.",
    r"encoder\.pos_embedding": POSITIONS,
    r"encoder\.ln\.": "norm.",
    r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.": r"transformer.blocks.\1.norm\2.",
    r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.": r"transformer.blocks.\1.proj.",
    # The first names are those of torchvision since 0.14, the others older ones.
    r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.": r"transformer.blocks.\1.pwff.fc1.",
    r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.": r"transformer.blocks.\1.pwff.fc2.",
}
_TORCHVISION_JOINED = re.compile(r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_(weight|bias)")


def load_imagenet(network: Slstt, path: str | os.PathLike[str]) -> None:
    """Fill the vision transformer with ImageNet weights; recurrence and heads stay as they are.

    Args:
        network: filled in place.
        path: of a state dict in one of the layouts above.

    Raises:
        CheckpointError: it cannot be read, or names or shapes do not fit; every one of them is listed.
    """
    content = read(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    check_state(content, path)
    found = _published_names(content)
    expected = {name: tensor for name, tensor in network.vit.state_dict().items() if not name.startswith("fc.")}
    if POSITIONS in found:
        found[POSITIONS] = _resized(found[POSITIONS], expected[POSITIONS].shape)
    problems = misfits(found, expected)
    if problems:
        raise CheckpointError(
            f"{path}: expected ImageNet weights of a vision transformer of {network.sizes.depth} blocks, "
            f"{network.sizes.dim} channels and patches of {network.sizes.patch}, by the names of the published code or "
            f"of torchvision's vit_b_16; {'; '.join(problems)}"
        )
    network.vit.load_state_dict(found, strict=False)


def _published_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights the names that they have below `vit`."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.").removeprefix("vit.")
        joined = _TORCHVISION_JOINED.fullmatch(name)
        if joined:
            block, kind = joined.groups()
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                found[f"transformer.blocks.{block}.attn.proj_{part}.{kind}"] = piece
            continue
        if name.startswith(_CLASSIFIERS):
            continue
        for theirs, ours in _TORCHVISION.items():
            name = re.sub(f"^{theirs}", ours, name)
        found[name] = tensor
    return found


def _resized(positions: Tensor, shape: torch.Size) -> Tensor:
    """Interpolate positions (1, 1 + n * n, dim) to another n; the class token's stays. What is no square is left."""
    if positions.dim() != 3 or positions.shape[1] == shape[1]:
        return positions
    old, new = isqrt(positions.shape[1] - 1), isqrt(shape[1] - 1)
    if old * old != positions.shape[1] - 1:
        return positions
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, (old, old))
    grid = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], grid.flatten(2).transpose(1, 2)), dim=1)
