"""ONNX files without the onnx package: what a graph is given and gives, and the graph with its weights in it.

A graph names the files that its weights lie in, and a runtime would open whatever it names. So no runtime is given a
file: it is given the bytes of a graph into which the weights have been put, read from files that the caller allows.

Knows protobuf's wire format (a tag, then a value) and the few messages of onnx.proto that hold tensors. What protobuf's
own readers disagree about, such as a tag of more than 32 bits, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 20, 25
FUNCTION_NODES, FUNCTION_DEFAULTS = 7, 11
_GRAPH_NODES, _GRAPH_WEIGHTS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_ATTRIBUTES = 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_SPARSE_TENSORS = (1, 2)
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
_TENSOR_VALUES = (4, 5, 6, 7, _TENSOR_RAW, 10, 11)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

FLOAT = 1
"""TensorProto.FLOAT: float32."""
_WIDTHS = {FLOAT: 4, 10: 2}
"""Bytes of an element of the types that weights in files have: float32 and float16."""

MOST_BYTES = 2**31 - 1
"""Of a protobuf message."""
_DEPTH = 32
"""Graphs in graphs, at most."""


class OnnxError(ValueError):
    """The bytes are no ONNX model, or one that reads what it may not."""


Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Value:
    """An input or output of a graph.

    Attributes:
        kind: of its elements, as onnx.proto numbers them; 0 where it is no tensor.
        shape: a size of each axis, None where it varies; None as a whole where nothing is said of it.
    """

    kind: int
    shape: Shape | None


@dataclass(frozen=True)
class Interface:
    """What a graph is given and gives.

    Attributes:
        inputs: by name, in order, without those that are weights.
        outputs: by name, in order.
    """

    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]


def fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field of message[at:end]: its number, and where its tag, its value and the next field begin.

    Raises:
        OnnxError: the bytes are no protobuf message.
    """
    while at < end:
        start = at
        tag, at = _varint(message, at, end)
        value, kind = at, tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at, end)
        elif kind == _BYTES:
            length, value = _varint(message, at, end)
            at = value + length
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            at = end + 1
        if at > end or not 8 <= tag < 1 << 32:
            raise OnnxError(f"expected an ONNX model, got bytes that are none (at {start})")
        yield tag >> 3, start, value, at


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise OnnxError(f"expected an ONNX model, got bytes that end or run on (at {at})")


def interface(model: bytes) -> Interface:
    """Return what a serialised ModelProto's graph is given and gives.

    Raises:
        OnnxError: the bytes are no such model.
    """
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    weights: set[str] = set()
    for _, start, end in _parts(model, 0, len(model), MODEL_GRAPH):
        for _, value, stop in _parts(model, start, end, _GRAPH_INPUTS):
            inputs.update([_value(model, value, stop)])
        for _, value, stop in _parts(model, start, end, _GRAPH_OUTPUTS):
            outputs.update([_value(model, value, stop)])
        for _, value, stop in _parts(model, start, end, _GRAPH_WEIGHTS):
            weights |= {_text(model, v, e) for _, v, e in _parts(model, value, stop, _TENSOR_NAME)}
    return Interface({name: value for name, value in inputs.items() if name not in weights}, outputs)


def misfits(found: Mapping[str, Value], expected: Mapping[str, Shape]) -> list[str]:
    """Return what of a graph's inputs or outputs is not as expected, float32 of these shapes; one entry a name.

    Args:
        found: of the graph.
        expected: name -> size of each axis, None where it varies. A graph may leave open what is fixed here.
    """
    problems = []
    for name, shape in expected.items():
        value = found.get(name)
        if value is None:
            problems.append(f"{name}, got none")
        elif value.kind != FLOAT:
            problems.append(f"{name} of type {FLOAT} (float32), got type {value.kind}")
        elif value.shape is not None and not (
            len(value.shape) == len(shape)
            and all(want is None or size in (None, want) for want, size in zip(shape, value.shape, strict=True))
        ):
            problems.append(f"{name} {_shown(shape)}, got {_shown(value.shape)}")
    return problems


def _shown(shape: Shape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def with_weights(model: bytes, sizes: Mapping[str, int], read: Callable[[str], bytes]) -> bytes:
    """Return a serialised ModelProto with the weights in it that it has in files; it names no file then.

    Args:
        model: the file's bytes.
        sizes: bytes of every file that it may read.
        read: returns one's content; called once for each that the graph names.

    Raises:
        OnnxError: the bytes are no such model, it reads another file or beyond one's end, or more than the files hold.
    """
    inliner = _Inliner(model, sizes, read)
    return inliner.model_with_weights()


@dataclass
class _Inliner:
    """Writes a model anew.

    Attributes:
        model: as it is.
        sizes: bytes of every file that it may read.
        read: returns one's content.
        files: those that have been read.
        taken: bytes of weights put in so far.
    """

    model: bytes
    sizes: Mapping[str, int]
    read: Callable[[str], bytes]
    files: dict[str, bytes] = field(default_factory=dict)
    taken: int = 0

    def model_with_weights(self) -> bytes:
        parts: list[bytes] = []
        for number, start, value, end in fields(self.model, 0, len(self.model)):
            if number == MODEL_GRAPH:
                self._expect_message(start)
                graph = b"".join(self._graph(value, end))
                parts += [_tag(MODEL_GRAPH, _BYTES), _encoded(len(graph)), graph]
                continue
            if number == MODEL_TRAINING:
                raise OnnxError("expected a graph for inference, got one with a part for training")
            if number == MODEL_FUNCTIONS:
                self._expect_message(start)
                self._refuse_files_of_nodes(value, end, FUNCTION_NODES, 0)
                for _, v, e in _parts(self.model, value, end, FUNCTION_DEFAULTS):
                    self._refuse_files_of_attribute(v, e, 0)
            parts.append(self.model[start:end])
        return b"".join(parts)

    def _graph(self, at: int, end: int) -> Iterator[bytes]:
        for number, start, value, stop in fields(self.model, at, end):
            if number == _GRAPH_WEIGHTS:
                self._expect_message(start)
                yield from self._weight(start, value, stop)
                continue
            if number == _GRAPH_NODES:
                self._expect_message(start)
                for _, v, e in _parts(self.model, value, stop, _NODE_ATTRIBUTES):
                    self._refuse_files_of_attribute(v, e, 0)
            elif number == _GRAPH_SPARSE:
                self._refuse_files_of_sparse(value, stop)
            yield self.model[start:stop]

    def _weight(self, start: int, at: int, end: int) -> Iterator[bytes]:
        """Yield an initializer's bytes, its values among them."""
        if not self._names_file(at, end):
            yield self.model[start:end]
            return
        kept: list[bytes] = []
        place: dict[str, str] = {}
        dims: list[int] = []
        kind = 0
        for number, tag, value, stop in fields(self.model, at, end):
            if number == _TENSOR_EXTERNAL:
                pair = {n: _text(self.model, v, e) for n, _, v, e in fields(self.model, value, stop) if n in (1, 2)}
                place[pair.get(1, "")] = pair.get(2, "")
            elif number == _TENSOR_DIMS:
                dims += self._numbers(tag, value, stop)
                kept.append(self.model[tag:stop])
            elif number not in (_TENSOR_LOCATION, *_TENSOR_VALUES):
                if number == _TENSOR_TYPE:
                    kind, _ = _varint(self.model, value, stop)
                kept.append(self.model[tag:stop])
        values = self._values(place, dims, kind)
        kept += [_tag(_TENSOR_RAW, _BYTES), _encoded(len(values)), values]
        yield _tag(_GRAPH_WEIGHTS, _BYTES)
        yield _encoded(sum(map(len, kept)))
        yield from kept

    def _values(self, place: Mapping[str, str], dims: list[int], kind: int) -> bytes:
        name = place.get("location", "")
        if name not in self.sizes:
            raise OnnxError(f"expected weights in {' or '.join(self.sizes)}, got a graph that reads {name[:80]!r}")
        try:
            offset, length = int(place.get("offset", "0")), int(place["length"])
        except (KeyError, ValueError) as error:
            raise OnnxError(f"expected offset and length of weights in {name}, got {str(error)[:80]}") from error
        if kind not in _WIDTHS or length != prod(dims) * _WIDTHS[kind]:
            raise OnnxError(f"expected weights of type 1 or 10 that fill their shape, got type {kind}, {length} bytes")
        if not 0 <= offset <= offset + length <= self.sizes[name]:
            raise OnnxError(f"expected weights in the {self.sizes[name]} bytes of {name}, got {length} at {offset}")
        self.taken += length
        if self.taken > min(sum(self.sizes.values()), MOST_BYTES - len(self.model)):
            raise OnnxError("expected a graph that reads each weight once, got more than its files hold")
        if name not in self.files:
            self.files[name] = self.read(name)
        return self.files[name][offset : offset + length]

    def _numbers(self, tag: int, at: int, end: int) -> list[int]:
        """A repeated integer: one, or several packed."""
        if self._kind(tag) == _VARINT:
            return [_varint(self.model, at, end)[0]]
        numbers = []
        while at < end:
            number, at = _varint(self.model, at, end)
            numbers.append(number)
        return numbers

    def _refuse_files_of_nodes(self, at: int, end: int, nodes: int, depth: int) -> None:
        for _, node, stop in _parts(self.model, at, end, nodes):
            for _, v, e in _parts(self.model, node, stop, _NODE_ATTRIBUTES):
                self._refuse_files_of_attribute(v, e, depth)

    def _refuse_files_of_attribute(self, at: int, end: int, depth: int) -> None:
        for number, start, value, stop in fields(self.model, at, end):
            if number in _ATTRIBUTE_TENSORS:
                self._expect_message(start)
                self._refuse_file(value, stop)
            elif number in _ATTRIBUTE_SPARSE:
                self._refuse_files_of_sparse(value, stop)
            elif number in _ATTRIBUTE_GRAPHS:
                self._expect_message(start)
                if depth == _DEPTH:
                    raise OnnxError(f"expected graphs in graphs {_DEPTH} deep at most")
                self._refuse_files_of_nodes(value, stop, _GRAPH_NODES, depth + 1)
                for n, _, v, e in fields(self.model, value, stop):
                    if n == _GRAPH_WEIGHTS:
                        self._refuse_file(v, e)
                    elif n == _GRAPH_SPARSE:
                        self._refuse_files_of_sparse(v, e)

    def _refuse_files_of_sparse(self, at: int, end: int) -> None:
        for number in _SPARSE_TENSORS:
            for _, v, e in _parts(self.model, at, end, number):
                self._refuse_file(v, e)

    def _refuse_file(self, at: int, end: int) -> None:
        if self._names_file(at, end):
            raise OnnxError("expected weights in files among those of the graph itself, got one inside of a node")

    def _names_file(self, at: int, end: int) -> bool:
        for number, _, value, stop in fields(self.model, at, end):
            if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and self.model[value:stop] != b"\0"):
                return True
        return False

    def _expect_message(self, tag: int) -> None:
        if self._kind(tag) != _BYTES:
            raise OnnxError(f"expected an ONNX model, got bytes that are none (at {tag})")

    def _kind(self, tag: int) -> int:
        return self.model[tag] & 7


def _parts(message: bytes, at: int, end: int, wanted: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of one number, which are messages or texts: the number, and where each begins and ends."""
    for number, start, value, stop in fields(message, at, end):
        if number == wanted:
            if message[start] & 7 != _BYTES:
                raise OnnxError(f"expected an ONNX model, got bytes that are none (at {start})")
            yield number, value, stop


def _value(message: bytes, at: int, end: int) -> tuple[str, Value]:
    """Read a ValueInfoProto: name (1), and in type (2) tensor_type (1) its elem_type (1) and shape (2)."""
    name, kind, shape = "", 0, None
    for _, v, e in _parts(message, at, end, 1):
        name = _text(message, v, e)
    for _, v, e in _parts(message, at, end, 2):
        for _, tensor, stop in _parts(message, v, e, 1):
            for number, _, w, x in fields(message, tensor, stop):
                if number == 1:
                    kind, _ = _varint(message, w, x)
                elif number == 2:
                    shape = tuple(_axis(message, y, z) for _, y, z in _parts(message, w, x, 1))
    return name, Value(kind, shape)


def _axis(message: bytes, at: int, end: int) -> int | None:
    """A TensorShapeProto.Dimension's dim_value (1), None where it has a name or nothing."""
    size = None
    for number, _, value, stop in fields(message, at, end):
        if number in (1, 2):  # one of the two, the last of them
            size = _varint(message, value, stop)[0] if number == 1 else None
    return size


def _text(message: bytes, at: int, end: int) -> str:
    return message[at:end].decode("utf-8", "replace")


def _tag(number: int, kind: int) -> bytes:
    return _encoded(number << 3 | kind)


def _encoded(value: int) -> bytes:
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    content.append(value)
    return bytes(content)
