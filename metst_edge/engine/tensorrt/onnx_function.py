"""Take a local function out of an ONNX file, so that a plugin of its name serves in its place.

TensorRT's parser may prefer a function that a model carries to a plugin. From 10.15 on a flag turns that round,
ENABLE_PLUGIN_OVERRIDE, but for every node of the model: plugins of the names of standard operators are looked for, too,
and NVIDIA's own library has one, Split, whose creator the parser cannot read (it crashes; seen in TensorRT-RTX 1.7).

The wheel does not depend on the onnx package; all there is to do is to leave out one field of the file.
"""

from __future__ import annotations

from metst_edge.errors import EngineError
from metst_edge.onnx_file import MODEL_FUNCTIONS, OnnxError, fields

# Field numbers of onnx.proto.
FUNCTION_NAME = 1
FUNCTION_DOMAIN = 10


def without_function(model: bytes, domain: str, name: str) -> bytes:
    """Return a serialised ModelProto without the function domain::name; all other bytes stay as they are.

    Raises:
        EngineError: the bytes are no protobuf message.
    """
    kept, drop = bytearray(), {FUNCTION_DOMAIN: domain.encode(), FUNCTION_NAME: name.encode()}
    try:
        for number, start, value, end in fields(model, 0, len(model)):
            if number == MODEL_FUNCTIONS:
                named = {n: model[v:e] for n, _, v, e in fields(model, value, end) if n in drop}
                if named == drop:
                    continue
            kept += model[start:end]
    except OnnxError as error:
        raise EngineError(f"{error}; export the bundle again") from error
    return bytes(kept)
