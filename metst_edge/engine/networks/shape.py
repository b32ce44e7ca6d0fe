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


@dataclass(frozen=True)
class Convolution:
    """A convolution over time with its batch norm folded in, then ReLU. Its middle tap lies on the frame it is for.

    Outside the window it sees zeros.

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
    def matrices(self) -> tuple[str, ...]:
        """Names of the weights that may be held in half precision: those it reads most of, not the time step's."""
        return tuple(f"{self.name}.{leaf}" for leaf in ("in_proj", "x_proj", "out_proj"))

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


class Pathway(Protocol):
    """From what the stem gives to what the heads read, on every frame."""

    @property
    def blocks(self) -> tuple[MambaBlock, ...]:
        """In the order of weights.bin."""

    @property
    def look_ahead(self) -> int:
        """Frames of the stem after its own that it waits for."""

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin."""

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the weights that may be held in half precision."""

    @property
    def state(self) -> Mapping[str, Shape]:
        """What it keeps from frame to frame: shapes by name, of one lane."""


@dataclass(frozen=True)
class Stack:
    """Blocks one after another, on every frame: a pathway.

    Attributes:
        blocks: in order, of the same sizes.
    """

    blocks: tuple[MambaBlock, ...]

    @property
    def look_ahead(self) -> int:
        """None: blocks look back only."""
        return 0

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin."""
        return _merged(block.weights for block in self.blocks)

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the weights that may be held in half precision."""
        return tuple(name for block in self.blocks for name in block.matrices)

    @property
    def state(self) -> Mapping[str, Shape]:
        """Shapes by name, of one lane."""
        return _merged(block.state for block in self.blocks)


@dataclass(frozen=True)
class SlowFast:
    """Two stacks side by side, one on every frame and one on every other: a pathway (arXiv 2508.08082).

    The fast stack reads the stem. Step j of the slow one is for frames 2j and 2j+1 of the window; it reads the stem by
    a convolution around frame 2j, and after every stage but the last the fast stack's output there by another, which is
    added. Both convolutions have stride 2 and see zeros outside the window. What is given is the slow stack's output
    of the frame's step, then the fast one's of the frame.

    With a window of an odd number of frames the last slow step is for one frame.

    Attributes:
        name: what its convolutions' and states' names begin with.
        entry: from the stem to the slow stack.
        laterals: from the fast stack to the slow one, after each stage but the last.
        fast: blocks of the fast stack, all stages.
        slow: blocks of the slow stack, as many.
    """

    name: str
    entry: Convolution
    laterals: tuple[Convolution, ...]
    fast: tuple[MambaBlock, ...]
    slow: tuple[MambaBlock, ...]

    @property
    def stages(self) -> tuple[tuple[tuple[MambaBlock, ...], tuple[MambaBlock, ...]], ...]:
        """Fast and slow blocks of each stage."""
        count = len(self.laterals) + 1
        size = len(self.fast) // count
        return tuple((self.fast[i * size : (i + 1) * size], self.slow[i * size : (i + 1) * size]) for i in range(count))

    @property
    def blocks(self) -> tuple[MambaBlock, ...]:
        """The fast stack's, then the slow one's."""
        return self.fast + self.slow

    @property
    def outputs(self) -> int:
        """Channels that it gives: the slow stack's, then the fast one's."""
        return self.slow[-1].dim + self.fast[-1].dim

    @property
    def look_ahead(self) -> int:
        """Frames of the stem that the slow stack waits for. Its laterals wait for no more."""
        return self.entry.look_ahead

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin."""
        parts: tuple[Convolution | MambaBlock, ...] = (self.entry, *self.laterals, *self.blocks)
        return _merged(part.weights for part in parts)

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the weights that may be held in half precision: also those of its convolutions."""
        convolutions = (f"{convolution.name}.weight" for convolution in (self.entry, *self.laterals))
        return (*convolutions, *(name for block in self.blocks for name in block.matrices))

    @property
    def fast_output(self) -> str:
        """Name of the state that holds the fast stack's output of the frame before the one that it gives."""
        return f"{self.name}_fast"

    @property
    def slow_output(self) -> str:
        """Name of the state that holds the slow stack's last output."""
        return f"{self.name}_slow"

    @property
    def state(self) -> Mapping[str, Shape]:
        """Shapes by name, of one lane."""
        convolutions = _merged(part.state for part in (self.entry, *self.laterals))
        outputs = {self.fast_output: (self.fast[-1].dim,), self.slow_output: (self.slow[-1].dim,)}
        return {**convolutions, **outputs, **_merged(block.state for block in self.blocks)}


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
    """From features to scores: a stem, pathways side by side, and two heads.

    Attributes:
        stem: convolutions one after another, on every frame.
        pathways: each reads the stem. The spotting head reads the first, the emotion head the last: one pathway is read
            by both.
        spot: logit of the spotting score.
        emotion: logits of the labels.
    """

    stem: tuple[Convolution, ...]
    pathways: tuple[Pathway, ...]
    spot: Head
    emotion: Head

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

        The stem's convolutions wait for each other, the pathways for the stem.
        """
        stem = sum(convolution.look_ahead for convolution in self.stem)
        return stem + max(pathway.look_ahead for pathway in self.pathways)

    @property
    def weights(self) -> Mapping[str, Shape]:
        """Shapes by name, in the order of weights.bin."""
        parts: tuple[Convolution | Pathway | Head, ...] = (*self.stem, *self.pathways, self.spot, self.emotion)
        return _merged(part.weights for part in parts)

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the weights that may be held in half precision.

        Stem and heads are not among them: features may be of any size, scores are compared with thresholds.
        """
        return tuple(name for pathway in self.pathways for name in pathway.matrices)

    @property
    def state(self) -> Mapping[str, Shape]:
        """What a stream keeps from frame to frame: shapes by name, of one lane, in the order of step.onnx.

        "resets" are the reset flags of the frames that still wait for their scores, the last one first; "odd", where
        there is a slow stack, is 1 where the frame whose scores were given last has an odd number in its window.
        """
        halved = any(isinstance(pathway, SlowFast) for pathway in self.pathways)
        parts: tuple[Convolution | Pathway, ...] = (*self.stem, *self.pathways)
        kept = _merged(part.state for part in parts)
        return {"resets": (self.look_ahead,), **({"odd": (1,)} if halved else {}), **kept}


def _merged(parts: Iterable[Mapping[str, Shape]]) -> Mapping[str, Shape]:
    return {name: shape for part in parts for name, shape in part.items()}
