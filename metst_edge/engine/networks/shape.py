"""What a network is made of, as values: its parts with their sizes, and what follows from them.

Which weights it has and in what shapes, what state a stream of it keeps between two frames, and for how many frames a
score waits. The exporter writes a bundle by it, and the native engine checks a bundle against it and runs it. Knows
neither the weights' values nor an engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

Shape = tuple[int, ...]

LAYER_NORM_EPS = 1e-5
"""torch's default, which the published networks use."""


class _Part(Protocol):
    @property
    def weights(self) -> Mapping[str, Shape]: ...


@dataclass(frozen=True)
class Convolution:
    """A convolution over time with its batch norm folded in, then ReLU. Its middle tap lies on the frame it is for.

    Attributes:
        name: of its weights.
        inputs: channels that it reads.
        outputs: channels that it gives.
        taps: frames that it reads, an odd number.
    """

    name: str
    inputs: int
    outputs: int
    taps: int = 3

    @property
    def look_ahead(self) -> int:
        """Frames after its own that it waits for."""
        return self.taps // 2

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin."""
        return {f"{self.name}.weight": (self.outputs, self.inputs, self.taps), f"{self.name}.bias": (self.outputs,)}

    @property
    def buffer(self) -> str:
        """Name of the state that holds the frames before the one that is fed."""
        return self.name.replace(".", "_")

    @property
    def state(self) -> Mapping[str, Shape]:
        """Shapes by name, of one lane."""
        return {self.buffer: (self.inputs, self.taps - 1)}


@dataclass(frozen=True)
class MambaBlock:
    """x + LayerNorm(Mamba(LayerNorm(x))), which looks back only.

    Attributes:
        index: its number in the network, from 0.
        dim: channels in and out.
        inner: channels D inside of it.
        states: N of every inner channel.
        dt_rank: factors R of the time step.
        taps: frames that its convolution reads, the last of them its own.
    """

    index: int
    dim: int
    inner: int
    states: int
    dt_rank: int
    taps: int

    @property
    def name(self) -> str:
        """What its weights' names begin with."""
        return f"blocks.{self.index}"

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin; linear maps are (in, out)."""
        leaves: dict[str, Shape] = {
            "norm.weight": (self.dim,),
            "norm.bias": (self.dim,),
            "in_proj": (self.dim, 2 * self.inner),
            "conv.weight": (self.inner, 1, self.taps),
            "conv.bias": (self.inner,),
            "x_proj": (self.inner, self.dt_rank + 2 * self.states),
            "dt_proj": (self.dt_rank, self.inner),
            "dt_bias": (self.inner,),
            "A": (self.inner, self.states),
            "D": (self.inner,),
            "out_proj": (self.inner, self.dim),
            "post_norm.weight": (self.dim,),
            "post_norm.bias": (self.dim,),
        }
        return {f"{self.name}.{leaf}": shape for leaf, shape in leaves.items()}

    @property
    def buffer(self) -> str:
        """Name of the state that holds what its convolution has read."""
        return f"conv_{self.index:02d}"

    @property
    def memory(self) -> str:
        """Name of the state that its scan carries on."""
        return f"ssm_{self.index:02d}"

    @property
    def state(self) -> Mapping[str, Shape]:
        """Shapes by name, of one lane."""
        return {self.buffer: (self.inner, self.taps - 1), self.memory: (self.inner, self.states)}


@dataclass(frozen=True)
class Pathway:
    """Blocks one after another, at a rate of their own.

    Attributes:
        blocks: in order.
        rate: frames of the stem for one step of this pathway.
        entry: from the stem to this pathway, where its steps are not the stem's frames.
    """

    blocks: tuple[MambaBlock, ...]
    rate: int = 1
    entry: Convolution | None = None


@dataclass(frozen=True)
class Head:
    """A linear map on every frame, (in, out).

    Attributes:
        name: of its weights.
        inputs: channels that it reads.
        outputs: values that it gives.
    """

    name: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin."""
        return {f"{self.name}.weight": (self.inputs, self.outputs), f"{self.name}.bias": (self.outputs,)}


@dataclass(frozen=True)
class Network:
    """From features to scores: a stem, pathways of blocks side by side, and two heads on what they give together.

    Attributes:
        stem: convolutions one after another, on every frame.
        pathways: each reads the stem.
        laterals: convolutions from one pathway into another.
        spot: logit of the spotting score.
        emotion: logits of the labels.
    """

    stem: tuple[Convolution, ...]
    pathways: tuple[Pathway, ...]
    spot: Head
    emotion: Head
    laterals: tuple[Convolution, ...] = ()

    @property
    def channels(self) -> int:
        """Features of a frame."""
        return self.stem[0].inputs

    @property
    def classes(self) -> int:
        """Labels that the emotion head tells apart."""
        return self.emotion.outputs

    @property
    def blocks(self) -> tuple[MambaBlock, ...]:
        """Those of all pathways."""
        return tuple(block for pathway in self.pathways for block in pathway.blocks)

    @property
    def look_ahead(self) -> int:
        """Frames after its own that a score waits for: a stream gives it so many steps later.

        The stem's convolutions wait for each other. Those between pathways wait for the stem alone, since blocks look
        back only, so that the longest wait of theirs counts once.
        """
        between = (convolution.look_ahead for convolution in self._between)
        return sum(convolution.look_ahead for convolution in self.stem) + max(between, default=0)

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin."""
        parts: Iterable[_Part] = (*self.stem, *self._between, *self.blocks, self.spot, self.emotion)
        return {name: shape for part in parts for name, shape in part.weights.items()}

    @property
    def state(self) -> Mapping[str, Shape]:
        """What a stream keeps from frame to frame: shapes by name, of one lane, in the order of step.onnx.

        "resets" are the reset flags of the frames that still wait for their scores, the last one first.
        """
        parts: tuple[Convolution | MambaBlock, ...] = (*self.stem, *self._between, *self.blocks)
        kept = {name: shape for part in parts for name, shape in part.state.items()}
        return {"resets": (self.look_ahead,), **kept}

    @property
    def _between(self) -> tuple[Convolution, ...]:
        entries = tuple(pathway.entry for pathway in self.pathways if pathway.entry is not None)
        return entries + self.laterals
