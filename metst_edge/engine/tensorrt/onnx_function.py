"""Take a local function out of an ONNX file, so that a plugin of its name serves in its place.

TensorRT's parser may prefer a function that a model carries to a plugin. From 10.15 on a flag turns that round,
ENABLE_PLUGIN_OVERRIDE, but for every node of the model: plugins of the names of standard operators are looked for, too,
and NVIDIA's own library has one, Split, whose creator the parser cannot read (it crashes; seen in TensorRT-RTX 1.7).

The wheel does not depend on the onnx package; all there is to do is to leave out one field of the file (protobuf's wire
format: a tag, then a value).
"""

from __future__ import annotations

from collections.abc import Iterator

from metst_edge.errors import EngineError

# Field numbers of onnx.proto.
MODEL_FUNCTIONS = 25
FUNCTION_NAME = 1
FUNCTION_DOMAIN = 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def without_function(model: bytes, domain: str, name: str) -> bytes:
    """Return a serialised ModelProto without the function domain::name; all other bytes stay as they are.

    Raises:
        EngineError: the bytes are no protobuf message.
    """
    kept, drop = bytearray(), {FUNCTION_DOMAIN: domain.encode(), FUNCTION_NAME: name.encode()}
    for number, start, value, end in _fields(model, 0, len(model)):
        if number == MODEL_FUNCTIONS:
            named = {n: model[v:e] for n, _, v, e in _fields(model, value, end) if n in drop}
            if named == drop:
                continue
        kept += model[start:end]
    return bytes(kept)


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field of message[at:end]: its number, and where its tag, its value and the next field begin."""
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
        if at > end:
            raise EngineError(f"expected an ONNX model, got bytes that are none (at {start}); export the bundle again")
        yield tag >> 3, start, value, at


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 64:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise EngineError(f"expected an ONNX model, got bytes that end or run on (at {at}); export the bundle again")
