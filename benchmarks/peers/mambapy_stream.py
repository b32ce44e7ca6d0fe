"""ME-TST stepped in torch with the Mamba block of `mambapy`: the published way to run such a network frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mambapy.mamba import MambaBlock, MambaConfig
from torch.nn import functional

from benchmarks.peers.torch_network import network_of
from metst_edge.bundle import Bundle
from metst_edge.engine import StepScores

Array = npt.NDArray[np.float32]


class MambapyStream:
    """ME-TST fed frame by frame in torch, its Mamba layers stepped by mambapy with their caches (Stream's contract).

    Args:
        bundle: of ME-TST.
        lanes: batch of every step.
    """

    look_ahead = 2

    def __init__(self, bundle: Bundle, lanes: int) -> None:
        self.lanes, self.channels = lanes, bundle.channels
        network = network_of(bundle)
        sizes = network.sizes
        config = MambaConfig(
            d_model=sizes.dim, n_layers=1, d_state=sizes.d_state, expand_factor=sizes.expand, d_conv=sizes.d_conv
        )
        self._stem = [(network.Stem[0], network.Stem[1]), (network.Stem[3], network.Stem[4])]
        self._spot, self._emotion = network.fc_spot, network.fc_recog
        self._blocks = []
        for block in network.blocks:
            mamba = MambaBlock(config)
            mamba.load_state_dict(block.attn.mamba.state_dict())  # the same names: both follow state-spaces/mamba
            self._blocks.append((block.attn.norm, mamba.eval(), block.norm1))
        self._inner = config.d_inner
        self._sizes = sizes
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if just opened."""
        sizes, lanes = self._sizes, self.lanes
        self._fed = 0
        self._buffers = [torch.zeros(lanes, width, 3) for width in (sizes.channels, sizes.dim)]
        self._caches = [
            (torch.zeros(lanes, self._inner, sizes.d_state), torch.zeros(lanes, self._inner, sizes.d_conv - 1))
            for _ in self._blocks
        ]
        self._resets = [np.zeros(lanes, bool)] * 2  # of the frame before, and of the one before that

    def step(self, features: Array, reset: npt.ArrayLike | None = None) -> StepScores | None:
        """Feed float32 (lanes, C); see metst_edge.engine.types.Stream."""
        with torch.inference_mode():
            return self._step(features, reset)

    def _step(self, features: Array, reset: npt.ArrayLike | None) -> StepScores | None:
        now = np.zeros(self.lanes, bool) if reset is None else np.asarray(reset, bool)
        before, begins = self._resets
        x = self._convolve(0, torch.from_numpy(features), before, now)
        x = self._convolve(1, x, begins, before)
        if begins.any():
            keep = torch.from_numpy(~begins).float()[:, None, None]
            self._caches = [(h * keep, inputs * keep) for h, inputs in self._caches]
        for i, (norm, mamba, post_norm) in enumerate(self._blocks):
            y, self._caches[i] = mamba.step(norm(x), self._caches[i])
            x = x + post_norm(y)
        self._resets = [now, before]
        self._fed += 1
        if self._fed <= self.look_ahead:
            return None
        return StepScores(torch.sigmoid(self._spot(x))[:, 0].numpy(), self._emotion(x).numpy())

    def _convolve(self, i: int, newest: torch.Tensor, first: Any, after_last: Any) -> torch.Tensor:
        """The stem's convolution ``i`` around the frame before the newest; other windows' frames are its padding."""
        seen = self._buffers[i] = torch.cat((self._buffers[i][:, :, 1:], newest[:, :, None]), 2)
        if first.any() or after_last.any():
            seen = seen.clone()
            seen[torch.from_numpy(first), :, 0] = 0
            seen[torch.from_numpy(after_last), :, 2] = 0
        convolution, norm = self._stem[i]
        y = functional.conv1d(seen, convolution.weight, convolution.bias)
        return torch.relu(norm(y))[:, :, 0]
