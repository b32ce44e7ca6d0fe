"""SLSTT (arXiv 2112.05851): names the emotion of a known interval, from pictures of its flow since the onset.

A vision transformer (arXiv 2010.11929) reads each picture; a recurrence over its class tokens, or the mean of the
logits that every picture has for itself, gives the emotion. The modules carry the names of the published checkpoints,
which hold what both ways need; only what is read is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# The transformer's, as ViT was published (arXiv 2010.11929): not torch's default.
NORM_EPS = 1e-6
INITIAL_STD = 0.02


@dataclass(frozen=True)
class SlsttSizes:
    """What fixes every tensor shape of an SLSTT network, and the number of pictures it is given.

    Attributes:
        aggregation: "lstm" or "mean".
        frames: pictures of an interval in training; the network takes any number.
        input_size: side of a picture, pixels; a multiple of `patch`.
        patch: side of a token's part of it.
        dim: channels of a token, a multiple of `heads`.
        depth: transformer blocks.
        heads: of each block's attention.
        mlp: inner channels of each block's feed-forward part.
        lstm_hidden: channels of the recurrence.
        lstm_layers: of it.
        head: channels between recurrence and logits.
        classes: emotions.
    """

    aggregation: str = "lstm"
    frames: int = 11
    input_size: int = 384
    patch: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    lstm_hidden: int = 512
    lstm_layers: int = 3
    head: int = 256
    classes: int = 3

    def __post_init__(self) -> None:
        if self.aggregation not in ("lstm", "mean"):
            raise ValueError(f"expected aggregation 'lstm' or 'mean', got {self.aggregation!r}")
        for name, of in (("input_size", "patch"), ("dim", "heads")):
            if getattr(self, name) % getattr(self, of):
                raise ValueError(
                    f"expected {name} to be a multiple of {of}, {getattr(self, of)}, got {getattr(self, name)}"
                )

    @property
    def tokens(self) -> int:
        """Tokens of a picture, the class token among them."""
        return int((self.input_size // self.patch) ** 2 + 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain values, as checkpoints and manifests hold them."""
        return asdict(self)


RECOGNISERS = {
    "slstt_lstm": SlsttSizes(),
    "slstt_mean": SlsttSizes(aggregation="mean"),
    "slstt_small": SlsttSizes(
        input_size=96, dim=128, depth=4, heads=4, mlp=256, lstm_hidden=128, lstm_layers=1, head=64, classes=4
    ),
}
"""By name. The first two as published, ViT-B/16; the last is ours, for CPUs."""


class Attention(nn.Module):
    """Multi-head self-attention up to where the heads lie side by side; what maps them back is the block's `proj`."""

    def __init__(self, sizes: SlsttSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.proj_q, self.proj_k, self.proj_v = (nn.Linear(sizes.dim, sizes.dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, dim) -> (B, tokens, dim)."""
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self._parts())
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _parts(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.proj_q, self.proj_k, self.proj_v


class FeedForward(nn.Module):
    """Linear -> GELU (by tanh) -> Linear on every token."""

    def __init__(self, sizes: SlsttSizes) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(sizes.dim, sizes.mlp), nn.Linear(sizes.mlp, sizes.dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))
        return out


class TransformerBlock(nn.Module):
    """x + proj(attention(LN(x))), then x + feed-forward(LN(x))."""

    def __init__(self, sizes: SlsttSizes) -> None:
        super().__init__()
        self.attn = Attention(sizes)
        self.proj = nn.Linear(sizes.dim, sizes.dim)
        self.norm1 = nn.LayerNorm(sizes.dim, eps=NORM_EPS)
        self.pwff = FeedForward(sizes)
        self.norm2 = nn.LayerNorm(sizes.dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, dim) -> (B, tokens, dim)."""
        x = x + self.proj(self.attn(self.norm1(x)))
        out: Tensor = x + self.pwff(self.norm2(x))
        return out


class _Positions(nn.Module):
    """Learned positions, the class token's first; a module of its own for its published name."""

    def __init__(self, sizes: SlsttSizes) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, sizes.tokens, sizes.dim))


class VisionTransformer(nn.Module):
    """ViT (arXiv 2010.11929) up to the normed class token; with `fc`, the logits of one picture.

    Args:
        sizes: shapes.
    """

    def __init__(self, sizes: SlsttSizes) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, sizes.dim, sizes.patch, stride=sizes.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, sizes.dim))
        self.positional_embedding = _Positions(sizes)
        self.transformer = nn.ModuleDict({"blocks": nn.ModuleList(TransformerBlock(sizes) for _ in range(sizes.depth))})
        self.norm = nn.LayerNorm(sizes.dim, eps=NORM_EPS)
        self.fc = nn.Linear(sizes.dim, sizes.classes) if sizes.aggregation == "mean" else None

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, dim), or (B, classes) where it has `fc`."""
        x = self.patch_embedding(pictures).flatten(2).transpose(1, 2)
        x = torch.cat((self.class_token.expand(len(x), -1, -1), x), dim=1) + self.positional_embedding.pos_embedding
        for block in self.transformer["blocks"]:
            x = block(x)
        token: Tensor = self.norm(x[:, 0])
        return token if self.fc is None else self.fc(token)


class Slstt(nn.Module):
    """The whole network.

    Args:
        name: a key of RECOGNISERS.
        sizes: shapes; by default those of that name.
    """

    def __init__(self, name: str, sizes: SlsttSizes) -> None:
        super().__init__()
        self.name, self.sizes = name, sizes
        self.vit = VisionTransformer(sizes)
        if sizes.aggregation == "lstm":
            self.lstm = nn.LSTM(sizes.dim, sizes.lstm_hidden, sizes.lstm_layers, batch_first=True)
            self.fc1 = nn.Linear(sizes.lstm_hidden, sizes.head)
            self.fc2 = nn.Linear(sizes.head, sizes.classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INITIAL_STD)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.vit.class_token)
        nn.init.trunc_normal_(self.vit.positional_embedding.pos_embedding, std=INITIAL_STD)

    def forward(self, images: Tensor) -> Tensor:
        """Name the emotion of intervals.

        Args:
            images: (N, F, 3, S, S), F pictures of each of N intervals, scaled by ImageNet's mean and deviation.

        Returns:
            Logits (N, classes).
        """
        each = self.vit(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        if self.sizes.aggregation == "mean":
            mean: Tensor = each.mean(1)
            return mean
        outputs, _ = self.lstm(each)
        logits: Tensor = self.fc2(functional.relu(self.fc1(outputs[:, -1])))
        return logits


def build_recogniser(name: str, **sizes: Any) -> Slstt:
    """Build a network with fresh weights.

    Args:
        name: a key of RECOGNISERS.
        sizes: fields of SlsttSizes that differ from those of that name, such as classes=4.

    Raises:
        ValueError: the name is unknown, or sizes do not fit each other.
    """
    if name not in RECOGNISERS:
        raise ValueError(f"expected a recogniser out of {', '.join(RECOGNISERS)}, got {name!r}")
    return Slstt(name, replace(RECOGNISERS[name], **sizes))


# In published checkpoints of both kinds, and read by one of them.
UNUSED = {"lstm": ("vit.fc.",), "mean": ("lstm.", "fc1.", "fc2.")}


def sizes_of(state: Mapping[str, Tensor], aggregation: str = "lstm") -> SlsttSizes | None:
    """Return the sizes of the SLSTT network that a state dict is of, or None where it is of another.

    Published checkpoints of both kinds have the same names and shapes, so the state dict does not say how frames are
    joined. Nor does it say the number of heads, which is 64 channels each, as in every published ViT.

    Args:
        state: published names, with or without `module.` in front.
        aggregation: "lstm" or "mean".
    """
    shapes = {name.removeprefix("module."): tuple(tensor.shape) for name, tensor in state.items()}
    try:
        dim, _, patch, _ = shapes["vit.patch_embedding.weight"]
        side = isqrt(shapes["vit.positional_embedding.pos_embedding"][1] - 1)
        mlp, _ = shapes["vit.transformer.blocks.0.pwff.fc1.weight"]
        sizes = SlsttSizes(
            aggregation=aggregation,
            input_size=side * patch,
            patch=patch,
            dim=dim,
            depth=sum(name.endswith(".norm1.weight") for name in shapes),
            heads=max(1, dim // 64),
            mlp=mlp,
        )
        if aggregation == "mean":
            return replace(sizes, classes=shapes["vit.fc.weight"][0])
        return replace(
            sizes,
            lstm_hidden=shapes["lstm.weight_hh_l0"][1],
            lstm_layers=sum(name.startswith("lstm.weight_hh_l") for name in shapes),
            head=shapes["fc1.weight"][0],
            classes=shapes["fc2.weight"][0],
        )
    except (KeyError, ValueError, IndexError):
        return None
